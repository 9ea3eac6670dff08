"""Recipe of `clip-tiny-faces`, the small CLIP in the package."""
