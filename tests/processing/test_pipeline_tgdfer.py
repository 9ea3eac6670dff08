"""Both pipelines, on a real model of a random CLIP."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing import detectors_tgdfer
from tgdfer.processing.faces_tgdfer import NoFaceError
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline, _join_windows
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
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return one == (other if isinstance(other, str | None) else pytest.approx(other, abs=1e-5))


def alone(result):
    """The one person of a result, who is the whole picture."""
    (person,) = result["people"]
    assert person["person"] is None and result["detector"] is None and "boxes" not in person
    return person


def test_result_for_a_clip(timeline, clip):
    assert type(timeline) is EmotionTimelinePipeline
    result = timeline(str(clip), interval=0.2)
    assert (result["duration"], result["width"], result["height"], result["cuts"]) == (1.6, 96, 64, [])
    assert result["calibrated"] is False
    found = alone(result)
    assert result["timestamps"] == found["timestamps"] == [round(number / 25, 3) for number in range(2, 40, 5)]
    assert list(found["scores"]) == list(found["frame_scores"]) == ["anger", "awe", "sadness"]
    assert found["label"] == max(found["scores"], key=found["scores"].get)
    assert found["score"] == found["scores"][found["label"]] and found["candidates"] == [found["label"]]
    assert sum(found["scores"].values()) == pytest.approx(1, abs=1e-5)
    curves = torch.tensor(list(found["frame_scores"].values()))
    assert curves.shape == (3, 8) and torch.allclose(curves.sum(0), torch.ones(8), atol=1e-5)
    assert curves.std(1).max() > 1e-4, "frames must differ, or the order of the frames is not tested"
    assert len(found["frame_relevance"]) == 8 and sum(found["frame_relevance"]) == pytest.approx(1, abs=1e-5)
    assert found["warnings"] == found["without_face"] == []
    json.dumps(result)


def test_segments_cover_the_time_in_which_a_person_is_there(timeline, clips):
    for clip in clips:
        result = timeline(clip)
        segments = alone(result)["segments"]
        assert segments[0]["start"] == 0 and segments[-1]["end"] == pytest.approx(result["duration"], abs=1e-3)
        for one, other in zip(segments, segments[1:], strict=False):
            assert one["end"] == other["start"] and one["label"] != other["label"] or one["label"] == "unsure"
        for segment in segments:
            assert len(segment["description_relevance"]) == len(DESCRIPTIONS[segment["candidates"][0]])
            assert (segment["label"] == "unsure") == (len(segment["candidates"]) == 2)


def two_faces(frame):
    """Two faces side by side, the second gone after the fourth frame; none in a view with a border."""
    if frame.shape != (64, 96, 3):
        return nobody(frame)
    landmarks = [30.0, 40, 60, 40, 45, 55, 35, 70, 55, 70]
    small = [value / 2 + (40 if index % 2 == 0 else 0) for index, value in enumerate(landmarks)]
    faces = [[20.0, 20, 50, 60, *landmarks, 0.9], [50.0, 10, 16, 25, *small, 0.9]]
    return np.array(faces if frame[0, 0, 0] < 4 else faces[:1])


def nobody(frame):
    return np.zeros((0, 15))


@pytest.fixture
def numbered(picture):
    """A clip of eight moments of 0.32 seconds, whose first pixel tells their number."""
    clip = np.repeat(picture(170)[None], 64, 0)
    clip[:, 0, 0] = (np.arange(64) // 8)[:, None]
    return clip


def test_people_of_a_clip(timeline, numbered, monkeypatch):
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: two_faces)
    faces = {"face_crop": "all", "face_detector": "yunet"}
    result = timeline(numbered, interval=0.32, thumbnails=3, **faces)
    assert result["detector"] == "yunet"
    large, small = result["people"]
    assert (large["person"], small["person"]) == (1, 2)
    assert len(large["frame_relevance"]) == len(large["boxes"]) == 8 and large["boxes"][0] == [20, 20, 70, 80]
    assert len(small["frame_relevance"]) == len(small["boxes"]) == 4
    assert large["without_face"] == [] and small["without_face"] == result["timestamps"][4:]
    assert small["segments"][-1]["end"] == pytest.approx(1.28) and large["segments"][-1]["end"] == 2.56
    assert {segment["person"] for segment in small["segments"]} == {2}
    assert large["thumbnails"].shape == (3, 96, 96, 3) and small["thumbnails"].dtype == np.uint8
    assert large["thumbnail_seconds"] == [result["timestamps"][place] for place in (1, 4, 6)]
    assert any("small" in warning for warning in small["warnings"])
    assert timeline.video_processor.face_crop == "none", "what a call asks for holds for the call"
    several = timeline([numbered, numbered], batch_size=3, interval=0.32, **faces)
    assert all(close(one["people"], [_without_pictures(person) for person in (large, small)]) for one in several)
    (largest,) = timeline(numbered, face_crop="largest", face_detector="yunet", interval=0.32)["people"]
    assert close(largest["scores"], large["scores"])


def _without_pictures(person):
    return {name: value for name, value in person.items() if not name.startswith("thumbnail")}


def test_frames_without_a_face_may_be_used_whole(timeline, numbered, monkeypatch):
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: nobody)
    options = {"face_crop": "largest", "face_detector": "yunet", "interval": 0.32}
    with pytest.raises(NoFaceError, match="has no face in any of the frames"):
        timeline(numbered, **options)
    (person,) = timeline(numbered, no_face="full_frame", **options)["people"]
    assert person["boxes"] == [None] * 8 and person["person"] is None
    assert len(person["without_face"]) == 8


def test_result_is_what_the_model_says(timeline, clip):
    batch = timeline.video_processor(clip, return_tensors="pt")
    with torch.no_grad():
        outputs = timeline.model(**batch)
    found = alone(timeline(str(clip), interval=0.2))
    assert list(found["scores"].values()) == pytest.approx(outputs.logits[0].softmax(-1).tolist(), abs=1e-5)
    best = int(outputs.logits[0].argmax())
    assert found["frame_relevance"] == pytest.approx(outputs.frame_relevance[0, :, best].tolist(), abs=1e-5)
    awe = outputs.frame_logits[0].softmax(-1)[:, 1].tolist()
    assert found["frame_scores"]["awe"] == pytest.approx(awe, abs=1e-5)
    words = outputs.description_relevance[0, :, best, : len(DESCRIPTIONS[found["label"]])]
    assert torch.allclose(torch.tensor(found["description_relevance"]).float(), words.T, atol=1e-5)


def test_a_given_processor_is_used(model_folder, timeline, clip, tmp_path):
    processor = TGDFERProcessor.from_pretrained(model_folder)
    processor.video_processor.image_mean = [0.1, 0.1, 0.1]
    expected = EmotionTimelinePipeline(timeline.model, video_processor=processor.video_processor)(str(clip))
    for model in (str(model_folder), timeline.model):
        given = pipeline("emotion-timeline", model=model, processor=processor)
        assert given.video_processor is processor.video_processor and close(given(str(clip)), expected)


def test_a_pipeline_without_a_processor_says_why(timeline, monkeypatch, tmp_path):
    monkeypatch.setattr(timeline.model, "name_or_path", "")
    with pytest.raises(ValueError, match="pass `processor` or `video_processor`"):
        pipeline("emotion-timeline", model=timeline.model)
    timeline.save_pretrained(tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text('{"num_frames": -1}')
    with pytest.raises(ValueError, match="num_frames -1, but it must be a whole number"):
        pipeline("emotion-timeline", model=str(tmp_path))


def test_frames_are_analysed_at_the_interval_however_the_processor_samples_clips(model_folder, timeline, clip):
    dense = pipeline("emotion-timeline", model=str(model_folder))
    dense.video_processor.sampling, dense.video_processor.stride = "dense", 3
    assert close(dense(str(clip)), timeline(str(clip)))


def test_calibrated_model_gives_calibrated_answers(timeline, clip, monkeypatch):
    config = timeline.model.config
    plain = alone(timeline(clip))
    best, second = sorted(plain["scores"], key=plain["scores"].get, reverse=True)[:2]
    monkeypatch.setattr(config, "temperature", 4.0)
    monkeypatch.setattr(config, "unsure_below", 0.0)
    result = timeline(clip)
    sure = alone(result)
    logits = torch.tensor(list(plain["scores"].values())).log()
    assert list(sure["scores"].values()) == pytest.approx((logits / 4).softmax(-1).tolist(), abs=1e-4)
    frames = torch.tensor(list(plain["frame_scores"].values())).log()
    calibrated = torch.tensor(list(sure["frame_scores"].values()))
    assert torch.allclose(calibrated, (frames / 4).softmax(0), atol=1e-4)
    assert sure["score"] < plain["score"] and sure["label"] == best and result["calibrated"] is True
    monkeypatch.setattr(config, "unsure_below", 0.99)
    unsure = alone(timeline(clip))
    assert (unsure["label"], unsure["candidates"]) == ("unsure", [best, second])
    assert [segment["label"] for segment in unsure["segments"]] == ["unsure"]
    same = ("frame_relevance", "description_relevance", "timestamps")
    assert all(unsure[name] == sure[name] for name in same), "they are those of the first candidate"


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_give_what_single_clips_give(batch_size, timeline, clips):
    single = [timeline(clip) for clip in clips]
    assert [len(one["timestamps"]) for one in single] == [13, 3, 48]
    batched = timeline(clips, batch_size=batch_size)
    assert len(batched) == 3 and all(close(one, other) for one, other in zip(single, batched, strict=True))


def test_frames_without_times(timeline, clips, picture, tmp_path):
    for number in range(40):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    result = timeline(str(tmp_path))
    found = alone(result)
    assert result["duration"] == 1.6 and len(found["timestamps"]) == 13
    assert found["warnings"] == ["The frames have no timestamps: 25 frames per second are assumed."]
    together = timeline([clips[0], str(tmp_path)], batch_size=2)
    assert close(result, together[1]) and close(timeline(clips[0]), together[0])


def test_a_photograph_is_a_clip_of_one_frame(timeline, picture, tmp_path):
    Image.fromarray(picture(3)).save(tmp_path / "a.png")
    result = timeline(str(tmp_path / "a.png"))
    found = alone(result)
    assert result["timestamps"] == [0.0] and found["frame_relevance"] == [1.0] and found["warnings"] == []
    assert [segment["start"] for segment in found["segments"]] == [0.0]
    assert close(timeline(Image.fromarray(picture(3))), result) and close(timeline(picture(3)), result)


def test_no_videos_have_no_results(timeline, clip):
    assert timeline([]) == []
    with pytest.raises(ValueError, match="interval must be above 0"):
        timeline(clip, interval=0)


def test_num_frames_interval_and_generators(timeline, clips):
    assert len(timeline(clips[0], interval=0.5)["timestamps"]) == 8, "as many as a window has"
    assert len(timeline(clips[0], interval=0.5, num_frames=2)["timestamps"]) == 4
    assert [len(one["timestamps"]) for one in timeline((clip for clip in clips), interval=9, num_frames=2)] == [2] * 3
    with pytest.raises(ValueError, match="does not exist"):
        timeline("missing.mp4")
    with pytest.raises(ValueError, match="interval must be above 0"):
        timeline(clips[0], interval=-1)


def test_video_classification_pipeline_agrees(model_folder, timeline, clips):
    classify = pipeline("video-classification", model=str(model_folder))
    for clip in clips:
        scores = {one["label"]: one["score"] for one in classify(clip)}
        expected = alone(timeline(clip, interval=9))["scores"]
        assert close(scores, expected) and scores.keys() == expected.keys()


def test_video_classification_pipeline_crops_faces_as_the_processor_says(model_folder, numbered, monkeypatch):
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: two_faces)
    classify = pipeline("video-classification", model=str(model_folder))
    classify.video_processor.face_crop, classify.video_processor.face_detector = "largest", "yunet"
    timeline = pipeline("emotion-timeline", model=str(model_folder))
    expected = timeline(numbered, face_crop="largest", face_detector="yunet", interval=0.04)["people"][0]["scores"]
    batch = classify.video_processor(numbered, return_tensors="pt")
    with torch.no_grad():
        scores = classify.model(**batch).logits[0].softmax(-1).tolist()
    assert list(expected.values()) == pytest.approx(scores, abs=1e-4)


def test_half_precision_keeps_the_times(model_folder, clip):
    timeline = pipeline("emotion-timeline", model=str(model_folder), dtype=torch.bfloat16)
    times = timeline(str(clip), interval=0.2)["timestamps"]
    assert times == [round(number / 25, 3) for number in range(2, 40, 5)]


def test_saving_keeps_the_video_processor(timeline, clip, tmp_path):
    timeline.save_pretrained(tmp_path)
    assert {"pipeline_tgdfer.py", "segments_tgdfer.py"} <= {file.name for file in tmp_path.iterdir()}
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["custom_pipelines"]["emotion-timeline"]["impl"] == "pipeline_tgdfer.EmotionTimelinePipeline"
    again = EmotionTimelinePipeline(
        TGDFERForVideoClassification.from_pretrained(tmp_path),
        video_processor=TGDFERVideoProcessor.from_pretrained(tmp_path),
    )
    assert close(again(str(clip)), timeline(str(clip)))


@pytest.mark.slow  # it starts another Python; `test_hub.py` loads a timeline from a Hub
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
        print(json.dumps([timeline(clips, batch_size=2, interval=9.0), classify(clips[0])]))
    """)
    environment = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", script, str(tmp_path / "model"), *clips]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    timelines, classes = json.loads(done.stdout.splitlines()[-1])
    expected = timeline(clips, interval=9.0)
    assert all(close(one, other) for one, other in zip(timelines, expected, strict=True))
    assert close({one["label"]: one["score"] for one in classes}, alone(timelines[0])["scores"])


