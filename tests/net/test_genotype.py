"""Genotypes: the published ones, the round trip, and every way to get one wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net import operations
from net.genotype import CellGenotype, Genotype, GenotypeError, load

NAMES = st.sampled_from(operations.names())
CELLS = st.tuples(
    *(
        st.builds(
            CellGenotype,
            outer=st.lists(NAMES, min_size=4, max_size=4).map(tuple),
            inner=st.lists(NAMES, min_size=inner, max_size=inner).map(tuple),
        )
        for inner in (5, 7, 7)
    )
)


@given(cells=CELLS, topology=st.sampled_from(["released", "figure"]))
def test_round_trip(cells, topology):
    genotype = Genotype(cells, topology, {"seed": 3})
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype and again.provenance == genotype.provenance


def test_published_resnet50():
    first, second, third = load("resnet50").cells
    assert first.outer == ("dil_conv_3x3_dil4", "dil_conv_3x3_dil4", "dil_conv_3x3_dil4", "SpatialAttention")
    assert second.inner[-1] == "skip_connect" and third.inner[4] == "skip_connect"


def test_published_genotypes_count_as_known():
    edges = [name for key in ("resnet50", "vgg16") for cell in load(key).cells for name in cell.outer + cell.inner]
    counts = {name: edges.count(name) for name in operations.names()}
    assert counts == {
        "none": 2, "skip_connect": 2, "sep_conv_3x3": 4, "sep_conv_3x3_rp2": 6, "dil_conv_3x3": 14,
        "dil_conv_3x3_rp2": 12, "dil_conv_3x3_dil4": 5, "conv_3x3": 0, "conv_3x3_rp2": 0,
        "SpatialAttention": 11, "ChannelAttention": 6,
    }  # fmt: skip


def record():
    return json.loads(load("resnet50").to_json())


def broken(change):
    data = record()
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "g.json: no JSON"),
        ("[]", "expected an object with the keys schema, topology and cells"),
        (broken(lambda d: d.update(schema=7)), "schema is 7, this program reads 1"),
        (broken(lambda d: d.update(topology="ring")), "topology is 'ring', expected one of released, figure"),
        (broken(lambda d: d["cells"].pop()), "2 cells, expected 3"),
        (broken(lambda d: d["cells"][1]["inner"].pop()), "cell 2, inner: 6 operations, expected 7"),
        (broken(lambda d: d["cells"][0].update(outer="none")), "cell 1, outer: expected a list"),
        (broken(lambda d: d["cells"].__setitem__(2, 5)), "cell 3 is 5"),
        (
            broken(lambda d: d["cells"][1]["outer"].__setitem__(0, "conv_5x5")),
            "g.json: cell 2 uses the operation 'conv_5x5', which is not registered. Registered: none",
        ),
        (broken(lambda d: d["cells"][0]["outer"].__setitem__(0, "__import__('os')")), "not registered"),
        (broken(lambda d: d["cells"][0]["outer"].__setitem__(0, "x" * 3000)), "(3002 characters)"),
        (broken(lambda d: d.update(topology="x" * 3000)), "(3002 characters), expected one of released"),
        (broken(lambda d: d.update(topology=["x"])), "topology is ['x'], expected one of"),
        (broken(lambda d: d.update(schema={"x": "y" * 3000})), "characters), this program reads 1"),
        (broken(lambda d: d.update(provenance=["me"])), "provenance is ['me'], expected an object"),
        (broken(lambda d: d.update(provenance="x" * 3000)), "(3002 characters), expected an object"),
        (broken(lambda d: d["cells"].__setitem__(0, "x" * 3000)), "cell 1 is 'xxx"),
        (broken(lambda d: d["cells"][0].update(inner=[{}] * 3000)), "cell 1, inner: expected a list"),
        (broken(lambda d: d.update(cells=[d["cells"][0]] * 3000)), "3000 cells, expected 3"),
        ("[" * 100_000, "no JSON (nested too deeply)"),
        ('{"schema": ' + "9" * 5000 + "}", "no JSON"),
        ("x" * 2_000_000, "2000000 characters are no genotype"),
    ],
)
def test_broken_files_are_told(text, message):
    with pytest.raises(GenotypeError, match="^[^\n]*$") as caught:
        Genotype.from_json(text, origin="g.json")
    assert message in str(caught.value) and str(caught.value).startswith("g.json") and len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff\xfe", b"\xff" * 100, "{}".encode("utf-16")])
def test_a_binary_file(tmp_path, content):
    path = tmp_path / "g.json"
    path.write_bytes(content)
    with pytest.raises(GenotypeError, match=r"g.json: no UTF-8 text. Expected a genotype written by search.py.$"):
        load(path)


@pytest.mark.parametrize("source", ["x" * 3000, "../genotypes", "a\0b", ".", "/etc"])
def test_what_is_no_file_is_one_line(source):
    with pytest.raises(GenotypeError, match="^[^\n]*$") as caught:
        load(source)
    assert (
        "neither a shipped name (lite, resnet50, vgg16) nor a file" in str(caught.value)
        and len(str(caught.value)) < 290
    )


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(
        GenotypeError, match=r"'resnet51' is neither a shipped name \(lite, resnet50, vgg16\) nor a file"
    ):
        load("resnet51")


def test_a_path_loads(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(load("vgg16").to_json())
    assert load(path) == load("vgg16")
