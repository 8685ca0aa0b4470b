"""Device and precision of a program: chosen once, printed, never changed silently."""

import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from utils.errors import UserError
from utils.hardware import DeviceName, Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class DeviceError(UserError):
    """A device or a precision that this machine does not support."""


def choose_device(name: DeviceName = "auto") -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        DeviceError: if it is named and not available, or no such name exists.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name not in ("auto", *available):
        raise DeviceError(f"--device {name}: no such device. Use auto, {', '.join(available)}.")
    if name == "auto":
        return torch.device(next(candidate for candidate, there in available.items() if there))
    if not available[name]:
        there = ", ".join(candidate for candidate, present in available.items() if present)
        raise DeviceError(
            f"--device {name}: PyTorch {torch.__version__} finds no {name} device here; it finds {there}. "
            f"Use --device auto or install a PyTorch build for your GPU and its driver."
        )
    return torch.device(name)


def choose_precision(name: Precision, device: torch.device) -> Literal["fp32", "tf32", "bf16", "fp16"]:
    """The precision of that name; `auto` takes bfloat16 where the hardware computes in it, else float32.

    fp32 is IEEE float32: products and convolutions on CUDA, for which PyTorch may use TensorFloat-32, are set to it for
    the whole process. tf32 sets them to TensorFloat-32. cuDNN takes its convolutions by rule, as is PyTorch's default:
    measuring them cost minutes where a training draws several sizes, see docs/cuda.md.

    Raises:
        DeviceError: if the precision is named and the device does not support it.
    """
    fast = _has_bf16(device)
    if name == "auto":
        name = "bf16" if fast else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("--precision fp16: CPUs compute it slowly or not at all. Use bf16, fp32 or auto.")
    if name == "bf16" and not fast:
        raise DeviceError(f"--precision bf16: this {device.type} device has no bfloat16 units. Use fp32 or auto.")
    if name == "tf32" and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise DeviceError(f"--precision tf32: only CUDA GPUs since Ampere support it, not {device.type}. Use fp32.")
    # torch.export reads the older flags, and PyTorch raises where they contradict the newer ones.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    cudnn: Any = torch.backends.cudnn  # its parts are set at run time
    for backend in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn):
        backend.fp32_precision = "tf32" if name == "tf32" else "ieee"
    return name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to that precision; fp32 and tf32 need none, see `choose_precision`."""
    return torch.autocast(device.type, _DTYPES[precision]) if precision in _DTYPES else nullcontext()


def banner(device: torch.device, precision: str) -> str:
    """One line: device and its name, precision, threads, PyTorch version."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    meaning = {"fp32": "fp32 (IEEE)"}.get(precision, precision) if device.type == "cuda" else precision
    return f"{device.type} ({name}) | {meaning} | {torch.get_num_threads()} threads | PyTorch {torch.__version__}"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(unit) for unit in ("avx512_bf16", "amx_bf16"))


def _cpu_name() -> str:
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
