"""Devices and precisions are what was asked for, or an error."""

import pytest
import torch

from utils.device import DeviceError, autocast, banner, choose_device, choose_precision

CPU = torch.device("cpu")


def test_auto_is_something_that_is_there():
    torch.zeros(1, device=choose_device("auto"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_absent_cuda_is_an_error():
    with pytest.raises(DeviceError, match=r"--device cuda: .* finds no cuda device here; it finds cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("there", [True, False])
def test_bf16_only_where_the_hardware_has_it(there, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there})
    assert choose_precision("auto", CPU) == ("bf16" if there else "fp32")
    if there:
        assert choose_precision("bf16", CPU) == "bf16"
    else:
        with pytest.raises(DeviceError, match="this cpu device has no bfloat16 units"):
            choose_precision("bf16", CPU)


def test_fp16_is_refused_on_a_cpu():
    with pytest.raises(DeviceError, match="--precision fp16"):
        choose_precision("fp16", CPU)


def test_fp32_is_ieee_float32_and_tf32_is_named():
    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    convolutions.fp32_precision = products.fp32_precision = "tf32"
    try:
        assert choose_precision("fp32", CPU) == "fp32"
        assert convolutions.fp32_precision == products.fp32_precision == "ieee"
    finally:
        convolutions.fp32_precision, products.fp32_precision = before
    with pytest.raises(DeviceError, match=r"--precision tf32: only CUDA GPUs since Ampere"):
        choose_precision("tf32", CPU)


def test_cudnn_does_not_measure_its_convolutions(monkeypatch):
    """It would do so again for every size of a training with several."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    choose_precision("fp32", torch.device("cuda"))
    assert not torch.backends.cudnn.benchmark


def test_the_banner_states_what_fp32_means_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: "GPU")
    assert "cuda (GPU) | fp32 (IEEE) | " in banner(torch.device("cuda"), "fp32")
    assert "cuda (GPU) | tf32 | " in banner(torch.device("cuda"), "tf32")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_banner_tells_device_precision_and_threads():
    text = banner(CPU, "fp32")
    assert text.startswith("cpu (") and "| fp32 |" in text and f"{torch.get_num_threads()} threads" in text
