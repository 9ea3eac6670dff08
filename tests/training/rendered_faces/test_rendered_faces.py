"""Rendered faces in time: what happens when, what is known about it, and what reaches the disk."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from zlib import crc32

import av
import numpy as np
import pytest
import typer
from datasets import Video, load_dataset
from typer.testing import CliRunner

from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    EMOTIONS,
    INDEX,
    PROTOTYPES,
    Course,
    Identity,
    RenderedFaces,
    apex,
    contact_sheet,
    film_strip,
    sample_clip,
    sample_course,
    sample_long_clip,
    sample_long_course,
    sample_person,
    write_dataset,
    write_long_videos,
)
from tgdfer.training.rendered_faces.__main__ import main
from tgdfer.training.rendered_faces.lookalikes import LOOKALIKES

FACES = RenderedFaces()
# Small and quick to draw, where the picture does not matter.
SMALL = RenderedFaces(size=48, supersampling=1, frames=(16, 24))


@pytest.fixture(scope="module")
def courses() -> dict[str, list[Course]]:
    return {
        label: [sample_course(label, FACES, np.random.default_rng([n, i])) for n in range(400)]
        for i, label in enumerate(PROTOTYPES)
    }


def quiet(frames: tuple[int, int] = (60, 96), **options) -> RenderedFaces:
    """Nothing but the emotion, or what looks like one."""
    return RenderedFaces(movements=(0, 0), blinks=0, speech=0, frames=frames, **options)


# What the labels mean ------------------------------------------------------------------------------------------------


def test_contempt_comes_on_request_only():
    assert EMOTIONS == ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert set(PROTOTYPES) - set(EMOTIONS) == {"contempt"}


def test_apex_varies_within_its_prototype():
    rng = np.random.default_rng(0)
    for label in PROTOTYPES:
        allowed = {name for variant in PROTOTYPES[label] for name in variant}
        units = np.stack([apex(label, rng) for _ in range(20)])
        assert {name for i, name in enumerate(ACTION_UNITS) if units[:, i].any()} <= allowed
        assert label == "neutral" or len(np.unique(units, axis=0)) > 10


@pytest.mark.slow
def test_only_contempt_has_a_side(courses):
    sides = np.array([course.side[course.intensity.argmax()] for course in courses["contempt"]])
    assert (np.abs(sides) >= 0.7).all() and 0.3 < (sides > 0).mean() < 0.7
    assert not any(course.side[course.intensity == 0].any() for course in courses["contempt"])
    assert not any(course.side.any() for label in EMOTIONS for course in courses[label])


# Time ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", PROTOTYPES)
def test_the_course_of_a_clip(courses, label):
    shares = []
    for course in courses[label]:
        frames = len(course.intensity)
        assert FACES.frames[0] <= frames <= FACES.frames[1]
        assert course.action_units.shape == (frames, len(ACTION_UNITS)) and len(course.poses) == frames
        assert course.action_units.min() >= 0 and course.action_units.max() <= 1
        strong = course.intensity >= 0.5
        seconds = (np.arange(frames) + 0.5) / FACES.fps
        told = np.zeros(frames, bool)
        for segment in course.segments:
            assert segment.label == label
            told |= (seconds > segment.start) & (seconds < segment.end)
        assert (told == strong).all(), "segments and intensities tell the same"
        if label == "neutral":
            assert not course.intensity.any() and course.lookalike in LOOKALIKES
            assert course.action_units.max() > 0.2, "neutral clips move too"
            continue
        assert course.intensity.max() == pytest.approx(1)
        shares.append(strong.mean())
        assert course.action_units[strong].max() > 0.3
    if label != "neutral":
        assert min(shares) > 0.1 and max(shares) < 0.65 and np.ptp(shares) > 0.35
        for end in (0, -1):
            assert 0.25 < np.mean([course.intensity[end] >= 0.5 for course in courses[label]]) < 0.5


def random_precision(frames: int, found: int) -> float:
    """Expected average precision of a random order (Bestgen, 2015, "Exact expected average precision")."""
    share = (found - 1) / (frames - 1)
    return share + (1 - share) * np.mean(1 / np.arange(1, frames + 1))


def precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of frames (T,) ranked by scores (T,)."""
    hits = positive[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def position_gains(intensities: list[np.ndarray], sampled: int | None) -> dict[str, float]:
    """By how much fixed orders of the positions beat a random one in frame AP."""
    half, grid = len(intensities) // 2, np.linspace(0, 1, 20)
    usual = np.mean([np.interp(grid, np.linspace(0, 1, len(i)), i) for i in intensities[:half]], axis=0)
    gains: dict[str, list[float]] = {}
    for intensity in intensities[half:]:
        if sampled:
            intensity = intensity[((np.arange(sampled) + 0.5) * len(intensity) / sampled).astype(int)]
        positive = intensity >= 0.5
        x = np.linspace(-1, 1, len(intensity))
        ranks = {
            "first": -x,
            "last": x,
            "middle": -abs(x),
            "edges": abs(x),
            "usual": np.interp(x, 2 * grid - 1, usual),
        }
        for name, scores in ranks.items():
            gain = precision(scores, positive) - random_precision(len(x), int(positive.sum()))
            gains.setdefault(name, []).append(gain)
    return {name: float(np.mean(values)) for name, values in gains.items()}


@pytest.fixture(scope="module")
def intensities() -> list[np.ndarray]:
    return [sample_course("fear", quiet(frames=(16, 96)), np.random.default_rng(n)).intensity for n in range(5000)]


@pytest.mark.slow
@pytest.mark.parametrize("sampled", [None, 16])
def test_where_the_emotion_is_cannot_be_guessed_from_the_position(intensities, sampled):
    gains = position_gains(intensities, sampled)
    assert max(gains.values()) < 0.03, gains
    # An order that does know the frames is far better, so the measure is not blind.
    assert position_gains([np.sort(i)[::-1] for i in intensities[:200]], sampled)["first"] > 0.4


def movement(course: Course) -> float:
    return float(np.abs(np.diff(course.action_units, axis=0)).sum(1).mean())


def test_neutral_clips_move_as_much_as_the_others(courses):
    moved = {label: np.mean([movement(course) for course in courses[label]]) for label in EMOTIONS}
    neutral = moved.pop("neutral")
    assert neutral == pytest.approx(np.mean(list(moved.values())), rel=0.15)
    assert all(0.72 < value / neutral < 1.33 for value in moved.values()), (neutral, moved)


def steepest(label: str, unit: str, lookalike: str, number: int = 60) -> list[float]:
    """The largest change of an action unit from one frame to the next, as a share of its largest value."""
    values = []
    for seed in range(number):
        course = sample_course(label, quiet(lookalikes=0.0), np.random.default_rng(seed))
        curve = course.action_units[:, INDEX[unit]]
        if course.lookalike == lookalike and curve.max() > 0.15:
            values.append(np.abs(np.diff(curve)).max() / curve.max())
    assert len(values) > 5
    return values


def test_a_posed_smile_comes_and_goes_faster_than_a_felt_one():
    felt, posed = steepest("happiness", "AU12", ""), steepest("neutral", "AU12", "posed smile")
    assert np.quantile(felt, 0.95) < 0.45 < min(posed)
    # In a single frame the two are alike.
    rng = np.random.default_rng(0)
    faces = quiet(strength=(0.6, 0.8))
    smiles = [sample_course("happiness", faces, rng).action_units[:, INDEX["AU12"]].max() for _ in range(40)]
    clips = [sample_course("neutral", faces, rng) for _ in range(120)]
    fakes = [c.action_units[:, INDEX["AU12"]].max() for c in clips if c.lookalike == "posed smile"]
    assert np.mean(fakes) == pytest.approx(np.mean(smiles), rel=0.15)
    eyes = [c.action_units[:, INDEX["AU06"]].max() > 0.1 for c in clips if c.lookalike == "posed smile"]
    assert 0.1 < np.mean(eyes) < 0.7, "some of them reach the eyes"


def test_lids_close_slowly_when_tired_and_fast_in_a_blink():
    tired = steepest("neutral", "AU43", "lids that close slowly")
    # They open faster than they close, but no faster than in three frames.
    assert max(tired) < 0.55
    for seed in range(30):
        faces = replace(quiet(), blinks=1.0)
        lids = sample_course("happiness", faces, np.random.default_rng(seed)).action_units[:, INDEX["AU45"]]
        edges = np.flatnonzero(np.diff(np.r_[0, lids > 0.1, 0]))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            assert lids[start:end].max() == pytest.approx(1) or start == 0 or end == len(lids)
            assert end - start <= 20, "a blink, or two of them at once"


def test_in_speech_the_mouth_closes_again_under_raised_brows():
    for seed in range(60):
        course = sample_course("neutral", quiet(), np.random.default_rng(seed))
        if course.lookalike != "brows raised in speech":
            continue
        brows, mouth = (course.action_units[:, INDEX[name]] for name in ("AU02", "AU25"))
        spoken = mouth[brows > 0.9 * brows.max()]
        assert spoken.min() < 0.35 * spoken.max()
        assert brows.max() > 0.4


def test_an_emotional_clip_holds_lookalikes_outside_of_its_emotion():
    always, never = quiet(lookalikes=1.0), quiet(lookalikes=0.0)
    seen = 0
    for seed in range(40):
        course = sample_course("disgust", always, np.random.default_rng(seed))
        assert not sample_course("disgust", never, np.random.default_rng(seed)).lookalike
        if course.lookalike == "posed smile":
            smile = course.action_units[:, INDEX["AU12"]]
            assert smile.max() > 0.15 and course.intensity[smile.argmax()] < 0.5
            seen += 1
    assert seen > 3


def test_the_camera_shakes():
    def jerk(faces: RenderedFaces) -> float:
        poses = sample_course("neutral", faces, np.random.default_rng(0)).poses
        return float(np.diff([(pose.x, pose.y) for pose in poses], axis=0, n=2).std())

    assert jerk(RenderedFaces(shake=0)) < 0.1 < 0.5 * jerk(RenderedFaces(shake=1))


# Data sets on disk ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    seen = []
    folder = write_dataset(
        tmp_path_factory.mktemp("rendered") / "faces",
        SMALL,
        clips={"train": 3, "test": 2},
        people={"train": 2, "test": 2},
        seed=3,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i + 1, 35) for i in range(35)]
    return folder


