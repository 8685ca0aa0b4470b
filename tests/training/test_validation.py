"""Scores of a validation are the library's, in whatever order the images come."""

import py_sod_metrics as sod
import pytest
import torch

from data.datasets import Batch
from net.auto_msfnet import Logits
from training.processes import Processes
from training.validation import validate

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)


class Echo(torch.nn.Module):
    """A network whose P1 is the first channel of its image."""

    def forward(self, image):
        return Logits(image[:, :1], image[:, :1], image[:, :1])


def batch(images, masks, indices):
    return Batch(images[indices], masks[indices], torch.tensor(indices))


@pytest.fixture
def images_and_masks():
    torch.manual_seed(0)
    images = torch.randn(5, 3, 24, 24)
    return images, (images[:, :1] + torch.randn(5, 1, 24, 24) > 0.3).float()


def test_scores_are_the_librarys_over_all_images(images_and_masks):
    images, masks = images_and_masks
    f = sod.FmeasureHandler(with_adaptive=False, with_dynamic=True, beta=0.3)
    mae, weighted, curve = sod.MAE(), sod.WeightedFmeasure(), sod.FmeasureV2(metric_handlers={"fm": f})
    for image, mask in zip(images, masks, strict=True):
        maps = (torch.sigmoid(image[0]) * 255).round().byte().numpy(), (mask[0] * 255).byte().numpy()
        for measure in (mae, weighted, curve):
            measure.step(*maps)
    scores = validate(Echo(), [batch(images, masks, [0, 1, 2]), batch(images, masks, [3, 4])], CPU, "fp32", ALONE)
    assert scores["mae"] == pytest.approx(mae.get_results()["mae"])
    assert scores["wfm"] == pytest.approx(weighted.get_results()["wfm"])
    assert scores["maxf"] == pytest.approx(curve.get_results()["fm"]["dynamic"].max())


def test_the_order_changes_nothing(images_and_masks):
    images, masks = images_and_masks
    whole = validate(Echo(), [batch(images, masks, [0, 1, 2, 3, 4])], CPU, "fp32", ALONE)

    parts = [batch(images, masks, [4, 2, 0]), batch(images, masks, [1, 3])]
    assert validate(Echo(), parts, CPU, "fp32", ALONE) == whole
