"""Region relevance: how much less a frame fits a description if a place of it is hidden."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from small_backbones import make_backbone

from tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.regions_tgdfer import GRID, hide_places, region_relevance

from .conftest import LABELS, SIDE, differ
from .test_dual_encoders import KINDS, prompts_of

MASK = torch.tensor([[True] * 6, [True, False, True, True, False, False]])


@pytest.fixture(params=KINDS)
def of_any_tower(request: pytest.FixtureRequest, tmp_path: Path) -> TGDFERForVideoClassification:
    torch.manual_seed(0)
    make_backbone(request.param).save_pretrained(tmp_path)
    return TGDFERForVideoClassification.from_clip(tmp_path, prompts_of(request.param), context="none").eval()


def hidden_in_numpy(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """A picture (C, H, W) of which one place shows the means of all places, interpolated between their centres."""
    channels, height, width = picture.shape
    limits = [[side * i / GRID for i in range(GRID + 1)] for side in (height, width)]
    # The places that are averaged overlap if the side is no multiple of their number.
    rows, columns = ([(int(a), int(np.ceil(b))) for a, b in zip(ends, ends[1:], strict=False)] for ends in limits)
    means = np.array([[picture[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows])  # (G, G, C)
    centres = [(np.arange(side) + 0.5) * GRID / side - 0.5 for side in (height, width)]
    at = np.arange(GRID)
    result = picture.copy()
    for channel in range(channels):
        across = np.array([np.interp(centres[1], at, means[i, :, channel]) for i in range(GRID)])
        blurred = np.array([np.interp(centres[0], at, across[:, j]) for j in range(width)]).T
        top, bottom = int(limits[0][row]), int(limits[0][row + 1])
        left, right = int(limits[1][column]), int(limits[1][column + 1])
        result[channel, top:bottom, left:right] = blurred[top:bottom, left:right]
    return result


@torch.no_grad()
def test_equals_the_computation_in_numpy(of_any_tower: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    model = of_any_tower
    found = model.get_region_relevance(frames, MASK)
    assert found.shape == (2, 6, len(LABELS), 3, GRID * GRID) and found.dtype == torch.float32
    texts = model.tgdfer.class_texts()
    descriptions, real = texts["description_embeds"].double().numpy(), texts["description_mask"].numpy()

    def cosine(picture: np.ndarray) -> np.ndarray:
        feature = model.get_frame_features(torch.from_numpy(picture).float()[None, None])[0, 0].double().numpy()
        return descriptions @ feature / np.linalg.norm(feature) * real

    for clip, frame, row, column in ((0, 0, 0, 0), (0, 5, 3, 2), (1, 2, 6, 6), (1, 3, 1, 4)):
        picture = frames[clip, frame].double().numpy()
        expected = cosine(picture) - cosine(hidden_in_numpy(picture, row, column))
        assert np.abs(expected).max() > 1e-5  # hiding makes a difference
        place = found[clip, frame, ..., row * GRID + column].numpy()
        np.testing.assert_allclose(place, expected, atol=2e-5)


def test_masked_frames_and_padding_are_zero(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    frames[~MASK] = torch.nan
    found = model.get_region_relevance(frames, MASK)
    assert bool(found.isfinite().all())
    assert not found[~MASK].any() and not found[:, :, -1, -1].any()  # the last class has a description less
    assert bool(found[MASK][:, model.tgdfer.text_guidance.description_mask].abs().amax(-1).gt(0).all())
    assert not found.requires_grad


def test_frames_do_not_influence_each_other(model: TGDFERForVideoClassification, frames: torch.Tensor) -> None:
    together = model.get_region_relevance(frames, MASK)
    alone = model.get_region_relevance(frames[1:, 2:3])
    assert differ(together[1:, 2:3], alone) < 1e-5


def test_only_the_hidden_place_changes() -> None:
    """Places are in rows, do not overlap and cover pictures of any size."""
    pictures = torch.randn(2, 3, 31, 40, generator=torch.Generator().manual_seed(0))
    changed = torch.stack([(copy != pictures).all(1) for copy in hide_places(pictures)])  # (P, N, H, W)
    assert changed.shape == (GRID * GRID, 2, 31, 40)
    assert bool((changed.sum(0) == 1).all())
    rows, columns = (torch.arange(side) for side in (31, 40))
    centres = torch.stack(
        [torch.stack([rows[one[0].any(1)].float().mean(), columns[one[0].any(0)].float().mean()]) for one in changed]
    ).view(GRID, GRID, 2)
    assert bool((centres[1:, :, 0] > centres[:-1, :, 0]).all() and (centres[:, 1:, 1] > centres[:, :-1, 1]).all())


def test_points_to_what_the_text_says() -> None:
    """An encoder that sees the amount of red and of blue: a red spot has the evidence for "red"."""
    picture = torch.full((1, 3, 28, 28), 0.1)
    picture[:, 0, 4:8, 16:20] = 5.0  # red, in row 1 and column 4
    picture[:, 2, 20:24, 0:4] = 3.0  # blue, in row 5 and column 0
    red, blue = region_relevance(lambda x: x.mean((2, 3)), picture, torch.eye(3)[[0, 2]])[0]
    assert red.argmax() == 1 * GRID + 4 and blue.argmax() == 5 * GRID + 0
    assert red.argmin() == blue.argmax() and red.min() < 0 < red.max()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(of_any_tower: TGDFERForVideoClassification, dtype: torch.dtype, frames: torch.Tensor) -> None:
    frames[:, :, :, :8, 20:] *= 6.0  # a place that matters
    exact = of_any_tower.get_region_relevance(frames, MASK)
    half = copy.deepcopy(of_any_tower).to(dtype).get_region_relevance(frames.to(dtype), MASK)
    assert half.dtype == torch.float32
    assert differ(half, exact) < (0.03 if dtype == torch.bfloat16 else 0.005)
    pair = torch.stack([exact[MASK].flatten(), half[MASK].flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > (0.9 if dtype == torch.bfloat16 else 0.99)


def test_other_shapes_are_refused(model: TGDFERForVideoClassification) -> None:
    with pytest.raises(ValueError, match="must have the shape"):
        model.get_region_relevance(torch.zeros(2, 3, SIDE, SIDE))
