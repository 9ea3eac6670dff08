"""Runs `tgdfer live`, and watches its page in headless Chromium."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import psutil

from tgdfer.training.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# Milliseconds in which the page must open and show its first frame, also on a busy machine.
PATIENCE = 120_000
# Collects what the page reports: frames that are on the screen, and answers, with their times in seconds.
_COLLECT = """
window.seen = {frames: [], answers: []};
const now = () => performance.now() / 1000;
document.addEventListener("tgdfer-frame", ({detail}) => seen.frames.push([now(), detail]));
document.addEventListener("tgdfer-answer", ({detail}) => seen.answers.push([now(), detail.behind]));
"""


@dataclass
class Watched:
    """A running command and its page.

    Attributes:
        process (`psutil.Popen`): The command.
        page (`Any`): The page, of playwright.
    """

    process: psutil.Popen
    page: Any

    def collect(self, seconds: float) -> dict[str, list[list[float]]]:
        """Watches for some seconds.

        Returns:
            `dict[str, list[list[float]]]`: `frames` and `answers`: for each that came, the time in seconds, and how
            many seconds ago its frame was captured.
        """
        self.page.evaluate("seen.frames = []; seen.answers = []; 0")
        self.page.wait_for_timeout(1000 * seconds)
        return self.page.evaluate("seen")

    def close(self) -> tuple[int, float, str]:
        """Closes the page, and returns exit code, seconds until the command ended, and its last sentence."""
        begin = time.perf_counter()
        self.page.close(run_before_unload=True)
        code = self.process.wait(timeout=60)
        return code, time.perf_counter() - begin, self.process.stdout.read().strip().splitlines()[-1]


@contextmanager
def watching(arguments: Sequence[str], camera: Path | None = None) -> Iterator[Watched]:
    """Runs `tgdfer live`, and opens its page.

    Args:
        arguments (`Sequence[str]`): Arguments of the command.
        camera (`Path`, *optional*): Uncompressed video (.y4m) that the camera of the browser plays over and over.

    Raises:
        UserError: If playwright or Chromium is missing.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UserError("The benchmark needs playwright: `pip install playwright`.") from error
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera}")
    command = [sys.executable, "-m", "tgdfer", "live", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with sync_playwright() as driver:
        installed = os.environ.get("TGDFER_CHROMIUM") or shutil.which("chromium")
        try:
            chromium = driver.chromium.launch(executable_path=installed, args=flags)
        except Error as error:
            raise UserError("Chromium does not start: install it, or name it in TGDFER_CHROMIUM.") from error
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            address = next((line for line in process.stdout if "http://" in line), None)
            if address is None:
                raise UserError(f"`{' '.join(command[1:4])}` has ended before it served its page.")
            context = chromium.new_context(viewport={"width": 1200, "height": 800})
            context.grant_permissions(["camera"])
            page = context.new_page()
            page.add_init_script(_COLLECT)
            page.goto(address.split()[-1], timeout=PATIENCE)
            page.get_by_text("frames per second; answers").wait_for(timeout=PATIENCE)
            yield Watched(process, page)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            chromium.close()


def write_camera(video: Path, path: Path) -> Path:
    """Writes the frames of a video uncompressed, as Chromium wants them for its camera."""
    with av.open(str(video)) as container, path.open("wb") as file:
        stream = container.streams.video[0]
        rate = stream.average_rate or 25
        size = f"W{stream.width} H{stream.height}"
        file.write(f"YUV4MPEG2 {size} F{rate.numerator}:{rate.denominator} Ip A1:1\n".encode())
        for frame in container.decode(stream):
            file.write(b"FRAME\n" + frame.reformat(format="yuv420p").to_ndarray().tobytes())
    return path
