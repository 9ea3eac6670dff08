"""Both pipelines, on a real model of a random CLIP."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from transformers import pipeline

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing import faces_tgdfer, pipeline_tgdfer
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

DESCRIPTIONS = {"sadness": ["lip corners sink", "a tear"], "anger": ["brows low, a hard stare"], "awe": ["mouth open"]}


@pytest.fixture(scope="module")
def model_folder(clip_folder, tmp_path_factory):
    """A saved model whose frames speak loudly, so that clips, frames and classes differ in their scores."""
    folder = tmp_path_factory.mktemp("models") / "model"
    processor = TGDFERProcessor.from_clip(str(clip_folder), DESCRIPTIONS, num_frames=8)
    model = TGDFERForVideoClassification.from_clip(str(clip_folder), processor.class_prompts(), num_frames=8)
    with torch.no_grad():
        model.log_scale.fill_(4.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def timeline(model_folder):
    return pipeline("emotion-timeline", model=str(model_folder))


@pytest.fixture(scope="module")
def clips(clip, video_writer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    short = video_writer(folder / "short.webm", codec="libvpx-vp9", num_frames=3)
    return [str(clip), str(short), str(video_writer(folder / "slow.mkv", fps=10, num_frames=60))]


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list) and one and isinstance(one[0], list | dict):
        return len(one) == len(other) and all(map(close, one, other))
    return one == (other if isinstance(other, str | None) else pytest.approx(other, abs=1e-5))


def test_timeline_of_a_clip(timeline, clip):
    assert type(timeline) is EmotionTimelinePipeline
    found = timeline(str(clip))
    curves = {"timestamps", "frame_scores", "frame_relevance", "description_relevance"}
    assert set(found) == {"label", "score", "candidates", "calibrated", "scores", "segments"} | curves
    assert list(found["scores"]) == list(found["frame_scores"]) == ["anger", "awe", "sadness"]
    assert found["label"] == max(found["scores"], key=found["scores"].get)
    assert found["score"] == found["scores"][found["label"]] and found["candidates"] == [found["label"]]
    assert found["calibrated"] is False
    assert sum(found["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert found["timestamps"] == pytest.approx([number / 25 for number in range(2, 40, 5)], abs=1e-6)
    curves = torch.tensor(list(found["frame_scores"].values()))
    assert curves.shape == (3, 8) and torch.allclose(curves.sum(0), torch.ones(8))
    assert curves.std(1).max() > 1e-4, "frames must differ, or the order of the frames is not tested"
    assert len(found["frame_relevance"]) == 8 and sum(found["frame_relevance"]) == pytest.approx(1, abs=1e-5)
    json.dumps(found)


def test_timelines_of_all_faces(timeline, picture, monkeypatch):
    def seen(frame):
        """Two faces side by side, the second gone after the fourth frame."""
        landmarks = [30.0, 40, 60, 40, 45, 55, 35, 70, 55, 70]
        small = [value / 2 + (40 if index % 2 == 0 else 0) for index, value in enumerate(landmarks)]
        faces = [[20.0, 20, 50, 60, *landmarks, 0.9], [50.0, 10, 20, 25, *small, 0.9]]
        return np.array(faces if frame[0, 0, 0] < 4 else faces[:1])

    monkeypatch.setattr(faces_tgdfer, "_detector", lambda *_: seen)
    clip = np.stack([np.roll(picture(170), 7 * number, 1) for number in range(8)])
    clip[:, 0, 0] = np.arange(8)[:, None]
    monkeypatch.setattr(timeline.video_processor, "face_detector", "yunet")
    monkeypatch.setattr(timeline.video_processor, "face_crop", "all")
    large, small = timeline(clip)
    assert len(large["frame_relevance"]) == len(large["boxes"]) == 8 and large["boxes"][0] == [20, 20, 70, 80]
    assert len(small["frame_relevance"]) == len(small["boxes"]) == 4 and small["track"] != large["track"]
    json.dumps([large, small])
    assert [len(faces) for faces in timeline([clip, clip], batch_size=3)] == [2, 2]
    monkeypatch.setattr(timeline.video_processor, "face_crop", "largest")
    assert close(timeline([clip])[0]["scores"], large["scores"])
    monkeypatch.setattr(timeline.video_processor, "no_face", "full_frame")
    monkeypatch.setattr(faces_tgdfer, "_detector", lambda *_: lambda frame: np.zeros((0, 15)))
    assert timeline(clip)["boxes"] == [None] * 8 and timeline(clip)["track"] is None


def test_timeline_is_what_the_model_says(timeline, clip):
    batch = timeline.video_processor(clip, return_tensors="pt")
    with torch.no_grad():
        outputs = timeline.model(**batch)
    found = timeline(str(clip))
    assert list(found["scores"].values()) == pytest.approx(outputs.logits[0].softmax(-1).tolist(), abs=1e-5)
    best = int(outputs.logits[0].argmax())
    assert found["frame_relevance"] == pytest.approx(outputs.frame_relevance[0, :, best].tolist(), abs=1e-5)
    awe = outputs.frame_logits[0].softmax(-1)[:, 1].tolist()
    assert found["frame_scores"]["awe"] == pytest.approx(awe, abs=1e-5)
    words = outputs.description_relevance[0, :, best, : len(DESCRIPTIONS[found["label"]])]
    assert torch.allclose(torch.tensor(found["description_relevance"]), words.T, atol=1e-5)


def test_calibrated_model_gives_calibrated_answers(timeline, clip, monkeypatch):
    config = timeline.model.config
    plain = timeline(clip)
    best, second = sorted(plain["scores"], key=plain["scores"].get, reverse=True)[:2]
    monkeypatch.setattr(config, "temperature", 4.0)
    monkeypatch.setattr(config, "unsure_below", 0.0)
    sure = timeline(clip)
    logits = torch.tensor(list(plain["scores"].values())).log()
    assert list(sure["scores"].values()) == pytest.approx((logits / 4).softmax(-1).tolist(), abs=1e-4)
    assert sure["score"] < plain["score"] and sure["label"] == best and sure["calibrated"] is True
    monkeypatch.setattr(config, "unsure_below", sure["score"] + 1e-3)
    unsure = timeline(clip)
    assert (unsure["label"], unsure["candidates"]) == ("unsure", [best, second])
    changed = {"label", "score", "scores", "candidates", "calibrated"}
    assert {name: unsure[name] for name in unsure if name not in changed} == {
        name: plain[name] for name in plain if name not in changed
    }, "frames and words are those of the first candidate, and no frame is calibrated"
    json.dumps(unsure)


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_give_what_single_clips_give(batch_size, timeline, clips):
    single = [timeline(clip) for clip in clips]
    assert [len(one["timestamps"]) for one in single] == [8, 3, 8]
    batched = timeline(clips, batch_size=batch_size)
    assert len(batched) == 3 and all(close(one, other) for one, other in zip(single, batched, strict=True))


def test_clips_without_times_in_a_batch(timeline, clips, picture, tmp_path):
    from PIL import Image

    for number in range(4):
        Image.fromarray(picture(60 * number)).save(tmp_path / f"{number}.png")
    alone = timeline(str(tmp_path))
    assert alone["timestamps"] is None and len(alone["frame_relevance"]) == 4
    together = timeline([clips[0], str(tmp_path)], batch_size=2)
    assert close(alone, together[1]) and close(timeline(clips[0]), together[0])


def test_num_frames_and_generators(timeline, clips):
    assert len(timeline(clips[0], num_frames=5)["timestamps"]) == 5
    assert [len(one["timestamps"]) for one in timeline((clip for clip in clips), num_frames=2)] == [2, 2, 2]
    with pytest.raises(ValueError, match="does not exist"):
        timeline("missing.mp4")


def test_video_classification_pipeline_agrees(model_folder, timeline, clips):
    classify = pipeline("video-classification", model=str(model_folder))
    for clip in clips:
        scores = {one["label"]: one["score"] for one in classify(clip)}
        expected = timeline(clip)["scores"]
        assert close(scores, expected) and scores.keys() == expected.keys()


def test_half_precision_keeps_the_times(model_folder, clip):
    timeline = pipeline("emotion-timeline", model=str(model_folder), dtype=torch.bfloat16)
    assert timeline(str(clip))["timestamps"] == pytest.approx([number / 25 for number in range(2, 40, 5)], abs=1e-6)


def test_saving_keeps_the_video_processor(timeline, clip, tmp_path):
    timeline.save_pretrained(tmp_path)
    assert (tmp_path / "pipeline_tgdfer.py").exists()
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["custom_pipelines"]["emotion-timeline"]["impl"] == "pipeline_tgdfer.EmotionTimelinePipeline"
    again = EmotionTimelinePipeline(
        TGDFERForVideoClassification.from_pretrained(tmp_path),
        video_processor=TGDFERVideoProcessor.from_pretrained(tmp_path),
    )
    assert close(again(str(clip)), timeline(str(clip)))


def test_timeline_without_this_package(timeline, clips, tmp_path):
    """`custom_pipelines` in `config.json` makes the timeline load from a folder alone."""
    timeline.save_pretrained(tmp_path / "model")
    script = textwrap.dedent("""
        import json, sys
        from importlib.abc import MetaPathFinder

        class Blocker(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "tgdfer":
                    raise ModuleNotFoundError(f"No module named {name!r}")

        sys.meta_path.insert(0, Blocker())
        from transformers import pipeline

        folder, *clips = sys.argv[1:]
        timeline = pipeline("emotion-timeline", model=folder, trust_remote_code=True)
        classify = pipeline("video-classification", model=folder, trust_remote_code=True)
        print(json.dumps([timeline(clips, batch_size=2), classify(clips[0])]))
    """)
    environment = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", script, str(tmp_path / "model"), *clips]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    timelines, classes = json.loads(done.stdout.splitlines()[-1])
    assert all(close(one, other) for one, other in zip(timelines, timeline(clips), strict=True))
    assert close({one["label"]: one["score"] for one in classes}, timelines[0]["scores"])


def test_a_long_video_is_read_in_windows_and_joined(timeline, clips):
    told = []
    slow = timeline(clips[2], longest_clip=2.0, progress=told.append)
    assert told[-1] == 1 and told == sorted(told)
    times = np.array(slow["timestamps"])
    assert len(times) == len(slow["frame_relevance"]) == 48 and (np.diff(times) > 0.09).all()
    assert times[0] < 0.2 and times[-1] > 5.8
    assert sum(slow["frame_relevance"]) == pytest.approx(1) and sum(slow["scores"].values()) == pytest.approx(1)
    curves = np.array(list(slow["frame_scores"].values()))
    assert curves.shape == (3, 48) and np.allclose(curves.sum(0), 1, atol=1e-5)
    for segment in slow["segments"]:
        inside = [name for name in slow["frame_scores"] if name == segment["label"]]
        assert inside and 0 <= segment["start"] < segment["end"] <= 6.1
    assert close(slow, timeline(clips[2], longest_clip=2.0, batch_size=3))
    # Each window by itself says what the long video has at its place, where it is in no other.
    first = next(iter(timeline.video_processor.read_parts(clips[2], 8, 2.0, timeline.model.config.frame_interval)))
    batch = timeline.video_processor([first.frames], timestamps=[first.seconds], num_frames=8, return_tensors="pt")
    with torch.no_grad():
        alone = timeline.model(**batch).frame_logits[0].softmax(-1)[:4]
    assert np.allclose(curves[:, :4].T, alone, atol=1e-5)


def test_a_long_video_without_times_is_read_in_windows_too(timeline, picture):
    """At an assumed rate of 25 frames a second: 1000 frames are 40 seconds, and no clip."""
    video = np.stack([picture(number) for number in range(256)])[np.arange(1000) % 256]
    found = timeline(video)
    interval = timeline.model.config.frame_interval
    times = np.array(found["timestamps"])
    assert len(times) == len(found["frame_relevance"]) == pytest.approx(40 / interval, abs=2)
    assert times[0] < interval and 39 < times[-1] < 40 and np.allclose(np.diff(times).mean(), interval, rtol=0.05)
    windows = timeline.video_processor.read_parts(video, 8, longest=15.0, interval=interval)
    assert len(next(windows).frames) == 8
    assert timeline(video[:370])["timestamps"] is None, "a clip that is short enough has none"
    assert len(timeline(video[:380])["timestamps"]) > 8


def test_short_and_long_videos_in_one_list(timeline, clips):
    together = timeline(clips, longest_clip=2.0, batch_size=2)
    alone = [timeline(clip, longest_clip=2.0) for clip in clips]
    assert all(close(one, other) for one, other in zip(together, alone, strict=True))
    assert [len(one["timestamps"]) for one in alone] == [8, 3, 48]


def test_numbers_of_many_windows_lie_in_few_arrays(timeline, clips, monkeypatch):
    """Else they break up the memory that frames and activations take in turn, and it grows with the video."""
    seen = []
    usual = pipeline_tgdfer._together
    monkeypatch.setattr(pipeline_tgdfer, "_together", lambda parts: seen.append(usual(parts)) or seen[-1])
    expected = timeline(clips[2], longest_clip=2.0)
    assert not seen, "they are few"
    monkeypatch.setattr(pipeline_tgdfer, "_LOOSE", 3)
    assert close(timeline(clips[2], longest_clip=2.0), expected)
    assert len(seen) >= 3 and {len(parts) for parts in seen} == {3}
    for parts in seen:
        for name in parts[0]:
            assert len({id(part[name].base) for part in parts}) == 1, name