def rows(folder, split):
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text("utf-8").splitlines()]


def decode(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.slow
def test_rows_say_everything_about_every_frame(folder):
    for row in rows(folder, "train"):
        frames = decode(folder / "train" / row["file_name"])
        assert frames.shape == (len(row["intensity"]), 48, 48, 3)
        assert list(row["action_units"]) == list(ACTION_UNITS)
        assert {len(values) for values in row["action_units"].values()} == {len(frames)}
        assert row["file_name"].startswith(row["label"] + "/")
        assert list(row["resting_face"]) == ["AU01", "AU04", "AU12", "AU15", "AU17"]
        assert (row["segments"] == []) == (row["label"] == "neutral") == (not any(row["intensity"]))


def test_truth_is_aligned_with_the_encoded_frames(tmp_path):
    """A decoded frame resembles what its own row of truth draws more than what the rows beside it draw."""
    still = replace(FACES, frames=(24, 32), restlessness=0.0, shake=0.0, light_drift=0.0, occlusion=0.0)
    still = replace(still, noise=(0.0, 3.0), crf=(24, 28))
    labels = ("surprise", "neutral")
    write_dataset(tmp_path / "faces", still, {"train": 2}, {"train": 2}, seed=5, labels=labels)
    for row in rows(tmp_path / "faces", "train"):
        written = decode(tmp_path / "faces" / "train" / row["file_name"]).astype(float)
        units = np.array([row["action_units"][name] for name in ACTION_UNITS]).T
        number = int(row["file_name"][-8:-4])
        key = [5, crc32(b"train"), number, crc32(row["label"].encode())]
        clip = sample_clip(row["label"], sample_person(5, "train", number), still, np.random.default_rng(key))
        assert np.allclose(clip.course.action_units, units, atol=6e-4)
        drawn = np.stack(list(clip.draw())).astype(float)
        # Only where the face moves all the time, one frame can be told from the next.
        moved = np.abs(np.diff(units, axis=0)).sum(1)
        moving = [t for t in range(1, len(units) - 1) if min(moved[t - 1], moved[t]) > 0.2]
        found = [np.abs(drawn[t - 1 : t + 2] - written[t]).mean((1, 2, 3)).argmin() - 1 for t in moving]
        assert len(moving) >= 6 and np.mean(np.array(found) == 0) >= 0.8 and abs(np.mean(found)) < 0.2, found


def vector(person: Identity) -> np.ndarray:
    """All numbers that make up a person."""
    parts = [np.ravel(value) for field in fields(person) if not isinstance(value := getattr(person, field.name), str)]
    return np.concatenate(parts).astype(float)


def test_people_never_cross_splits(folder):
    train, test = ({row["person"] for row in rows(folder, split)} for split in ("train", "test"))
    assert len(train) == len(test) == 2 and not train & test
    people = {split: np.stack([vector(sample_person(3, split, n)) for n in range(60)]) for split in ("train", "test")}
    # Colours and lengths are drawn evenly, so one number in common would be an accident that means something.
    even = np.ptp(people["train"], axis=0) > 0
    for person in people["train"][:, even]:
        assert (np.abs(people["test"][:, even] - person) > 1e-9).mean(1).min() > 0.5
    assert (vector(sample_person(3, "train", 7)) == people["train"][7]).all(), "the same whatever else is drawn"


def test_load_dataset_reads_it(folder):
    data = load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))
    assert set(data) == {"train", "test"} and len(data["train"]) == 21 and len(data["test"]) == 14
    row = data["test"].cast_column("video", Video(decode=False))[0]
    assert row["label"] in EMOTIONS and row["person"].startswith("test-")
    assert len(row["intensity"]) == len(row["action_units"]["AU12"])
    assert row["segments"][0]["label"] == row["label"]


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(folder):
    again = write_dataset(folder.parent / "again", SMALL, clips={"test": 2}, people={"test": 2}, seed=3)
    files = sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert len(files) == 16
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes()
    other = write_dataset(folder.parent / "other", SMALL, {"test": 1}, {"test": 2}, seed=4, labels=("anger",))
    assert (other / "test/anger/0000.mp4").read_bytes() != (again / "test/anger/0000.mp4").read_bytes()


