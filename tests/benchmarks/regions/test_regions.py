"""The benchmark of pointing: its regions, its baselines and its report."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.regions.__main__ import app
from benchmarks.regions.faces import MOVEMENTS, TOLERANCE, MovedFace, changed_region, moved_faces
from benchmarks.regions.measure import CENTRE, FIXED, MODEL, OTHER_PART, OTHER_WORDS, measure, points_of
from benchmarks.regions.report import not_found
from tgdfer.modeling_tgdfer.regions_tgdfer import GRID

NAMES = [movement.name for movement in MOVEMENTS]


@pytest.fixture(scope="module")
def train() -> list[MovedFace]:
    return list(moved_faces("train", 2))


def test_movements_are_in_their_part_of_the_face(train: list[MovedFace]) -> None:
    """The brows move above the eyes, the eyes above the mouth, and the mouth above the chin."""
    heights = {
        part: np.mean([np.nonzero(one.region)[0].mean() for one in train if MOVEMENTS[one.movement].part == part])
        for part in ("brows", "eyes", "mouth", "chin and jaw")
    }
    assert sorted(heights, key=lambda part: heights[part]) == list(heights)
    assert all(0.005 < one.region.mean() < 0.15 for one in train)


def test_the_splits_show_different_people(train: list[MovedFace]) -> None:
    assert [(one.person, one.movement) for one in train] == [(n, k) for n in range(2) for k in range(len(MOVEMENTS))]
    again = next(moved_faces("train", 1))
    assert np.array_equal(again.picture, train[0].picture) and np.array_equal(again.region, train[0].region)
    assert not np.array_equal(next(moved_faces("test", 1)).picture, train[0].picture)


def test_region_and_tolerance() -> None:
    before = np.full((112, 112, 3), 90, np.uint8)
    after = before.copy()
    after[20:30, 60:70] = 200
    region = changed_region(after, before)
    rows, columns = np.nonzero(region)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((20, 29, 60, 69), abs=1.5)
    near = MovedFace(0, 0, after, region).near
    assert near[25, 69 + int(TOLERANCE * 112)] and not near[25, 69 + 3 + int(TOLERANCE * 112)]


def test_points_are_the_centres_of_places() -> None:
    relevance = np.zeros((2, GRID * GRID))
    relevance[0, 0] = relevance[1, 2 * GRID + 6] = 1.0
    assert points_of(relevance, 112).tolist() == [[8, 8], [40, 104]]


def test_measure_compares_words_and_places(train: list[MovedFace]) -> None:
    """Relevance that is perfect for every description of the brows, whatever the face shows, and never else."""
    relevance = np.zeros((len(train), len(MOVEMENTS), GRID * GRID))
    brows = [movement.part == "brows" for movement in MOVEMENTS]
    for index, face in enumerate(train):
        centres = ((np.arange(GRID) + 0.5) * 112 / GRID).astype(int)
        right = face.near[np.ix_(centres, centres)].ravel()
        relevance[index, brows] = right
        relevance[index, np.logical_not(brows)] = ~right
    pointing = measure(relevance, train, train)
    assert pointing.of_part("brows").accuracy(MODEL) == pytest.approx((1, 1, 1))
    assert pointing.of_part("eyes").accuracy(MODEL) == pytest.approx((0, 0, 0))
    assert pointing.of_part("eyes").accuracy(OTHER_PART) == pytest.approx([4 / 18] * 3)
    assert pointing.of_movement(0).accuracy(OTHER_WORDS) == pytest.approx([3 / 20] * 3)
    assert pointing.of_movement(0).accuracy(OTHER_PART) == pytest.approx((0, 0, 0))
    assert not_found(pointing) == [one.name for one in MOVEMENTS if one.part != "brows"]
    mean_near = np.mean([face.near for face in train], axis=0)
    assert pointing.accuracy(FIXED)[0] == pytest.approx(mean_near.max())
    assert pointing.accuracy(CENTRE)[0] == pytest.approx(mean_near[56, 56])
    difference = pointing.accuracy(MODEL, FIXED)
    assert difference[0] == pytest.approx(pointing.accuracy(MODEL)[0] - mean_near.max())


def test_the_order_of_the_classes_makes_no_difference(clip_folder: Path, train: list[MovedFace]) -> None:
    """A model sorts its classes, and the relevance is that of the movement nevertheless."""
    import torch

    from benchmarks.regions.measure import relevance_of, with_movements
    from tgdfer.training.config import ModelConfig
    from tgdfer.training.models import start_model

    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), ["happiness", "neutral"])
    with_movements(model, processor)
    faces = train[:2]
    found = relevance_of(model, processor, faces)
    assert found.shape == (2, len(MOVEMENTS), GRID * GRID)
    clips = [torch.from_numpy(face.picture).permute(2, 0, 1)[None] for face in faces]
    pixels = processor.video_processor(clips, num_frames=1, face_crop="none", return_tensors="pt")
    expected = model.get_region_relevance(pixels["pixel_values_videos"])[:, 0, :, 0]
    for name in ("AU01+02", "AU26"):
        np.testing.assert_array_equal(
            found[:, NAMES.index(name)], expected[:, model.config.label2id[name]].numpy(), err_msg=name
        )


@pytest.mark.slow
def test_the_command_writes_report_picture_and_figures(clip_folder: Path, tmp_path: Path) -> None:
    report, figures = tmp_path / "docs" / "regions.md", tmp_path / "regions.json"
    options = ["--model", str(clip_folder), "--people", "3", "--out", str(report), "--figures", str(figures)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    text, found = report.read_text(), json.loads(figures.read_text())
    assert f"`python -m benchmarks.regions --model {clip_folder.name} --people 3`" in text
    assert str(clip_folder.parent) not in text + figures.read_text()
    assert all(f"| {name} |" in text for name in NAMES)
    assert list(found["movements"]) == NAMES
    assert found["methods"]["fixed"][0] > found["methods"]["centre"][0]
    assert report.with_suffix(".png").stat().st_size > 10_000


def test_a_model_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--model", str(tmp_path / "nothing")])
    assert result.exit_code == 2 and "error: " in result.output and "Traceback" not in result.output
