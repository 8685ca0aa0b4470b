"""One process or many, started by torchrun: ranks, agreement on errors, and averaged gradients.

    torchrun --nproc-per-node 4 train.py --config configs/resnet50.yaml --data.root DUTS-TR

Every call that communicates must be made by all processes, in the same order; with one process none of them costs
anything. Flags and Python objects go through gloo, gradients on GPUs through NCCL.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError, say

Item = TypeVar("Item")


class DistributedError(UserError):
    """Something that several processes can't do."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: number of this one, from 0; only rank 0 writes files.
        world: how many there are.
        device: where this one computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the process that prints and writes files."""
        return self.rank == 0

    def print_once(self, text: str) -> None:
        """Prints in the first process only."""
        if self.first:
            say(text)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process."""
        if self.world == 1:
            return flags
        counts = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(counts)
        return tuple(bool(count) for count in counts.tolist())

    def gather(self, item: Item) -> list[Item]:
        """The items of all processes, by rank."""
        if self.world == 1:
            return [item]
        items: list[Item] = [item] * self.world
        distributed.all_gather_object(items, item)
        return items

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Averages each tensor over the processes, in place and in one message; they have one type and device."""
        if self.world > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            distributed.all_reduce(flat)
            means = (flat / self.world).split([tensor.numel() for tensor in tensors])
            for tensor, mean in zip(tensors, means, strict=True):
                tensor.copy_(mean.view_as(tensor))

    def agree(self, error: UserError | None) -> None:
        """Ends all processes if one has an error: the first failing rank raises its own, the others exit silently.

        Raises:
            UserError: `error`, in the first process that has one.
            SystemExit: with code 2, in all others.
        """
        if not self.any(error is not None)[0]:
            return
        failing = self.gather(error is not None).index(True)
        if error is not None and self.rank == failing:
            raise error
        raise SystemExit(2)

    def agreeing(self) -> "Agreement":
        """A block of code after which the processes agree: a `UserError` in one of them ends all, see `agree`.

        The block itself must not communicate: a process that fails in it would leave the others waiting.
        """
        return Agreement(self)

    def first_before_others(self) -> "Agreement":
        """As `agreeing`, but rank 0 runs the block first; the others then find what it left on the disk."""
        return Agreement(self, first_alone=True)

    def lockstep(self, items: Iterable[Item]) -> Iterator[Item]:
        """Items as they come; all processes end if one of them cannot get its next one.

        Args:
            items: equally many in every process.
        """
        iterator = iter(items)
        while True:
            with self.agreeing():
                found = list(_take_one(iterator))
            if not found:
                return
            yield found[0]

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes in `backward`; with one process itself."""
        if self.world == 1:
            return network
        return DistributedDataParallel(network, [self.device] if self.device.type == "cuda" else None)

    def accumulating(self, model: nn.Module, more: bool) -> AbstractContextManager[object]:
        """Inside, while `more` parts of the step follow, gradients are summed locally and not averaged yet."""
        return model.no_sync() if more and isinstance(model, DistributedDataParallel) else nullcontext()

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Copies the BatchNorm statistics of rank 0 to all processes, so that all evaluate the same network."""
        if self.world > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)

    def leave(self) -> None:
        """Ends the group; the last call."""
        if self.world > 1:
            distributed.destroy_process_group()


class Agreement:
    """The block of `Processes.agreeing` and of `Processes.first_before_others`.

    Args:
        processes: those that agree when the block ends.
        first_alone: whether rank 0 runs the block before the others.
    """

    def __init__(self, processes: Processes, first_alone: bool = False) -> None:
        self._processes, self._first_alone = processes, first_alone

    def __enter__(self) -> None:
        if self._first_alone and not self._processes.first:
            self._processes.agree(None)  # waits for rank 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, UserError):
            return  # a fault of the program: its traceback is shown, and torchrun ends the other processes
        self._processes.agree(error)
        if self._first_alone and self._processes.first:
            self._processes.agree(None)  # waits for the others


def join(device: torch.device) -> Processes:
    """Joins the processes that torchrun started; without torchrun there is one.

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


def _take_one(iterator: Iterator[Item]) -> Iterator[Item]:
    for item in iterator:
        yield item
        return
