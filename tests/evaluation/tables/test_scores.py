"""Score tables: the paper's rows beside the measured ones, best values, all three formats."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from evaluation.measures import KEYS
from evaluation.table1 import benchmark_of, paper_rows, table1
from evaluation.tables.latex import latex
from evaluation.tables.scores import aligned, comma_separated, markdown, score_table, short
from evaluation.tables.writer import latex_escape

GOOD = dict(zip(KEYS, (0.05, *(0.9 + i / 1000 for i in range(9))), strict=True))
POOR = dict(zip(KEYS, (0.25, *(0.3 + i / 1000 for i in range(9))), strict=True))
BOUNDS = {"lite": {"mae": (0.04, 0.06)}}


@pytest.fixture
def table():
    return score_table("ECSSD-250", 250, {"lite": GOOD, "poor_one": POOR}, BOUNDS)


def test_table_1_has_only_what_the_paper_prints():
    paper = table1()
    assert "10.1145/3474085.3475231" in paper.source
    assert paper.benchmarks == {"DUTS-TE": 5019, "ECSSD": 1000, "PASCAL-S": 850, "DUT-OMRON": 5168, "HKU-IS": 4447}
    for row in paper.rows:
        assert set(row.cells) <= set(paper.benchmarks)
        for cells in row.cells.values():
            assert set(cells) <= {"adpf", "wfm", "mae", "adpe"}
            assert all(0 < value < 1 and round(value, 3) == value for value in cells.values())
    own = [row for row in paper.rows if row.method == "Auto-MSFNet"]
    assert [row.backbone for row in own] == ["VGG-16", "ResNet-50"]
    assert all(len(row.cells) == 5 and all(len(cells) == 4 for cells in row.cells.values()) for row in own)
    assert len({(row.method, row.backbone) for row in paper.rows}) == len(paper.rows) == 10


def test_table_1_spot_values():
    resnet = next(row for row in table1().rows if row.backbone == "ResNet-50" and row.method == "Auto-MSFNet")
    assert resnet.cells["ECSSD"] == {"adpf": 0.929, "wfm": 0.916, "mae": 0.033, "adpe": 0.954}
    assert resnet.cells["HKU-IS"]["mae"] == 0.027


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [
        ("ECSSD", "ECSSD"),
        ("ecssd_250", "ECSSD"),
        ("DUTS-TE-500", "DUTS-TE"),
        ("DUTS", "DUTS-TE"),
        ("DUTS-TR", None),
        ("HKU-IS-WI1D", "HKU-IS"),
        ("PASCALS", "PASCAL-S"),
        ("DUT-OMRON", "DUT-OMRON"),
        ("mine", None),
    ],
)
def test_benchmark_of(name, benchmark):
    assert benchmark_of(name) == benchmark
    assert bool(paper_rows(name)) == bool(benchmark)


def test_measured_rows_come_first_and_part_of_a_benchmark_is_told(table):
    assert [row.measured for row in table.rows[:3]] == [True, True, False]
    assert table.rows[3].method == "Auto-MSFNet, ResNet-50 (Table 1)"
    assert table.notes == ("Measured on 250 of the 1000 images of ECSSD; the rows of Table 1 are of all of them.",)
    assert score_table("ECSSD", 1000, {"lite": GOOD}).notes == ()
    assert "slip of copying" in score_table("HKU-IS", 4447, {"lite": GOOD}).notes[0]


def test_own_data_stand_alone():
    table = score_table("mine", 7, {"lite": GOOD})
    assert (len(table.rows), table.notes) == (1, ())
    assert "Table 1" not in markdown([table])


def test_markdown(table):
    text = markdown([table])
    assert "### ECSSD-250 (250 maps)" in text
    assert "| method | MAE ↓ | S (alpha=0.5) ↑ | weighted F (beta^2=1) ↑ | adaptive F (beta^2=0.3) ↑ |" in text
    assert "| lite | **.050** | **.900** |" in text
    assert "| poor_one | .250 | .300 |" in text
    assert "| Auto-MSFNet, VGG-16 (Table 1) | .036 |  | .910 | .924 |" in text
    assert "| lite | .040 to .060 |  |" in text
    assert text.count("doi 10.1145") == 1
    columns = {line.count(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert columns == {len(KEYS)}


def test_best_is_judged_as_printed_and_only_where_there_is_a_choice():
    close = score_table("mine", 9, {"a": GOOD, "b": {key: value + 1e-5 for key, value in GOOD.items()}})
    assert markdown([close]).count("**.050**") == 2
    assert "**" not in markdown([score_table("mine", 9, {"a": GOOD})])


def test_aligned_columns_stand_under_each_other(table):
    blocks = aligned([table, score_table("a data set with a long name", 7, {"lite": GOOD})]).split("\n\n")
    lines = blocks[0].splitlines()
    assert lines[0].split() == ["ECSSD-250", "(250", "maps)", *KEYS]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["lite", *(short(value) for value in GOOD.values())]
    paper = next(line for line in lines if line.startswith("Auto-MSFNet, ResNet-50 (Table 1)"))
    for key, value in {"mae": ".033", "wfm": ".916", "adpf": ".929", "adpe": ".954"}.items():
        end = lines[0].index(key) + len(key)
        assert paper[end - 7 : end].strip() == value
    assert len({len(line) for line in blocks[1].splitlines()}) == 1
    assert aligned([]) == ""


def test_latex_is_booktabs_with_even_rows(table):
    text = latex([table, score_table("mine", 7, {"lite": GOOD})])
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 3
    for tabular in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns, body = len(tabular[0]), tabular[1]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
        assert rows and all(row.count("&") == columns - 1 for row in rows)
        assert all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"poor\_one & " in text and r"\textbf{.050}" in text
    assert r"$F_\beta^\omega$: weighted F ($\beta^2$=1)" in text
    assert r"\cmidrule(lr){6-9}" in text
    assert "250 of the 1000 images" in text
    assert text.count("as printed in the Auto-MSFNet paper") == 2  # the overview and ECSSD-250, not `mine`
    assert r" & \scriptsize .040--.060 &  &" in text
    assert r"Auto-MSFNet, VGG-16 (Table 1) & .036 & -- & .910 & .924 &" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
def test_latex_compiles_and_fits_the_page(tmp_path):
    names = {f"a_{i}%&": GOOD for i in range(3)}
    tables = [score_table(name, 250, names) for name in ("ECSSD-250", "DUTS-TE-500", "PASCAL-S")]
    (tmp_path / "tables.tex").write_text(latex(tables))
    page = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{tables}\end{document}"
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_latex_escapes():
    assert latex_escape(r"50%_{a}&b\c^~#$") == r"50\%\_\{a\}\&b\textbackslash{}c\textasciicircum{}\textasciitilde{}\#\$"


def test_csv_has_all_digits_and_says_what_was_measured(table):
    rows = list(csv.DictReader(io.StringIO(comma_separated([table]))))
    assert rows[0]["msiou"] == repr(GOOD["msiou"])
    assert (rows[0]["source"], rows[0]["maps"], rows[0]["mae_low"], rows[0]["mae_high"]) == (
        "measured",
        "250",
        "0.04",
        "0.06",
    )
    assert (rows[2]["source"], rows[2]["maps"], rows[2]["sm"]) == ("paper, Table 1", "", "")


def test_short():
    assert (short(0.8564), short(0), short(1), short(0.9996)) == (".856", ".000", "1.000", "1.000")
