"""Point 16: any encoder of timm works, or one line says why not before anything is downloaded."""

import pytest
import torch

from net import encoder
from net.auto_msfnet import NetworkError, build_network
from net.encoder import EncoderError
from net.settings import NetworkConfig
from tests.hostile.training import set_up_run
from utils.errors import UserError


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """A network of timm with `pretrained` fails the test."""
    real = encoder.timm.create_model

    def create(*arguments, pretrained=False, **options):
        assert not pretrained, "a download"
        return real(*arguments, **options)

    monkeypatch.setattr(encoder.timm, "create_model", create)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224"])
def test_channels_last_features_and_fixed_sizes_work(name):
    network = build_network(NetworkConfig(name, "resnet50", 16)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 96, 64)).p1.shape == (1, 1, 96, 64)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vit_tiny_patch16_224", "has levels at strides 16, 16, 16; four are needed"),
        ("levit_128", "has levels at strides 16, 32, 64; four are needed"),
        ("crossvit_tiny_240", "has levels at strides 12, 17; four are needed"),
        ("resnet5", "Did you mean resnet50"),
    ],
)
def test_what_cannot_work_is_one_line_before_a_download(tmp_path, name, told):
    with pytest.raises(EncoderError, match=told) as caught:
        set_up_run(tmp_path, "--network.encoder", name, "--encoder-weights", "imagenet")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_size_that_an_encoder_does_not_take_is_refused_before_a_download(tmp_path):
    with pytest.raises(UserError, match="does not take images of 96 x 96 pixels"):
        set_up_run(
            tmp_path, "--network.encoder", "hiera_tiny_224", "--data.size", "96", "--encoder-weights", "imagenet"
        )


@pytest.mark.parametrize("more", [("--batch", "1"), ("--accumulate", "4")])
def test_a_batchnorm_that_sees_one_value_is_one_line(tmp_path, more):
    """Parts of one image of 32 pixels, whose coarsest level is a single pixel."""
    run = set_up_run(tmp_path, "--data.size", "32", *more)
    import train

    with pytest.raises(NetworkError, match="BatchNorm needs more than one value a channel") as caught:
        train.train_step(run, next(iter(run.loaders.training)))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
