"""The models that the package carries. `from_pretrained` of `transformers` loads each of these folders."""

from pathlib import Path

CLIP_TINY_FACES = Path(__file__).parent / "clip-tiny-faces"
TGDFER_TINY = Path(__file__).parent / "tgdfer-tiny"
# The folders by the names that commands take.
BUNDLED = {folder.name: folder for folder in (CLIP_TINY_FACES, TGDFER_TINY)}
# The trained model of commands that are given none.
DEFAULT_MODEL = TGDFER_TINY.name
