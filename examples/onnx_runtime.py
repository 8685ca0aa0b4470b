"""Saliency map of an image with only ONNX Runtime: no PyTorch, nothing of this project.

pip install onnxruntime pillow
python examples/onnx_runtime.py runs/export/lite.onnx photo.jpg map.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image
from reading import read

if __name__ == "__main__":
    model, path, out = sys.argv[1:]  # an .onnx file, an image, the PNG of its map: 255 is salient
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (saliency,) = session.run(["saliency"], {"image": read(path)[None]})  # (1, H, W) float32, 0 to 1
    Image.fromarray(np.rint(255 * saliency[0]).astype(np.uint8)).save(out)