def test_windows_of_a_long_video_are_joined(timeline, clips):
    told = []
    result = timeline(clips[2], longest_clip=2.0, progress=told.append)
    assert told[-1] == 1 and told == sorted(told)
    slow = alone(result)
    times = np.array(slow["timestamps"])
    assert len(times) == len(slow["frame_relevance"]) == 48 and (np.diff(times) > 0.09).all()
    assert times[0] < 0.2 and times[-1] > 5.8
    assert sum(slow["frame_relevance"]) == pytest.approx(1) and sum(slow["scores"].values()) == pytest.approx(1)
    curves = np.array(list(slow["frame_scores"].values()))
    assert curves.shape == (3, 48) and np.allclose(curves.sum(0), 1, atol=1e-5)
    assert close(result, timeline(clips[2], longest_clip=2.0, batch_size=3))
    # Each window by itself says what the long video has at its place, where it is in no other.
    recording = timeline.video_processor.read_recording(clips[2], timeline.model.config.frame_interval, 8)
    frames = next(iter(recording.chunks)).frames[:8]
    batch = timeline.video_processor([frames], timestamps=[recording.seconds[:8]], num_frames=8, return_tensors="pt")
    with torch.no_grad():
        said = timeline.model(**batch).frame_logits[0].softmax(-1)[:4]
    assert np.allclose(curves[:, :4].T, said, atol=1e-5)


