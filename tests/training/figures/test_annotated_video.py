"""Videos with predictions drawn in."""

from pathlib import Path

import numpy as np
import pytest

from tgdfer.processing.video_processing_tgdfer import VideoDecodeError
from tgdfer.training.figures.annotated_video import _Person, annotate


def test_boxes_of_frames_between_and_words_of_long_videos() -> None:
    said = {
        "label": "fear",
        "scores": {"fear": 0.9, "joy": 0.1},
        "frame_scores": {"fear": [0.9, 0.2, 0.2, 0.2], "joy": [0.1, 0.8, 0.8, 0.8]},
        "timestamps": [0.0, 0.5, 1.0, 20.0],
        "frame_relevance": [0.5, 0.3, 0.1, 0.1],
        "segments": [{"start": 5.0, "end": 6.0, "label": "fear", "confidence": 0.7}],
        "boxes": [[0, 0, 10, 10], [10, 10, 20, 20], [10, 10, 20, 20], [50, 50, 60, 60]],
    }
    person = _Person.from_timeline(said, 0, np.arange(600) / 25)
    box = person.box(0.25)
    assert box is not None and box.tolist() == [5, 5, 15, 15]
    assert person.box(10.0) is None, "nobody looked there"
    assert (person.label(5.5), person.label(0.6), person.label(0.1)) == ("fear 70%", "joy 80%", "fear 90%")
    short = _Person.from_timeline({**said, "timestamps": [0.0, 0.5, 1.0, 1.5]}, 0, np.arange(50) / 25)
    assert short.label(0.6) == "fear 90%", "a clip has one answer"
    short.timeline.update(label="unsure", candidates=["fear", "joy"])
    assert short.label(0.6) == "unsure: fear or joy"


def test_a_clip_that_is_broken_leaves_no_annotated_video(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(VideoDecodeError):
        annotate(tmp_path / "bad.mp4", [], tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.mp4"]
