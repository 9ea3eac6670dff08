"""How `clip-tiny-faces` is trained, the small CLIP that the package carries."""