def test_a_clip_is_answered_as_one_bag_however_many_windows_it_has(timeline, clips):
    short = alone(timeline(clips[2]))
    long = alone(timeline(clips[2], longest_clip=2.0))
    assert close(short["frame_scores"], long["frame_scores"])
    assert not close(short["scores"], long["scores"])


def test_windows_count_by_their_frames_and_by_what_they_say_of_a_class():
    def said(count, first, relevance):
        return {
            "scores": np.array([first, 1 - first]),
            "frame_scores": np.tile([first, 1 - first], (count, 1)),
            "relevance": np.tile(np.array(relevance)[:, None], (1, 2)),
            "descriptions": np.full((count, 2, 1), first),
        }

    one, other = said(4, 0.2, [0.1, 0.2, 0.3, 0.4]), said(4, 0.6, [0.5, 0.5, 0, 0])
    joined = _join_windows([one, other], [np.arange(4), np.arange(2, 6)], 6)
    assert joined["frame_scores"][:, 0] == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.6, 0.6])
    assert joined["scores"] == pytest.approx([0.4, 0.6])
    expected = np.array([0.4 * 0.2, 0.8 * 0.2, (1.2 * 0.2 + 2 * 0.6) / 2, (1.6 * 0.2 + 2 * 0.6) / 2, 0, 0])
    assert joined["relevance"][:, 0] == pytest.approx(expected / expected.sum())
    joined = _join_windows([said(6, 1.0, [1 / 6] * 6), said(2, 0.0, [0.5, 0.5])], [np.arange(6), np.arange(6, 8)], 8)
    assert joined["scores"] == pytest.approx([0.75, 0.25]), "a short window counts for less"
    assert joined["relevance"][:, 0] == pytest.approx([1 / 6] * 6 + [0, 0])


