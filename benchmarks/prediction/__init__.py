"""CPU time and memory of `tgdfer predict`, compared with the video analysis of the `fer` package."""
