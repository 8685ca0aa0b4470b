"""What computes the maps: PyTorch, ONNX Runtime or OpenVINO, behind one call."""
