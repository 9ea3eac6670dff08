"""When a person is in the picture."""

import numpy as np
from made_up_timelines import made_up_person, made_up_result, three_people

from tgdfer.training.figures.presence import segment_at, stretches


def spans(result: dict, number: int) -> list[tuple[float, float]]:
    person = next(one for one in result["people"] if one["person"] == number)
    return [(stretch.start, stretch.end) for stretch in stretches(result, person)]


def test_stretches_end_at_cuts_and_gaps() -> None:
    result = three_people()
    assert spans(result, 1) == [(0.0, 6.0), (6.0, 8.0), (10.0, 13.0), (13.0, 20.0)]
    assert spans(result, 2) == [(6.0, 13.0)]
    assert spans(result, 3) == [(0.0, 6.0), (13.0, 20.0)]


def test_stretches_hold_every_frame_once() -> None:
    result = three_people()
    for person in result["people"]:
        held = [index for one in stretches(result, person) for index in range(one.first, one.last + 1)]
        assert held == list(range(len(person["timestamps"])))


def test_a_stretch_begins_at_the_cut_and_not_halfway_to_the_frame_before() -> None:
    every = np.arange(0, 4, 0.5)
    person = made_up_person(1, every, [(0.0, 4.0, "fear")], every)
    result = made_up_result([person], every, 4.0, cuts=[1.9])
    assert spans(result, 1) == [(0.0, 1.9), (1.9, 4.0)]
    result = made_up_result([person], every, 4.0, cuts=[1.6])
    assert spans(result, 1) == [(0.0, 1.6), (1.6, 4.0)]


def test_a_long_time_without_sampled_frames_is_a_gap() -> None:
    every = np.r_[np.arange(0, 2, 0.5), np.arange(20, 22, 0.5)]
    person = made_up_person(1, every, [(0.0, 22.0, "fear")], every)
    found = spans(made_up_result([person], every, 22.0), 1)
    assert found == [(0.0, 2.0), (19.5, 22.0)]


def test_segment_at_a_time() -> None:
    person = three_people()["people"][0]
    said = [segment_at(person, second) for second in (0.0, 2.499, 2.5, 9.0, 19.9)]
    assert [one and one["label"] for one in said] == ["neutral", "happiness", "happiness", None, "anger"]
