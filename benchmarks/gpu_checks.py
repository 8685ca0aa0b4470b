"""Is it right: checks of gpu_check.py. Each builds what it needs, raises if a result is wrong, returns what it saw."""

import copy
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import train
from data.settings import DataConfig
from data.synthetic import write_scenes
from inference.engines.torch_engine import TorchEngine
from inference.weights import LoadedNetwork, load_network
from nas.settings import SearchConfig
from nas.step_time import noise, search_step, training_step
from net import encoder as encoders
from net.architect import Architect, only
from net.auto_msfnet import AutoMSFNet, build_network, initialise
from net.genotype import Genotype
from net.libraries import convert_sync_batchnorm
from net.losses import saliency_loss
from net.settings import ArchitectConfig, LossConfig, NetworkConfig, SpaceConfig
from net.supernet import SuperNet, build_supernet
from training.optim import build_optimizer
from training.processes import Processes
from training.random_state import compute_deterministically
from training.run import set_up
from training.settings import OptimConfig, TrainConfig
from utils.device import DeviceError, autocast, choose_precision
from utils.errors import UserError

CPU = torch.device("cpu")
LIMITS = {"fp32": 1e-3, "tf32": 0.05, "bf16": 0.1, "fp16": 0.05}
"""Greatest relative distance from float64 on the CPU, of logits at random weights."""
Values = dict[str, Any]


class CheckError(UserError):
    """A result that is wrong."""


@dataclass(frozen=True)
class Sizes:
    """What is computed: the paper's networks, or small ones that prove the program.

    Attributes:
        device: where.
        small: small networks and few steps.
    """

    device: torch.device
    small: bool

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        return 64 if self.small else 256

    @property
    def steps(self) -> int:
        """Steps that are timed."""
        return 1 if self.small else 20

    def network(self, backbone: str = "resnet50") -> NetworkConfig:
        """The network of the paper with that backbone."""
        return NetworkConfig("test_efficientnet", backbone, 16) if self.small else NetworkConfig(backbone, backbone)

    def space(self) -> SpaceConfig:
        """The paper's search space."""
        few = ["none", "skip_connect", "sep_conv_3x3_rp2", "ChannelAttention"]
        return SpaceConfig("test_efficientnet", 16, few) if self.small else SpaceConfig()

    def precisions(self) -> list[str]:
        """Precisions that the device supports, float32 first."""
        return [name for name in LIMITS if supports(self.device, name)]

    def fast(self) -> list[str]:
        """Precisions whose speed is measured: bfloat16 and TF32 of a GPU that supports them, else float32."""
        return [name for name in ("bf16", "tf32") if self.cuda and name in self.precisions()] or ["fp32"]


def maps(sizes: Sizes) -> Values:
    """Logits and gradients of a training step in every precision, against float64 on the CPU."""
    torch.manual_seed(0)
    reference = build_network(sizes.network()).train()
    wanted = _step(copy.deepcopy(reference).double(), CPU, "fp32", sizes.side)
    # Gradients at random weights pass many kinks: float32 on the CPU itself is up to .04 from float64.
    own = distance(_step(copy.deepcopy(reference), CPU, "fp32", sizes.side)[1], wanted[1])
    found: Values = {}
    for name in sizes.precisions():
        with in_precision(name, sizes.device):
            got = _step(copy.deepcopy(reference), sizes.device, name, sizes.side)
        logits, gradient = (distance(one, other) for one, other in zip(got, wanted, strict=True))
        found[name] = {"logits": logits, "gradient": gradient}
        require(logits <= LIMITS[name], f"{name}: logits differ by {logits:.2g} from float64, limit {LIMITS[name]}")
        if name == "fp32":
            require(
                gradient <= max(2 * own, 10 * LIMITS[name]),
                f"{name}: gradients differ by {gradient:.2g} from float64, those of float32 on the CPU by {own:.2g}",
            )
    return found


