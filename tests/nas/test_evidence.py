"""The evidence as files: rows are replaced, never mixed, and the page is written from them alone."""

import re
from dataclasses import replace

import numpy as np
import pytest

from nas.budget_table import budget_table
from nas.cell_tables import dilation_table, half_table, likeness_table
from nas.evidence import SupernetScore, Training, add_supernet, add_trainings, genotypes_of, read_trainings, taken
from nas.evidence_report import again_table, groups_table, put, repeat_table, write_report
from nas.rank_tables import ranks_table
from nas.results import ResultsError
from net.derive import random_genotype
from net.genotype import Genotype
from net.settings import SpaceConfig
from utils.errors import UserError

SPACE = SpaceConfig()
BUDGET = {"images": 7, "recipe": {"epochs": 3}}


def row(group, name, seed=0, score=0.8, gmac=0.7):
    return Training(group, name, None, seed, gmac, 4, score, None, score - 0.2)


@pytest.fixture
def evidence(tmp_path):
    """A pool of 32 and five searches that are .01 better; a supernet that ranks the pool as it was trained."""
    rng = np.random.default_rng(0)
    rows = [row("random", str(seed), 0, 0.80 + 0.004 * rng.standard_normal(), 0.7 + 0.01 * rng.random())
            for seed in range(32)]  # fmt: skip
    rows += [row("oneshot", str(seed), 0, 0.81 + 0.002 * rng.standard_normal(), 0.71) for seed in range(5)]
    genotypes = {(one.group, one.genotype): random_genotype(SPACE, place) for place, one in enumerate(rows)}
    add_trainings(tmp_path / "evidence", rows, genotypes, BUDGET)
    scores = [SupernetScore("oneshot", 0, f"random_{one.genotype}", one.wfm_validation - 0.3, 0.5) for one in rows[:32]]
    add_supernet(tmp_path / "evidence", scores)
    return tmp_path / "evidence"


def test_rows_are_read_back_and_replaced(evidence):
    rows = read_trainings(evidence)
    assert len(rows) == 37 and rows[0].search_seed is None and rows[0].wfm_ecssd is None
    assert genotypes_of(evidence)["random", "3"] == random_genotype(SPACE, 3)
    changed = row("random", "3", 0, 0.5)
    add_trainings(evidence, [changed, row("random", "3", 1, 0.6)], {("random", "3"): random_genotype(SPACE, 3)}, BUDGET)
    again = {one.key: one for one in read_trainings(evidence)}
    assert len(again) == 38 and again["random", "3", 0] == changed
    header = (evidence / "trainings.csv").read_text().splitlines()[0]
    assert header == "group,genotype,search_seed,training_seed,gmac,dilated,wfm_validation,wfm_ecssd,wfm_duts"


def test_groups_and_genotypes_are_taken_with_the_seed_of_their_search(evidence):
    rows = [replace(row("oneshot", "3", 1), search_seed=3), replace(row("oneshot", "3"), search_seed=3)]
    genotypes = genotypes_of(evidence)
    add_trainings(evidence, rows, {("oneshot", "3"): genotypes["oneshot", "3"]}, BUDGET)
    found = taken(evidence, ["oneshot", "random_7"])
    assert set(found) == {("oneshot", str(seed)) for seed in range(5)} | {("random", "7")}
    assert found["oneshot", "3"] == (genotypes["oneshot", "3"], 3) and found["random", "7"][1] is None
    assert taken(evidence, []) == {}
    with pytest.raises(
        ResultsError, match="has no 'darts'. Name a genotype there or one of its groups: oneshot, random"
    ):
        taken(evidence, ["oneshot", "darts"])


def test_another_budget_is_refused(evidence):
    with pytest.raises(UserError, match=r"budget.json: images is 7 there and 8 here"):
        add_trainings(evidence, [], {}, {**BUDGET, "images": 8})
    with pytest.raises(UserError, match=r"budget.json: epochs is 3 there and 4 here"):
        add_trainings(evidence, [], {}, {**BUDGET, "recipe": {"epochs": 4}})


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_a_broken_budget_is_one_line(evidence, text):
    (evidence / "budget.json").write_text(text, "utf-8")
    with pytest.raises(ResultsError, match=r"budget.json: can't be read .* Restore it"):
        add_trainings(evidence, [], {}, {})


