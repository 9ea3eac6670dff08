"""How figures are written to files.

A file is whole or does not exist: the figure is written to a temporary name and then renamed. Text in a figure is
never read as a formula, because the names of labels and of files may contain dollar signs.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from tgdfer.training.errors import UserError
from tgdfer.training.files import whole_file

# The figures are 4 to 12 inches wide. This resolution shows their text clearly on a screen and keeps the files small.
DOTS_PER_INCH = 110


def require_picture_format(path: str | Path) -> None:
    """Checks that a picture can be written in the format that its name asks for.

    Args:
        path: Name of the picture.

    Raises:
        UserError: If the name does not end in a format that matplotlib writes.
    """
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        raise UserError(f"{path} is not the name of a picture: end it in .png, or in another of {', '.join(formats)}.")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure to a file and creates the folder of the file.

    Args:
        figure: Figure of matplotlib.
        path: Picture to write. The ending of its name is its format.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # matplotlib reads the format from the ending, which the temporary name has as well.
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
