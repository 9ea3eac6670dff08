"""The live page, as a person uses it, in headless Chromium whose camera plays a rendered video.

`TGDFER_SCREENSHOTS=docs/guides` writes the screenshot of the documentation.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless_chromium import headless_chromium, opening_pages
from PIL import Image

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "model_card" / "space" / "examples"
ANSWER = 90_000  # milliseconds
STRANGE = "<img src=x onerror=alert(1)>: a broad smile\n${1+1} {{1+1}}: half-closed eyes"

# The left edges of the faces, all at one moment, because boxes are drawn anew with each answer.
PLACES = "[...document.querySelectorAll('.face')].map((face) => parseFloat(face.style.left)).sort((a, b) => a - b)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    """Chromium, whose camera shows two people again and again."""
    with headless_chromium(EXAMPLES / "two_people.mp4", tmp_path_factory.mktemp("camera")) as chromium:
        yield chromium


@pytest.fixture
def open_page(browser) -> Iterator[Any]:
    with opening_pages(browser) as open_:
        yield open_


def screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("TGDFER_SCREENSHOTS"):
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        # A palette keeps the file small.
        picture.quantize(256).save(Path(folder) / f"{name}.png", optimize=True)


def test_the_camera_of_the_browser_from_the_first_frame_to_the_end(command, open_page):
    """One command for the whole visit, because it takes seconds to start."""
    running = command()
    page = open_page(running.url, viewport={"width": 1200, "height": 860})
    # Both people have a box, a label, words and curves.
    page.locator(".face", has_text="surprise").wait_for(timeout=ANSWER)
    page.locator(".face", has_text="happiness").wait_for(timeout=ANSWER)
    assert page.locator(".person").count() == 2 and page.locator(".timeline svg").count() == 2
    left, right = page.evaluate(PLACES)
    assert 0 < left < 40 and 50 < right < 90  # percent of the width
    page.locator("#spoken", has_text="surprise").wait_for(timeout=ANSWER, state="attached")
    page.get_by_text("frames per second; answers").wait_for(timeout=ANSWER)
    page.wait_for_timeout(6000 if "TGDFER_SCREENSHOTS" in os.environ else 0)  # for longer curves
    screenshot(page, "live")

    # Own emotions and words, while it runs.
    field = page.get_by_label("Ask about your own emotions")
    field.fill(STRANGE)
    page.get_by_role("button", name="Answer with these words").click()
    page.locator(".answers", has_text="These are your own classes").wait_for(timeout=ANSWER)
    shown = page.locator(".answers").inner_text()
    assert "<img src=x onerror=alert(1)>" in shown and "${1+1} {{1+1}}" in shown and "happiness" not in shown
    assert page.locator(".answers img").count() == 0
    field.fill("alone: nothing else")
    page.get_by_role("button", name="Answer with these words").click()
    page.locator("#mistake").wait_for(timeout=ANSWER)
    assert page.locator("#mistake").inner_text() == "The number of classes is 1; write 2 to 12, one in each line."
    assert "${1+1}" in page.locator(".answers").inner_text()  # the classes before remain
    page.get_by_role("button", name="Back to the model's own").click()
    page.locator(".face", has_text="surprise").wait_for(timeout=ANSWER)
    assert not page.locator("#mistake").is_visible()

    # A second page replaces the first, and its end is the end of the command.
    second = open_page(running.url, viewport={"width": 390, "height": 844})
    page.get_by_text("This page was opened again elsewhere").wait_for(timeout=ANSWER)
    second.locator(".face", has_text="surprise").wait_for(timeout=ANSWER)
    assert second.evaluate("document.documentElement.scrollWidth") <= 390
    page.close(run_before_unload=True)
    second.close(run_before_unload=True)
    assert running.end() == (0, "The page was closed.")


def test_the_command_ends_when_the_camera_of_the_browser_disappears(command, open_page):
    running = command()
    page = open_page(running.url)
    page.get_by_text("frames per second").wait_for(timeout=ANSWER)
    page.evaluate("document.querySelector('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert running.end() == (0, "The camera of the browser has gone.")
    assert page.get_by_role("alert").first.inner_text() == "The camera has gone."
    assert page.locator(".face").count() == 0


def test_a_file_is_played_and_its_end_is_the_end(command, open_page):
    running = command("--video", str(EXAMPLES / "one_expression.mp4"))
    page = open_page(running.url)
    page.get_by_text("one_expression.mp4 has ended.").wait_for(timeout=ANSWER)
    assert running.end() == (0, "one_expression.mp4 has ended.")
    # The last frame is on the screen.
    script = "document.querySelector('canvas').getContext('2d').getImageData(120, 120, 1, 1).data[3]"
    assert page.evaluate(script) == 255
