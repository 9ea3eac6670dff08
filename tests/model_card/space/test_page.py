"""The page of the Space, as a person uses it, in headless Chromium.

`TGDFER_SCREENSHOTS=docs/guides` writes the screenshots of the documentation.
"""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import webvtt
from PIL import Image

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "model_card" / "space" / "examples"
ANSWER = 90_000  # milliseconds


def choose(page: Any, path: Path) -> None:
    """Uploads a file."""
    page.locator("#clip input[type=file]").first.set_input_files(str(path))


def label_of(page: Any) -> str:
    """Waits for an answer, and returns its label."""
    page.locator(".label").first.wait_for(timeout=ANSWER)
    return page.locator(".label").first.inner_text().split()[0]


def problem_of(page: Any) -> str:
    """Waits for an error message, and returns it."""
    page.get_by_role("alert").wait_for(timeout=ANSWER)
    return page.get_by_role("alert").inner_text()


def screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("TGDFER_SCREENSHOTS"):
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        # A palette keeps the file small.
        picture.quantize(256).save(Path(folder) / f"{name}.png", optimize=True)


def require_deleted(page: Any, folder: Path) -> None:
    """Waits a few seconds until no file is in the folder."""
    for _ in range(50):
        if not any(path.is_file() for path in folder.rglob("*")):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{[path.name for path in folder.rglob('*')]} are still there")


