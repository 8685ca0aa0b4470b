"""Saliency map of a picture with ONNX Runtime alone: no PyTorch, nothing of this project.

pip install onnxruntime pillow
python examples/onnx_runtime.py runs/export/lite.onnx photo.jpg map.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, picture: str, out: str) -> None:
    """Reads a picture, writes its map at its own size: 8-bit PNG, 255 is salient."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    (saliency,) = session.run(["saliency"], {"image": np.asarray(image)[None]})  # (1, H, W) float32, 0 to 1
    Image.fromarray(np.rint(255 * saliency[0]).astype(np.uint8)).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
