"""Mutated files with fixed seeds: nothing but our own errors of one short line. `benchmarks/fuzz.py` runs longer."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import Findings, fuzz_checkpoints, fuzz_genotypes, fuzz_images, fuzz_yaml, mutated, sample_images
from data.image_io import read_image
from utils.errors import UserError


@pytest.mark.parametrize(
    ("fuzz", "count"),
    [(fuzz_images, 2000), (fuzz_genotypes, 400), (fuzz_yaml, 400), (fuzz_checkpoints, 200)],
    ids=["images", "genotypes", "yaml", "checkpoints"],
)
def test_no_error_but_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuzz, count: int):
    monkeypatch.chdir(tmp_path)  # so that the length of a message does not depend on the place
    findings = Findings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz(count, np.random.default_rng(7), Path(), findings)
    assert not findings.failures
    assert findings.tried >= count and findings.refused > 0.3 * findings.tried


def test_the_samples_themselves_are_read(tmp_path: Path):
    samples = sample_images()
    assert len(samples) >= 12
    for content in samples.values():
        (tmp_path / "a.bin").write_bytes(content)
        assert read_image(tmp_path / "a.bin").shape in ((24, 32, 3), (32, 24, 3))


def test_equal_seeds_give_equal_inputs():
    content = bytes(range(200))
    first, again, other = (mutated(content, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_what_is_not_our_error_is_found(tmp_path: Path):
    def fail(error: Exception) -> None:
        raise error

    findings = Findings()
    findings.attempt("a", b"1", lambda: fail(KeyError("network")))
    findings.attempt("a", b"2", lambda: fail(KeyError("network")))
    findings.attempt("b", b"3", lambda: fail(UserError("long " * 80)))
    findings.attempt("c", b"4", lambda: fail(UserError("short")))
    assert findings.tried == 4 and findings.refused == 2
    assert list(findings.failures.values()) == [b"1", b"3"]
