"""The engines that compute the maps: PyTorch, ONNX Runtime and OpenVINO."""
