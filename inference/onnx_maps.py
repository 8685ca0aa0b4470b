"""Saliency maps by ONNX Runtime only: runs the .onnx files of export.py without PyTorch.

Two forms exist; the record in the file names the form:

    image     (B, H, W, 3) uint8 RGB of any size -> (B, H, W) maps; everything is inside
    network   (1, 3, S, S) float32, prepared -> (1, 1, S, S) logits; preparation and restoring are ours, as in test.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from data.image_io import Pixels
from inference.errors import EngineError
from inference.export_records import FORMS, IMAGE_FORMAT, KEY, NETWORK_FORMAT, read_record, unreadable
from inference.network_form import network_map
from inference.saliency import Saliency


class OnnxMaps:
    """An opened file.

    Args:
        path: written by export.py.
        threads: of one call; 0 is ONNX Runtime's choice, one a core.

    Attributes:
        record: of the file: weights, size, versions, checks.

    Raises:
        EngineError: the file is missing, damaged, or not written by export.py.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        if not path.is_file():
            raise EngineError(f"{path}: no such file. Write it with export.py.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised below, in one line
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes of ONNX Runtime share no other base
            raise unreadable(path, f"ONNX Runtime {onnxruntime.__version__}", error) from None
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        self.record = read_record(path, text, tuple(FORMS.values()))
        self._input = self._session.get_inputs()[0].name
        if self.record["format"] == NETWORK_FORMAT:
            self._size = _side(path, self._session.get_inputs()[0].shape)

    def __call__(self, image: Pixels) -> Saliency:
        """The map of one image.

        Shapes:
            image: (H, W, 3) uint8 RGB; returns: (H, W) float32 in [0, 1].
        """
        if self.record["format"] == IMAGE_FORMAT:
            return self.batch(image[None])[0]
        return network_map(self._network, self._size, image)

    def _network(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._session.run(None, {self._input: prepared})[0], np.float32)

    def batch(self, images: Pixels) -> NDArray[np.float32]:
        """The maps of images of one size.

        Shapes:
            images: (B, H, W, 3) uint8 RGB; returns: (B, H, W) float32 in [0, 1].
        """
        if self.record["format"] == NETWORK_FORMAT:
            return np.stack([self(image) for image in images])
        return np.asarray(self._session.run(None, {self._input: images})[0], np.float32)


def _side(path: Path, shape: list[Any]) -> int:
    if len(shape) != 4 or not isinstance(shape[2], int) or shape[1] != 3 or shape[2] != shape[3]:
        raise EngineError(f"{path}: its input is {shape}, expected [1, 3, S, S] with a fixed S. Export it again.")
    return shape[2]
