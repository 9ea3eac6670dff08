"""The models that the package carries. `from_pretrained` of `transformers` loads each of these folders."""

from pathlib import Path

CLIP_TINY_FACES = Path(__file__).parent / "clip-tiny-faces"
