"""The models in the package. `from_pretrained` of `transformers` can load each of these folders."""

from pathlib import Path

CLIP_TINY_FACES = Path(__file__).parent / "clip-tiny-faces"
TGDFER_TINY = Path(__file__).parent / "tgdfer-tiny"
# Folder of each model, by the name that is used on the command line.
BUNDLED = {folder.name: folder for folder in (CLIP_TINY_FACES, TGDFER_TINY)}
# Name of the model that commands use by default.
DEFAULT_MODEL = TGDFER_TINY.name