def test_a_broken_table_names_its_line(evidence):
    path = evidence / "trainings.csv"
    path.write_text(path.read_text().replace(",0.7", ",much", 1))
    with pytest.raises(ResultsError, match=r"trainings.csv: line \d+: could not convert"):
        read_trainings(evidence)
    path.write_text("group,score\n")
    with pytest.raises(ResultsError, match=r"trainings.csv: its columns are"):
        read_trainings(evidence)


PAGE = "# Page\n" + "".join(
    f"<!-- table {name} -->\nold\n<!-- end -->\n"
    for name in (
        "state",
        "groups",
        "repeat",
        "half",
        "ranks",
        "limits",
        "longer dilation",
        "edges",
        "effects",
        "transfer",
        "smaller",
        "remedies",
        "seeds",
        "budget",
        "dilation",
        "likeness",
        "again",
    )
)


def test_the_page_is_written_from_the_files(evidence, tmp_path):
    page = tmp_path / "search.md"
    page.write_text(PAGE)
    longer = [row("random", str(seed), 0, 0.9 - seed / 1000) for seed in range(4)]
    genotypes = {("random", one.genotype): random_genotype(SPACE, int(one.genotype)) for one in longer}
    add_trainings(tmp_path / "longer", longer, genotypes, BUDGET)
    written = write_report(page, evidence, [], transfer=tmp_path / "longer")
    text = page.read_text()
    assert "old" not in text and "37 trainings; genotypes by group: random 32, oneshot 5" in text
    effect = next(line for line in text.splitlines() if line.startswith("| oneshot | 5"))
    assert "| +0.01" in effect and ", 0.000" in effect and "not scored" in effect
    ranks = next(line for line in text.splitlines() if line.startswith("| oneshot | 0 | 32 |"))
    assert "+1.00 [+1.00, +1.00]" in ranks
    known = [one.wfm_validation for one in read_trainings(evidence)[:4]]
    order = sum(np.sign(known[i] - known[j]) for i in range(4) for j in range(i + 1, 4)) / 6
    assert f"Kendall's tau between both: {order:+.2f} [" in text and "0.8970 |" in text
    assert "| conv_3x3 |" in text and "| one GMAC, anywhere |" in text and "Expected best of 8" in text
    assert (tmp_path / "search_pareto.svg") in written and "Pareto front" in (
        tmp_path / "search_pareto.svg"
    ).read_text()
    before = text
    write_report(page, evidence, [], transfer=tmp_path / "longer")
    assert page.read_text() == before, "written again it is the same"


def test_supernets_are_ranked_alone_and_together():
    """Two supernets: one ranks four genotypes as training does, the other swaps the first two."""
    rows = [row("random", str(number), 0, 0.80 + number / 100, gmac=0.7 + number % 2 / 100) for number in range(4)]
    assert ranks_table(rows, []).startswith("No supernet")
    scores = [SupernetScore("oneshot", 0, f"random_{number}", 0.5 + number / 100, -number) for number in range(4)]
    scores += [SupernetScore("oneshot", 3, f"random_{number}", value, 2 * number) for number, value in
               enumerate((0.6, 0.4, 0.7, 0.8))]  # fmt: skip
    text = ranks_table(rows, scores)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:5]]
    assert [line[:2] for line in lines] == [["oneshot", "0"], ["oneshot", "3"], ["oneshot", "mean of 2"]]
    assert [line[3].split()[0] for line in lines] == ["+1.00", "+0.67", "+0.67"], "the mean is .55, .455, .61, .665"
    assert [line[5].split()[0] for line in lines] == ["-1.00", "+1.00", "+1.00"], "predictions; the mean rises"
    assert "agree on these genotypes with a tau of +0.67" in text


