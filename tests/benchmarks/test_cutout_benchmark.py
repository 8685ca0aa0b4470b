"""The benchmark of cutout.py: which packages requirements need, and the table that is committed."""

import re

import pytest
from packaging.requirements import Requirement

from benchmarks.cutout import CUDA, closure, package_bytes, requirements
from utils.errors import UserError


def test_requirements_of_included_files_count(root):
    names = {one.name for one in requirements(root / "requirements-dev.txt")}
    assert {"torch", "onnxruntime", "pytest"} <= names


def test_packages_come_with_all_that_they_need():
    assert {"pytest", "pluggy", "iniconfig", "packaging"} <= closure([Requirement("pytest")])
    assert "jsonargparse" in closure([Requirement("jsonargparse[signatures]")])
    assert package_bytes("numpy") > 20e6
    with pytest.raises(UserError, match="no-such-package is not installed"):
        closure([Requirement("no_such.package")])


def test_packages_of_cuda_are_recognised():
    assert CUDA.match("nvidia-cudnn-cu13") and CUDA.match("triton") and not CUDA.match("torch")


def test_the_committed_table_keeps_the_promise(root):
    text = (root / "benchmarks/cutout.md").read_text(encoding="utf-8")
    (size,) = re.findall(r"requirements-cutout\.txt \| (\d+)", text)
    assert int(size) < 300
