"""Saliency map of an image with only OpenVINO: no PyTorch, nothing of this project.

pip install openvino pillow
python examples/openvino_runtime.py runs/export/lite.xml photo.jpg map.png
"""

import sys

import numpy as np
import openvino
from PIL import Image
from reading import read

if __name__ == "__main__":
    model, path, out = sys.argv[1:]  # a .xml or .onnx file, an image, the PNG of its map: 255 is salient
    # In float32 maps are PyTorch's; "bf16" is faster where the processor has it (export.py --precision bf16 checks).
    network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    saliency = network({"image": read(path)[None]})["saliency"]  # (1, H, W) float32, 0 to 1
    Image.fromarray(np.rint(255 * saliency[0]).astype(np.uint8)).save(out)
