"""Mutated images, genotypes, YAML files and checkpoint metadata: nothing but our own one-line errors may come out.

    python benchmarks/fuzz.py --minutes 10

Seeds follow the clock unless `--seed` is given, so every run tries new inputs. The first failing input of each kind
is written to `--out`. Exit code 1 where anything failed. `tests/hostile/test_fuzz.py` runs fixed seeds.
"""

import io
import json
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.image_io import read_image
from data.masks import read_mask
from data.settings import DataConfig
from inference.weights import FORMAT, load_network
from net.genotype import Genotype, load
from settings.limits import Limit
from settings.parser import arguments, read_yaml, to_plain
from training.settings import TrainConfig
from utils.errors import UserError, exit_on_user_error, printable
from utils.files import replace_bytes

LONGEST = 300  # characters of a message
_KIND = 100  # characters that identify a failure
_PIXELS = 1 << 20  # limit of the reader, so that a wrong header costs little
_EXTREMES = (0, 1, 127, 128, 255)
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), 10**30, "", "x" * 3000, "\x1b[31m", [], {}, [[[]]], {"a": {}}, "conv_3x3"
)  # fmt: skip


@dataclass
class Findings:
    """What a run found.

    Attributes:
        tried: inputs.
        refused: those that raised a `UserError` of one short line.
        failures: kind of each failure, and the first input that caused it.
    """

    tried: int = 0
    refused: int = 0
    failures: dict[str, bytes] = field(default_factory=dict)

    def attempt(self, name: str, content: bytes, read: Callable[[], object]) -> None:
        """Reads an input and records what came of it."""
        self.tried += 1
        try:
            read()
        except UserError as error:
            self.refused += 1
            message = " ".join(str(error).split())
            if len(message) > LONGEST:
                self._record(f"{name}: message of {len(message)} characters: {message}", content)
        except Exception as error:
            self._record(f"{name}: {type(error).__name__}: {error}", content)

    def _record(self, problem: str, content: bytes) -> None:
        """Keeps the first input of each problem; numbers do not count."""
        self.failures.setdefault(re.sub(r"\d+", "N", printable(problem))[:_KIND], content)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bytes replaced, cut off, left out, doubled, inserted or set to an extreme value."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 9))
        if rng.random() < 0.4:  # headers are near the start
            place = min(place, int(rng.integers(64)))
        match int(rng.integers(7)):
            case 0:
                data[place : place + length] = rng.bytes(length)
            case 1:
                data = data[: max(place, 1)]
            case 2:
                del data[place : place + length * 4]
            case 3:
                data[place:place] = data[place : place + length * 4]
            case 4:
                data[place:place] = rng.bytes(length)
            case 5:
                data[place : place + 4] = bytes([_EXTREMES[int(rng.integers(5))]]) * 4
            case _:
                data[place : place + 1] = bytes([int(rng.integers(256))])
    return bytes(data)


def sample_images() -> dict[str, bytes]:
    """A small image in each of 13 encodings."""
    y, x = np.mgrid[:24, :32].astype(np.uint8)
    pixels = np.dstack([8 * x, 10 * y, 4 * (x + y)]).astype(np.uint8)
    colour = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (colour, "JPEG", {"exif": exif, "dpi": (72, 72)}),
        "progressive": (colour, "JPEG", {"progressive": True, "icc_profile": bytes(200)}),
        "cmyk": (colour.convert("CMYK"), "JPEG", {}),
        "png": (colour, "PNG", {"exif": exif, "dpi": (72, 72)}),
        "palette": (colour.convert("P"), "PNG", {"transparency": 3}),
        "webp": (colour, "WEBP", {"exif": exif}),
        "bmp": (colour, "BMP", {}),
        "tiff": (colour, "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        "gif": (colour, "GIF", {}),
        "pnm": (colour, "PPM", {}),
        "avif": (colour, "AVIF", {}),
        "jpeg 2000": (colour, "JPEG2000", {}),
    }
    found: dict[str, bytes] = {}
    for name, (image, kind, options) in kinds.items():
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found[name] = stream.getvalue()
    deep = cv2.imencode(".tif", pixels.astype(np.uint16) * 257)[1]
    return {**found, "16-bit tiff": deep.tobytes()}


def fuzz_images(count: int, rng: np.random.Generator, folder: Path, findings: Findings) -> None:
    """Reads mutated images as images, and every fourth as a mask."""
    samples = list(sample_images().items())
    path = folder / "a.jpg"
    for index in range(count):
        name, sample = samples[index % len(samples)]
        content = mutated(sample, rng)
        path.write_bytes(content)
        as_mask = index % 4 == 0
        findings.attempt(name, content, lambda mask=as_mask: read_mask(path) if mask else read_image(path, _PIXELS))


