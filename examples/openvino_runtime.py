"""Saliency map of a picture with OpenVINO alone: no PyTorch, nothing of this project.

pip install openvino pillow
python examples/openvino_runtime.py runs/export/lite.xml photo.jpg map.png
"""

import sys

import numpy as np
import openvino
from PIL import Image, ImageOps


def main(model: str, picture: str, out: str) -> None:
    """Reads a picture, writes its map at its own size: 8-bit PNG, 255 is salient. Reads .xml and .onnx alike."""
    # In float32 maps are PyTorch's; "bf16" is faster where the processor has it (export.py --precision bf16 checks).
    network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    saliency = network({"image": np.asarray(image)[None]})["saliency"]  # (1, H, W) float32, 0 to 1
    Image.fromarray(np.rint(255 * saliency[0]).astype(np.uint8)).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
