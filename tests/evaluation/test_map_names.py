"""Names of maps: as the masks', with one common prefix or suffix, or by a stated pattern."""

from pathlib import Path

import pytest

from evaluation.map_names import MapNameError, match, shown


def maps(*names):
    return {name: Path(f"{name}.png") for name in names}


@pytest.mark.parametrize("pattern", ["{name}", "{name}_HS", "{name}_sal", "HS_{name}", "a_{name}-b"])
def test_a_common_prefix_or_suffix_is_found(pattern):
    names = ["0001", "0002", "deep/0001"]
    files = maps(
        *(
            name.rpartition("/")[0] + "/" * ("/" in name) + pattern.replace("{name}", name.rpartition("/")[2])
            for name in names
        )
    )
    found = match(names, files)
    assert [found[name] for name in names] == list(files.values())
    assert match(names, files, pattern) == found


def test_a_name_inside_another_is_no_ambiguity():
    assert match(["1", "11"], maps("1_1", "11_1")) == {"1": Path("1_1.png"), "11": Path("11_1.png")}


def test_two_patterns_that_fit_are_named():
    with pytest.raises(MapNameError, match=r"fit '1\{name\}' and '\{name\}1'\. State one by --map-pattern"):
        match(["1", "11"], maps("11", "111"))
    assert match(["1", "11"], maps("11", "111"), "1{name}") == {"1": Path("11.png"), "11": Path("111.png")}


def test_missing_and_extra_maps_are_listed_with_the_pattern_that_fits_most():
    with pytest.raises(MapNameError) as told:
        match(["a", "b", "c"], maps("a_HS", "b_HS", "stray"))
    assert "3 maps for 3 masks; 3 missing maps: a, b, c; 3 extra maps: a_HS, b_HS, stray." in str(told.value)
    assert "2 maps fit --map-pattern '{name}_HS'." in str(told.value)
    with pytest.raises(MapNameError, match="1 missing map: c; 1 extra map: stray"):
        match(["a", "b", "c"], maps("a_HS", "b_HS", "stray"), "{name}_HS")


@pytest.mark.parametrize("pattern", ["HS", "{name}{name}", ""])
def test_a_pattern_names_the_mask_once(pattern):
    with pytest.raises(MapNameError, match="must contain {name} once"):
        match(["a"], maps("a"), pattern)


def test_accents_pair_in_either_form():
    assert match(["\u00e9"], {"\u00e9": Path("e\u0301.png")})["\u00e9"] == Path("e\u0301.png")


def test_shown_names_are_printable_and_stay_different():
    names = ["plain é", "a\x1b[0m", "a\\x1b[0m", "line\nbreak", "\udcff", "\\udcff"]
    texts = [shown(name) for name in names]
    assert all(text.isprintable() and text.encode() for text in texts)
    assert len(set(texts)) == len(names)
    assert texts[0] == "plain é"
