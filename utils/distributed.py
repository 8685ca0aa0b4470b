"""One process or many, started by torchrun: who am I, do we agree, and the same network on all of us.

    torchrun --nproc-per-node 4 train.py --config configs/resnet50.yaml --data.root DUTS-TR

Every call that talks to the others must be made by all of them, in the same order; with one process none of them costs
anything. Flags and Python objects go through gloo, gradients on GPUs through NCCL.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError

Item = TypeVar("Item")


class DistributedError(UserError):
    """Something that several processes can't do."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: number of this one, from 0; rank 0 alone writes.
        world: how many there are.
        device: where this one computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Prints once, whatever the number of processes."""
        if self.first:
            print(text, flush=True)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process."""
        if self.world == 1:
            return flags
        counts = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(counts)
        return tuple(bool(count) for count in counts.tolist())

    def gather(self, item: Item) -> list[Item]:
        """What every process gave, by rank."""
        if self.world == 1:
            return [item]
        items: list[Item] = [item] * self.world
        distributed.all_gather_object(items, item)
        return items

    def mean(self, tensors: Sequence[torch.Tensor]) -> None:
        """Averages each tensor over the processes, in place."""
        if self.world > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor.div_(self.world)

    def agree(self, error: UserError | None) -> None:
        """Leaves if any process has an error: the first of those raises its own, the others exit without a word."""
        (failed,) = self.any(error is not None)
        if not failed:
            return
        speaker = self.gather(error is not None).index(True)
        if error is not None and self.rank == speaker:
            raise error
        raise SystemExit(2)

    def together(self, work: Callable[[], Item]) -> Item:
        """Does the work in every process; an error in one of them ends all, see `agree`."""
        result, error = None, None
        try:
            result = work()
        except UserError as caught:
            error = caught
        self.agree(error)
        return result  # pyright: ignore[reportReturnType]  # None only if Item is

    def first_before_others(self, work: Callable[[], Item]) -> Item:
        """Does the work in the first process, then in the others, which find what it left on the disk."""
        if self.world == 1:
            return work()
        made = self.together(lambda: work() if self.first else None)
        rest = self.together(lambda: None if self.first else work())
        return made if self.first else rest  # pyright: ignore[reportReturnType]

    def in_step(self, items: Iterable[Item]) -> Iterator[Item]:
        """Items as they come, as long as no process fails to get its next one, see `agree`."""
        iterator = iter(items)
        while True:
            found = self.together(lambda: list(_take_one(iterator)))
            if not found:
                return
            yield found[0]

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes in `backward`; with one process itself."""
        if self.world == 1:
            return network
        return DistributedDataParallel(network, [self.device] if self.device.type == "cuda" else None)

    def apart(self, model: nn.Module, alone: bool) -> AbstractContextManager[object]:
        """While `alone`, gradients of a wrapped model add up in each process and are not averaged yet."""
        return model.no_sync() if alone and isinstance(model, DistributedDataParallel) else nullcontext()

    def share_buffers(self, network: nn.Module) -> None:
        """Gives every process the BatchNorm statistics of the first one, so that all evaluate the same network."""
        if self.world > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)

    def leave(self) -> None:
        """Ends the group; the last call."""
        if self.world > 1:
            distributed.destroy_process_group()


def join(device: torch.device) -> Processes:
    """Joins the processes that torchrun started, or stands alone where it did not.

    Args:
        device: of the kind to compute on; of several GPUs each process of a machine takes its own.

    Raises:
        DistributedError: if there are more processes than GPUs, or the device can't be shared.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes(0, 1, device)
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if device.type == "mps" and world > 1:
        raise DistributedError(f"{world} processes on mps: PyTorch can't share that device. Use --nproc-per-node 1.")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise DistributedError(
                f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}. "
                f"Use --nproc-per-node {torch.cuda.device_count()}."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if world == 1:
        return Processes(0, 1, device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), world, device)


def synchronise_batchnorm(network: nn.Module, processes: Processes) -> nn.Module:
    """BatchNorm over the pictures of all processes instead of each one's own; nothing changes with one process.

    Raises:
        DistributedError: on a device other than CUDA, which PyTorch's SyncBatchNorm needs.
    """
    if processes.device.type != "cuda":
        raise DistributedError(
            f"sync_batchnorm: PyTorch's SyncBatchNorm computes on cuda alone, this run is on {processes.device.type}. "
            f"Set sync_batchnorm to false, or train on GPUs."
        )
    # timm's, since PyTorch's would drop the activations that timm's BatchNorms carry.
    return convert_sync_batchnorm(network) if processes.world > 1 else network


def _take_one(iterator: Iterator[Item]) -> Iterator[Item]:
    for item in iterator:
        yield item
        return
