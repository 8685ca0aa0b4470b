"""What computes the maps: PyTorch, ONNX Runtime or OpenVINO, behind one call."""

from inference.engines.base import Engine, EngineError, EngineName, EnginePrecision
from inference.engines.choice import TOLERANCE, build_engine

__all__ = ["TOLERANCE", "Engine", "EngineError", "EngineName", "EnginePrecision", "build_engine"]
