"""A session: which frames are shown and analysed, what is kept, and when it ends."""

import gc
import logging
import threading
import weakref

import numpy as np
import pytest

from tgdfer.model_card.live.session import GRACE, SILENCE, LiveSession, Slot
from tgdfer.training.errors import UserError


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watched(expressions, clock):
    """A session with a clock that a test sets."""
    return LiveSession(expressions, None, clock)


def test_a_slot_gives_the_newest_item_once():
    slot = Slot()
    slot.put(1)
    slot.put(2)
    assert slot.take(0) == 2
    assert slot.take(0) is None


def test_who_waits_at_a_slot_is_woken_by_an_item_and_by_the_end():
    slot, taken = Slot(), []
    waiting = threading.Thread(target=lambda: taken.extend([slot.take(60), slot.take(60)]))
    waiting.start()
    slot.put("item")
    while not taken and slot._item is not None:
        pass
    slot.close()
    waiting.join(10)
    assert taken == ["item", None]
    slot.put("late")
    assert slot.take(0) is None


def test_every_frame_is_shown_and_one_in_an_interval_is_analysed(watched):
    picture = np.zeros((48, 64, 3), np.uint8)
    shown, analysed = [], []
    for number in range(30):
        watched.offer(number / 30, picture)
        shown.append(watched.frame(0))
        if taken := watched.to_analyse.take(0):
            analysed.append(taken[0])
    assert [captured for captured, _ in shown] == [number / 30 for number in range(30)]
    assert np.diff(analysed) == pytest.approx(4 / 30)  # the interval is an eighth of a second
    assert all(jpeg.startswith(b"\xff\xd8") for _, jpeg in shown)


def test_frames_are_analysed_after_the_clock_was_put_back(watched):
    picture = np.zeros((48, 64, 3), np.uint8)
    answers = []
    for captured in (5000.0, 5000.5, 4000.0, 4000.5, 5001.0):
        watched.offer(captured, picture)
        answers.append(watched.analyse(*watched.to_analyse.take(0)))
    assert [answer.captured for answer in answers] == [5000.0, 5000.5, 4000.0, 4000.5, 5001.0]
    assert (np.diff([answer.result["second"] for answer in answers]) > 0).all()
    watched.offer(5000.9, picture)  # a frame that was overtaken
    assert watched.to_analyse.take(0) is None


def test_large_frames_are_reduced_for_the_page(watched):
    import cv2

    watched.offer(0.0, np.zeros((1080, 1920, 3), np.uint8))
    _, jpeg = watched.frame(0)
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (540, 960, 3)


def test_people_get_boxes_and_answers(session, pictures):
    for number in range(0, 60, 3):
        answer = session.analyse(number / 20, pictures[number])
    assert answer.size == (480, 240) and set(answer.boxes) == {1, 2}
    labels = {person["person"]: person["candidates"][0] for person in answer.result["people"]}
    left = min(answer.boxes, key=lambda number: answer.boxes[number][0])
    assert labels.pop(left) == "surprise"  # as the example was rendered
    assert [*labels.values()] == ["happiness"]
    assert answer.calibrated and not answer.own_classes


@pytest.mark.slow
def test_no_frame_is_kept_after_it_was_shown_and_analysed(session, pictures):
    class Picture(np.ndarray):
        """An array that can be watched."""

    alive = []
    for number in range(8):
        picture = pictures[number].view(Picture)
        alive.append(weakref.ref(picture))
        session.offer(number / 8, picture)
        del picture
        session.frame(0)
        session.analyse(*session.to_analyse.take(0))
        gc.collect()
        assert [one() for one in alive] == [None] * (number + 1)


def test_a_frame_that_nobody_takes_is_replaced(watched):
    class Picture(np.ndarray):
        """An array that can be watched."""

    first = np.zeros((48, 64, 3), np.uint8).view(Picture)
    gone = weakref.ref(first)
    watched.offer(0.0, first)
    del first
    watched.offer(1.0, np.zeros((48, 64, 3), np.uint8))
    gc.collect()
    assert gone() is None


def test_a_model_of_whole_pictures_sees_the_whole_picture(watched, pictures):
    for number in range(4):
        answer = watched.analyse(number / 8, pictures[number])
    assert answer.boxes == {}
    assert [person["person"] for person in answer.result["people"]] == [None]


def test_the_source_begins_when_the_page_is_opened_and_ends_with_its_sentence(watched):
    frames = iter([(0.0, np.zeros((48, 64, 3), np.uint8))])
    source = threading.Thread(target=watched.run_source, args=(frames, "The camera has gone."))
    source.start()
    assert watched.frame(0.05) is None
    watched.new_page()
    source.join(10)
    assert watched.wait() == "The camera has gone."


def test_a_source_that_fails_gives_a_sentence(watched, caplog):
    def frames():
        yield 0.0, np.zeros((48, 64, 3), np.uint8)
        raise OSError("the cable is broken")

    watched.new_page()
    with caplog.at_level(logging.CRITICAL):
        watched.run_source(frames(), "It has ended.")
    assert watched.wait() == (
        "The video cannot be read (OSError: the cable is broken); convert it, or report this error."
    )


def test_an_analysis_that_fails_ends_the_session_with_a_sentence(watched, monkeypatch):
    monkeypatch.setattr(watched, "analyse", lambda *_: 1 / 0)
    watched.offer(0.0, np.zeros((48, 64, 3), np.uint8))
    watched.run_analysis()
    assert watched.wait().startswith("The video cannot be analysed (ZeroDivisionError")


def test_a_session_ends_when_its_page_is_silent_or_closes(watched, clock):
    clock.now += 1000
    assert not watched.is_abandoned()  # nobody has opened the page yet
    page = watched.new_page()
    clock.now += SILENCE - 1
    assert watched.hear(page) and not watched.is_abandoned()
    clock.now += SILENCE + 1
    assert watched.is_abandoned() and watched.wait() == "The page was closed."


def test_a_page_can_be_loaded_again(watched, clock):
    page = watched.new_page()
    watched.leave(page)
    clock.now += GRACE - 1
    assert not watched.is_abandoned()
    again = watched.new_page()
    watched.leave(page)  # arrives late
    clock.now += GRACE + 1
    assert watched.hear(again) and not watched.hear(page) and not watched.is_abandoned()
    watched.leave(again)
    clock.now += GRACE + 1
    assert watched.is_abandoned()


def test_own_classes_are_read_and_an_empty_text_restores_those_of_the_model(watched):
    watched.set_classes("smiling: a broad smile\nbored: half-closed eyes")
    assert watched.expressions.descriptions == {"smiling": ["a broad smile"], "bored": ["half-closed eyes"]}
    with pytest.raises(UserError, match="write 2 to 12, one in each line"):
        watched.set_classes("alone: nothing else")
    assert watched.expressions.own_classes
    watched.set_classes(" \n")
    assert not watched.expressions.own_classes


def test_only_the_first_sentence_counts(watched):
    watched.end("The video has ended.")
    watched.end("The page was closed.")
    assert watched.wait() == "The video has ended."
    watched.offer(0.0, np.zeros((48, 64, 3), np.uint8))
    assert watched.frame(0) is None
