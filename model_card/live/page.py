"""Runs the live page: loads the model, opens the camera or the file, and serves the page until the session ends."""

import threading
from html import escape
from pathlib import Path

from rich import get_console

from tgdfer.model_card.live.expressions import Expressions
from tgdfer.model_card.live.following import FaceFollower
from tgdfer.model_card.live.server import HERE, LiveServer
from tgdfer.model_card.live.session import LiveSession
from tgdfer.model_card.live.sources import open_camera, open_file
from tgdfer.model_card.space.limits import limits_of
from tgdfer.model_card.space.views import OWN_CLASSES, limits_html
from tgdfer.processing.detectors_tgdfer import load_detector
from tgdfer.training.interruption import raising_on_sigterm
from tgdfer.training.predict import PredictionOptions, load
from tgdfer.weights import DEFAULT_MODEL


def run_live(
    model: str | Path = DEFAULT_MODEL,
    camera: int | None = None,
    video: Path | None = None,
    options: PredictionOptions | None = None,
) -> None:
    """Runs the live page until the page is closed, the camera disappears or the video ends.

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id.
        camera (`int`, *optional*): Number of a camera of this machine. Without it and without `video`, the page uses
            the camera of the browser.
        video (`Path`, *optional*): A video file that is played in real time instead of a camera.
        options (`PredictionOptions`, *optional*): Options of the faces and the hardware.

    Raises:
        UserError: If there is no such camera, or the model cannot be loaded.
        VideoDecodeError: If the file cannot be read, or the face detector is missing.
    """
    frames, sentence = None, ""
    if camera is not None:
        frames, sentence = open_camera(camera), f"Camera {camera} has gone: it gives no more frames."
    elif video is not None:
        frames, sentence = open_file(video), f"{video.name} has ended."
    session = build_session(model, options)
    server = LiveServer(session, page_html(model, frames is not None, session.interval), frames is not None)
    # Waiting in a thread of its own lets Ctrl-C interrupt the main thread.
    threads = [threading.Thread(target=server.serve_forever, daemon=True, name="page")]
    threads.append(threading.Thread(target=session.run_analysis, daemon=True, name="analysis"))
    if frames is not None:
        threads.append(
            threading.Thread(target=session.run_source, args=(frames, sentence), daemon=True, name="frames")
        )
    with raising_on_sigterm():
        for thread in threads:
            thread.start()
        console = get_console()
        console.print(f"The page is at {server.url}", highlight=False, soft_wrap=True)
        console.print("Close the page, or press Ctrl-C here, to stop.", highlight=False)
        try:
            console.print(session.wait(), highlight=False, markup=False, soft_wrap=True)
        finally:
            session.end("The command was stopped.")
            server.shutdown()
            server.server_close()
            # The thread of the frames closes the camera.
            for thread in threads:
                thread.join(timeout=5)


def build_session(model: str | Path = DEFAULT_MODEL, options: PredictionOptions | None = None) -> LiveSession:
    """Loads a model and the face detector, and creates a session.

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id.
        options (`PredictionOptions`, *optional*): Options of the faces and the hardware.

    Raises:
        UserError: If the model cannot be loaded.
        VideoDecodeError: If the face detector is missing.
    """
    network, processor, _ = load(model, options or PredictionOptions())
    settings = processor.video_processor
    follower = None
    # A model that was trained on whole pictures sees the whole picture.
    if settings.face_crop != "none":
        follower = FaceFollower(*load_detector(settings.face_detector, settings.face_model))
    return LiveSession(Expressions(network, processor), follower)


def page_html(model: str | Path, has_source: bool, interval: float) -> str:
    """Creates the HTML of the page, in which `{page}` stands for the number of the page."""
    template = (HERE / "live.html").read_text(encoding="utf-8")
    values = {
        "source": "server" if has_source else "browser",
        "interval": str(round(1000 * interval)),
        "limits": limits_html(limits_of(model)),
        "classes": escape(OWN_CLASSES),
    }
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template
