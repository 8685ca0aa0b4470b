"""An image as test.py reads it, for `onnx_runtime.py` and `openvino_runtime.py`."""

import numpy as np
from PIL import Image, ImageOps


def read(path: str) -> np.ndarray:
    """An image as test.py reads it, (H, W, 3): upright, 16 bits scaled to 8, transparency over white."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