def test_a_process_that_renders_imports_no_heavy_library():
    """Each process that renders imports the renderer anew."""
    heavy = "{'torch', 'transformers', 'datasets', 'matplotlib', 'scipy'}"
    code = f"import sys, tgdfer.training.rendered_faces; assert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_other_labels_do_not_change_a_clip(folder):
    some = write_dataset(folder.parent / "some", SMALL, {"test": 1}, {"test": 2}, 3, labels=("contempt", "fear"))
    assert sorted(path.name for path in (some / "test").iterdir()) == ["contempt", "fear", "metadata.jsonl"]
    assert (some / "test/fear/0000.mp4").read_bytes() == (folder / "test/fear/0000.mp4").read_bytes()


# Long videos ---------------------------------------------------------------------------------------------------------


def test_a_long_course_holds_several_emotions_with_rests_between():
    labels = ("contempt", "happiness", "neutral", "sadness")
    shares = []
    for seed in range(20):
        course = sample_long_course(60, labels, FACES, np.random.default_rng(seed))
        assert len(course.intensity) == len(course.poses) == 60 * FACES.fps and course.label == ""
        seconds, told = np.arange(len(course.intensity)) / FACES.fps, np.zeros(len(course.intensity), bool)
        for segment, following in zip(course.segments, (*course.segments[1:], None), strict=True):
            inside = (seconds >= segment.start) & (seconds <= segment.end)
            assert course.intensity[inside].max() > 0.95 and 0.2 <= segment.end - segment.start <= 4
            assert following is None or following.start > segment.end
            told |= inside
        assert (told == (course.intensity >= 0.5)).mean() > 0.995
        assert np.abs(np.diff(course.action_units[course.intensity == 0], axis=0)).sum() > 5, "rests move too"
        shares.append(told.mean())
        assert len(course.segments) > 5
    assert {s.label for s in course.segments} <= set(labels) - {"neutral"}
    assert 0.15 < np.mean(shares) < 0.6


