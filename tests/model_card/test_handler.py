"""The handler of Inference Endpoints, called as an endpoint calls it, on a machine without this package."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tgdfer
from tgdfer.model_card import handler
from tgdfer.model_card.endpoint import endpoint_files
from tgdfer.training.models import load_trained
from tgdfer.training.predict import predict

EXAMPLE = Path(__file__).parents[2] / "model_card" / "space" / "examples" / "two_people.mp4"
ENCODED = base64.b64encode(EXAMPLE.read_bytes()).decode()
LABELS = {"joy": ["a broad smile"], "boredom": ["half-closed eyes", "a slack mouth"]}
# An endpoint has the repository of the model, and not this package. Each request is a line of JSON.
ENDPOINT = """
import json, sys
sys.modules["tgdfer"] = None
sys.path.insert(0, sys.argv[1])
from handler import EndpointHandler
endpoint = EndpointHandler(sys.argv[1])
for line in sys.stdin:
    try:
        answer = endpoint(json.loads(line))
    except ValueError as error:
        answer = {"error": str(error)}
    print("ANSWER", json.dumps(answer, allow_nan=False))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """tgdfer-tiny as it is published: with its code, and with the files of the endpoint."""
    folder = tmp_path_factory.mktemp("published") / "model"
    model, processor = load_trained("tgdfer-tiny")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for name, content in endpoint_files(["timm"]).items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            shutil.copy(content, folder / name)
    return folder


@pytest.fixture(scope="module")
def endpoint(published):
    """Sends requests to an endpoint in another process, and returns its answers."""

    def send(*requests: dict) -> list[dict]:
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        done = subprocess.run(
            [sys.executable, "-c", ENDPOINT, str(published)], input=lines, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found = [line.removeprefix("ANSWER ") for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
        return [json.loads(line) for line in found]

    return send


@pytest.mark.slow
def test_an_endpoint_answers_as_tgdfer_predict_does(endpoint):
    (expected,) = predict([str(EXAMPLE)]).values()
    plain, own, again, broken, path = endpoint(
        {"inputs": ENCODED},
        {"inputs": f"data:video/mp4;base64,{ENCODED}", "parameters": {"labels": LABELS, "interval": 0.5}},
        {"inputs": ENCODED, "parameters": {"labels": None}},
        {"inputs": base64.b64encode(b"no video " * 50).decode()},
        {"inputs": "/etc/hostname"},
    )
    assert plain == again == expected
    assert [set(one["scores"]) for one in own["people"]] == [{"joy", "boredom"}] * 2
    assert own["people"][0]["explanation"]["sentence"] and own["people"][0]["segments"][0]["sentence"]
    assert len(own["timestamps"]) < len(plain["timestamps"])
    assert broken["error"].startswith("The video ")
    assert path["error"] == "`inputs` is not base64; encode the video file as base64."


def test_the_files_of_the_endpoint_name_pinned_versions():
    files = endpoint_files(["av", "timm"])
    assert set(files) == {"handler.py", "requirements.txt"}
    lines = files["requirements.txt"].decode().splitlines()
    assert all("==" in line and "+" not in line for line in lines) and lines[-1].startswith("timm==")
    assert lines.count(f"av=={handler_version('av')}") == 1


def handler_version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


@pytest.fixture(scope="module")
def here():
    """The handler in this process."""
    return handler.EndpointHandler(str(tgdfer.tgdfer_tiny()))


@pytest.mark.slow
def test_other_classes_are_those_of_one_request(here):
    before = here({"inputs": EXAMPLE.read_bytes()})
    own = here({"inputs": EXAMPLE.read_bytes(), "parameters": {"labels": LABELS}})
    assert set(own["people"][0]["scores"]) == {"joy", "boredom"}
    assert here({"inputs": EXAMPLE.read_bytes()}) == before


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({}, "`inputs` must be a video file, as base64; there is none."),
        ({"inputs": ""}, "`inputs` must be a video file"),
        ({"inputs": 3}, "`inputs` must be a video file"),
        ({"inputs": "file:///etc/passwd"}, "`inputs` is not base64"),
        ({"inputs": "http://localhost/clip.mp4"}, "`inputs` is not base64"),
        ({"inputs": ENCODED, "parameters": [1]}, "`parameters` must be an object"),
        ({"inputs": ENCODED, "parameters": {"fps": 3}}, "There is no parameter 'fps'; the parameters are labels and"),
        (
            {"inputs": ENCODED, "parameters": {"interval": 0}},
            "interval is 0, but must be a number of seconds above 0.",
        ),
        ({"inputs": ENCODED, "parameters": {"interval": "x"}}, "interval is 'x'"),
        ({"inputs": ENCODED, "parameters": {"labels": ["joy"]}}, "labels must be 2 to 32 classes"),
        ({"inputs": ENCODED, "parameters": {"labels": {"joy": ["a"]}}}, "labels must be 2 to 32 classes"),
        ({"inputs": ENCODED, "parameters": {"labels": {"joy": [], "b": ["a"]}}}, 'The class "joy" needs a list'),
        ({"inputs": ENCODED, "parameters": {"labels": {"joy": "x", "b": ["a"]}}}, 'The class "joy" needs a list'),
        ({"inputs": b"\0" * 100}, "The video "),
    ],
)
def test_a_request_that_cannot_be_used_gives_a_sentence(here, request_, problem):
    with pytest.raises(ValueError) as error:
        here(request_)
    assert str(error.value).startswith(problem) and "\n" not in str(error.value)


def test_a_video_without_a_face_gives_advice_that_callers_can_follow(here, clip_file):
    with pytest.raises(ValueError, match="^The video shows no face that can be found; send one with a larger"):
        here({"inputs": clip_file.read_bytes()})


def test_line_breaks_in_base64_do_not_matter():
    video = bytes(range(256))
    encoded = base64.encodebytes(video).decode()
    assert handler.video_of(encoded) == handler.video_of("data:video/mp4;base64," + encoded) == video


def test_a_video_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(handler, "MAX_BYTES", 3_000_000)
    for inputs in (b"x" * 3_000_001, base64.b64encode(b"x" * 3_000_001).decode(), "A" * 5_000_000):
        with pytest.raises(ValueError, match="The video has more than 3 MB; send a shorter one."):
            handler.video_of(inputs)
