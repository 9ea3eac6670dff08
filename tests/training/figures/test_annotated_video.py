"""Videos with predictions drawn in, read back."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_up_timelines import LONG, made_up_person, made_up_result, three_people
from small_recordings import BACKGROUND, flashes, tones, write_recording

from tgdfer.processing.video_file_tgdfer import VideoFile
from tgdfer.processing.video_processing_tgdfer import VideoDecodeError
from tgdfer.training.colours import class_colours, to_bytes
from tgdfer.training.figures.annotated_video import _Painter, _Person, annotate
from tgdfer.training.figures.labels import label_picture, label_position
from tgdfer.training.figures.panel import draw_panel
from tgdfer.training.video_writing import writing


def frames(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Times and pictures (H, W, 3) of all frames."""
    with av.open(str(path)) as container:
        pairs = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [second for second, _ in pairs], [picture for _, picture in pairs]


def colour_of(label: str) -> np.ndarray:
    return np.array(to_bytes(class_colours([label])[label]))


def box_of(picture: np.ndarray, label: str, close: int = 60) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of what has the colour of a label; lossy video needs some tolerance."""
    rows, columns = np.nonzero(np.abs(picture.astype(int) - colour_of(label)).sum(-1) < close)
    return None if len(rows) < 20 else (columns.min(), rows.min(), columns.max(), rows.max())


def one_person(seconds: float, spans: list[tuple[float, float, str]], boxes=None, **changes: Any) -> dict[str, Any]:
    """A face that moves to the right at 40 pixels a second, found four times a second in 240 x 160 pixels."""
    every = np.arange(0.125, seconds, 0.25)
    left = 20 + 40 * every
    boxes = np.stack([left, left * 0 + 60, left + 40, left * 0 + 100], 1) if boxes is None else boxes
    person = made_up_person(1, every, spans, every, boxes=boxes)
    return made_up_result([person], every, seconds, width=240, height=160, **changes)


def test_boxes_of_frames_between_and_words_of_the_moment() -> None:
    every = np.array([0.0, 0.5, 1.0, 20.0])
    boxes = np.array([[0, 0, 10, 10], [10, 10, 20, 20], [10, 10, 20, 20], [50, 50, 60, 60]], dtype=float)
    person = made_up_person(1, every, [(0.0, 0.6, "fear"), (0.6, 1.5, "unsure")], every, boxes=boxes)
    drawn = _Person(made_up_result([person], every, 21.0), person)
    box = drawn.box(0.25)
    assert box is not None and box.tolist() == [5, 5, 15, 15]
    assert drawn.box(10.0) is None, "nobody looked there"
    assert [drawn.answer_at(second)["label"] for second in (0.0, 0.55, 0.61, 1.45)] == [
        "fear",
        "fear",
        "unsure",
        "unsure",
    ]
    person["segments"] = []
    assert _Person(made_up_result([person], every, 21.0), person).answer_at(0.3) is person, "a clip has one answer"


def test_boxes_are_not_interpolated_across_cuts_and_gaps() -> None:
    result = three_people()
    first, third, second = (_Person(result, person) for person in result["people"])
    box = first.box(5.99)
    assert box is not None and box[0] == pytest.approx(640 * (0.05 + 0.3 * 5.875 / 20)), "held up to the cut"
    assert first.box(8.5) is None and first.box(9.9) is None and first.box(10.01) is not None
    assert third.box(6.01) is None and third.box(12.99) is None and third.box(13.0) is not None
    assert second.box(5.99) is None and second.box(6.0) is not None
    middle = third.box(14.0)
    assert middle is not None and middle[0] == pytest.approx(640 * (0.4 + 0.3 * 14 / 20))


def test_the_copy_has_all_frames_and_their_times_and_the_sound_in_step(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4", 3.0)
    done: list[float] = []
    annotate(source, one_person(3.0, [(0.0, 3.0, "fear")]), tmp_path / "b.mp4", done.append)
    times, pictures = frames(tmp_path / "b.mp4")
    assert times == pytest.approx(frames(source)[0], abs=1e-3)
    height, width = pictures[0].shape[:2]
    assert width == 240 * 3, "enlarged"
    assert 160 * 3 < height <= 160 * 3 * 1.25
    assert len(done) == 75 and done[-1] == 1.0 and done == sorted(done)
    assert np.abs(np.subtract(tones(tmp_path / "b.mp4"), flashes(tmp_path / "b.mp4"))).max() < 0.06
    with av.open(str(source)) as one, av.open(str(tmp_path / "b.mp4")) as other:
        assert [bytes(p) for p in one.demux(audio=0)] == [bytes(p) for p in other.demux(audio=0)]


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_the_last_frame_of_the_copy_is_shown_as_long_as_in_the_original(tmp_path: Path, name: str) -> None:
    picture = np.full((160, 240, 3), BACKGROUND, np.uint8)
    with writing(tmp_path / "a.mkv") as writer:
        for number in range(20):
            writer.write(number / 10, picture)
        writer.end = 9.0
    annotate(tmp_path / "a.mkv", one_person(9.0, [(0.0, 9.0, "fear")]), tmp_path / name)
    for path in (tmp_path / "a.mkv", tmp_path / name):
        assert VideoFile(path).read(lambda *_: np.arange(1)).duration == pytest.approx(9.0, abs=0.05), path


def test_the_box_stays_on_a_moving_face_and_has_the_colour_of_the_moment(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4", 3.0, codec=None)
    annotate(source, one_person(3.0, [(0.0, 1.5, "anger"), (1.5, 3.0, "sadness")]), tmp_path / "b.mp4")
    for second, picture in zip(*frames(tmp_path / "b.mp4"), strict=True):
        if not 0.125 <= second <= 2.875:
            continue
        label, other = ("anger", "sadness") if second < 1.5 else ("sadness", "anger")
        below_the_label = picture[61 * 3 : 480]
        box = box_of(below_the_label, label)
        assert box is not None and box_of(below_the_label, other) is None
        assert box[0] == pytest.approx(3 * (20 + 40 * second), abs=5)
        assert box[2] == pytest.approx(3 * (60 + 40 * second), abs=5)


def test_the_text_changes_at_the_border_of_the_segment(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4", 2.0, codec=None)
    every = np.arange(0.125, 2, 0.25)
    person = made_up_person(None, every, [(0.0, 1.2, "anger"), (1.2, 2.0, "unsure")], every)
    annotate(source, made_up_result([person], every, 2.0), tmp_path / "b.mp4")
    times, pictures = frames(tmp_path / "b.mp4")
    for second, picture in zip(times, pictures, strict=True):
        said = ("anger 83%", "anger") if second < 1.2 else ("unsure: fear (83%) or surprise", "unsure")
        label = label_picture(None, said[0], class_colours([said[1]])[said[1]], 16, 720, 160)
        corner = picture[: label.shape[0], : label.shape[1]].astype(int)
        assert np.abs(corner - label).mean() < 12, second


def test_a_person_who_is_absent_has_neither_box_nor_label(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4", 3.0, codec=None)
    result = one_person(3.0, [(0.0, 1.0, "anger"), (2.0, 3.0, "anger")])
    person = result["people"][0]
    here = [index for index, second in enumerate(person["timestamps"]) if not 1 < second < 2]
    for name in ("timestamps", "frame_relevance", "boxes"):
        person[name] = [person[name][index] for index in here]
    annotate(source, result, tmp_path / "b.mp4")
    for second, picture in zip(*frames(tmp_path / "b.mp4"), strict=True):
        assert (box_of(picture[:480], "anger") is None) == (1.0 <= second < 2.0), second


@pytest.mark.slow
@pytest.mark.parametrize("size", [(72, 96), (96, 72), (360, 640), (1920, 1080), (720, 16), (1, 50)])
def test_text_and_panel_fit_into_every_picture(size: tuple[int, int]) -> None:
    """Long labels are broken into lines that lie inside; the panel takes at most a quarter of the picture."""
    height, width = size
    result = three_people(width=width, height=height)
    people = [{**person, "person": number} for number in range(40) for person in result["people"]]
    for crowd in (result["people"], people):
        painter = _Painter({**result, "people": crowd}, (height, width, 3), np.arange(500) / 25)
        painter.draw(np.zeros((height, width, 3), np.uint8), 1.0)
        tall, wide = painter.canvas.shape[:2]
        assert tall % 2 == wide % 2 == 0
        assert tall - painter.height <= painter.height / 4
    for text in (LONG, "x" * 80):
        label = label_picture(12, text, "#aa0000", painter.size, painter.width, 10**6)
        assert label.shape[1] <= max(painter.width, 80)
        # The last column is the colour of the background: no letter touches the border.
        assert (label[:, -1] == (170, 0, 0)).all()


def test_a_long_label_shows_all_its_letters() -> None:
    """In lines, it has as much ink as in one line."""
    one = label_picture(None, LONG, "#000000", 16, 10**4, 10**4)
    lines = label_picture(None, LONG, "#000000", 16, 200, 10**4)
    assert lines.shape[1] <= 200 and lines.shape[0] > 3 * one.shape[0]
    assert lines.sum() == pytest.approx(one.sum(), rel=0.05)


def test_labels_hide_no_other_face_where_there_is_room() -> None:
    room, face, above = (300, 400), (100, 100, 150, 150), (90, 40, 160, 99)
    assert label_position((20, 120), face, room, [face]) == (100, 80)
    assert label_position((20, 120), face, room, [face, above]) == (100, 150), "below"
    assert label_position((20, 120), (-30, -20, 20, 30), room, []) == (0, 30)
    assert label_position((20, 120), (380, 290, 420, 340), room, []) == (280, 270)


def test_the_panel_shows_segments_and_counts_those_who_do_not_fit() -> None:
    result = three_people()
    panel = draw_panel(result, 640, 90, 20.0, 10)
    assert len(panel.picture) <= 90

    def column(second: float) -> np.ndarray:
        return panel.picture[:, round(panel.left + second * panel.unit)]

    def has(second: float, label: str) -> bool:
        return bool((column(second) == colour_of(label)).all(-1).any())

    assert has(1.0, "neutral") and has(7.5, "surprise") and has(7.5, "fear") and has(11.9, "sadness")
    assert not has(9.7, "happiness") and not has(9.7, "surprise"), "nobody but person 2"
    crowd = draw_panel({**result, "people": result["people"] * 10}, 640, 90, 20.0, 10)
    assert len(crowd.picture) <= 90
    canvas = crowd.picture.copy()
    crowd.mark(canvas, 10.0)
    crowd.mark(canvas, 12.0)
    changed = np.flatnonzero((canvas != crowd.picture).any((0, 2)))
    assert set(changed) <= {round(crowd.left + 12 * crowd.unit) + step for step in (-1, 0, 1, 2)}, "one mark"


def test_assumed_times_and_pictures_without_faces(tmp_path: Path) -> None:
    """Arrays have no times and no sound; without faces, the label stands in a corner of every frame."""
    every = np.arange(0, 8, 2) / 25
    person = made_up_person(None, every, [(0.0, 0.32, "anger")], every)
    person.update(segments=[])
    result = made_up_result([person], every, 0.32)
    annotate(np.full((8, 100, 100, 3), BACKGROUND, np.uint8), result, tmp_path / "b.mp4")
    times, pictures = frames(tmp_path / "b.mp4")
    assert times == pytest.approx([number / 25 for number in range(8)], abs=1e-3)
    assert all(box_of(picture[:40], "anger") is not None for picture in pictures)


def test_a_clip_that_is_broken_leaves_no_annotated_video(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    every = np.arange(2.0)
    result = made_up_result([made_up_person(1, every, [(0.0, 2.0, "fear")], every)], every, 2.0)
    with pytest.raises(VideoDecodeError):
        annotate(tmp_path / "bad.mp4", result, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.mp4"]


def test_memory_does_not_grow_with_the_length(tmp_path: Path, monkeypatch) -> None:
    """Frames are written as they are read: never more than one waits."""
    from tgdfer.training.figures import annotated_video

    source = write_recording(tmp_path / "a.mp4", 2.0, codec=None)
    order: list[str] = []
    real = annotated_video.stream

    def noted(*args: Any) -> Any:
        for one in real(*args):
            order.append("read")
            yield one

    monkeypatch.setattr(annotated_video, "stream", noted)
    annotate(source, one_person(2.0, [(0.0, 2.0, "fear")]), tmp_path / "b.mp4", lambda _: order.append("written"))
    assert order == ["read", "written"] * 50
