"""The live page in Chromium without a camera. Another file has a camera: only one driver can run at a time."""

import signal

import pytest
from headless_chromium import headless_chromium, opening_pages

pytestmark = pytest.mark.slow

ANSWER = 90_000  # milliseconds


def test_without_a_camera_the_page_says_so_and_the_command_is_stopped(command, tmp_path):
    running = command()
    with headless_chromium(None, tmp_path) as chromium, opening_pages(chromium) as open_:
        page = open_(running.url)
        page.get_by_text("There is no camera. Connect one, and load this page again.").wait_for(timeout=ANSWER)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 143
        page.get_by_text("The command was stopped.").wait_for(timeout=ANSWER)
