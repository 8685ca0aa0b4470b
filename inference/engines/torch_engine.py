"""PyTorch: folded, channels last, in the precision that the device computes fastest."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, fx, nn

from inference.engines import packing
from inference.engines.base import EngineError, EnginePrecision, Share, check_images, notice
from inference.engines.preparation import prepare
from inference.folding.network import HEAD
from inference.weights import LoadedNetwork
from utils.device import choose_precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CPU_BATCH = 4  # larger batches leave the processor's cache, smaller ones use each weight for few pixels


class TorchEngine:
    """See `Engine`.

    Args:
        loaded: the network; not changed.
        size: side S of the input.
        precision: any but `int8`, which PyTorch's own convolutions do not support.
        device: where to compute.
        streams: how many threads will call at once.
        compile: whether to pass the network to torch.compile, which needs a compiler and about a minute.

    Raises:
        EngineError, DeviceError: the precision is not available.
    """

    name = "torch"

    def __init__(
        self,
        loaded: LoadedNetwork,
        size: int,
        precision: EnginePrecision,
        device: torch.device,
        streams: int = 1,
        compile: bool = False,
    ) -> None:
        if precision == "int8":
            raise EngineError(
                "--precision int8: not supported by PyTorch's engine. Use --engine openvino or onnxruntime, or bf16."
            )
        self.precision = choose_precision(precision, device)
        self.size, self.device, self.reason = size, device, "named by the user"
        self.share = Share.of(streams)
        self.streams, self.batch = streams, _CPU_BATCH if device.type == "cpu" else 16
        prepared = in_precision(prepare(loaded, size), _DTYPES[self.precision])
        self._network = prepared.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._call = torch.compile(self._network, dynamic=False) if compile else self._network
        self._packs = device.type == "cpu" and not compile and isinstance(self._network, fx.GraphModule)
        missing = packing.unavailable() if self._packs else ""
        if missing:
            notice(f"--engine torch: {missing}; the engine runs slower, with the same maps.")
            self._packs = False
        self._packed: dict[int, fx.GraphModule] = {}
        self._lock = Lock()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine.__call__`."""
        check_images(images, self.size)
        if self.device.type != "cpu":
            return self._run(images)
        with _threads(self.share.threads):
            return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=torch.channels_last)
        if not self._packs:
            return self._call(images).float().cpu()
        whole = len(images) - len(images) % self.batch
        parts = [*images[:whole].split(self.batch), *images[whole:].split(1)] if whole else images.split(1)
        return torch.cat([self._packed_for(part)(part) for part in parts])

    def _packed_for(self, images: Tensor) -> fx.GraphModule:
        """The network with weights in the layout for a batch of this many images: one, or `batch`."""
        with self._lock:
            if len(images) not in self._packed:
                assert isinstance(self._network, fx.GraphModule)
                self._packed[len(images)] = packing.pack(self._network, images)
            return self._packed[len(images)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sets the number of threads of the calling thread's computations in the block."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Autocast(nn.Module):
    """A network that could not be folded, under autocast.

    Shapes:
        images: (B, 3, S, S); returns (B, 1, S, S) float32.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        with torch.autocast(images.device.type, self.dtype):
            return self.network(images).float()


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network in a type; the head stays in float32, because logits need more digits than a 16-bit type has."""
    if dtype is torch.float32:
        return network
    if not isinstance(network, fx.GraphModule):
        return Autocast(network, dtype)
    network = copy.deepcopy(network)
    graph = network.graph
    for name, module in network.named_children():
        if not name.startswith(HEAD):
            module.to(dtype)
    for node in list(graph.nodes):
        if node.op == "placeholder":
            with graph.inserting_after(node):
                cast = graph.call_method("to", (node, dtype))
            node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
        elif node.op == "call_module" and str(node.target).startswith(HEAD):
            with graph.inserting_before(node):
                node.args = (graph.call_method("float", (node.args[0],)),)
    network.recompile()
    return network
