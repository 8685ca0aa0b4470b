"""Encoders: levels, sizes, weights by path, and what goes wrong."""

import pytest
import torch
from safetensors.torch import save_file

from net import encoder
from net.encoder import EncoderError
from utils.checkpoint import CheckpointError


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "efficientnet_lite0", "mobilenetv3_small_050"])
def test_levels_parameters_and_strides_are_as_published(name):
    body = encoder.build(name).eval()
    for size in ((64, 64), (75, 97)):
        with torch.inference_mode():
            levels = body(torch.randn(1, 3, *size))
        assert len(levels) == 4
        for level, channels, stride in zip(levels, body.channels, body.strides, strict=True):
            expected = tuple(-(-side // stride) for side in size)
            assert level.shape == (1, channels, *expected)
    expected = {
        "resnet50": (23_508_032, (4, 8, 16, 32)),
        "vgg16": (14_723_136, (2, 4, 8, 16)),
        "efficientnet_lite0": (2_958_848, (4, 8, 16, 32)),
    }
    if name in expected:
        assert (sum(p.numel() for p in body.parameters()), tuple(body.strides)) == expected[name]


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_by_path(tmp_path, suffix):
    source = encoder.build("efficientnet_lite0")
    state = {**source.body.state_dict(), "classifier.weight": torch.zeros(3, 3)}
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = encoder.build("efficientnet_lite0", path)
    for key, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_shared_weights_load(shared):
    body = encoder.build("vgg16", shared / "weights" / "vgg16_bn_hed.safetensors")
    assert next(body.parameters()).dtype == torch.float32


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(encoder.build("efficientnet_lite0").body.state_dict(), path)
    with pytest.raises(EncoderError, match="not weights of encoder 'resnet50'.*change network.encoder"):
        encoder.build("resnet50", path)


def test_broken_and_missing_files(tmp_path):
    (tmp_path / "zero.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        encoder.build("vgg16", tmp_path / "zero.safetensors")
    with pytest.raises(CheckpointError, match=r"absent.pt: can't be read \(No such file"):
        encoder.build("vgg16", tmp_path / "absent.pt")


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"conv1.weight": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match=r"bomb.pt: refused, .* \(print\)"):
        encoder.build("resnet50", tmp_path / "bomb.pt")


def test_unknown_name():
    with pytest.raises(EncoderError, match="'resnet5' is neither resnet50, vgg16 nor a timm model"):
        encoder.build("resnet5")


def test_channels_last_features_and_a_fixed_input_size_work():
    """swin's features are (B, H, W, C), and timm's default refuses any size but 224."""
    body = encoder.build("swin_tiny_patch4_window7_224").eval()
    with torch.inference_mode():
        levels = body(torch.randn(1, 3, 64, 96))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tuple(level.shape) for level in levels] == [
        (1, channels, *size) for channels, size in zip(body.channels, sizes, strict=True)
    ]
    encoder.check_sizes("swin_tiny_patch4_window7_224", [64, 256])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vit_tiny_patch16_224", "encoder 'vit_tiny_patch16_224' has levels at strides 16, 16, 16; four are needed"),
        ("nest_tiny", "has levels at strides 4, 8, 16; four are needed"),
        ("levit_128", "has levels at strides 16, 32, 64"),
        ("mobilenetv3_small_05", "nor a timm model .* Did you mean mobilenetv3_small_0"),
        ("resnet5", "Did you mean resnet50?"),
    ],
)
def test_unsuitable_encoders_are_refused_before_a_download(name, told, monkeypatch):
    real = encoder.timm.create_model

    def create(*arguments, pretrained=False, **options):
        assert not pretrained, "a download"
        return real(*arguments, **options)

    monkeypatch.setattr(encoder.timm, "create_model", create)
    with pytest.raises(EncoderError, match=told) as caught:
        encoder.build(name, "imagenet")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 290


def test_a_size_that_an_encoder_does_not_take_is_one_line():
    with pytest.raises(EncoderError, match=r"does not take images of 96 x 96 pixels .* Change the size"):
        encoder.check_sizes("hiera_tiny_224", [224, 96])
    with pytest.raises(EncoderError, match=r"does not take images of 45 x 45 pixels"):
        encoder.check_sizes("swin_tiny_patch4_window7_224", [45])
    encoder.check_sizes("resnet50", [45])
