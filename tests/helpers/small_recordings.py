"""Small recordings with pictures and sound whose truth is known."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BACKGROUND = (60, 90, 60)


def write_recording(
    path: Path,
    seconds: float = 2.0,
    fps: int = 25,
    size: tuple[int, int] = (160, 240),
    codec: str | None = "aac",
    rate: int = 44100,
    layout: str = "mono",
    sound_at: float = 0.0,
    pictures_at: float = 0.0,
    sound_seconds: float | None = None,
    comment: str = "",
) -> Path:
    """A grey-green video of one colour, white in the first tenth of each second, when a tone of 880 Hz sounds.

    Args:
        path: File to write; its ending selects the container.
        seconds: Length of the video.
        fps: Frames per second.
        size: Height and width.
        codec: Codec of the sound; None writes no sound.
        rate: Samples per second.
        layout: Channels.
        sound_at: Time stamp of the first sample.
        pictures_at: Time stamp of the first frame.
        sound_seconds: Time stamp at which the sound ends, by default the end of the pictures.
        comment: Comment in the metadata of the file.
    """
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = comment
        video = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=fps, pix_fmt="yuv420p")
        video.height, video.width = size
        # Threads of libvpx wait for each other in loops that take processor time.
        video.codec_context.thread_count = 1
        # AVI has no time stamps, only numbers of frames.
        ticks = fps if path.suffix == ".avi" else 1000
        video.codec_context.time_base = Fraction(1, ticks)
        sound = container.add_stream(codec, rate=rate, layout=layout) if codec else None
        at = round(sound_at * rate)
        end = pictures_at + seconds if sound_seconds is None else sound_seconds
        for number in range(round(seconds * fps)):
            second = pictures_at + number / fps
            picture = np.full((*size, 3), 255 if second % 1 < 0.1 else BACKGROUND, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(ticks * second), Fraction(1, ticks)
            container.mux(video.encode(frame))
            until = min(end, second + 1 / fps)
            if sound and at / rate < until:
                at = _write_sound(container, sound, at, round(until * rate), rate, layout)
        if sound:
            _write_sound(container, sound, at, max(at, round(end * rate)), rate, layout)
            container.mux(sound.encode(None))
        container.mux(video.encode(None))
    return path


def _write_sound(container, stream, first: int, last: int, rate: int, layout: str) -> int:
    if last > first:
        seconds = np.arange(first, last) / rate
        tone = np.sin(2 * np.pi * 880 * seconds) * (seconds % 1 < 0.1) * 12000
        channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
        samples = np.repeat(tone.astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        container.mux(stream.encode(frame))
    return last


def flashes(path: Path, level: int = 180) -> list[float]:
    """Times at which the picture turns white, by the upper left corner."""
    found, before = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            white = frame.to_ndarray(format="gray")[:4, :4].mean() > level
            if white and not before:
                found.append(float(frame.time))
            before = white
    return found


def tones(path: Path) -> list[float]:
    """Times at which the tone begins."""
    found, last = [], -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(float))
            samples = samples / (32768 if "s16" in frame.format.name else 1)
            channels = len(frame.layout.channels)
            loud = np.flatnonzero(
                samples.reshape(-1, channels).max(1) > 0.1 if samples.shape[0] == 1 else samples.max(0) > 0.1
            )
            for place in loud:
                second = float(frame.time) + place / frame.sample_rate
                if second - last > 0.2:
                    found.append(second)
                last = second
    return found
