"""Writing figures to files.

A figure is written atomically. Text in a figure is never interpreted as a formula, because labels and file names may
contain dollar signs.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from tgdfer.training.errors import UserError
from tgdfer.training.files import atomic_write

# The figures are 4 to 12 inches wide. This resolution shows their text clearly on a screen and keeps the files small.
DOTS_PER_INCH = 110


def require_picture_format(path: str | Path) -> None:
    """Checks that a figure can be written in the format given by its suffix.

    Args:
        path (`str` or `Path`): File to write.

    Raises:
        UserError: If matplotlib does not write this format.
    """
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        raise UserError(
            f"{path} is not a file name for a figure: it must end in .png or another of {', '.join(formats)}."
        )


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure to a file, and creates the folder of the file.

    Args:
        figure (`Figure`): A matplotlib figure.
        path (`str` or `Path`): File to write. The suffix determines the format.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # matplotlib determines the format from the suffix, which the temporary name shares.
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