def engine(sizes: Sizes) -> Values:
    """Maps of the inference engine with the network of the repository, against PyTorch on the CPU."""
    loaded = load_network("lite")
    images, _ = noise(2, loaded.size, CPU)
    with torch.inference_mode():
        wanted = loaded.network(images).p1.sigmoid()
    found: Values = {}
    for name in [one for one in sizes.precisions() if one != "tf32"]:
        gap = (_engine(loaded, name, sizes.device)(images).sigmoid() - wanted).abs()
        found[name] = {"mean": gap.mean().item(), "greatest": gap.max().item()}
        require(found[name]["mean"] <= 0.01, f"{name}: maps differ by {found[name]['mean']:.2g} on average")
    return found


def second_order(sizes: Sizes) -> Values:
    """Gradient of the alphas by the second order in float32, against float64 on the CPU."""
    torch.manual_seed(0)
    network = build_supernet(sizes.space())
    side = 64 if sizes.small else 128
    wanted = _alpha_gradient(copy.deepcopy(network).double(), CPU, "second", side)
    with in_precision("fp32", sizes.device):
        got = _alpha_gradient(network, sizes.device, "second", side)
    cosine = nn.functional.cosine_similarity(got, wanted, 0).item()
    require(cosine >= 0.99, f"cosine {cosine:.4f} with float64, expected .99")
    return {"cosine": cosine, "distance": distance(got, wanted)}


def joined(sizes: Sizes) -> Values:
    """Edges of the supernet computed together, against one by one, both in float32 on the device."""
    torch.manual_seed(0)
    network, found = build_supernet(sizes.space()), []
    with in_precision("fp32", sizes.device):
        for together in (False, True):
            network.joined = together
            found.append(_alpha_gradient(copy.deepcopy(network), sizes.device, "first", sizes.side))
    gap = distance(*found)
    require(gap <= 0.01, f"gradients of the alphas differ by {gap:.2g}")
    return {"distance": gap}


def resume(sizes: Sizes) -> Values:
    """With --deterministic a run that stops in the middle of an epoch and resumes has the same weights to the bit."""
    before = torch.are_deterministic_algorithms_enabled()
    compute_deterministically()
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_scenes(Path(folder) / "scenes", count=12, size=80, seed=0)
            weights = [_trained(sizes, Path(folder), name, stop) for name, stop in (("whole", False), ("parts", True))]
    finally:
        torch.use_deterministic_algorithms(before)
    different = [name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])]
    require(not different, f"{len(different)} of {len(weights[0])} tensors differ, {(different or [''])[0]} the first")
    return {"tensors": len(weights[0])}


def processes(sizes: Sizes) -> Values:
    """A group of one process: collectives, DistributedDataParallel, both shared BatchNorms against plain networks."""
    torch.manual_seed(0)
    network = placed(build_network(sizes.network()), sizes.device)
    images, masks = noise(4, sizes.side, sizes.device)
    with tempfile.TemporaryDirectory() as folder, in_precision("fp32", sizes.device):
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if sizes.cuda else "gloo", init_method=f"file://{folder}/group", rank=0, world_size=1
        )
        try:
            values = torch.ones(8, device=sizes.device)
            distributed.all_reduce(values)
            items: list[Any] = [None]
            distributed.all_gather_object(items, {"rank": 0})
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)
            plain = _gradients(copy.deepcopy(network), images, masks)
            ways: dict[str, nn.Module] = {"ddp": copy.deepcopy(network)}
            if sizes.cuda:  # PyTorch's SyncBatchNorm trains on GPUs only
                ways["sync_batchnorm"] = convert_sync_batchnorm(copy.deepcopy(network))
            wrapped = {name: DistributedDataParallel(one) for name, one in ways.items()}
            found = {name: distance(_gradients(one, images, masks), plain) for name, one in wrapped.items()}
            found["search_batchnorm"] = _shared_statistics(sizes)
        finally:
            distributed.destroy_process_group()
    require(torch.equal(values, torch.ones_like(values)) and items == [{"rank": 0}], "a collective changed its input")
    for name, gap in found.items():
        require(gap <= 1e-3, f"{name}: gradients differ by {gap:.2g} from the plain network")
    return found


