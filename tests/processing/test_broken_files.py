"""Forty of the files that `benchmarks/broken_files` predicts: an answer or one sentence, with little work."""

import re
import resource
import time

import pytest

from benchmarks.broken_files.damaged_videos import FILES, VALID
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError

_BROKEN = [name for name in FILES if not name.startswith(("whole", "one_frame", "size", "still"))]
_CRAFTED = [name for name in FILES if name.startswith(("huge", "playlist", "elsewhere", "no_moov", "header_only"))]
FORTY = list(dict.fromkeys([*_CRAFTED, *_BROKEN[:: len(_BROKEN) // 20]]))[:40]


@pytest.fixture(scope="module")
def processor():
    return TGDFERVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


@pytest.fixture(scope="module")
def predict(processor, clip_folder):
    model = TGDFERForVideoClassification.from_clip(str(clip_folder), num_frames=4)
    return EmotionTimelinePipeline(model=model.eval(), video_processor=processor)


@pytest.mark.parametrize("name", FORTY)
def test_a_prediction_or_one_sentence(name, tmp_path, predict):
    path = tmp_path / name.replace("/", "_")
    path.write_bytes(FILES[name]())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        (person,) = predict(str(path))["people"]
    except VideoDecodeError as error:
        assert path.name in str(error) and re.fullmatch(r"[^\n]+\.", str(error))
    else:
        assert sum(person["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert sum(person["frame_relevance"]) == pytest.approx(1, abs=1e-4)
        assert person["timestamps"] == sorted(person["timestamps"])
    assert time.process_time() - start < 10  # what other processes take does not count
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**30


def test_what_must_be_read_and_what_must_be_refused(processor):
    def reads(name):
        try:
            return processor(FILES[name](), return_tensors="pt")["frame_mask"].shape[1] > 0
        except VideoDecodeError:
            return False

    read = {name for name in FILES if name.startswith(("one_frame", "still", "other", "two", "junk", "size"))}
    assert {name for name in read if not reads(name)} == set()
    assert [name for name in FILES if name.startswith("playlist") and reads(name)] == []
    assert len(VALID) >= 10 and len(FILES) >= 300 and len(FORTY) == 40