def test_nothing_is_said_over_a_cut_or_a_gap(timeline, numbered, monkeypatch):
    """A face that is away for a while leaves a gap between its segments, and a cut makes another person."""

    def away(frame):
        return nobody(frame) if 3 <= frame[0, 0, 1] < 10 else two_faces(frame)[:1]

    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: away)
    clip = np.repeat(numbered[:1], 16 * 8, 0)
    clip[:, 0, 0, 1] = np.arange(len(clip)) // 8
    clip[12 * 8 :, 1:] = 255 - clip[12 * 8 :, 1:]
    result = timeline(clip, face_crop="all", face_detector="yunet", interval=0.32)
    assert result["cuts"] == [12 * 0.32]
    first, second = sorted(result["people"], key=lambda person: person["person"])
    assert first["without_face"] == result["timestamps"][3:10], "not those of another shot"
    edges = [(segment["start"], segment["end"]) for segment in first["segments"]]
    assert edges[0][0] == 0 and edges[-1][1] == second["segments"][0]["start"] == result["cuts"][0]
    assert {0.96} <= {end for _, end in edges} and {3.2} <= {start for start, _ in edges}
    assert all(end <= 0.96 or start >= 3.2 for start, end in edges)


@pytest.mark.parametrize("option", ["intervall", "top_k", "sampling"])
def test_unknown_options_are_refused(timeline, clip, option):
    with pytest.raises(TypeError, match=f"has no option '{option}'; its options are num_frames, interval"):
        timeline(clip, **{option: 1})


def test_each_of_several_labels_has_a_probability_of_its_own(timeline, clip, monkeypatch):
    monkeypatch.setattr(timeline.model.config, "problem_type", "multi_label_classification")
    with torch.no_grad():
        logits = timeline.model(**timeline.video_processor([clip], return_tensors="pt")).logits[0]
    scores = timeline(clip)["people"][0]["scores"]
    assert list(scores.values()) == pytest.approx(logits.sigmoid().tolist(), abs=0.05)
    assert sum(scores.values()) != pytest.approx(1, abs=1e-3)