def test_an_example_is_answered_with_timeline_segments_and_explanation(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: Several expressions").click()
    assert label_of(page) == "unsure"
    assert page.locator(".label").inner_text().endswith("neutral 18%")
    assert "neutral 0.0 s to 2.0 s" in page.get_by_role("img", name="Timeline").get_attribute("aria-label")
    assert page.locator(".segments tbody tr").count() == 4
    assert "lip corners" in page.locator(".person").inner_text()
    assert "what a face shows" in page.locator(".limits").inner_text()
    screenshot(page, "space_light")


def test_every_person_is_shown(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: Two people").click()
    label_of(page)
    assert page.locator(".who").all_inner_texts() == ["Person 2", "Person 1"]
    assert page.locator(".strip").count() == 2


def test_an_uploaded_clip_is_answered_and_its_file_deleted(open_page, server, tmp_path):
    page = open_page()
    clip = tmp_path / "my clip.mp4"
    clip.write_bytes((EXAMPLES / "one_expression.mp4").read_bytes())
    choose(page, clip)
    assert label_of(page) == "happiness"
    require_deleted(page, server.uploads)


def test_a_clip_is_recorded_from_the_camera(open_page, server):
    page = open_page()
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    # Gradio names the button "start recording" before and after, so it is found by its text.
    page.locator("#clip").get_by_text("Record", exact=True).click()
    page.wait_for_timeout(3500)
    page.locator("#clip").get_by_text("Stop", exact=True).click()
    assert label_of(page) == "happiness"
    require_deleted(page, server.uploads)


def test_a_frame_is_selected_with_the_keyboard(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: One expression").focus()
    page.keyboard.press("Enter")
    label_of(page)
    page.locator(".reel input:checked").focus()
    before = page.locator(".frames figure:visible img").get_attribute("alt")
    page.keyboard.press("ArrowRight")
    after = page.locator(".frames figure:visible img").get_attribute("alt")
    assert before != after and page.locator(".frames figure:visible").count() == 1
    chosen = page.locator(".reel input:checked").get_attribute("aria-label")
    assert chosen.removeprefix("Frame at") == after.removeprefix("The frame at")
    assert page.locator(".frames figure:visible li").count() == 3


def test_everything_is_reached_with_the_tab_key(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: One expression").click()
    label_of(page)
    page.locator("body").click(position={"x": 1, "y": 1})
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("(document.activeElement.ariaLabel || document.activeElement.innerText || '').trim()")
        )
    for wanted in ("Example: Two people", "CSV", "VTT", "Answer with these words", "Forget this clip"):
        assert wanted in reached
    assert any(one.startswith("Frame at") for one in reached)


def test_own_words_replace_the_classes(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: One expression").click()
    label_of(page)
    strange = "<img src=x onerror=alert(1)>: a broad smile\n${1+1} {{1+1}}: half-closed eyes"
    page.get_by_label("Ask about your own emotions").fill(strange)
    page.get_by_role("button", name="Answer with these words").click()
    page.get_by_text("These are your own classes").wait_for()
    shown = page.locator(".answers").inner_text()
    assert "<img src=x onerror=alert(1)>" in shown and "${1+1} {{1+1}}" in shown and "happiness" not in shown
    page.get_by_label("Ask about your own emotions").fill("alone: nothing else")
    page.get_by_role("button", name="Answer with these words").click()
    assert problem_of(page) == "The number of classes is 1; write 2 to 12, one in each line."
    assert page.locator(".label").count() == 1
    page.get_by_label("Ask about your own emotions").fill(
        "joy: a broad smile\nboredom: half-closed eyes; a slack mouth"
    )
    page.get_by_role("button", name="Answer with these words").click()
    page.locator(".label", has_text="joy").wait_for()
    screenshot(page, "space_own_words")


def test_the_files_can_be_downloaded(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: One expression").click()
    label_of(page)
    texts = {}
    for kind in ("CSV", "JSON", "VTT"):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind).click()
        assert download.value.suggested_filename == f"one_expression.{kind.lower()}"
        texts[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    assert next(csv.DictReader(io.StringIO(texts["CSV"])))["label"] == "happiness"
    assert json.loads(texts["JSON"])["results"][0]["people"][0]["label"] == "happiness"
    assert webvtt.from_string(texts["VTT"]).captions[0].text.startswith("person 1: happiness")


def test_a_broken_file_gives_a_sentence(open_page, server, tmp_path):
    page = open_page()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(500))
    choose(page, broken)
    problem = problem_of(page)
    assert problem.startswith("broken.mp4") and problem.endswith(".") and "Traceback" not in problem
    require_deleted(page, server.uploads)


def test_a_file_that_is_too_long_gives_a_sentence(open_page, clip_writer, tmp_path):
    page = open_page()
    choose(page, clip_writer(tmp_path / "long.mp4", num_frames=61 * 25))
    assert problem_of(page).startswith("long.mp4 is 61 seconds long, and at most 60 seconds are accepted;")


def test_a_session_never_sees_the_clip_of_another(open_page):
    one, other = open_page(), open_page()
    one.get_by_role("button", name="Example: One expression").click()
    label_of(one)
    assert other.locator(".answers").count() == 0
    other.get_by_role("button", name="Example: Two people").click()
    label_of(other)
    one.get_by_role("button", name="Answer with these words").click()
    one.get_by_text("These are your own classes").wait_for()
    assert one.locator(".answers h2").inner_text() == "one_expression.mp4"
    assert other.locator(".answers h2").inner_text() == "two_people.mp4"
    assert "smiling" not in other.locator(".answers").inner_text()
    one.reload()
    one.get_by_role("button", name="Example: One expression").wait_for()
    assert one.locator(".answers").count() == 0


def test_a_clip_is_forgotten(open_page):
    page = open_page()
    page.get_by_role("button", name="Example: One expression").click()
    label_of(page)
    page.get_by_role("button", name="Forget this clip").click()
    page.locator(".answers").wait_for(state="detached")
    assert not page.get_by_role("button", name="Answer with these words").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(open_page, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.get_by_role("button", name="Example: Several expressions").click()
    label_of(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(one) for one in background.removeprefix("rgb(").removesuffix(")").split(",")[:3]) / 3
    assert brightness < 60 if scheme == "dark" else brightness > 200
    screenshot(page, f"space_phone_{scheme}")


def test_the_command_runs_the_page_on_loopback_and_leaves_no_file(tmp_path):
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tgdfer[space]'")
    command = [sys.executable, "-m", "tgdfer", "space"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        address = next(line for line in process.stdout if "The page is at" in line)
        assert "http://127.0.0.1:" in address
        assert list(tmp_path.glob("tgdfer-space-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert not list(tmp_path.glob("tgdfer-space-*"))