def fuzz_genotypes(count: int, rng: np.random.Generator, folder: Path, findings: Findings) -> None:
    """Loads genotype files with changed bytes or changed values."""
    text = load("resnet50").to_json()
    path = folder / "genotype.json"
    for content in _documents(json.loads(text), text.encode(), count, rng):
        path.write_bytes(content)
        findings.attempt("genotype", content, lambda: load(path))
        findings.attempt("genotype in a file", content, lambda text=content: _from_text(text))


def fuzz_yaml(count: int, rng: np.random.Generator, folder: Path, findings: Findings) -> None:
    """Reads YAML files of settings with changed bytes or changed values."""
    plain = to_plain(TrainConfig(DataConfig(Path("DUTS-TR"))))
    known = set(_keys(plain))
    path = folder / "settings.yaml"
    for document in _documents(plain, yaml.safe_dump(plain).encode(), count, rng):
        path.write_bytes(document)
        findings.attempt("yaml", document, lambda: dict(read_yaml(path, known)))


def fuzz_checkpoints(count: int, rng: np.random.Generator, folder: Path, findings: Findings) -> None:
    """Loads weights whose metadata or bytes are changed; one tensor is enough, since the metadata comes first."""
    tensors = {"weights": torch.zeros(2, 3)}
    network = json.dumps({"encoder": "no_such_encoder", "genotype": "resnet50", "channels": 16})
    good = {"format": FORMAT, "network": network, "genotype": load("resnet50").to_json(), "size": "64", "notes": "{}"}
    path = folder / "weights.safetensors"
    whole = save(tensors, good)
    for index in range(count):
        changed = dict(good)
        key = list(good)[int(rng.integers(len(good)))]
        match index % 3:
            case 0:
                changed[key] = mutated(good[key].encode(), rng).decode("latin-1")
            case 1:
                changed[key] = json.dumps(_VALUES[int(rng.integers(len(_VALUES)))])
            case _:
                changed.pop(key)
        content = mutated(whole, rng) if index % 4 == 3 else save(tensors, changed)
        path.write_bytes(content)
        findings.attempt("checkpoint", content, lambda: load_network(path))


def run(seed: int, images: int, others: int) -> Findings:
    """One round: images, then a third of `others` each as genotypes, YAML files and checkpoints."""
    findings = Findings()
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        fuzz_images(images, rng, folder, findings)
        for fuzz in (fuzz_genotypes, fuzz_yaml, fuzz_checkpoints):
            fuzz(others // 3 + 1, rng, folder, findings)
    return findings


def main(words: Sequence[str] | None = None) -> int:
    """Runs rounds until the time is over; 1 where anything failed."""
    parser = arguments(__doc__, "benchmarks/fuzz.py")
    parser.add_argument("--minutes", type=Annotated[float, Limit(above=0)], default=1.0, help="how long to run")
    parser.add_argument("--seed", type=int, help="of the first round; the clock by default")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for failing inputs")
    options = parser.parse_args(words)
    end = time.monotonic() + 60 * options.minutes
    seed = time.time_ns() // 1_000_000 if options.seed is None else options.seed
    total = Findings()
    while time.monotonic() < end:
        found = run(seed, 500, 240)
        total.tried, total.refused = total.tried + found.tried, total.refused + found.refused
        for kind, content in found.failures.items():
            if kind not in total.failures:
                print(f"seed {seed}: {kind}")
                replace_bytes(options.out / f"{seed}-{len(total.failures)}.bin", content)
            total.failures.setdefault(kind, content)
        seed += 1
    print(f"{total.tried} inputs, {total.refused} refused in one line, {len(total.failures)} kinds of failures")
    return 1 if total.failures else 0


def _from_text(content: bytes) -> Genotype:
    return Genotype.from_json(content.decode("latin-1"), origin="weights.safetensors")


def _documents(plain: Any, text: bytes, count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Half of them with changed bytes, half with one value replaced."""
    for index in range(count):
        if index % 2:
            yield mutated(text, rng)
            continue
        document = json.loads(json.dumps(plain))
        node: Any = document
        while isinstance(node, dict | list) and node:
            key = list(node)[int(rng.integers(len(node)))] if isinstance(node, dict) else int(rng.integers(len(node)))
            if not isinstance(node[key], dict | list) or rng.random() < 0.3:
                node[key] = _VALUES[int(rng.integers(len(_VALUES)))]
                break
            node = node[key]
        yield json.dumps(document).encode()


def _keys(plain: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in plain.items():
        yield from _keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
