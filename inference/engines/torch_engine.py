"""PyTorch alone: folded, channels last, in the precision that the device computes fastest."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, fx

from inference.engines import packing
from inference.engines.base import EngineError, EnginePrecision, Share, check_images
from inference.folding.network import HEAD, fold
from net.auto_msfnet import AutoMSFNet
from utils.device import choose_precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CPU_BATCH = 4  # larger batches leave the cache, smaller ones lay few pixels under each weight


class TorchEngine:
    """See `Engine`.

    Args:
        network: in eval mode; left as it is.
        size: side S of the input.
        precision: `int8` is not to be had in PyTorch's own convolutions.
        device: where to compute.
        streams: how many threads will call at once.
        compile: whether to hand the network to torch.compile, which needs a compiler and a minute or so.

    Raises:
        EngineError, DeviceError: the precision was asked for by name and is not to be had.
    """

    name = "torch"

    def __init__(
        self,
        network: AutoMSFNet,
        size: int,
        precision: EnginePrecision,
        device: torch.device,
        streams: int = 1,
        compile: bool = False,
    ) -> None:
        if precision == "int8":
            raise EngineError(
                "--precision int8: PyTorch's engine has none. Use --engine openvino or onnxruntime, or bf16."
            )
        self.precision = choose_precision(precision, device)
        self.size, self.device, self.reason = size, device, "asked for by name"
        self.share = Share.of(streams)
        self.streams, self.batch = streams, _CPU_BATCH if device.type == "cpu" else 16
        folded = in_precision(fold(network, size), _DTYPES[self.precision])
        self._network = folded.to(device).to(memory_format=torch.channels_last)
        self._compiled = compile
        self._call = torch.compile(self._network, dynamic=False) if compile else self._network
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
        if self._compiled or self.device.type != "cpu" or not packing.available():
            return self._call(images).float().cpu()
        whole = len(images) - len(images) % self.batch
        parts = [*images[:whole].split(self.batch), *images[whole:].split(1)] if whole else images.split(1)
        return torch.cat([self._packed_for(part)(part) for part in parts])

    def _packed_for(self, images: Tensor) -> fx.GraphModule:
        """The network laid out for a batch of this many pictures: one, or `batch`."""
        with self._lock:
            if len(images) not in self._packed:
                self._packed[len(images)] = packing.pack(self._network, images)
            return self._packed[len(images)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for what this thread computes in the block."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_precision(folded: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """A folded network that computes in a type, but for its head: logits are read finer than a short type tells."""
    if dtype is torch.float32:
        return folded
    network = copy.deepcopy(folded).to(dtype)
    graph = network.graph
    for node in list(graph.nodes):
        if node.op == "placeholder":
            with graph.inserting_after(node):
                cast = graph.call_method("to", (node, dtype))
            node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
        elif node.op == "call_module" and str(node.target).startswith(HEAD):
            network.get_submodule(str(node.target)).float()
            with graph.inserting_before(node):
                node.args = (graph.call_method("float", (node.args[0],)),)
    network.recompile()
    return network
