"""Processor time and memory of `tgdfer predict`, beside the video analysis of `fer`."""
