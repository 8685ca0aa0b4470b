"""Tables between markers: written from CSV files, and the committed ones are what their files give."""

import pytest

from evaluation.tables.__main__ import main
from evaluation.tables.documents import DocumentError, documents, filled

TEXT = """before

<!-- table docs/a.csv columns=max_F,way brief left=0 -->
<!-- end -->

<!-- table other -->
x
<!-- end -->
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.csv").write_text("way,max F\na|b,.5 (.4 to .6)\n")
    (tmp_path / "README.md").write_text(TEXT)
    return tmp_path


def test_the_committed_tables_are_what_their_files_give(root):
    assert [path for path, old, new in documents(root) if old != new] == []
    assert sum("<!-- table " in new for _, _, new in documents(root)) >= 4


def test_a_table_is_written_and_then_checks(project, capsys):
    assert main(["--root", str(project)]) == 1
    assert main(["--root", str(project), "--write"]) == 0
    text = (project / "README.md").read_text()
    assert "left=0 -->\n\n| max F | way |\n| ---: | ---: |\n| .5 | a\\|b |\n\n<!-- end -->" in text
    assert text.endswith("<!-- table other -->\nx\n<!-- end -->\n")
    assert main(["--root", str(project)]) == 0
    (project / "docs/a.csv").write_text("way,max F\na,.6\n")
    assert main(["--root", str(project)]) == 1
    assert "README.md: differs from its CSV" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["way\na\n", "way,max F\na\n", "", None])
def test_a_marker_without_its_table_is_one_line(project, text):
    path = project / "docs/a.csv"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DocumentError, match=r"README\.md: the table docs/a\.csv can't be written .* Mend the marker"):
        list(documents(project))


def test_other_commands_fill_their_own_places():
    assert filled(TEXT, lambda name, words: "new" if name == "other" else None).endswith("\n\nnew\n\n<!-- end -->\n")
