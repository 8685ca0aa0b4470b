"""The network of a training run: built, placed on its device, partly frozen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from net.auto_msfnet import AutoMSFNet, build_network
from net.cpu_kernels import accelerate
from net.encoder import check_sizes, stem
from net.libraries import convert_sync_batchnorm
from training.compatibility import portable
from training.processes import DistributedError, Processes
from training.settings import TrainConfig


def build(
    config: TrainConfig, processes: Processes, encoder_weights: str | Path | None
) -> tuple[AutoMSFNet, list[nn.Module]]:
    """The network on its device, and its frozen parts.

    Args:
        config: of the run.
        processes: those of the run.
        encoder_weights: see `net.encoder.build`; None where a checkpoint or other weights will be loaded.
    """
    check_sizes(
        config.network.encoder, {config.data.size, *(size for stage in config.data.stages for size in stage.sizes)}
    )
    network: Any = build_network(config.network, encoder_weights)
    network.genotype = replace(network.genotype, provenance=portable(network.genotype.provenance))
    network = network.to(processes.device, memory_format=torch.channels_last)
    if processes.device.type == "cpu":
        accelerate(network)
    if config.sync_batchnorm:  # before the stem is taken: it replaces the BatchNorm modules
        network = synchronise_batchnorm(network, processes)
    frozen = stem(network.encoder) if config.freeze_stem else []
    for part in frozen:
        part.requires_grad_(False)
    return network, frozen


def callable_model(network: nn.Module, config: TrainConfig, processes: Processes) -> nn.Module:
    """The network as training calls it: compiled if asked for, gradients averaged over the processes."""
    compiled: Any = torch.compile(network) if config.compile else network
    return processes.data_parallel(compiled)


def synchronise_batchnorm(network: nn.Module, processes: Processes) -> nn.Module:
    """BatchNorm over the images of all processes instead of each one's own; nothing changes with one process.

    Raises:
        DistributedError: on a device other than CUDA, which PyTorch's SyncBatchNorm needs.
    """
    if processes.device.type != "cuda":
        raise DistributedError(
            f"sync_batchnorm: PyTorch's SyncBatchNorm supports only cuda, this run is on {processes.device.type}. "
            f"Set sync_batchnorm to false, or train on GPUs."
        )
    # timm's, since PyTorch's would drop the activations that timm's BatchNorms carry.
    return convert_sync_batchnorm(network) if processes.world > 1 else network
