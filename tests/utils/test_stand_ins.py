"""Names of a module without the module, which is loaded when something of it is used."""

import importlib
import subprocess
import sys

import pytest

from utils.stand_ins import at_call, stand_ins

FILES = {
    "__init__.py": "from heavy_part.part import Small\nfrom heavy_part.slow import Large\n",
    "part.py": "class Small: pass\n",
    "slow.py": "class Large:\n    def __init__(self, size): self.size = size\nOTHER = 7\n",
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package that imports its slow module."""
    (tmp_path / "heavy_part").mkdir()
    for name, text in FILES.items():
        (tmp_path / "heavy_part" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("heavy_part")]:
        del sys.modules[name]


def test_a_module_is_loaded_when_something_of_it_is_called(library):
    with stand_ins({"heavy_part.slow": {"Large": at_call("heavy_part.slow", "Large")}}):
        import heavy_part
    assert "heavy_part.slow" not in sys.modules and heavy_part.Small()
    assert heavy_part.Large(3).size == 3
    assert type(heavy_part.Large(3)) is sys.modules["heavy_part.slow"].Large


def test_a_name_that_is_not_given_loads_the_module(library):
    with stand_ins({"heavy_part.slow": {}}):
        import heavy_part
    assert heavy_part.Large is sys.modules["heavy_part.slow"].Large


def test_a_module_that_is_loaded_stays(library):
    loaded = importlib.import_module("heavy_part.slow")
    with stand_ins({"heavy_part.slow": {"Large": None}}):
        assert importlib.import_module("heavy_part.slow") is loaded
    assert sys.modules["heavy_part.slow"] is loaded


def test_nothing_stays_after_a_failure(library):
    with pytest.raises(ZeroDivisionError), stand_ins({"heavy_part.slow": {"Large": None}}):
        raise ZeroDivisionError
    assert "heavy_part.slow" not in sys.modules
    assert importlib.import_module("heavy_part.slow").OTHER == 7


def test_scoring_loads_no_scikit_learn_and_networks_no_compiler(root):
    heavy = ("sklearn", "scipy.stats", "torch._dynamo", "sympy")
    code = "import sys, evaluation.pysod, evaluation.statistics, net.encoder; "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
