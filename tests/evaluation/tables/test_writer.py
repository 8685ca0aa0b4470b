"""The table writer: one table in four formats."""

import csv
import io

import pytest

from evaluation.tables.writer import Table, aligned, comma_separated, latex, latex_row, markdown

TABLE = Table(["way", "kind", "maps/s"], [["a|b", "x\ny", "1.5"], ["long name", "z", "120.0"]], left=2)


def test_markdown_aligns_numbers_to_the_right_and_escapes():
    assert markdown(TABLE).splitlines() == [
        "| way | kind | maps/s |",
        "| --- | --- | ---: |",
        r"| a\|b | x y | 1.5 |",
        "| long name | z | 120.0 |",
    ]


def test_aligned_columns_have_one_width():
    lines = aligned(Table(["way", "s"], [["a", "1.5"], ["long", "120.0"]])).splitlines()
    assert lines == ["way       s", "a       1.5", "long  120.0"]
    assert aligned(Table(["way", "s"], []), widths=[6, 4]) == "way        s"


def test_csv_is_read_back_whatever_the_names():
    rows = [["a,b", 0.1], ['say "x"\nline', 1 / 3]]
    found = list(csv.reader(io.StringIO(comma_separated(["name", "value"], rows))))
    assert found == [["name", "value"], ["a,b", "0.1"], ['say "x"\nline', repr(1 / 3)]]


def test_latex_has_the_rules_of_booktabs():
    text = latex([latex_row(["a", "b"])], [latex_row(["1", "2"])], "lr")
    assert text.splitlines() == [
        r"\begin{tabular}{lr}", r"\toprule", r"a & b \\", r"\midrule", r"1 & 2 \\", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_a_ragged_table_is_an_error():
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 heads"):
        Table(["a", "b"], [["1"]])
