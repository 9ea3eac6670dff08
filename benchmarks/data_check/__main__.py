"""Draws the pictures of `tgdfer data check`, and measures its hash: `python -m benchmarks.data_check picture`."""

import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.terminal_theme import MONOKAI

from benchmarks.data_check.planted_faults import encode_again, plant_faults, write_good_tree
from benchmarks.harness.command_options import errors_as_sentences, new_app, print_written
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data_check.check import FIGURE, check_dataset
from tgdfer.training.data_check.hashes import FRAMES, distance, likeness, perceptual_hash, thumbnails
from tgdfer.training.data_check.terminal import print_check
from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text

app = new_app("Pictures and the threshold of `tgdfer data check`.")


@app.command()
def picture(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs/guides"),
) -> None:
    """Check a tree with ten planted faults, and draw the report."""
    with errors_as_sentences(), tempfile.TemporaryDirectory() as temporary:
        folder = write_good_tree(Path(temporary) / "clips", people=6)
        plant_faults(folder)
        report = check_dataset(str(folder), Path(temporary) / "check")
        # Neither the path of this machine nor its speed is of interest.
        report |= {"dataset": "clips/", "seconds": round(report["seconds"])}
        for finding in report["findings"]:
            finding["names"] = [name.replace(f"{folder}/", "clips/") for name in finding["names"]]
        console = Console(record=True, width=112, file=io.StringIO())
        console.print("$ tgdfer data check clips/", style="bold", highlight=False)
        print_check(report, console)
        drawing = console.export_svg(title="tgdfer data check", theme=MONOKAI)
        # The picture must not load fonts from another server.
        write_text(out / "data_check.svg", re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL))
        shutil.copy(Path(temporary) / "check" / FIGURE, out / "data_check_labels.png")
    print_written(out / "data_check.svg")


@app.command()
def hashes(
    folder: Annotated[Path, typer.Argument(help="Folder of video clips.")],
    clips: Annotated[int, typer.Option(help="Number of clips that are drawn at random.", min=2)] = 150,
) -> None:
    """Measure the distance of perceptual hashes between clips, and between clips and their encoding again."""
    with errors_as_sentences(), tempfile.TemporaryDirectory() as temporary:
        files = sorted(folder.rglob("*.mp4"))
        if len(files) < 2:
            raise UserError(f"{folder} has fewer than two clips: give a folder of MP4 files.")
        rng = np.random.default_rng(0)
        chosen = [files[index] for index in rng.permutation(len(files))[:clips]]
        processor = TGDFERVideoProcessor()
        again = [encode_again(file, Path(temporary) / f"{number}.mp4") for number, file in enumerate(chosen)]
        (first, thumbs), (second, thumbs_again) = (_hashes(processor, group) for group in (chosen, again))
    same = np.array([distance(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None])
    known = [value for value in first if value is not None]
    other = np.array([distance(a, b) for index, a in enumerate(known) for b in known[:index]])
    print(f"encoded again: median {np.median(same):.3f}, highest {same.max():.3f} ({len(same)} clips)")
    alike = [likeness(a, b) for a, b in zip(thumbs, thumbs_again, strict=True)]
    print(f"encoded again: correlation of thumbnails at least {min(alike):.4f}")
    print(f"different clips: lowest {other.min():.3f}, median {np.median(other):.3f} ({len(other)} pairs)")


def _hashes(
    processor: TGDFERVideoProcessor, files: Sequence[Path]
) -> tuple[list[np.ndarray | None], list[np.ndarray]]:
    """Returns the hash and the thumbnails of each clip."""
    clips = [processor.read_clip(str(file), FRAMES)[0].numpy() for file in files]
    return [perceptual_hash(frames) for frames in clips], [thumbnails(frames) for frames in clips]


if __name__ == "__main__":
    app()
