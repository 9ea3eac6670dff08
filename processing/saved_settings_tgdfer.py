"""Validation of the settings of a video processor in a checkpoint, before they are used.

A checkpoint is not trusted. The settings in `CALLER_SETTINGS` are never read from it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from .detectors_tgdfer import DETECTORS
from .faces_tgdfer import FACE_CROPS, NO_FACE
from .frame_sampling_tgdfer import SAMPLINGS

# Settings that only the caller may set: limits for downloads, the decoder, and a path that is valid only on the
# machine that saved the checkpoint.
CALLER_SETTINGS = ("url_timeout", "url_max_bytes", "url_allow_private", "video_backend", "face_model")
# Maximum height and width in pixels. No dual encoder uses larger images, and every frame would take that much memory.
MAX_SIDE = 4096
# Maximum of all settings that count frames: `num_frames`, `stride` and `face_every`.
MAX_FRAMES = 10_000
# Maximum frame rate, which is above that of any camera.
MAX_FPS = 10_000

_Check = tuple[Callable[[Any], bool], str]


def from_checkpoint(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Validates the settings of a checkpoint, and removes those in `CALLER_SETTINGS`.

    Args:
        settings (`Mapping[str, Any]`): Contents of the `preprocessor_config.json` of a video processor or an image
            processor.

    Returns:
        `dict[str, Any]`: The settings.

    Raises:
        ValueError: If a setting has an invalid value.
    """
    kept = {name: value for name, value in settings.items() if name not in CALLER_SETTINGS}
    for name, (is_valid, expected) in _CHECKS.items():
        if (value := kept.get(name)) is not None and not is_valid(value):
            raise ValueError(
                f"The saved processor settings contain {name} {_short(value)}, but it must be {expected}; correct the "
                "preprocessor_config.json, or load another model."
            )
    return kept


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(maximum: int) -> _Check:
    def is_valid(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum

    return is_valid, f"a whole number from 1 to {maximum}"


def _is_size(value: Any) -> bool:
    sides = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    is_side, _ = _count(MAX_SIDE)
    return bool(sides) and all(is_side(side) for side in sides if side is not None)


def _numbers(lower: float) -> _Check:
    def is_valid(value: Any) -> bool:
        values = value if isinstance(value, list | tuple) else [value]
        return len(values) in (1, 3) and all(_is_number(number) and number > lower for number in values)

    return is_valid, "one or three finite numbers" + (f" above {lower:g}" if math.isfinite(lower) else "")


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
    # The numbers of the filters of Pillow.
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
