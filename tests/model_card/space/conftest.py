"""The page of the Space in a browser: a server on loopback, and headless Chromium with a camera that plays a clip."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from headless_chromium import headless_chromium, opening_pages

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


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    """Headless Chromium, whose camera plays an example."""
    with headless_chromium(EXAMPLES / "one_expression.mp4", tmp_path_factory.mktemp("camera")) as chromium:
        yield chromium


@pytest.fixture
def open_page(browser, server) -> Iterator[Any]:
    """Opens the page in a new session. At the end, no page may have an error, or have asked another server."""
    with opening_pages(browser) as open_:

        def open_example(**options: Any) -> Any:
            page = open_(server.url, **options)
            page.get_by_role("button", name="Example: One expression").wait_for()
            return page

        yield open_example
