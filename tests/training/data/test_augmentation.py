"""Augmentation: the same for all frames of a clip, decided by a seed alone, for single clips and batches."""

import pytest
import torch
from torchvision.transforms import v2

from tgdfer.training.data.augmentation import GREY, Augmentation

OFF = {"flip": 0.0, "degrees": 0.0, "shift": 0.0, "scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0}


@pytest.fixture
def picture():
    return torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"crop": 0.6}, {"erase": 1.0}])
def test_it_is_the_same_for_all_frames_and_leaves_randomness_alone(options, picture):
    before = torch.get_rng_state()
    augment, clip = Augmentation(**options), picture.expand(5, -1, -1, -1)
    frames = augment(clip, seed=3)
    assert frames.shape == (5, 3, 24, 32) and frames.dtype == torch.uint8
    assert (frames == frames[:1]).all() and not torch.equal(frames[0], picture)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(augment(clip, seed=3), frames) and not torch.equal(augment(clip, seed=4), frames)


def test_each_clip_of_a_batch_has_a_change_of_its_own(picture):
    augment, batch = Augmentation(crop=0.8, erase=0.5), picture.expand(3, 2, -1, -1, -1)
    found = augment(batch, seed=[1, 2, 1])
    assert torch.equal(found, torch.stack([augment(batch[0], seed) for seed in (1, 2, 1)]))
    assert not torch.equal(found[0], found[1])
    for seeds in (1, [1, 2]):
        with pytest.raises(ValueError, match="A batch of 3 clips needs as many seeds"):
            augment(batch, seed=seeds)


def test_each_part_does_what_it_says(picture):
    clip = picture[None]
    plain = Augmentation(**OFF)
    assert torch.equal(plain(clip, seed=0), clip)
    assert torch.equal(Augmentation(**{**OFF, "flip": 1.0})(clip, seed=0), clip.flip(-1))
    erased = Augmentation(**OFF, erase=1.0)(clip, seed=0)
    gone = (erased != clip).any(1)[0]
    rows, columns = gone.any(1).nonzero()[:, 0], gone.any(0).nonzero()[:, 0]
    box = erased[..., rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (box == GREY).all() and 0.02 * 0.5 < box[0, 0].numel() / (24 * 32) < 0.15 * 1.5
    steep = torch.linspace(0, 255, 32).to(torch.uint8).expand(1, 3, 24, 32)
    cropped = Augmentation(**OFF, crop=0.5)(steep, seed=1)
    assert steep.float().std() > 1.1 * cropped.float().std(), "it shows a part of it, enlarged"
    darker = {Augmentation(**{**OFF, "brightness": 0.25})(clip, seed).float().mean().item() for seed in range(9)}
    assert min(darker) < picture.float().mean() < max(darker)
    muted = clip // 4 + 96
    coloured = Augmentation(**OFF, saturation=0.5)(muted, seed=1)
    grey, before = (v2.functional.rgb_to_grayscale(one).int() for one in (coloured, muted))
    assert not torch.equal(coloured, muted) and (grey - before).abs().max() <= 2, "colours change, lightness does not"


def test_what_is_off_changes_nothing_of_the_others(picture):
    """What models were trained with: additions are drawn after it, and only where they are asked for."""
    usual = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(8, (0.05, 0.05), (0.95, 1.15), interpolation=v2.InterpolationMode.BILINEAR, fill=128),
            v2.ColorJitter(brightness=0.25, contrast=0.25),
        ]
    )
    for seed in range(6):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = usual(picture[None])
        assert torch.equal(Augmentation()(picture[None], seed), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_sees_the_same_change(picture):
    augment, clip = Augmentation(crop=0.8, erase=0.5), picture.expand(4, -1, -1, -1)
    found = augment(clip.cuda(), seed=5)
    assert found.is_cuda and (found.cpu().int() - augment(clip, seed=5).int()).abs().max() <= 2


def test_senseless_numbers_are_named():
    with pytest.raises(ValueError, match="The erase of an augmentation must be between 0 and 1, not 2"):
        Augmentation(erase=2)
    with pytest.raises(ValueError, match="so that part of the picture remains"):
        Augmentation(crop=0.0)
