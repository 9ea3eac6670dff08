"""Speed, size and agreement of ONNX exports, compared with PyTorch."""
