"""The page of an ONNX export in Chromium: a file, a camera, other emotions, and bad input, without a server."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tgdfer.command_line import main
from tgdfer.training.models import load_trained
from tgdfer.training.rendered_faces import write_dataset

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("onnxscript", reason="needs the extra `export`")

CHROMIUM = os.environ.get("TGDFER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# Folder with two files of the npm package onnxruntime-web, in the version that `model.js` names.
RUNTIME = os.environ.get("TGDFER_ORT_WEB", "")
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; TGDFER_CHROMIUM names it"),
    pytest.mark.skipif(
        not all((Path(RUNTIME) / name).is_file() for name in RUNTIME_FILES),
        reason="needs the folder `dist` of the npm package onnxruntime-web; TGDFER_ORT_WEB names it",
    ),
]
READY = "body[data-ready=true]"


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A static server of an export, which also has the files of onnxruntime-web."""
    folder = tmp_path_factory.mktemp("site") / "onnx"
    assert main(["export", "tgdfer-tiny", "--int8", "--output", str(folder)]) == 0
    (folder / "browser" / "ort").mkdir()
    for name in RUNTIME_FILES:
        shutil.copy(Path(RUNTIME) / name, folder / "browser" / "ort" / name)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/browser/index.html?runtime=ort/"
        server.shutdown()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A rendered happy face as VP8 in WebM, which Chromium plays without licensed codecs."""
    folder = tmp_path_factory.mktemp("clips")
    data = write_dataset(folder / "data", clips={"test": 1}, people={"test": 1}, labels=("happiness", "neutral"))
    return convert(data / "test" / "happiness" / "0000.mp4", folder / "happy.webm", "libvpx", "yuv420p", 1)


def convert(source: Path, target: Path, codec: str, pixels: str, repeats: int) -> Path:
    with av.open(str(source)) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    with av.open(str(target), "w") as container:
        height, width = pictures[0].shape[:2]
        stream = container.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pixels)
        stream.bit_rate = 2_000_000
        for picture in pictures * repeats:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return target


@contextmanager
def opened(address: str, *arguments: str, model: str = "model.onnx", **context: Any) -> Iterator[Any]:
    """The page when it is ready. Nothing may be written to the console, and nothing may leave this machine."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        page = browser.new_context(**context).new_page()
        page.set_default_timeout(120_000)
        written: list[str] = []
        page.on("console", lambda message: written.append(message.text))
        page.on("pageerror", lambda error: written.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}&model={model}")
        page.wait_for_selector(READY)
        yield page
        assert written == []
        start = address.partition("/browser")[0]
        assert all(url.startswith((start, "blob:", "data:")) for url in asked)
        browser.close()


def wait(page: Any, text: str) -> None:
    playwright.expect(page.locator("#status")).to_contain_text(text, timeout=120_000)


def scores(page: Any) -> dict[str, float]:
    rows = page.locator("#scores li").all()
    texts = [row.locator("span").all_text_contents() for row in rows]
    return {label: int(share.removesuffix(" %")) for label, share in texts}


@pytest.mark.parametrize("model", ["model.onnx", "model_quantized.onnx"])
def test_file_relabelling_and_bad_input(address, clip, model, tmp_path):
    network, processor = load_trained("tgdfer-tiny")
    with torch.no_grad():
        logits = network(**processor(videos=[str(clip)], face_crop="none", return_tensors="pt")).logits[0]
    expected = dict(
        zip(network.config.id2label.values(), (logits / network.config.temperature).softmax(-1).tolist(), strict=True)
    )
    with opened(address, model=model) as page:
        page.set_input_files("#file", str(clip))
        wait(page, "Done in")
        found = scores(page)
        assert set(found) == set(expected)
        # The browser decodes, converts colours and seeks in its own way.
        assert max(abs(found[label] / 100 - expected[label]) for label in expected) < 0.15
        assert max(expected, key=expected.get) in page.locator("#label").text_content()
        assert page.locator("#frames li").count() == 16

        page.fill("#classes", "joy: lip corners pulled up into a smile\nboredom: eyelids half closed; head on a hand")
        page.get_by_role("button", name="Use these emotions").press("Enter")
        playwright.expect(page.locator("#scores li")).to_have_count(2, timeout=120_000)
        texts = {"joy": ["lip corners pulled up into a smile"], "boredom": ["eyelids half closed", "head on a hand"]}
        network.set_classes(processor.encode_classes(texts))
        with torch.no_grad():
            logits = network(**processor(videos=[str(clip)], face_crop="none", return_tensors="pt")).logits[0]
        boredom = float(logits.softmax(-1)[0])
        assert abs(scores(page)["boredom"] / 100 - boredom) < 0.15

        page.fill("#classes", "joy")
        page.get_by_role("button", name="Use these emotions").click()
        wait(page, 'write "joy" as label')
        page.fill("#classes", "")
        page.get_by_role("button", name="Use these emotions").click()
        playwright.expect(page.locator("#scores li")).to_have_count(7, timeout=120_000)

        broken = tmp_path / "broken.webm"
        broken.write_bytes(b"no video")
        page.set_input_files("#file", str(broken))
        wait(page, "broken.webm is not a video that this browser can play")
        long = convert(clip, tmp_path / "long.webm", "libvpx", "yuv420p", 20)
        page.set_input_files("#file", str(long))
        wait(page, "but a clip may take 30")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_camera_on_a_phone(address, clip, scheme, tmp_path):
    """Chromium plays the video as its camera."""
    camera = convert(clip, tmp_path / "camera.mjpeg", "mjpeg", "yuvj420p", 1)
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme, "permissions": ["camera"]}
    with opened(address, *flags, f"--use-file-for-fake-video-capture={camera}", **phone) as page:
        page.get_by_role("button", name="Record four seconds").click()
        wait(page, "Done in")
        assert sum(scores(page).values()) == pytest.approx(100, abs=4)
        times = [float(row.get_attribute("title").split(" s")[0]) for row in page.locator("#frames li").all()]
        assert len(times) == 16 and np.all(np.diff(times) > 0)
        assert page.locator("body").bounding_box()["width"] <= 390
        if shots := os.environ.get("TGDFER_SCREENSHOTS"):
            page.screenshot(path=Path(shots) / f"onnx_browser_{scheme}.png", full_page=True)
