"""Headless Chromium whose camera plays a video, and pages in it that may not ask another server."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.live.watching import write_camera


@contextmanager
def headless_chromium(video: Path | None, folder: Path) -> Iterator[Any]:
    """Starts Chromium.

    Args:
        video: what the camera plays; None for no camera.
        folder: for the frames of the camera, which are not compressed.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    flags = ["--no-sandbox"]
    if video is not None:
        camera = write_camera(video, folder / "camera.y4m")
        flags += [
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
        ]
    installed = os.environ.get("TGDFER_CHROMIUM") or shutil.which("chromium")
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=installed, args=flags)
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@contextmanager
def opening_pages(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Gives a function that opens an address in a new session.

    At the end, no page may have an error, or have asked another server.
    """
    problems: list[str] = []
    contexts = []

    def open_(url: str, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        context.grant_permissions(["camera"])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda one: None if _is_own(one.url, url) else problems.append(one.url))
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def _is_own(url: str, server: str) -> bool:
    return url.startswith((server, "data:", "blob:"))
