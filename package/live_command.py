"""The command `tgdfer live`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from tgdfer.console import hide_loading_bars
from tgdfer.option_groups import with_groups
from tgdfer.prediction_commands import MODEL_HELP, REVISION_HELP
from tgdfer.training.errors import UserError
from tgdfer.training.revisions import with_revision
from tgdfer.weights import DEFAULT_MODEL

LIVE_EXAMPLES = (
    "[bold]Examples[/]\n\ntgdfer live\n\ntgdfer live --camera 0\n\ntgdfer live --video talk.mp4 --model runs/first"
)


@dataclass(frozen=True)
class SourceOptions:
    """Where the frames come from."""

    camera: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of a camera of this machine, from 0. Default: the camera of the browser, which asks first",
            rich_help_panel="Data",
        ),
    ] = None
    video: Annotated[
        Path | None,
        typer.Option(help="Video file to play in real time instead of a camera", rich_help_panel="Data"),
    ] = None

    def check(self) -> None:
        """Checks that there is at most one source."""
        if self.camera is not None and self.video is not None:
            raise UserError("--camera and --video both say where the frames come from; give only one of them.")


@dataclass(frozen=True)
class DetectionOptions:
    """How faces are found."""

    face_detector: Annotated[
        Literal["auto", "yunet", "mtcnn"] | None,
        typer.Option(
            help='Face detector; "auto" uses YuNet if it can be downloaded, otherwise MTCNN, which is slower. '
            'Default: as in training, otherwise "auto"',
            rich_help_panel="Faces",
        ),
    ] = None
    face_model: Annotated[
        Path | None, typer.Option(help="File of YuNet to use instead of downloading it", rich_help_panel="Faces")
    ] = None


@with_groups
def live(
    *,
    source: SourceOptions,
    model: Annotated[str, typer.Option(help=MODEL_HELP, rich_help_panel="Model")] = DEFAULT_MODEL,
    revision: Annotated[str | None, typer.Option(help=REVISION_HELP, rich_help_panel="Model")] = None,
    faces: DetectionOptions,
    device: Annotated[
        str, typer.Option(help='Device, such as "cpu" or "cuda"; "auto" uses a GPU if there is one',
                          rich_help_panel="Hardware")
    ] = "auto",
) -> None:  # fmt: skip
    """Show the expressions of the people in front of a camera, while it runs.

    The command prints the address of a page, which only this machine can open. The page shows boxes, labels and
    curves, and takes your own emotions. No frame is stored. Close the page or press Ctrl-C to stop.
    """
    source.check()
    # As in `tgdfer predict`: waiting threads sleep, so that they leave the cores to the browser.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hide_loading_bars()
    from tgdfer.model_card.live.page import run_live
    from tgdfer.training.hardware import Hardware, return_large_blocks
    from tgdfer.training.predict import PredictionOptions

    return_large_blocks()
    face_model = None if faces.face_model is None else str(faces.face_model)
    options = PredictionOptions(
        faces={"face_detector": faces.face_detector, "face_model": face_model}, hardware=Hardware(device)
    )
    run_live(with_revision(model, revision), source.camera, source.video, options)
