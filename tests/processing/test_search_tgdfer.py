"""Scores that can be compared between phrases, and the moments with the best ones."""

import json

import numpy as np
import pytest
import torch

from tgdfer.processing.search_tgdfer import (
    OWN_SECONDS,
    OWN_SHARE,
    FaceIndex,
    SearchReference,
    rank_moments,
    score_index,
    search_indexes,
)

D = 16


def frames_of(count: int, seed: int = 0) -> torch.Tensor:
    """Frames around a common direction, with more variance in some directions than in others."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, D, generator=generator) * torch.linspace(0.1, 2, D) + 3


def index_of(scores, people=None, step: float = 0.2, starts=None, embeddings=None) -> FaceIndex:
    """The index of frames that are a step apart. The time of a frame is in the middle of its span."""
    count = len(scores)
    starts = np.arange(count) * step if starts is None else np.asarray(starts, float)
    return FaceIndex(
        embeddings=np.zeros((count, D), np.float16) if embeddings is None else embeddings,
        spans=np.stack([starts, starts + step], 1).astype(np.float32),
        seconds=(starts + step / 2).astype(np.float32),
        frames=np.arange(count, dtype=np.int32) * 5,
        people=np.asarray([1] * count if people is None else people, np.int32),
        boxes=np.full((count, 4), np.nan, np.float16),
        duration=count * step,
    )


def moments(scores, **options):
    limits = {name: options.pop(name) for name in ("min_score", "limit") if name in options}
    found = rank_moments(np.asarray(scores, np.float32), index_of(scores, **options), **{"min_score": 1.0, **limits})
    return [(one["score"], one["start"], one["end"], one["person"]) for one in found]


# Scores


def test_scores_of_every_phrase_have_mean_0_and_deviation_1_over_the_reference():
    frames, phrases = frames_of(4000), torch.randn(5, D)
    scores = SearchReference.fit(frames).scores(frames, phrases)
    assert scores.mean(0).abs().max() < 1e-4
    assert scores.std(0).sub(1).abs().max() < 0.01


def test_few_components_are_enough_if_the_rest_varies_equally(monkeypatch):
    monkeypatch.setattr("tgdfer.processing.search_tgdfer.MAX_COMPONENTS", 3)
    frames = torch.randn(20_000, D) * 0.3
    frames[:, :3] *= 5
    reference = SearchReference.fit(frames)
    assert reference.components.shape == (3, D)
    scores = reference.scores(frames, torch.eye(D))
    assert scores.std(0).sub(1).abs().max() < 0.05


def test_weights_decide_what_is_usual():
    first, second = frames_of(100, 1), frames_of(100, 2) * torch.tensor([-1.0, *[1.0] * (D - 1)])
    weights = torch.cat([torch.full((100,), 1.0), torch.zeros(100)])
    alone, weighted = SearchReference.fit(first), SearchReference.fit(torch.cat([first, second]), weights)
    assert torch.allclose(alone.mean, weighted.mean, atol=1e-6) and alone.noise == pytest.approx(weighted.noise)


def test_a_phrase_ranks_frames_like_its_cosine():
    frames, phrases = frames_of(50, 3), torch.randn(2, D)
    scores = SearchReference.fit(frames_of(500)).scores(frames, phrases)
    cosines = torch.nn.functional.cosine_similarity(frames[:, None], phrases[None], dim=-1)
    assert torch.equal(scores.argsort(0), cosines.argsort(0))


def test_long_videos_are_scored_in_parts(monkeypatch):
    reference, frames, phrases = SearchReference.fit(frames_of(100)), frames_of(25, 4), torch.randn(2, D)
    whole = reference.scores(frames, phrases)
    monkeypatch.setattr("tgdfer.processing.search_tgdfer._CHUNK", 7)
    assert torch.allclose(reference.scores(frames, phrases), whole, atol=1e-5)
    assert reference.scores(frames[:0], phrases).shape == (0, 2)


def test_a_saved_reference_gives_the_same_scores_and_is_small():
    reference, frames, phrases = (
        SearchReference.fit(frames_of(500), source="noise"),
        frames_of(20, 5),
        torch.randn(3, D),
    )
    text = json.dumps(reference.to_dict())
    again = SearchReference.from_dict(json.loads(text))
    assert again.source == "noise" and len(text) < 1000
    assert torch.allclose(again.scores(frames, phrases), reference.scores(frames, phrases), atol=0.02)


@pytest.mark.parametrize(
    "change",
    [{"mean": "@"}, {"mean": ""}, {"width": 3}, {"width": 10**9}, {"noise": -1}, {"noise": "x"}, {"components": None}],
)
def test_a_damaged_reference_is_refused(change):
    values = SearchReference.fit(frames_of(100)).to_dict() | change
    with pytest.raises(ValueError, match="search reference of the processor is damaged"):
        SearchReference.from_dict(values)
    with pytest.raises(ValueError, match="damaged"):
        SearchReference.from_dict("x")


def test_a_reference_of_infinite_numbers_is_refused():
    values = SearchReference.fit(frames_of(100))
    broken = SearchReference(values.mean * float("inf"), values.components, values.noise)
    with pytest.raises(ValueError, match="damaged"):
        SearchReference.from_dict(broken.to_dict())


def test_a_reference_needs_different_frames_and_the_width_of_the_model():
    with pytest.raises(ValueError, match="at least 32 frames, but there are 31"):
        SearchReference.fit(frames_of(31))
    with pytest.raises(ValueError, match="All frames of a reference are equal"):
        SearchReference.fit(torch.ones(40, D))
    with pytest.raises(ValueError, match="has a width of 16, but the frames have 8"):
        SearchReference.fit(frames_of(40)).scores(torch.ones(2, 8), torch.ones(1, 8))


def test_part_of_the_usual_score_of_a_person_is_subtracted():
    embeddings = frames_of(150, 6).half().numpy()
    index = index_of(range(150), people=[1] * 100 + [2] * 50, embeddings=embeddings)
    reference, phrases = SearchReference.fit(frames_of(500)), torch.randn(2, D)
    plain = reference.scores(torch.from_numpy(embeddings), phrases).numpy()
    scores = score_index(index, phrases, reference)
    for rows, seconds in ((slice(100), 20.0), (slice(100, 150), 10.0)):
        share = OWN_SHARE * seconds / (seconds + OWN_SECONDS)
        assert scores[rows] == pytest.approx(plain[rows] - share * plain[rows].mean(0), abs=1e-4)


def test_a_photograph_keeps_its_score():
    index = index_of([0], step=0.0, embeddings=frames_of(1).half().numpy())
    reference, phrase = SearchReference.fit(frames_of(500)), torch.randn(1, D)
    plain = reference.scores(torch.from_numpy(index.embeddings), phrase).numpy()
    assert score_index(index, phrase, reference) == pytest.approx(plain)


# Moments


def test_a_moment_is_a_run_of_high_scores():
    assert moments([0, 1.5, 3, 2, 0, 0, 0, 1.2, 0]) == [(3.0, 0.2, 0.8, 1), (1.2, 1.4, 1.6, 1)]


def test_short_breaks_are_bridged_but_not_long_ones():
    assert moments([2, 0, 3]) == [(3.0, 0.0, 0.6, 1)]
    assert moments([2, 0, 0, 3]) == [(3.0, 0.6, 0.8, 1), (2.0, 0.0, 0.2, 1)]


def test_moments_end_with_the_person_and_at_a_gap():
    assert moments([2, 3, 4, 2], people=[1, 1, 2, 2]) == [(4.0, 0.4, 0.8, 2), (3.0, 0.0, 0.4, 1)]
    # The second person is seen before the first one.
    assert len(moments([2, 3], people=[1, 2], starts=[5.0, 0.0])) == 2
    assert len(moments([2, 3], starts=[0.0, 7.0])) == 2


def test_only_the_best_moments_are_kept_and_no_match_is_an_answer():
    scores = [5, 0, 0, 3, 0, 0, 4]
    assert [one[0] for one in moments(scores, limit=2)] == [5.0, 4.0]
    assert len(moments(scores, limit=None)) == 3
    assert moments(scores, min_score=5.5) == [] == moments([])


def test_a_moment_names_the_frame_and_the_box_of_its_score():
    index = index_of([0, 0, 0], people=[0, 0, 0])
    index.boxes[1] = [1, 2, 30, 40]
    (found,) = rank_moments(np.array([1.1, 2.0, 1.3]), index, min_score=1)
    assert found == {
        "score": 2.0,
        "person": None,
        "time": 0.3,
        "frame": 5,
        "box": [1, 2, 30, 40],
        "start": 0.0,
        "end": 0.6,
    }


def test_several_videos_share_the_limit():
    one, other = (index_of(range(40), embeddings=frames_of(40, seed).half().numpy()) for seed in (7, 8))
    reference, phrase = SearchReference.fit(frames_of(500)), torch.randn(1, D)
    (both,) = search_indexes([one, other], ["a"], phrase, reference, min_score=0.5, limit=4)
    singles = [search_indexes([index], ["a"], phrase, reference, 0.5, None)[0]["moments"] for index in (one, other)]
    expected = sorted((moment["score"] for found in singles for moment in found), reverse=True)[:4]
    assert [moment["score"] for moment in both["moments"]] == expected
    assert {moment["video"] for moment in both["moments"]} == {0, 1} and both["best"]["score"] == expected[0]
    (none,) = search_indexes([one], ["a"], phrase, reference, min_score=99)
    assert none["moments"] == [] and none["best"]["score"] < 99


def test_without_a_reference_the_videos_are_compared_with_themselves():
    index = index_of(range(60), embeddings=frames_of(60, 9).half().numpy())
    (found,) = search_indexes([index], ["a"], torch.randn(1, D), None, min_score=1.0, limit=None)
    assert found["moments"]
    with pytest.raises(ValueError, match="at least 32 frames"):
        search_indexes([index_of([1, 2], embeddings=frames_of(2).half().numpy())], ["a"], torch.randn(1, D))


def test_an_index_survives_its_tensors():
    index = index_of([1, 2, 3], people=[1, 1, 2])
    again = FaceIndex.from_tensors(index.to_tensors())
    assert again.duration == index.duration and len(again) == 3
    assert all(
        np.array_equal(value, index.to_tensors()[name], equal_nan=True) for name, value in again.to_tensors().items()
    )
    for change in ({"people": None}, {"people": index.people[:2]}, {"people": index.people.astype(np.int64)}):
        tensors = {name: value for name, value in (index.to_tensors() | change).items() if value is not None}
        with pytest.raises(ValueError, match="unexpected contents"):
            FaceIndex.from_tensors(tensors)