def test_in_a_long_course_smiles_are_felt_and_only_contempt_has_a_side():
    left = right = 0
    for seed in range(20):
        course = sample_long_course(60, ("contempt", "happiness"), FACES, np.random.default_rng(seed))
        # However soon the next one comes: a felt expression takes five frames or more, up and down.
        assert np.abs(np.diff(course.intensity)).max() < 0.35
        for segment in course.segments:
            side = course.side[round((segment.start + segment.end) / 2 * FACES.fps)]
            assert abs(side) >= 0.7 if segment.label == "contempt" else abs(side) < 0.1, segment
            left, right = left + (side < -0.5), right + (side > 0.5)
    assert min(left, right) > 10


@pytest.mark.parametrize("seconds", [2, 2.5, 3, 5])
def test_the_shortest_long_clip_still_holds_an_emotion(seconds):
    for seed in range(30):
        course = sample_long_course(seconds, EMOTIONS, FACES, np.random.default_rng(seed))
        assert course.segments and course.intensity.max() > 0.95 and course.intensity.min() < 0.5


@pytest.mark.slow
def test_long_videos_load_with_their_segments(tmp_path):
    seen = []
    folder = write_long_videos(
        tmp_path / "long",
        6,
        SMALL,
        videos={"train": 2, "test": 1},
        seed=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    data = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert len(data["train"]) == 2 and len(data["test"]) == 1
    row = data["train"].cast_column("video", Video(decode=False))[0]
    frames = decode(folder / "train" / "0000.mp4")
    assert len(frames) == len(row["intensity"]) == len(row["action_units"]["AU45"]) == 150
    assert row["label"] is None and row["person"] == "train-0000"
    assert all(0 <= segment["start"] < segment["end"] <= 6 for segment in row["segments"])
    again = write_long_videos(tmp_path / "again", 6, SMALL, videos={"test": 1}, seed=1, workers=2)
    assert (again / "test/0000.mp4").read_bytes() == (folder / "test/0000.mp4").read_bytes()


def test_frames_of_a_long_video_are_drawn_one_by_one():
    person = sample_person(0, "test", 0)
    clip = sample_long_clip(1800, EMOTIONS, person, SMALL, np.random.default_rng(0))
    frames = clip.draw()
    assert next(frames).shape == next(frames).shape == (48, 48, 3)
    assert len(clip) == 1800 * 25 and 150 < len(clip.course.segments) < 1500


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": {"train": 0}}, "'train' needs at least one clip"),
        ({"people": {"test": 0}}, "'test' needs at least one clip and one person"),
        ({"labels": ("anger", "boredom")}, "'boredom' is not an emotion of rendered faces: choose from anger"),
        ({"labels": ()}, "labels are none"),
        ({"labels": ("anger", "anger")}, "each of them once"),
        ({"faces": RenderedFaces(frames=(4, 8))}, "frames begins at 4"),
        ({"faces": RenderedFaces(frames=(40, 20))}, r"frames is \(40, 20\)"),
        ({"faces": RenderedFaces(share=(0.5, 1.0))}, "share reaches 1.0"),
        ({"faces": RenderedFaces(size=45)}, "even number of pixels"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "data", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [0, -3, 1.5, float("nan"), float("inf")])
def test_a_length_must_hold_an_emotion(tmp_path, seconds):
    with pytest.raises(ValueError, match="must be at least 2"):
        write_long_videos(tmp_path / "data", seconds)
    assert not list(tmp_path.iterdir())


def test_long_videos_need_an_emotion(tmp_path):
    with pytest.raises(ValueError, match="in addition to neutral"):
        write_long_videos(tmp_path / "data", 10, labels=("neutral",))


def test_nothing_is_left_of_a_data_set_that_failed(tmp_path):
    with pytest.raises(ValueError, match="not empty"):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        write_dataset(tmp_path / "full")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "cut", SMALL, clips={"train": 1}, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


# Pictures and the command --------------------------------------------------------------------------------------------


def test_pictures_show_what_they_say():
    sheet = contact_sheet(SMALL, people=2, labels=("anger", "contempt", "neutral"))
    assert sheet.shape == (2 * 48, 3 * 48, 3) and sheet.dtype == np.uint8
    with pytest.raises(ValueError, match="'smugness' is not an emotion"):
        contact_sheet(SMALL, labels=("smugness",))
    strip = film_strip(replace(SMALL, frames=(50, 60)), shown=4)
    assert strip.shape[1:] == (4 * 48, 3)
    plot = strip.shape[0] // 6 - 48
    # Of a smile that is felt, the black curve leaves the ground; of the posed one below it does not.
    felt, posed = (strip[i * (48 + plot) + 48 :][16 : plot - 6, :].max(-1) for i in (0, 1))
    assert (felt < 60).any() and not (posed < 60).any()


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_videos_of_a_length(command, tmp_path):
    done = command(tmp_path / "long", "--length", 2, "--clips", 1, "--test-clips", 1, "--workers", 1)
    assert done.exit_code == 0 and "2 videos" in done.output
    assert len(rows(tmp_path / "long", "test")[0]["intensity"]) == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "--clips", 0], "'train' needs at least one clip"),
        (["data", "--length", 0], "length is 0 seconds"),
        (["sheet.jpg", "--sheet"], "name a .png file"),
        (["nowhere/strip.png", "--strip"], "in a folder that exists"),
    ],
)
def test_the_command_answers_mistakes_in_one_sentence(command, tmp_path, arguments, message):
    done = command(tmp_path / arguments[0], *arguments[1:])
    assert done.exit_code == 2 and message in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())