def _shared_statistics(sizes: Sizes) -> float:
    """Distance between the gradients of the alphas with `sync_batchnorm` and without."""
    network = build_supernet(sizes.space())
    plain = _alpha_gradient(copy.deepcopy(network), sizes.device, "first", sizes.side)
    with network.sharing():
        return distance(_alpha_gradient(network, sizes.device, "first", sizes.side), plain)


def mixed_precision(sizes: Sizes) -> Values:
    """The loss of a fixed batch falls in every precision, float16 with its scaler, and no weight becomes NaN."""
    found: Values = {}
    for name in sizes.precisions():
        with in_precision(name, sizes.device):
            losses = _fit(sizes, name)
        found[name] = {"first": losses[0], "last": losses[-1]}
        require(math.isfinite(losses[-1]) and losses[-1] < losses[0], f"{name}: the loss went {losses}")
    return found


def compiled(sizes: Sizes) -> Values:
    """torch.compile of the network, against eager. On a CPU without code generation, which takes minutes there."""
    torch.manual_seed(0)
    network = placed(_few_operators(sizes) if sizes.small else build_network(sizes.network()), sizes.device)
    images, masks = noise(4, sizes.side, sizes.device)
    with in_precision("fp32", sizes.device):
        plain = _gradients(copy.deepcopy(network), images, masks)
        model: Any = torch.compile(network, backend="inductor" if sizes.cuda else "aot_eager")
        gap = distance(_gradients(network, images, masks, model), plain)
    require(gap <= 0.01, f"gradients differ by {gap:.2g} from eager")
    return {"distance": gap}


def waits(sizes: Sizes) -> Values:
    """A step of training and one of the search run while PyTorch raises at every wait of the host."""
    precision = sizes.fast()[0]
    steps = {"train": training_step(training_settings(sizes), sizes.device, precision),
             "search": search_step(search_settings(sizes), sizes.device, precision, joined=True)}  # fmt: skip
    for step in steps.values():
        step()  # the optimizers allocate their state
        if sizes.cuda:
            torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            if sizes.cuda:
                torch.cuda.set_sync_debug_mode("default")
    return {"steps": list(steps), "checked": sizes.cuda}


def require(right: bool, message: str) -> None:
    """Raises CheckError with the message unless a result is right."""
    if not right:
        raise CheckError(message)


def distance(one: Tensor, other: Tensor) -> float:
    """Norm of the difference, relative to the other; both on any device and in any precision."""
    one, other = one.detach().cpu().double(), other.detach().cpu().double()
    return ((one - other).norm() / other.norm().clamp(min=1e-30)).item()


def placed(network: nn.Module, device: torch.device) -> Any:
    """The network on a device, channels last, in the mode that it trains in."""
    moved: Any = network
    return moved.to(device, memory_format=torch.channels_last).train()


def supports(device: torch.device, name: str) -> bool:
    """Whether a device computes in a precision. After it, float32 is IEEE float32."""
    try:
        with in_precision(name, device):
            return True
    except DeviceError:
        return False


@contextmanager
def in_precision(name: str, device: torch.device) -> Iterator[None]:
    """Inside, float32 means what that precision says; after it, IEEE float32."""
    supported: Any = name
    choose_precision(supported, device)
    try:
        yield
    finally:
        choose_precision("fp32", device)


def _few_operators(sizes: Sizes) -> AutoMSFNet:
    """A small network of which most edges are skips: torch.compile takes its time for every operator."""
    config = sizes.network()
    genotype = Genotype.choose(lambda edge: "skip_connect" if edge.number else "sep_conv_3x3", "released")
    network = AutoMSFNet(encoders.build(config.encoder), genotype, config.channels)
    initialise(network)
    return network


