"""What runs the network: PyTorch, OpenVINO, ONNX Runtime or TensorRT, one module each.

`choice` takes the fastest that answers as PyTorch does.
"""
