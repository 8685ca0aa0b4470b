"""Drawings of cells and weights: every edge and operation is in them."""

import pytest
import torch

from evaluation.report.figures import rendered
from nas.cell_drawings import SHORT, draw_cells, draw_weights
from net.derive import random_genotype
from net.genotype import load, operations_of
from net.settings import PAPER_SPACE, SpaceConfig


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_every_operation_of_every_cell_is_written_at_its_edge(name):
    genotype = load(name)
    figure = draw_cells(genotype)
    for panel, cell in zip(figure.axes, genotype.cells, strict=True):
        written = [text.get_text() for text in panel.texts]
        for operation in {*cell.outer, *cell.inner}:
            expected = [*cell.outer, *cell.inner].count(operation)
            assert written.count(SHORT[operation]) == expected, operation


def test_both_topologies_draw_the_same_number_of_edges():
    drawn = [
        sum(len(panel.patches) for panel in draw_cells(random_genotype(SpaceConfig(topology=topology), 0)).axes)
        for topology in ("released", "figure")
    ]
    assert drawn[1] == drawn[0] + 1, "Figure 7 adds the first cell's root to its sum"


def test_it_is_vector_graphics_and_the_same_each_time():
    assert rendered(draw_cells(load("resnet50"), "title"), "svg") == rendered(
        draw_cells(load("resnet50"), "title"), "svg"
    )


def test_the_heat_map_shows_the_weight_of_what_was_chosen():
    weights = torch.softmax(torch.randn(31, 11, generator=torch.Generator().manual_seed(0)), 1)
    figure = draw_weights(weights.tolist(), load("resnet50"), PAPER_SPACE)
    panel = figure.axes[0]
    chosen = [PAPER_SPACE.index(name) for _, name in operations_of(load("resnet50"))]
    expected = [f"{row[column]:.2f}" for row, column in zip(weights, chosen, strict=True)]
    assert [text.get_text() for text in panel.texts] == expected
    framed = [(frame.get_x() + 0.5, frame.get_y() + 0.5) for frame in panel.patches]
    assert framed == list(zip(chosen, range(31), strict=True))
    assert panel.images[0].get_array().shape == (31, 11)
