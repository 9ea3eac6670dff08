"""Any video in: the right frames at the right times, or one sentence that says why not."""

import io
import re
import struct
import threading
import wave
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tgdfer.processing import addresses_tgdfer, detectors_tgdfer, video_reading_tgdfer
from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.video_file_tgdfer import VideoFile
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError

from .conftest import moving_picture, numbered_picture

MIDDLES = [(2 * segment + 1) * 40 // 32 for segment in range(16)]
FORMATS = {
    "h264.mp4": {},
    "h264.mov": {},
    "h264.mkv": {},
    "h264.ts": {},
    "av1.mp4": {"codec": "libsvtav1"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "animated.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=16)


@pytest.mark.parametrize("name", FORMATS)
def test_every_container_gives_the_same_frames_at_the_same_times(name, tmp_path, reader, video_writer, numbers):
    frames, seconds = reader.read_clip(video_writer(tmp_path / name, **FORMATS[name]))
    assert (frames.dtype, tuple(frames.shape)) == (torch.uint8, (16, 3, 64, 96))
    assert seconds.dtype == torch.float32
    assert numbers(frames) == MIDDLES
    assert (seconds - torch.tensor(MIDDLES) / 25).abs().max() < 0.5 / 25


def test_webm_that_counts_no_frames(tmp_path, reader, video_writer, numbers):
    path = video_writer(tmp_path / "a.webm", codec="libvpx-vp9")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert numbers(reader.read_clip(path, num_frames=40)[0]) == list(range(40))


def test_b_frames_in_avi_have_no_times_of_their_own(tmp_path, reader, video_writer, numbers):
    path = video_writer(tmp_path / "b.avi", codec="libx264")
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps), "this file no longer shows the trouble it is written for"
    frames, seconds = reader.read_clip(path)
    assert numbers(frames) == MIDDLES
    assert torch.allclose(seconds, torch.tensor(MIDDLES) / 25)


def test_variable_frame_rate_is_sampled_by_time(tmp_path, reader, video_writer, numbers):
    # Twenty frames in the first second, then one every half second for five.
    times = [*range(0, 1000, 50), *range(1000, 6000, 500)]
    frames, seconds = reader.read_clip(video_writer(tmp_path / "a.mkv", times=times), num_frames=6)
    assert torch.allclose(seconds, torch.tensor([times[number] for number in numbers(frames)]) / 1000, atol=2e-3)
    middles = torch.arange(6) * seconds.new_tensor(1.0) + 0.5
    assert ((seconds <= middles + 0.01) & (seconds > middles - 0.51)).all()


def test_a_frame_shown_for_long_comes_once(tmp_path, reader, video_writer, numbers):
    times = [0, 40, 80, 120, 5000, 5040, 5080, 5120]
    frames, _ = reader.read_clip(video_writer(tmp_path / "a.mkv", times=times), num_frames=6)
    found = numbers(frames)
    assert len(found) == 6 and found == sorted(set(found))


def shown_by(path, a, b, c, d):
    """An mp4 file whose picture (x, y) is shown at (a x + c y, b x + d y), moved to where it can be seen."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return bytes(data)


@pytest.mark.parametrize("degrees, turns", [(90, -1), (180, 2), (270, 1)])
def test_rotation_of_phone_videos_is_undone(degrees, turns, tmp_path, reader, video_writer):
    path = video_writer(tmp_path / "a.mp4", num_frames=6)
    upright, _ = reader.read_clip(path)
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    turned, _ = reader.read_clip(shown_by(path, cos, sin, -sin, cos))
    assert torch.equal(turned, torch.rot90(upright, turns, (2, 3)))


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_mirrored_videos_are_shown_as_they_are_meant(matrix, tmp_path, reader, video_writer):
    """Left to right, upside down, and along both diagonals."""
    path = video_writer(tmp_path / "a.mp4", num_frames=3, draw=moving_picture)
    stored, _ = reader.read_clip(path)
    a, b, c, d = matrix
    y, x = np.indices(stored.shape[2:])
    across, down = a * x + c * y, b * x + d * y
    expected = torch.zeros(*stored.shape[:2], int(np.ptp(down)) + 1, int(np.ptp(across)) + 1, dtype=torch.uint8)
    expected[:, :, down - down.min(), across - across.min()] = stored
    assert torch.equal(reader.read_clip(shown_by(path, *matrix))[0], expected)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "frame_0001.jpg", "a.mpo"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_photographs_are_read_whatever_they_are_called(name, mode, tmp_path, reader):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).resize((480, 320)).convert(mode)
    picture.save(tmp_path / name, "JPEG", quality=95)
    expected = torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1).float()
    with open(tmp_path / name, "rb") as file:
        for video in (tmp_path / name, file, (tmp_path / name).read_bytes()):
            frames, _ = reader.read_clip(video)
            assert frames.shape == (1, 3, 320, 480) and (frames[0].float() - expected).abs().mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_of_a_jpeg_turns_it_as_pillow_does(orientation, tmp_path, reader):
    """Beside the matrix its frame carries the EXIF itself, which PyAV 18 has no name for."""
    image = Image.fromarray(moving_picture(0))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, subsampling=0)
    as_video, _ = reader.read_clip((tmp_path / "a.jpg").read_bytes())
    as_image, _ = reader.read_clip([tmp_path / "a.jpg"])
    assert as_video.shape == as_image.shape
    assert (as_video.float() - as_image.float()).abs().mean() < 3


def test_short_clips_give_each_frame_once(tmp_path, reader, video_writer, numbers):
    frames, seconds = reader.read_clip(video_writer(tmp_path / "a.mp4", num_frames=5))
    assert numbers(frames) == [0, 1, 2, 3, 4]
    assert torch.allclose(seconds, torch.arange(5) / 25)


def test_training_draws_a_frame_of_each_segment_by_its_generator(clip, reader, numbers):
    draws = [numbers(reader.read_clip(clip, 8, torch.Generator().manual_seed(seed))[0]) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert [number // 5 for number in draws[0]] == list(range(8))


@pytest.mark.parametrize("total", [1, 5, 16, 17, 40, 33, 1000])
def test_sampling_is_increasing_within_the_clip_and_covers_it(total):
    generator = torch.Generator().manual_seed(total)
    for draw in [None, *[generator] * 50]:
        indices = sample_indices(total, 16, generator=draw)
        assert len(indices) == min(total, 16)
        assert (np.diff(indices) > 0).all() and indices[0] >= 0 and indices[-1] < total
    if total == 17:
        drawn = {int(i) for _ in range(200) for i in sample_indices(total, 16, generator=generator)}
        assert drawn == set(range(17))


def test_bytes_file_objects_and_paths_agree(clip, reader):
    expected = reader.read_clip(clip)
    for video in (str(clip), clip.read_bytes(), io.BytesIO(clip.read_bytes())):
        for one, other in zip(reader.read_clip(video), expected, strict=True):
            assert torch.equal(one, other)
    with clip.open("rb") as file:
        assert torch.equal(reader.read_clip(file)[0], expected[0])


def test_tags_in_another_encoding(tmp_path, reader, video_writer):
    path = video_writer(tmp_path / "a.mkv", num_frames=3, tags={"title": "a plain title"})
    data = path.read_bytes()
    assert data.count(b"a plain title") == 1
    assert len(reader.read_clip(data.replace(b"a plain title", b"\xe4 plain title"))[0]) == 3


def test_urls(clip, reader, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(clip.parent))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        reader.url_allow_private = True
        assert torch.equal(reader.read_clip(f"{url}/clip.mp4")[0], reader.read_clip(clip)[0])
        with pytest.raises(VideoDecodeError, match=r"^[^\n]*missing.mp4 cannot be downloaded .*404[^\n]*\.$"):
            reader.read_clip(f"{url}/missing.mp4")
        server.shutdown()


class _Stream(io.RawIOBase):
    """A file that can be read once, from its start to its end."""

    def __init__(self, data):
        self.data, self.read_bytes = io.BytesIO(data), 0

    def readable(self):
        return True

    def seekable(self):
        return False

    def readinto(self, buffer):
        count = self.data.readinto(buffer)
        self.read_bytes += count
        return count


@pytest.fixture
def square_clip(tmp_path, video_writer, monkeypatch):
    """A video of the size of the crops, and a reader that looks whether it holds crops already."""
    monkeypatch.setattr(detectors_tgdfer, "_detector", lambda *_: lambda picture: np.empty((0, 15)))
    path = video_writer(tmp_path / "square.mp4", num_frames=8, draw=lambda number: numbered_picture(number)[:48, :48])
    return path, TGDFERVideoProcessor(num_frames=4, face_crop="largest", face_size=48, no_face="full_frame")


def test_faces_are_cut_out_of_a_stream_that_is_read_once(square_clip):
    path, reader = square_clip
    expected = reader.read_clip(path)[0]
    assert torch.equal(reader.read_clip(_Stream(path.read_bytes()))[0], expected)
    assert torch.equal(reader.read_faces(_Stream(path.read_bytes()))[0].frames, expected)
    batches = [reader(video, return_tensors="pt") for video in (path, _Stream(path.read_bytes()))]
    assert torch.equal(*(batch["pixel_values_videos"] for batch in batches))


def test_an_address_is_fetched_once_and_within_the_limits_of_the_caller(square_clip, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path, reader = square_clip
    opened = []

    def open_counted(*args, **options):
        opened.append(options)
        return VideoFile(path, **{name: value for name, value in options.items() if name == "backend"})

    monkeypatch.setattr(
        video_reading_tgdfer,
        "_opened",
        lambda file, name, **options: file if isinstance(file, VideoFile) else open_counted(**options),
    )
    url = "https://example.org/clip.mp4"
    for call in (reader.read_clip, reader.read_faces, reader):
        opened.clear()
        call(url)
        assert len(opened) == 1
    opened.clear()
    reader(url, url_max_bytes=1000, url_timeout=3)
    assert [(found["url_max_bytes"], found["url_timeout"]) for found in opened] == [(1000, 3)]


def test_urls_of_any_file_system(clip, reader):
    assert torch.equal(reader.read_clip(clip.as_uri())[0], reader.read_clip(clip)[0])


@pytest.mark.parametrize(
    ("video", "sentence"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "The video has no frames; use one with at least one frame"),
        (torch.zeros(0, 3, 8, 8), "The video has no frames"),
        ([], "The video has no frames"),
        ("", "The path of the video is empty; give the path of a file"),
    ],
)
def test_videos_of_nothing(video, sentence, reader):
    with pytest.raises(VideoDecodeError, match=sentence):
        reader.read_clip(video)


def test_arrays_lists_and_folders_agree(tmp_path, reader, picture):
    pictures = [picture(number) for number in range(20)]
    for number, one in enumerate(pictures):
        Image.fromarray(one).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    array = np.stack(pictures)
    expected = torch.from_numpy(array[[(2 * i + 1) * 20 // 16 for i in range(8)]]).permute(0, 3, 1, 2)
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    images = [Image.fromarray(one) for one in pictures]
    for video in (array, array.astype(np.float32) / 255, array.astype(np.float32), tensor, images, pictures, tmp_path):
        frames, seconds = reader.read_clip(video, num_frames=8)
        assert torch.equal(frames, expected)
        assert seconds is None


def test_truncated_files_give_what_decodes_and_warn_once(tmp_path, reader, video_writer, numbers, caplog):
    whole = video_writer(tmp_path / "whole.mp4", options={"movflags": "faststart"}).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    for _ in range(2):
        frames, seconds = reader.read_clip(path)
    found = (seconds * 25).round().long().tolist()
    assert len(found) > 0 and numbers(frames)[:2] == found[:2]
    assert [record.message.count("cut.mp4 is damaged") for record in caplog.records] == [1]


def test_bad_input_is_named_in_one_sentence(tmp_path, reader, clip):
    data = clip.read_bytes()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "moov.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "codec.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"no png")
    with wave.open(str(tmp_path / "song.wav"), "wb") as song:
        song.setnchannels(1)
        song.setsampwidth(2)
        song.setframerate(8000)
        song.writeframes(bytes(16000))
    cases = {
        "missing.mp4": "does not exist",
        "empty.mp4": "is empty",
        "text.mp4": "is not a video",
        "moov.mp4": "is truncated",
        "codec.mp4": "cannot decode; convert it",
        "song.wav": "only audio",
        "folder": "contains no frames",
        "broken": "1.png is damaged",
    }
    for name, sentence in cases.items():
        with pytest.raises(VideoDecodeError, match=sentence) as error:
            reader.read_clip(tmp_path / name)
        assert name in str(error.value) and re.fullmatch(r"[^\n]+\.", str(error.value))
    for video, sentence in {
        b"": "is empty",
        b"abc": "is not a video",
        3: "is not a video; use the path",
        "no://such": "cannot be downloaded: only URLs",
    }.items():
        with pytest.raises(VideoDecodeError, match=sentence):
            reader.read_clip(video)
    with pytest.raises(VideoDecodeError, match="empty list"):
        reader([])


class OnlyReads:
    """A file object with nothing but `read`."""

    def __init__(self, data):
        self.data = data

    def read(self):
        return self.data


def test_arrays_that_are_no_clip_are_named_in_one_sentence(reader):
    array = np.zeros((4, 20, 30, 3))
    frame, wide = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 31, 3), np.uint8)
    cases = [
        ([frame, wide], r"\(20, 30, 3\) and \(20, 31, 3\) cannot be stacked"),
        ([torch.from_numpy(frame), torch.from_numpy(wide)], r"\(20, 30, 3\) and \(20, 31, 3\) cannot be stacked"),
        ([Image.fromarray(frame), wide], "cannot be stacked"),
        (array.astype(object), "An array of object does not contain images"),
        (array.astype(str), "An array of <U32 does not contain images"),
        ([array[0].astype(object)] * 2, "An array of object does not contain images"),
        (array.astype("datetime64[s]"), "does not contain images"),
        (array.astype(complex), "of complex numbers is not an image"),
        (torch.zeros(4, 3, 20, 30, dtype=torch.complex64), "of complex numbers is not an image"),
    ]
    for video, sentence in cases:
        with pytest.raises(VideoDecodeError, match=rf"^[^\n]*{sentence}[^\n]*\.$"):
            reader.read_clip(video)
    for kind in (">u2", np.longdouble, np.float16):
        assert reader.read_clip((array + 7).astype(kind))[0].unique().tolist() == [7]
    assert reader.read_clip(torch.zeros(4, 3, 20, 30).to_sparse())[0].shape == (4, 3, 20, 30)


def test_file_objects_that_cannot_be_read_are_named_in_one_sentence(tmp_path, reader, clip):
    (tmp_path / "a.mp4").write_bytes(b"abc")
    closed = (tmp_path / "a.mp4").open("rb")
    closed.close()
    with (tmp_path / "a.mp4").open() as text, (tmp_path / "b.mp4").open("wb") as writing:
        for video, sentence in [
            (text, r'a\.mp4 returns str instead of bytes; open it in binary mode, "rb"'),
            (writing, r"b\.mp4 cannot be read \([^)]+\); open it for reading"),
            (closed, r"a\.mp4 cannot be read \([^)]+\); open it for reading and leave it open"),
            (io.StringIO("abc"), "returns str instead of bytes"),
            (OnlyReads("abc"), "returns str instead of bytes"),
            ({"path": 3}, "A int is not a video file"),
        ]:
            with pytest.raises(VideoDecodeError, match=rf"^[^\n]*{sentence}[^\n]*\.$"):
                reader.read_clip(video)
    assert torch.equal(reader.read_clip(OnlyReads(clip.read_bytes()))[0], reader.read_clip(clip)[0])


@pytest.mark.parametrize("fps", [0, -3, float("nan"), float("inf")])
def test_frames_are_sampled_at_a_rate_above_nothing(fps, reader, clip):
    with pytest.raises(VideoDecodeError, match=rf"^[^\n]*an fps of {fps:g}; it must be above 0\.$"):
        reader(clip, fps=fps)
    if fps:  # 0 is what those tell that do not know it.
        with pytest.raises(VideoDecodeError, match=f"metadata of a video has an fps of {fps:g}; it must be above 0"):
            reader([np.zeros((4, 20, 30, 3), np.uint8)], video_metadata=[{"total_num_frames": 4, "fps": fps}])


def test_cover_art_is_no_video(tmp_path, reader):
    path = tmp_path / "song.mp3"
    cover = io.BytesIO()
    Image.new("RGB", (16, 16)).save(cover, "PNG")
    picture = b"\0image/png\0\3\0" + cover.getvalue()
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = len(frame)
    tag = b"ID3\3\0\0" + bytes([(size >> shift) & 127 for shift in (21, 14, 7, 0)]) + frame
    silence = b"\xff\xfb\x90\xc4" + bytes(413)
    path.write_bytes(tag + silence * 20)
    with av.open(str(path)) as container:
        assert container.streams.video, "the cover is seen as a video stream"
    with pytest.raises(VideoDecodeError, match="only audio;"):
        reader.read_clip(path)


def test_no_address_is_waited_for_beyond_the_limit(monkeypatch):
    """Whatever file system it belongs to: they have limits of their own, or none."""
    answer = threading.Event()

    def never(*args):
        answer.wait()
        yield b""

    monkeypatch.setattr(addresses_tgdfer, "chunks_of", never)
    processor = TGDFERVideoProcessor(url_timeout=0.05)
    with pytest.raises(
        VideoDecodeError, match=r"hf://buckets/a/b.mp4 could not be downloaded within 0.05 s; raise `url_timeout`\."
    ):
        processor.read_clip("hf://buckets/a/b.mp4")
    answer.set()
