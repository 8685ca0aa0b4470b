"""The benchmark's variants are one network and one loss, and its report states what was measured."""

import pytest
import torch

from benchmarks.training import VARIANTS, operators_of, plain_dilate, rows_of
from net import losses

VARIANTS_OF = {
    variant: [{"seconds": seconds, "memory_mib": 1000.0, "op conv": seconds / 2, "op add": 0.01}]
    for variant, seconds in zip(VARIANTS, (8.0, 4.0, 2.0), strict=True)
}


@pytest.mark.parametrize("width", [3, 5, 7])
def test_the_plain_loop_has_the_same_windows(width):
    x = torch.rand(4, 1, 20, 31)
    assert torch.equal(plain_dilate(x, width), losses._dilate(x, width))


def test_rows_are_ratios_of_images_a_second():
    float32, _, ours = rows_of("resnet50", VARIANTS_OF)
    assert float32[4:] == ["1", "1.00 (1.00 to 1.00)", "1.00 x", "0.50 x", "1000"]
    assert ours[5:] == ["4.00 (4.00 to 4.00)", "4.00 x", "2.00 x", "1000"]


def test_operators_are_sorted_by_their_time():
    lines = operators_of("resnet50", VARIANTS_OF)
    assert lines[5:] == ["| `conv` | 4000 | 2000 | 1000 |", "| `add` | 10 | 10 | 10 |", "| all | 4010 | 2010 | 1010 |"]
