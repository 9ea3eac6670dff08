"""The pictures of `tgdfer data check` in the documentation, and the threshold of its perceptual hash."""