def test_a_second_training_of_the_pool_is_compared_with_the_first():
    """The scores of the second seed are .01 higher, and those of two genotypes changed places."""
    first = [row("random", str(number), 0, 0.80 + number / 100) for number in range(8)]
    assert repeat_table(first).startswith("Fewer than four")
    swapped = (1, 0, 2, 3, 4, 5, 6, 7)
    second = [row("random", str(number), 1, 0.81 + other / 100) for number, other in enumerate(swapped)]
    line = repeat_table(first + second).splitlines()[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == ["held-out", "8"] and cells[2].startswith("+0.98 [") and cells[5] == "+0.0100"
    assert float(cells[3]) == pytest.approx(np.sqrt(np.cov(range(8), swapped)[0, 1]) / 100, abs=1e-4)
    assert float(cells[4]) == pytest.approx(np.sqrt(2 / 7 / 2) / 100, abs=1e-4)
    assert 0.030 < float(cells[6]) < 0.035, "the greatest of all eight is .035 above their mean"


def test_cells_of_half_the_cost_are_compared_within_a_seed():
    rows = [row("published", "resnet50", seed, 0.82 + seed / 100) for seed in (0, 1)]
    assert half_table(rows) == "None has been trained yet."
    rows += [row("effects_half", "4", 1, 0.85), row("effects_half", "4", 0, 0.83), row("effects_half", "3", 2, 0.81)]
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in half_table(rows).splitlines()[2:]]
    assert [(cell[0], cell[1], cell[3]) for cell in cells] == [
        ("published resnet50", "0", "0.8200"), ("published resnet50", "1", "0.8300"),
        ("effects_half 3", "2", "0.8100"), ("effects_half 4", "0", "0.8300 (+0.0100)"),
        ("effects_half 4", "1", "0.8500 (+0.0200)"), ("effects_half, mean of 1", "0", "0.8300 (+0.0100)"),
    ]  # fmt: skip


def test_cells_without_dilation_are_compared_with_themselves():
    rows = [row("published", "vgg16", 0, 0.80), row("random", "1", 0, 0.82), row("random", "1", 1, 0.90)]
    rows.append(row("undilated", "published_vgg16", 0, 0.81))
    assert dilation_table(rows).startswith("Fewer than two")
    rows += [row("undilated", "random_1", 0, 0.85), row("undilated", "random_7", 0, 0.99)]  # 7 was not trained itself
    lines = [[cell.strip() for cell in line.split("|")[1:4]] for line in dilation_table(rows).splitlines()[2:]]
    assert lines == [
        ["published vgg16", "4", "+0.0100"], ["random 1", "4", "+0.0300"],
        ["mean ± standard error", "", "+0.0200 ± 0.0100"],
    ]  # fmt: skip


def test_the_likeness_of_a_group_is_counted_in_pairs():
    """Three genotypes with one operation throughout, two of them equal: 31, 0 and 0 equal operations."""
    plain, dilated = (
        Genotype.choose(lambda edge, name=name: name, "released") for name in ("conv_3x3", "dil_conv_3x3")
    )
    rows = [row("found", str(number)) for number in range(3)] + [row("found", "0", 1), row("alone", "0")]
    genotypes = {("found", "0"): plain, ("found", "1"): plain, ("found", "2"): dilated, ("alone", "0"): plain}
    (line,) = likeness_table(rows, genotypes).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["found", "3", "10.3 (0 to 31)", "6.0", "7.3", "7.3", "3.0", "3.7", "3.7"]


def test_random_cells_above_the_mean_of_a_group_are_counted():
    rows = [row("random", str(number), 0, 0.80 + number / 100) for number in range(5)]
    rows += [row("found", "0", 0, 0.82), row("found", "1", 0, 0.83)]
    lines = [[cell.strip() for cell in line.split("|")] for line in groups_table(rows).splitlines()[2:4]]
    assert [(line[1], line[6]) for line in lines] == [("random", ""), ("found", "2 of 5")]


def test_a_genotype_counts_once_in_the_size_of_its_group():
    rows = [row("random", str(number), 0, gmac=0.5 + number / 10) for number in range(4)]
    again = [row("random", "3", seed, gmac=0.8) for seed in (1, 2)]
    for listed in (rows, rows + again):
        (line,) = groups_table(listed).splitlines()[2:3]
        assert [cell.strip() for cell in line.split("|")[1:6]] == ["random", "4", "0", "0.650", "4.0"]


def test_homogeneous_cells_have_a_line_each_since_their_costs_differ():
    rows = [row("random", str(number), score=0.8 + number / 1000, gmac=0.7 + number / 1000) for number in range(8)]
    rows += [row("homogeneous", "conv_3x3", score=0.81), row("homogeneous", "skip_connect", score=0.7, gmac=0.2)]
    lines = [line.split("|")[1].strip() for line in groups_table(rows).splitlines()[2:5]]
    assert lines == ["random", "homogeneous conv_3x3", "homogeneous skip_connect"]
    assert "0.7000 (mean); another cost than the pool" in groups_table(rows).splitlines()[4]


