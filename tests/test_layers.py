"""Imports run downward: import-linter checks the packages (`make lint`); what it can't see is checked here."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("utils", "settings", "net", "data", "evaluation", "inference", "training", "nas")
PROGRAMS = sorted(path.stem for path in ROOT.glob("*.py"))
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ABOVE = {*PROGRAMS, "benchmarks", "tests", "examples"}


def imported(path):
    """Top-level names of all modules that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else str(node.module).partition(".")[0]


def test_the_programs_are_found():
    assert {"train", "test", "search", "evaluate", "export"} <= set(PROGRAMS) and len(FILES) > 90


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_import_packages_only(program):
    assert not set(imported(ROOT / f"{program}.py")) & (ABOVE - {program}), "programs do not import each other"


SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8"))


def test_the_benchmarks_are_found():
    assert {"inference.py", "training.py", "search.py", "limits.py"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_finds_the_packages_when_it_is_started_as_a_file(path):
    """`python benchmarks/x.py` has benchmarks/ on its path, so the project's folder is added before its imports."""
    ready = False
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith("sys.path.insert(0, "):
            ready = True
        names = {name for one in ast.walk(node) if isinstance(one, ast.ImportFrom) for name in [str(one.module)]}
        ours = {name for name in names if name.partition(".")[0] in (*PACKAGES, "benchmarks")}
        assert ready or not ours, f"{sorted(ours)} is imported before sys.path has the project's folder"


def test_packages_import_no_program():
    found = {str(path.relative_to(ROOT)): names for path in FILES if (names := set(imported(path)) & {*ABOVE, "."})}
    assert not found


def test_packages_are_empty():
    """So that importing one module of a package stays cheap."""
    full = [
        str(path.relative_to(ROOT))
        for path in FILES
        if path.name == "__init__.py" and len(ast.parse(path.read_text(encoding="utf-8")).body) > 1
    ]
    assert not full


def test_the_contracts_of_import_linter_are_kept():
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_import_linter_finds_an_upward_import(tmp_path):
    """The contract can fail: `utils` may not import `net`."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package in PACKAGES:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]:
        for module in contract.get("source_modules", []):
            if "*" not in module:
                (tmp_path / f"{module.replace('.', '/')}.py").write_text("")
    (tmp_path / "utils" / "config.py").write_text("import net\n")
    (tmp_path / "net" / "settings.py").write_text("import torch\n")
    (tmp_path / "pyproject.toml").write_text(text)
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stdout.count("BROKEN") == 2


def test_everything_can_be_imported_on_windows():
    """`fcntl` and `resource` exist on Unix only, so no module imports them at its top level."""
    files = [*FILES, *ROOT.glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    found = []
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {name.name for name in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            found += [f"{path.relative_to(ROOT)}: {name}" for name in names & {"fcntl", "resource", "termios", "pwd"}]
    assert not found
