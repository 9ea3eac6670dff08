"""The page of the Space in a browser: a server on loopback, and headless Chromium with a camera that plays a clip."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

EXAMPLES = Path(__file__).parents[3] / "model_card" / "space" / "examples"


@pytest.fixture(scope="session")
def recogniser():
    """tgdfer-tiny."""
    from tgdfer.model_card.space.clips import Recogniser

    return Recogniser()


@pytest.fixture(scope="session")
def analysis(recogniser):
    """The analysis of the example with several expressions."""
    return recogniser.analyse(EXAMPLES / "several_expressions.mp4")


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The page on loopback: its `url`, and the folder of its `uploads`."""
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tgdfer[space]'")
    from tgdfer.model_card.space.page import build_page, launch_page

    uploads = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        page = build_page()
        _, url, _ = launch_page(page, prevent_thread_lock=True, quiet=True)
        yield SimpleNamespace(url=url, uploads=uploads)
        page.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Any]:
    """Headless Chromium, whose camera plays an example."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    camera = write_y4m(EXAMPLES / "one_expression.mp4", tmp_path_factory.mktemp("camera") / "camera.y4m")
    flags = [
        "--no-sandbox",
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


@pytest.fixture
def open_page(browser, server) -> Iterator[Any]:
    """Opens the page in a new session. At the end, no page may have an error, or have asked another server."""
    problems: list[str] = []
    contexts = []

    def open_(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        context.grant_permissions(["camera"])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda one: None if _is_own(one.url, server.url) else problems.append(one.url))
        page.goto(server.url)
        page.get_by_role("button", name="Example: One expression").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def _is_own(url: str, server: str) -> bool:
    return url.startswith((server, "data:", "blob:"))


def write_y4m(video: Path, path: Path) -> Path:
    """Writes the frames of a video uncompressed, as Chromium wants them for its camera."""
    with av.open(str(video)) as container, path.open("wb") as file:
        stream = container.streams.video[0]
        file.write(f"YUV4MPEG2 W{stream.width} H{stream.height} F{int(stream.average_rate)}:1 Ip A1:1\n".encode())
        for frame in container.decode(stream):
            file.write(b"FRAME\n" + frame.reformat(format="yuv420p").to_ndarray().tobytes())
    return path