def test_darts_and_its_variants_have_a_line_together():
    """One search in each, both named 0: .01 and .03 above a flat pool. Alone, `darts` has no such line."""
    rows = [row("random", str(number), gmac=0.7 + number / 1000) for number in range(8)]
    rows.append(row("darts", "0", score=0.81, gmac=0.7035))
    assert not any("variants" in line for line in groups_table(rows).splitlines())
    line = groups_table([*rows, row("darts_full", "0", score=0.83, gmac=0.7035)]).splitlines()[5]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == ["darts and its variants", "2"] and cells[6].startswith("+0.0200 [")


def test_what_a_search_cost_is_the_mean_of_the_accounts_of_its_group():
    def found(steps, gmac, minutes, precision):
        budget = {"supernet_steps": steps, "trainings": 0, "scored": 5, "gmac": gmac, "minutes": minutes}
        return Genotype.choose(lambda edge: "none", "released", {"budget": budget, "precision": precision})

    drawn = Genotype.choose(lambda edge: "none", "released")
    assert budget_table({("random", "0"): drawn, ("drawn", "0"): found(0, 0, 0, "fp32")}).startswith("No search")
    genotypes = {("a", "0"): found(10, 1000, 2.4, "fp32"), ("a", "1"): found(20, 2000, 4.6, "bf16"), ("b", "0"): drawn}
    (line,) = budget_table(genotypes).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["a", "2", "15", "0", "5", "1.5", "2 to 5", "bf16, fp32"]


def test_a_gain_is_shown_for_each_training_seed_over_the_genotypes_that_have_both():
    """Found cells are .01 above the pool with seed 0 and .03 with seed 1; the seed itself is worth .1."""
    rows = [row("random", str(number), 0, 0.80 + number / 1000) for number in range(5)]
    rows += [row("random", str(number), 1, 0.90 + number / 1000) for number in range(4)]  # number 4 has one seed
    found = [row("found", str(number), seed, 0.8015 + gain + 0.1 * seed)
             for number in range(3) for seed, gain in ((0, 0.01), (1, 0.03))]  # fmt: skip
    assert again_table(rows + found[:4]).startswith("No group"), "two genotypes"
    once = [row("once", str(number), 0, 0.9) for number in range(3)]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in
             again_table(rows + found + once).splitlines()[2:]]  # fmt: skip
    assert [line[:4] for line in lines] == [["found", seeds, "3", "0 of 4"] for seeds in ("0", "1", "0 and 1")]
    assert [line[4].split()[0] for line in lines] == ["+0.0100", "+0.0300", "+0.0200"]
    assert [line[5] for line in lines] == ["not scored"] * 3


def test_an_empty_evidence_says_so(tmp_path):
    page = tmp_path / "search.md"
    page.write_text(PAGE)
    assert write_report(page, tmp_path / "none", [], transfer=tmp_path / "none") == [page]
    assert "0 genotypes have been trained with both budgets" in page.read_text()
    assert "the evidence has not been run" in page.read_text()
    with pytest.raises(ResultsError, match="the marks of table groups are missing"):
        put("no marks", "groups", "", page)


def test_the_shipped_page_is_what_the_committed_files_give(root, tmp_path):
    page = tmp_path / "search.md"
    page.write_text((root / "docs" / "search.md").read_text())
    write_report(page, root / "benchmarks" / "search_evidence", [])
    assert page.read_text() == (root / "docs" / "search.md").read_text()


def test_decimals_of_the_shipped_page_stand_in_its_tables(root):
    text = (root / "docs" / "search.md").read_text()
    written = re.compile(r"<!-- table .*?<!-- end -->", re.DOTALL)
    number = re.compile(r"(?<![\w.])\d*\.\d+")
    known = {float(value) for block in written.findall(text) for value in number.findall(block)}
    prose = re.sub(r"```.*?```", "", written.sub("", text), flags=re.DOTALL)
    for found in number.findall(prose):
        digits = len(found.partition(".")[2])
        assert any(round(value, digits) == float(found) for value in known), f"{found} stands in no table"
