"""Builds the page as a static folder that any web server can host.

    python web/build.py [--out web/dist]

Needs the npm packages of web/package.json (`npm ci` in web/), ONNX Runtime and weights/lite.onnx. The manifest of the
page holds size and SHA-256 of everything that it loads later, and the mean logit of a probe that checks a
browser's WebGPU.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
MODEL = ROOT / "weights" / "lite.onnx"
SAMPLE = ROOT / "data" / "samples" / "flower.jpg"
PAGE = ("index.html", "style.css", "icon.svg", "app.js", "engine.js", "worker.js", "pixels.js", "sha256.js")
RUNTIMES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
"""Script, loader and binary of ONNX Runtime, by what computes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Copies the page, the runtime and the network; writes the manifest."""
    parser = argparse.ArgumentParser("web/build.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "dist", metavar="DIR", help="default: web/dist")
    out = parser.parse_args(arguments).out
    if not RUNTIME.is_dir():
        print(f"error: {RUNTIME} is missing. Run `npm ci` in {HERE}, or `make web`.", file=sys.stderr)
        return 2
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        print(f"error: {out} holds other files than an earlier build. Give an empty folder.", file=sys.stderr)
        return 2
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name in PAGE:
        shutil.copy(HERE / name, out)
    shutil.copy(SAMPLE, out / "sample.jpg")
    for name in {file for files in RUNTIMES.values() for file in files}:
        shutil.copy(RUNTIME / name, out)
    shutil.copy(HERE / "node_modules" / "onnxruntime-web" / "package.json", out / "onnxruntime-web.json")
    shutil.copy(MODEL, out)
    (out / "manifest.json").write_text(json.dumps(manifest(), indent=1) + "\n", encoding="utf-8")
    total = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(list(out.iterdir()))} files, {total / 1e6:.1f} MB. Try it: python -m http.server -d {out}")
    return 0


def manifest() -> dict[str, object]:
    """What the page loads, and how it recognises it."""
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    side = image.shape[2]
    probe = np.sin(np.arange(3 * side * side) / 97).astype(np.float32).reshape(1, 3, side, side)
    (logits,) = session.run(None, {image.name: probe})
    runtimes = {
        name: {"script": script, "loader": loader, "binary": _entry(RUNTIME / binary)}
        for name, (script, loader, binary) in RUNTIMES.items()
    }
    return {"model": _entry(MODEL), "side": side, "probe": float(np.asarray(logits, np.float32).mean()), **runtimes}


def _entry(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
