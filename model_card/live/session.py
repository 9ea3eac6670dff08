"""A live session: frames go in, and what the page shows comes out. At most the newest frame is kept."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from tgdfer.model_card.live.expressions import Expressions
from tgdfer.model_card.live.following import FaceFollower, FoundFace
from tgdfer.model_card.live.sources import Frame
from tgdfer.model_card.space.clips import encode_jpeg, read_classes
from tgdfer.processing.faces_tgdfer import align
from tgdfer.training.errors import unexpected_error_message

logger = logging.getLogger(__name__)

# Number of people whose expressions are predicted, the largest faces first.
MAX_PEOPLE = 4
# Larger side in pixels of a frame that is sent to the page.
SHOWN_SIDE = 960
# Seconds without a request after which the page counts as closed, and after it has said that it closes. A page that is
# loaded again closes as well.
SILENCE, GRACE = 10.0, 3.0
# A frame that is so many seconds older than the one before shows that the clock of the system was put back.
PUT_BACK = 1.0

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds the newest of several items for one reader. An item is gone once it is taken or a newer one comes."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._is_closed = False

    def put(self, item: T) -> None:
        """Replaces the item."""
        with self._condition:
            if not self._is_closed:
                self._item = item
                self._condition.notify_all()

    def take(self, timeout: float) -> T | None:
        """Waits for an item and removes it. Returns None after `timeout` seconds, or if the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._is_closed, timeout)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Drops the item, and wakes everybody who waits."""
        with self._condition:
            self._item, self._is_closed = None, True
            self._condition.notify_all()


@dataclass(frozen=True)
class Answer:
    """What was found in a frame.

    Attributes:
        captured (`float`): Time at which the frame was captured, in seconds since the epoch.
        size (`tuple[int, int]`): Width and height of the frame in pixels.
        boxes (`Mapping[int, np.ndarray]`): Left, top, right and bottom in pixels of each face, by the number of the
            person.
        result (`Mapping[str, Any]`): Output of `Expressions.result`.
        own_classes (`bool`): Whether the classes are those that somebody has typed.
        calibrated (`bool`): Whether the probabilities estimate how often answers are right.
    """

    captured: float
    size: tuple[int, int]
    boxes: Mapping[int, np.ndarray]
    result: Mapping[str, Any]
    own_classes: bool
    calibrated: bool


class LiveSession:
    """Analyses frames as they arrive, and leaves out those for which there is no time.

    Args:
        expressions (`Expressions`): Predicts the expressions.
        follower (`FaceFollower`, *optional*): Finds the faces. None analyses whole frames, for a model that was
            trained on them.
        clock (`Callable[[], float]`, *optional*, defaults to `time.monotonic`): Measures how long the page is silent.
    """

    def __init__(
        self,
        expressions: Expressions,
        follower: FaceFollower | None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.expressions, self.follower, self.clock = expressions, follower, clock
        config = expressions.network.config
        self.interval = float(config.frame_interval)
        self.to_show: Slot[Frame] = Slot()
        self.to_analyse: Slot[Frame] = Slot()
        self.answers: Slot[Answer] = Slot()
        self.opened, self.ended = threading.Event(), threading.Event()
        self.sentence = ""
        self._lock = threading.Lock()
        self._last = self._second = -np.inf
        self._shift = 0.0
        self._heard: float | None = None
        self._left: float | None = None
        self._page = 0

    # Frames and answers

    def offer(self, captured: float, picture: np.ndarray, shown: bool = True) -> None:
        """Gives the next frame to the page and to the analysis.

        Args:
            captured (`float`): Time in seconds since the epoch.
            picture (`np.ndarray` of shape `(H, W, 3)`): RGB frame, uint8.
            shown (`bool`, *optional*, defaults to `True`): Whether the page has to be given the frame. It shows its
                own camera itself.
        """
        if shown:
            self.to_show.put((captured, picture))
        step = captured - self._last
        # A frame that comes a little early is used, as the times of frames vary. So is one after the clock of the
        # system was put back. A frame that is only late is left out.
        if step >= 0.9 * self.interval or step < -PUT_BACK:
            self._last = captured
            self.to_analyse.put((captured, picture))

    def frame(self, timeout: float) -> tuple[float, bytes] | None:
        """Waits for the next frame for the page, and returns its time and the JPEG. None if there is none in time."""
        taken = self.to_show.take(timeout)
        return None if taken is None else (taken[0], encode_jpeg(taken[1], SHOWN_SIDE))

    def run_source(self, frames: Iterable[Frame], sentence: str) -> None:
        """Offers all frames of a source once a page is open, and ends the session when there are no more.

        Args:
            frames (`Iterable[Frame]`): The source.
            sentence (`str`): Says that the source has ended.
        """
        self.opened.wait()
        try:
            for captured, picture in frames:
                if self.ended.is_set():
                    return
                self.offer(captured, picture)
        except Exception as error:
            logger.exception("The frames could not be read.")
            sentence = unexpected_error_message("The video", "read", error)
        self.end(sentence)

    def run_analysis(self) -> None:
        """Analyses frames until the session ends."""
        while not self.ended.is_set():
            taken = self.to_analyse.take(1.0)
            if taken is None:
                continue
            try:
                self.answers.put(self.analyse(*taken))
            except Exception as error:
                logger.exception("A frame could not be analysed.")
                self.end(unexpected_error_message("The video", "analysed", error))

    def analyse(self, captured: float, picture: np.ndarray) -> Answer:
        """Finds the faces in a frame, and predicts the windows that end with them."""
        second = self._later(captured)
        boxes: dict[int, np.ndarray] = {}
        crops: dict[int | None, torch.Tensor] = {}
        if self.follower is None:
            crops[None] = _tensor(picture)
        else:
            faces = self.follower.add(picture, second)[:MAX_PEOPLE]
            boxes = {face.person: face.box for face in faces}
            crops = {face.person: self._crop(picture, face) for face in faces}
        self.expressions.add(second, crops)
        result = self.expressions.result()
        size = (picture.shape[1], picture.shape[0])
        return Answer(captured, size, boxes, result, result["own_classes"], result["calibrated"])

    def _later(self, captured: float) -> float:
        """Returns the time of an analysed frame on a clock that, unlike that of the system, is never put back."""
        if captured + self._shift <= self._second:
            self._shift = self._second + self.interval - captured
        self._second = captured + self._shift
        return self._second

    def _crop(self, picture: np.ndarray, face: FoundFace) -> torch.Tensor:
        settings = self.expressions.processor.video_processor
        return _tensor(align(picture, face.points, settings.face_size, settings.face_margin))

    def set_classes(self, text: str) -> None:
        """Replaces the classes by those in a text, as `read_classes` reads it. An empty text restores the model's.

        Raises:
            UserError: If the classes cannot be used. Those before remain.
        """
        with self._lock:
            if text.strip():
                self.expressions.set_classes(read_classes(text))
            else:
                self.expressions.forget_classes()

    # The page, and the end

    def new_page(self) -> int:
        """Returns the number of a page that is being opened. It replaces earlier ones, which then get no answers."""
        with self._lock:
            self._page += 1
            self._heard, self._left = self.clock(), None
            self.opened.set()
            return self._page

    def hear(self, page: int) -> bool:
        """Notes a request of a page. Returns whether it is the newest page."""
        with self._lock:
            if page != self._page:
                return False
            self._heard = self.clock()
            return True

    def leave(self, page: int) -> None:
        """Notes that a page closes."""
        with self._lock:
            if page == self._page:
                self._left = self.clock()

    def is_abandoned(self) -> bool:
        """Whether a page was opened, and is not open any more."""
        with self._lock:
            if self._heard is None:
                return False
            now = self.clock()
            return now - self._heard > SILENCE or (self._left is not None and now - self._left > GRACE)

    def wait(self) -> str:
        """Waits until the session ends, and returns the sentence that says why."""
        while not self.ended.wait(0.25):
            if self.is_abandoned():
                self.end("The page was closed.")
        return self.sentence

    def end(self, sentence: str) -> None:
        """Ends the session. Only the first sentence counts."""
        with self._lock:
            if not self.ended.is_set():
                self.sentence = sentence
                self.ended.set()
                self.opened.set()  # nobody waits for a page any more
        for slot in (self.to_show, self.to_analyse, self.answers):
            slot.close()


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)