def _step(network: AutoMSFNet, device: torch.device, precision: str, side: int) -> tuple[Tensor, Tensor]:
    """Logits and the gradient of all weights."""
    moved = placed(network, device)
    images, masks = noise(4, side, device)
    with autocast(device, precision):
        logits = moved(images.to(next(moved.parameters()).dtype))
    saliency_loss(logits, masks, LossConfig()).total.backward()
    return logits.p1, torch.cat([one.grad.flatten() for one in moved.parameters()])


def _gradients(network: nn.Module, images: Tensor, masks: Tensor, model: nn.Module | None = None) -> Tensor:
    """Gradient of all weights; `model` is the network as it is called."""
    network.zero_grad(set_to_none=True)
    logits = (network if model is None else model)(images)
    saliency_loss(logits, masks, LossConfig()).total.backward()
    return torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])


def _alpha_gradient(network: SuperNet, device: torch.device, order: Any, side: int) -> Tensor:
    """Gradient of all alphas on a batch of noise."""
    moved = network.to(device)
    dtype = moved.alphas()[0].dtype
    images, masks = noise(4, side, device)
    with only(moved, moved.weights()):
        optimizer = build_optimizer(moved, SearchConfig().optim)

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        return saliency_loss(moved(batch[0]), batch[1], LossConfig()).total

    architect = Architect(moved, optimizer, ArchitectConfig(order=order), loss)
    batch = (images.to(dtype), masks)
    found, _, _ = architect.second_order(batch, batch) if order == "second" else architect.first_order(batch)
    return torch.stack(found).flatten().cpu()


def _trained(sizes: Sizes, folder: Path, name: str, stop: bool) -> dict[str, Tensor]:
    """Weights after two epochs on generated scenes, in one go or in two runs."""
    config = TrainConfig(
        data=DataConfig(folder / "scenes", size=64, workers=0), network=Sizes(sizes.device, small=True).network(),
        encoder_weights="none", batch=4, epochs=2, precision="fp32", deterministic=True, out=folder / name,
    )  # fmt: skip
    group = Processes(0, 1, sizes.device)
    run = set_up(config, group)
    if stop:
        run.session.stop.requested = "the check"
        train.train(run)  # saves after its first step
        run.session.close()
        run = set_up(config, group)
        require(run.progress.step == 1, f"resumed at step {run.progress.step}, expected 1")
    train.train(run)
    run.session.close()
    return {key: value.cpu() for key, value in run.network.state_dict().items()}


def _fit(sizes: Sizes, precision: str) -> list[float]:
    """Losses of a few steps on one batch."""
    torch.manual_seed(0)
    network = placed(build_network(sizes.network()), sizes.device)
    optimizer = build_optimizer(network, OptimConfig(name="sgd", lr=0.01, encoder_lr=0.01))
    scaler = torch.amp.GradScaler(sizes.device.type, enabled=precision == "fp16")
    images, masks = noise(4, sizes.side, sizes.device)
    losses: list[float] = []
    for _ in range(4 if sizes.small else 12):
        optimizer.zero_grad(set_to_none=True)
        with autocast(sizes.device, precision):
            logits = network(images)
        loss = saliency_loss(logits, masks, LossConfig()).total
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses


def _engine(loaded: LoadedNetwork, precision: Any, device: torch.device) -> TorchEngine:
    return TorchEngine(loaded, loaded.size, precision, device)


def training_settings(sizes: Sizes) -> TrainConfig:
    """Of train.py, on noise."""
    data = DataConfig(Path(), size=sizes.side)
    return TrainConfig(data=data, network=sizes.network(), encoder_weights="none", batch=2 if sizes.small else 32)


def search_settings(sizes: Sizes) -> SearchConfig:
    """Of search.py, on noise; if small, with the operations that launch the fewest operators."""
    space = sizes.space()
    if sizes.small:
        space = replace(space, operations=["none", "skip_connect", "sep_conv_3x3"])
    config = SearchConfig(space=space, batch=2 if sizes.small else 8)
    return replace(config, data=replace(config.data, size=sizes.side))
