"""`clip-tiny-faces`: the small CLIP that the package carries, and how it is trained.

`WEIGHTS` is a folder that plain `CLIPModel.from_pretrained`, `AutoTokenizer` and `AutoImageProcessor` read.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
