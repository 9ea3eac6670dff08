"""Settings of a video processor that come with a checkpoint: checked before anything is made of them.

A checkpoint may come from anybody. What is up to the caller is not taken from it: `OF_THE_CALLER`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from .detectors_tgdfer import DETECTORS
from .faces_tgdfer import FACE_CROPS, NO_FACE
from .video_reading_tgdfer import SAMPLINGS

# Limits of what is fetched, what decodes, and a path of the machine that the checkpoint was made on.
OF_THE_CALLER = ("url_timeout", "url_max_bytes", "url_allow_private", "video_backend", "face_model")
# No dual encoder sees larger pictures; each frame of each clip would be as large.
MAX_SIDE = 4096
# Frames of a clip, and from one frame of a clip to the next.
MAX_FRAMES = 10_000
# Cameras take fewer frames a second.
MAX_FPS = 10_000

_Check = tuple[Callable[[Any], bool], str]


def from_checkpoint(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a checkpoint may make.

    Raises:
        ValueError: one of them has a value that cannot be used.
    """
    kept = {name: value for name, value in settings.items() if name not in OF_THE_CALLER}
    for name, (holds, wanted) in _CHECKS.items():
        if (value := kept.get(name)) is not None and not holds(value):
            raise ValueError(
                f"The saved video processor has {name} {_short(value)}, but it must be {wanted}: correct its "
                "preprocessor_config.json, or load another model."
            )
    return kept


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(most: int) -> _Check:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

    return holds, f"a whole number from 1 to {most}"


def _is_size(value: Any) -> bool:
    sides = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    is_side, _ = _count(MAX_SIDE)
    return bool(sides) and all(is_side(side) for side in sides if side is not None)


def _numbers(least: float) -> _Check:
    def holds(value: Any) -> bool:
        values = value if isinstance(value, list | tuple) else [value]
        return len(values) in (1, 3) and all(_is_number(one) and one > least for one in values)

    return holds, "three finite numbers" + (f" above {least:g}" if math.isfinite(least) else "")


def _between(low: float, high: float) -> _Check:
    return lambda value: _is_number(value) and low < value <= high, f"a number above {low:g} and up to {high:g}"


def _one_of(known: tuple[Any, ...]) -> _Check:
    return lambda value: isinstance(value, str | int) and value in known, f"one of {', '.join(map(str, known))}"


_SIZE: _Check = (_is_size, f"a size with sides from 1 to {MAX_SIDE}")
_SWITCH: _Check = (lambda value: isinstance(value, bool), "true or false")
_SWITCHES = (
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_sample_frames"),
    "default_to_square",
)
_CHECKS: dict[str, _Check] = {
    "size": _SIZE,
    "crop_size": _SIZE,
    "image_mean": _numbers(-math.inf),
    "image_std": _numbers(0),
    "rescale_factor": _between(0, 1),
    # The filters of Pillow.
    "resample": _one_of(tuple(range(6))),
    "num_frames": _count(MAX_FRAMES),
    "stride": _count(MAX_FRAMES),
    "fps": _between(0, MAX_FPS),
    "sampling": _one_of(SAMPLINGS),
    "face_crop": _one_of(FACE_CROPS),
    "face_detector": _one_of(DETECTORS),
    "no_face": _one_of(NO_FACE),
    "face_size": _count(MAX_SIDE),
    "face_every": _count(MAX_FRAMES),
    "face_margin": _between(-0.5, 4),
    **dict.fromkeys(_SWITCHES, _SWITCH),
}
