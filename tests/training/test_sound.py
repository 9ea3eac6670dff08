"""The sound of videos that are written from other videos, read back."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from small_recordings import flashes, tones, write_recording

from tgdfer.processing.video_reading_tgdfer import open_video, stream
from tgdfer.training.sound import Sound
from tgdfer.training.video_writing import writing


def copy(video, path: Path) -> None:
    """Writes a video again, with its sound."""
    source, seconds = open_video(video), np.zeros(0)

    def every(times, total, duration):
        nonlocal seconds
        seconds = times
        return np.arange(total)

    with Sound(source) as sound, writing(path, sound=sound) as writer:
        for number, _, frame in stream(source, every):
            writer.write(float(seconds[number]), frame.permute(1, 2, 0).numpy())


def codec_of(path: Path) -> str | None:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.codec.canonical_name if container.streams.audio else None


def payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "to", "becomes"),
    [
        ("a.mp4", "aac", 44100, "mono", "b.mp4", "aac"),
        ("a.mp4", "aac", 48000, "stereo", "b.mkv", "aac"),
        ("a.mp4", "aac", 48000, "5.1", "b.mov", "aac"),
        ("a.mov", "pcm_s16le", 44100, "stereo", "b.mp4", "aac"),
        ("a.mov", "pcm_s16le", 44100, "stereo", "b.mov", "pcm_s16le"),
        ("a.avi", "mp3", 44100, "stereo", "b.mp4", "mp3"),
        ("a.avi", "pcm_s16le", 11000, "mono", "b.mp4", "aac"),
        ("a.mkv", "flac", 48000, "stereo", "b.mov", "aac"),
        ("a.webm", "opus", 48000, "stereo", "b.mp4", "opus"),
        ("a.webm", "opus", 48000, "stereo", "b.mov", "aac"),
        ("a.ts", "aac", 44100, "stereo", "b.mp4", "aac"),
        ("a.ts", "aac", 44100, "stereo", "b.mkv", "aac"),
    ],
)
def test_sound_is_kept_in_step(
    tmp_path: Path, name: str, codec: str, rate: int, layout: str, to: str, becomes: str
) -> None:
    source = write_recording(tmp_path / name, 3.0, codec=codec, rate=rate, layout=layout)
    copy(source, tmp_path / to)
    assert codec_of(tmp_path / to) == becomes
    seen, heard = flashes(tmp_path / to), tones(tmp_path / to)
    assert len(seen) == len(heard) == 3
    apart = np.subtract(heard, seen)
    # In an AVI file the sound begins before the first picture, and is then cut off there.
    assert np.abs(apart - np.subtract(tones(source), flashes(source)))[1:].max() < 0.025
    assert np.abs(apart).max() < 0.06


def test_sound_that_the_container_takes_is_copied_byte_by_byte(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4")
    copy(source, tmp_path / "b.mkv")
    assert payloads(tmp_path / "b.mkv") == payloads(source)


@pytest.mark.parametrize("to", ["b.mp4", "b.mkv", "b.mov"])
@pytest.mark.parametrize(("sound_at", "pictures_at"), [(0.5, 0.0), (0.0, 0.7), (1.3, 1.0), (0.2, 1.5)])
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_and_pictures_that_begin_at_different_times(
    tmp_path: Path, to: str, sound_at: float, pictures_at: float, codec: str
) -> None:
    source = write_recording(tmp_path / "a.mkv", 3.0, codec=codec, sound_at=sound_at, pictures_at=pictures_at)
    copy(source, tmp_path / to)
    seen, heard = flashes(tmp_path / to), tones(tmp_path / to)
    both = [(one, other) for one in seen for other in heard if abs(one - other) < 0.5]
    assert len(both) >= 2
    assert all(abs(one - other) < 0.06 for one, other in both)


@pytest.mark.parametrize("to", ["b.mp4", "b.mkv"])
def test_copy_has_the_times_of_the_original(tmp_path: Path, to: str) -> None:
    source = write_recording(tmp_path / "a.mkv", 3.0, pictures_at=1.5)
    copy(source, tmp_path / to)
    assert np.allclose(flashes(tmp_path / to), flashes(source), atol=0.02)
    assert np.allclose(tones(tmp_path / to), tones(source), atol=0.03)


def test_sound_of_a_file_with_damaged_metadata_is_kept(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mkv", comment="caf?")
    source.write_bytes(source.read_bytes().replace(b"caf?", b"caf\xe9"))
    copy(source, tmp_path / "b.mp4")
    assert len(tones(tmp_path / "b.mp4")) == 2


def test_sound_that_lasts_longer_than_the_pictures_is_kept(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4", 1.0, sound_seconds=4.0)
    copy(source, tmp_path / "b.mp4")
    assert len(tones(tmp_path / "b.mp4")) == 4


def test_a_video_without_sound_has_none_in_its_copy(tmp_path: Path) -> None:
    copy(write_recording(tmp_path / "a.mp4", codec=None), tmp_path / "b.mp4")
    assert codec_of(tmp_path / "b.mp4") is None
    assert len(flashes(tmp_path / "b.mp4")) == 2


@pytest.mark.parametrize("wrap", [bytes, io.BytesIO])
def test_sound_of_bytes_and_file_objects(tmp_path: Path, wrap) -> None:
    source = write_recording(tmp_path / "a.mp4")
    copy(wrap(source.read_bytes()), tmp_path / "b.mp4")
    assert payloads(tmp_path / "b.mp4") == payloads(source)
    assert flashes(tmp_path / "b.mp4") == flashes(source)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le", "mp3"])
@pytest.mark.parametrize("to", ["b.mp4", "b.mkv", "b.mov"])
def test_broken_sound_never_loses_the_pictures(tmp_path: Path, codec: str, to: str) -> None:
    """The bytes of the sound become noise, and then the file is cut off."""
    source = write_recording(tmp_path / "a.mkv", 3.0, codec=codec)
    data = bytearray(source.read_bytes())
    rng = np.random.default_rng(0)
    for payload in payloads(source)[5::2]:
        at = data.find(payload) if len(payload) > 8 else -1
        if at >= 0:
            data[at : at + len(payload)] = rng.bytes(len(payload))
    (tmp_path / "noise.mkv").write_bytes(data)
    (tmp_path / "short.mkv").write_bytes(data[: len(data) * 2 // 3])
    copy(tmp_path / "noise.mkv", tmp_path / to)
    assert flashes(tmp_path / to) == flashes(source)
    copy(tmp_path / "short.mkv", tmp_path / f"short-{to}")
    assert len(flashes(tmp_path / f"short-{to}")) >= 1


def test_sound_that_fails_is_told_in_one_sentence(tmp_path: Path, monkeypatch) -> None:
    source = write_recording(tmp_path / "a.mp4")
    monkeypatch.setattr(Sound, "_inspect", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    said = []
    monkeypatch.setattr("tgdfer.training.sound.logger.warning", said.append)
    copy(source, tmp_path / "b.mp4")
    assert flashes(tmp_path / "b.mp4") == flashes(source) and codec_of(tmp_path / "b.mp4") is None
    assert said == [
        f"Copying the sound of {source} stopped before its end (Input/output error); all pictures are copied."
    ]


def test_a_copy_that_is_stopped_leaves_no_file(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "a.mp4")
    with (
        pytest.raises(KeyboardInterrupt),
        Sound(open_video(source)) as sound,
        writing(tmp_path / "b.mp4", sound=sound) as writer,
    ):
        writer.write(0.0, np.zeros((64, 64, 3), np.uint8))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
