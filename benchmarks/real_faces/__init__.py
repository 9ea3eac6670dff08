"""Accuracy on photographs and clips of real faces, compared with the `fer` package."""
