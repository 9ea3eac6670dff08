"""Exports a model to ONNX, with a script and a web page that run it without PyTorch."""
