"""Proof that a change of structure changes nothing that is computed.

    python tests/sameness.py record FILE.json [--root CHECKOUT]   runs the programs of a checkout and records results
    python tests/sameness.py check FILE.json [--root CHECKOUT]    runs them again and names every result that differs

A record holds the SHA-256 of every saliency map of the sample images and the scores of a small dataset. It also holds
the losses of 20 training steps, the alphas and the genotype of the smoke search, and the maps of an exported ONNX file.
Results are equal to the bit on one processor with one PyTorch version. A record of another machine is refused. Record
before a move of code, check after it.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SMALL_NETWORK = ("--network.encoder", "mobilenetv3_small_050", "--network.channels", "16", "--encoder-weights", "none")
RUN_ONNX = """
import hashlib, json, sys
import cv2, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
name = session.get_inputs()[0].name
maps = {}
for path in sys.argv[2:]:
    image = cv2.imread(path)[:, :, ::-1][None].copy()
    maps[path.rsplit("/", 1)[-1]] = hashlib.sha256(session.run(None, {name: image})[0].tobytes()).hexdigest()
print(json.dumps(maps))
"""


def main() -> int:
    """Records or checks; 0 when everything is equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("file", type=Path, help="JSON file of the record")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout whose programs run; default: this one")
    options = parser.parse_args()
    if options.action == "check":
        before = json.loads(options.file.read_text(encoding="utf-8"))
        if before["machine"] != machine():
            print(f"error: {options.file} was recorded on {before['machine']}, this is {machine()}. Record it again.")
            return 2
    with tempfile.TemporaryDirectory() as folder:
        found = {"machine": machine(), **record(options.root.resolve(), Path(folder))}
    if options.action == "record":
        options.file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    different = [key for key in before if before[key] != found[key]]
    for key in different:
        print(f"{key}: was {json.dumps(before[key])[:200]}, is {json.dumps(found[key])[:200]}")
    print(f"{len(before) - len(different)} results equal, {len(different)} different")
    return int(bool(different))


def machine() -> str:
    """What results to the bit depend on: processor, threads, PyTorch."""
    return f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def record(root: Path, folder: Path) -> dict[str, Any]:
    """Runs every program of the checkout on samples and generated scenes."""
    scenes = folder / "scenes"
    run(root, "-m", "data.synthetic", scenes, "--count", 24, "--size", 96)
    return {
        **maps(root, folder),
        **scores(root, scenes, folder),
        "losses of 20 steps": losses(root, scenes, folder),
        **search(root, folder),
        "exported maps": exported(root, folder),
    }


def maps(root: Path, folder: Path) -> dict[str, str]:
    """SHA-256 of every map, overlay and cutout of the sample images, PyTorch in float32."""
    out = folder / "samples"
    run(
        root, "test.py", "--images", root / "data/samples", "--engine", "torch", "--precision", "fp32", "--out", out,
        "--overlay", "--cutout",
    )  # fmt: skip
    kinds = ("maps", "overlay", "cutout")
    files = sorted(path for kind in kinds for path in (out / kind).rglob("*.png"))
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scores(root: Path, scenes: Path, folder: Path) -> dict[str, list[str]]:
    """All measures of every generated scene, as the CSV holds them."""
    out = folder / "scored"
    run(root, "test.py", "--data", f"Scenes={scenes}", "--engine", "torch", "--precision", "fp32", "--out", out)
    with (out / "scores_Scenes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {f"scores of {row[0]}": row[1:] for row in rows}


def losses(root: Path, scenes: Path, folder: Path) -> list[float]:
    """Total loss of 20 training steps of a small network."""
    out = folder / "run"
    run(
        root, "train.py", "--data.root", scenes, "--out", out, *SMALL_NETWORK, "--data.size", 64, "--data.workers", 1,
        "--data.held_out", 0.15, "--batch", 4, "--epochs", 4, "--precision", "fp32", "--log-every", 1,
        "--average.decay", 0.9, "--accumulate", 2, "--optim.clip", 5,
    )  # fmt: skip
    lines = map(json.loads, (out / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss/total"] for line in lines if "loss/total" in line][:20]


def search(root: Path, folder: Path) -> dict[str, Any]:
    """Genotype and alphas of the smoke search."""
    out = folder / "search"
    # Defaults that changed since: the alphas' half had the seed of the other one, and the alphas followed all outputs.
    before = ("--seeds.alphas", 0, "--architect.outputs", "[1,1,1]") if (root / "settings").is_dir() else ()
    run(root, "search.py", "--config", root / "configs/search_smoke.yaml", "--precision", "fp32", *before, "--out", out)
    cells = json.loads((out / "genotype.json").read_text(encoding="utf-8"))["cells"]
    network = torch.load(out / "last.pt", weights_only=True)["network"]
    alphas = {key: value.tolist() for key, value in sorted(network.items()) if key.endswith("alpha")}
    return {"genotype": cells, "alphas": alphas}


def exported(root: Path, folder: Path) -> dict[str, str]:
    """SHA-256 of the maps that ONNX Runtime gives for the exported lite model."""
    path = folder / "lite.onnx"
    run(root, "export.py", "--weights", "lite", "--out", path)
    images = sorted((root / "data/samples").glob("*.jpg"))
    return json.loads(run(root, "-c", RUN_ONNX, path, *images))


def run(root: Path, *arguments: object) -> str:
    """Runs Python in the checkout with the spelling of options that it supports; returns its standard output."""
    words = [str(word) for word in arguments]
    if root != ROOT:  # a checkout from before options were spelled with dashes
        words = ["--" + word[2:].replace("-", "_") if word.startswith("--") else word for word in words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:2])}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
