"""Robustness test with hundreds of damaged and unusual videos: each must give a prediction or a clear error."""
