"""What is decoded and what is not: exact frames from key frames on, odd pictures, and nothing beside the file."""

import io
import socket
import struct
import tempfile
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import av
import numpy as np
import pytest
import torch
from PIL import Image
from small_recordings import write_recording

from benchmarks.broken_files.damaged_videos import external_data, replace_in_boxes, valid_video
from tgdfer.processing import video_source_tgdfer
from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.video_file_tgdfer import VideoFile
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor, VideoDecodeError
from tgdfer.processing.video_reading_tgdfer import read, stream
from tgdfer.processing.video_source_tgdfer import MAX_PIXELS

from .conftest import moving_picture, number_of, write_video

# Whether less than everything is decoded, the codec and what its encoder is told.
ENCODINGS = {
    "plain.mp4": (True, "libx264", {"g": "12"}),
    "plain.mkv": (True, "libx264", {"g": "12"}),
    "plain.ts": (True, "libx264", {"g": "12"}),
    "plain.flv": (True, "libx264", {"g": "12"}),
    "one_key.mp4": (False, "libx264", {"g": "500"}),
    "open_group.mov": (True, "libx264", {"g": "12", "x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}),
    "open_group.ts": (True, "libx264", {"g": "12", "x264-params": "open-gop=1:bframes=3"}),
    "intra_refresh.mkv": (False, "libx264", {"x264-params": "intra-refresh=1:keyint=12"}),
    "no_times.avi": (False, "libx264", {"g": "12"}),
    "no_times.h264": (False, "libx264", {"g": "12"}),
    "hevc.mkv": (True, "libx265", {"g": "12", "x265-params": "open-gop=1:bframes=3:log-level=0"}),
    "layers.ts": (True, "libx265", {"g": "12", "x265-params": "bframes=3:temporal-layers=3:log-level=0"}),
    "vp8.webm": (True, "libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9.webm": (True, "libvpx-vp9", {"g": "12", "lag-in-frames": "16"}),
    "av1.mp4": (True, "libsvtav1", {"g": "12", "preset": "12"}),
    "mpeg4.avi": (True, "mpeg4", {"g": "12", "bf": "2"}),
    "mpeg2.ts": (True, "mpeg2video", {"g": "12", "bf": "2"}),
    "mpeg1.mpg": (False, "mpeg1video", {"g": "12"}),
    "mjpeg.mov": (True, "mjpeg", {}),
    "wmv.asf": (False, "wmv2", {"g": "12"}),
    "ffv1.mkv": (False, "ffv1", {"g": "12"}),
}


def segments(count):
    return lambda seconds, total, duration: sample_indices(total, count, seconds, duration)


@pytest.fixture
def reader():
    return TGDFERVideoProcessor(num_frames=16)


@pytest.mark.parametrize("name", ENCODINGS)
def test_frames_are_those_of_a_full_decode(name, tmp_path, monkeypatch):
    sparing, codec, encoder = ENCODINGS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, codec, 60, draw=moving_picture, encoder=encoder, pix_fmt=pix_fmt)
    decoded = []
    decode = VideoFile._decode
    monkeypatch.setattr(VideoFile, "_decode", lambda *args: [decoded.append(args[2]), decode(*args)][1])
    found = VideoFile(path).read(segments(4))
    # To the last of the sampled frames are 54.
    assert (sum(packet is not None for packet in decoded) < 45) == sparing
    with av.open(str(path)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(every) == len(found.seconds) == 60
    expected = np.stack([every[index] for index in found.indices])
    assert torch.equal(found.frames, torch.from_numpy(expected).permute(0, 3, 1, 2))


def test_key_frames_that_lie_are_found_out(tmp_path):
    # Without its table of key frames, every frame of an mp4 file claims to be one.
    data = write_video(tmp_path / "a.mp4", num_frames=60, draw=moving_picture, encoder={"g": "30"}).read_bytes()
    assert data.count(b"stss") == 1
    honest, lying = VideoFile(data).read(segments(4)), VideoFile(data.replace(b"stss", b"free")).read(segments(4))
    assert torch.equal(honest.frames, lying.frames)


def test_a_single_pass_gives_the_same_frames(tmp_path):
    for name in ("a.mp4", "no_times.avi"):
        path = write_video(tmp_path / name, num_frames=30, draw=moving_picture)
        found = VideoFile(path).read(segments(8))
        indices, seconds, frames = zip(*VideoFile(path).stream(segments(8)), strict=True)
        assert list(indices) == found.indices.tolist()
        assert list(seconds) == found.seconds[found.indices].tolist()
        assert torch.equal(torch.stack(frames), found.frames)


def test_a_single_pass_goes_on_where_key_frames_do_not_help(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", num_frames=60, draw=moving_picture, encoder={"g": "12"})
    expected = list(VideoFile(path).stream(segments(10)))
    decoded = []
    decode = VideoFile._decode

    def counted(file, stream, packet):
        decoded.append(packet)
        if len(decoded) == 40:
            file.damage = "something is wrong"
        return decode(file, stream, packet)

    monkeypatch.setattr(VideoFile, "_decode", counted)
    found = list(VideoFile(path).stream(segments(10)))
    assert len(decoded) > 60, "it was decoded again from the start"
    assert [index for index, _, _ in found] == [index for index, _, _ in expected]
    assert all(torch.equal(one[2], other[2]) for one, other in zip(found, expected, strict=True))


def test_pictures_are_resized_one_by_one_as_all_at_once(tmp_path, reader):
    path = write_video(tmp_path / "a.mp4", num_frames=30, draw=moving_picture)
    frames, seconds = reader.read_clip(path)
    for size in ({"shortest_edge": 40}, {"height": 33, "width": 57}, {"shortest_edge": 40, "longest_edge": 50}):
        settings = {"size": size, "do_center_crop": False}
        direct = reader(path, return_metadata=True, **settings)
        assert torch.equal(
            direct["pixel_values_videos"],
            reader([frames], timestamps=[seconds], **settings)["pixel_values_videos"],
        )
        metadata = direct["video_metadata"][0]
        assert (metadata.height, metadata.width) == (64, 96)


def test_other_ways_to_hand_over_a_file(clip, reader):
    expected, seconds = reader.read_clip(clip)
    with av.open(str(clip)) as container, clip.open("rb") as file, av.open(file) as from_file:
        next(container.decode(video=0))
        values = [
            {"path": str(clip), "bytes": None},
            {"path": "elsewhere.mp4", "bytes": clip.read_bytes()},
            container,
            from_file,
        ]
        next(from_file.decode(video=0))
        for value in values:
            frames, times = reader.read_clip(value)
            assert torch.equal(frames, expected) and torch.equal(times, seconds)
        for opened in (container, from_file):
            numbers = [
                number_of(torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1))
                for f in opened.decode(video=0)
            ]
            assert numbers == list(range(1, 40)), "the caller reads on where it was"
    with tempfile.TemporaryFile("w+b") as file:
        file.write(clip.read_bytes())
        assert torch.equal(reader.read_clip(file)[0], expected)
    with pytest.raises(VideoDecodeError, match="elsewhere.mp4 is empty"):
        reader.read_clip({"path": "elsewhere.mp4", "bytes": b""})
    with pytest.raises(VideoDecodeError, match='needs "path" or "bytes"'):
        reader.read_clip({"path": None, "bytes": None})


def test_lists_of_frame_files(tmp_path, reader, picture, numbers):
    files = [tmp_path / f"frame{number}.png" for number in (10, 2, 1)]
    for file in files:
        Image.fromarray(picture(int(file.stem[5:]))).save(file)
    assert numbers(reader.read_clip(files)[0]) == [1, 2, 10]
    assert numbers(reader.read_clip([str(file) for file in files])[0]) == [1, 2, 10]
    assert reader(files)["frame_mask"].sum(1).tolist() == [3]
    assert reader([files, files[:1]])["frame_mask"].sum(1).tolist() == [3, 1]
    with pytest.raises(VideoDecodeError, match="frame3.png does not exist"):
        reader.read_clip([*files, tmp_path / "frame3.png"])


def test_frames_of_cameras_and_with_alpha(tmp_path, reader):
    wide = Image.new("RGB", (40, 20), (200, 100, 0))
    exif = wide.getexif()
    exif[0x0112] = 6
    wide.save(tmp_path / "turned.png", exif=exif)
    assert reader.read_clip([tmp_path / "turned.png"])[0].shape == (1, 3, 40, 20)
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    half.paste((200, 100, 0, 255), (0, 0, 10, 20))
    half.save(tmp_path / "half.png")
    frames, _ = reader.read_clip([tmp_path / "half.png"])
    assert frames[0, :, 5, 5].tolist() == [200, 100, 0] and frames[0, :, 5, 15].tolist() == [255] * 3


@pytest.mark.parametrize("in_memory", [False, True])
def test_frames_of_several_sizes_get_that_of_the_first_wherever_reading_begins(tmp_path, in_memory):
    pictures = [Image.new("RGB", (96, 64) if number < 20 else (192, 128), (number,) * 3) for number in range(40)]
    for number, one in enumerate(pictures):
        one.save(tmp_path / f"{number}.png")
    video = pictures if in_memory else tmp_path
    sizes = {tuple(frame.shape) for _, _, frame in stream(video, lambda *_: np.arange(40))}
    late = read(video, lambda *_: np.arange(25, 35))
    assert sizes == {(3, 64, 96)} and late.frames.shape == (10, 3, 64, 96)
    assert (late.metadata.width, late.metadata.height) == (96, 64)


def test_grey_frames_of_sixteen_bits_keep_their_brightness(tmp_path, reader):
    deep = np.full((20, 30), 100 * 257, np.uint16)
    deep[:, 15:] = 65535
    for name in ("deep.png", "deep.tiff"):
        Image.fromarray(deep).save(tmp_path / name)
    for video in ([tmp_path / "deep.png"], [tmp_path / "deep.tiff"], [Image.fromarray(deep)]):
        frames, _ = reader.read_clip(video)
        assert frames.shape == (1, 3, 20, 30) and frames.dtype == torch.uint8
        assert (frames[..., :15] == 100).all() and (frames[..., 15:] == 255).all()


def test_frames_of_numbers_follow_the_rules_of_arrays(tmp_path, reader):
    half, large = np.full((20, 30), 0.5, np.float32), np.full((20, 30), 3000, np.int32)
    for name, pixels in {"half.tif": half, "grey.tif": large // 15, "large.tif": large}.items():
        Image.fromarray(pixels).save(tmp_path / name)
    for video in ([tmp_path / "half.tif"], [Image.fromarray(half)]):
        assert reader.read_clip(video)[0].unique().tolist() == [128]
    for video in ([tmp_path / "grey.tif"], [Image.fromarray(large // 15)]):
        assert reader.read_clip(video)[0].unique().tolist() == [200]
    with pytest.raises(
        VideoDecodeError, match=r"^The frame \S*large.tif of int32 from 3000 to 3000 is not an image; [^\n]+\.$"
    ):
        reader.read_clip([tmp_path / "large.tif"])
    with pytest.raises(VideoDecodeError, match="An array of int32 from 3000 to 3000"):
        reader.read_clip([Image.fromarray(large)])


def test_frames_are_opened_by_no_other_program(tmp_path, reader, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a program of the system was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", refuse)
    Image.new("RGB", (20, 20)).save(tmp_path / "frame.png", "EPS")
    with pytest.raises(VideoDecodeError, match="frame.png is damaged or not an image"):
        reader.read_clip([tmp_path / "frame.png"])
    for name in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"):
        Image.new("RGB", (20, 20)).save(tmp_path / "frame.png", name)
        assert reader.read_clip([tmp_path / "frame.png"])[0].shape == (1, 3, 20, 20)


def test_frames_of_more_pixels_than_any_camera_has_are_not_decoded(tmp_path, reader, monkeypatch):
    Image.new("L", (MAX_PIXELS // 4096 + 1, 4096)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(VideoDecodeError, match=r"^The frame \S*huge.png has 8193 x 4096 pixels, [^\n]+\.$"):
        reader.read_clip([tmp_path / "huge.png"])


def test_arrays_of_no_known_layout_are_refused(reader):
    assert reader.read_clip(np.zeros((4, 3, 20, 30), np.uint8))[0].shape == (4, 3, 20, 30)
    with pytest.raises(VideoDecodeError, match=r"An array \(4, 7, 20, 30\) is not a video"):
        reader.read_clip(np.zeros((4, 7, 20, 30), np.uint8))


def test_arrays_of_other_numbers(reader):
    deep = np.full((2, 20, 30, 3), 200, np.uint16)
    assert (reader.read_clip(deep)[0] == 200).all() and reader.read_clip(deep.astype(np.int64))[0].dtype == torch.uint8
    for reason, array in {
        "of uint16 from 800 to 800": deep * 4,
        "of int32 from -1 to 200": np.concatenate([-np.ones((1, 20, 30, 3), np.int32), deep]).astype(np.int32),
        "of bool from 1 to 1": deep > 0,
        "contains NaN or infinite values": np.full((2, 20, 30, 3), np.nan, np.float32),
        "is empty; use frames that have pixels": np.zeros((2, 0, 30, 3), np.uint8),
    }.items():
        with pytest.raises(VideoDecodeError, match=reason):
            reader.read_clip(array)


def test_a_start_time_that_is_not_zero(tmp_path, reader, numbers):
    times = list(range(7000, 8600, 40))
    path = write_video(tmp_path / "late.mkv", times=times)
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    frames, seconds = reader.read_clip(path)
    assert torch.allclose(seconds, torch.tensor([times[number] - 7000 for number in numbers(frames)]) / 1000)


@pytest.mark.parametrize("name, codec", [("late.mkv", "aac"), ("late.mp4", "aac"), ("late.webm", "opus")])
def test_pictures_that_begin_after_the_sound_have_the_times_of_players(name, codec, tmp_path, reader):
    path = write_recording(tmp_path / name, 2.0, codec=codec, rate=48000, pictures_at=1.5)
    seconds = reader.read_clip(path)[1].numpy()
    evenly = reader.read_clip(write_recording(tmp_path / f"same_{name}", 2.0, codec=codec, rate=48000))[1].numpy()
    assert np.abs(seconds - 1.5 - evenly).max() < 0.03, "the same frames, later"
    at_once = write_recording(tmp_path / f"at_once_{name}", 2.0, codec=codec, rate=48000, pictures_at=0.06)
    assert np.abs(reader.read_clip(at_once)[1].numpy() - evenly).max() < 0.001, "encoders begin the sound early"


def test_the_last_picture_is_shown_until_its_own_end(tmp_path):
    """Of reordered frames, the last packet of the file is not the last picture."""
    path = tmp_path / "reordered.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, width=96, height=64, pix_fmt="yuv420p")
        stream.options = {"bf": "3", "b-adapt": "0", "g": "250"}
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for number in range(21):
            frame = av.VideoFrame.from_ndarray(moving_picture(number), format="rgb24")
            frame.pts, frame.time_base = number * 100, Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode()]:
            packet.duration = 8000 if packet.pts == 2000 else 100
            container.mux(packet)
    assert packet.pts < 2000
    assert VideoFile(path).read(segments(4)).duration == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize("ratio, size", [(Fraction(3, 2), (64, 144)), (Fraction(1, 2), (128, 96)), (None, (64, 96))])
def test_pixels_become_square(ratio, size, tmp_path, reader):
    frames, _ = reader.read_clip(write_video(tmp_path / "a.mp4", num_frames=3, aspect=ratio))
    assert tuple(frames.shape[2:]) == size


@pytest.mark.parametrize(
    "name, codec, pix_fmt",
    [
        ("ten_bit.mkv", "libx265", "yuv420p10le"),
        ("ten_bit.mov", "prores_ks", "yuv422p10le"),
        ("grey.mkv", "ffv1", "gray"),
        ("deep_grey.mkv", "ffv1", "gray16le"),
        ("planes.mkv", "libx264rgb", "rgb24"),
    ],
)
def test_depths_and_channels(name, codec, pix_fmt, tmp_path, reader, numbers):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    encoder = {"x265-params": "log-level=0"} if codec == "libx265" else {}
    frames, _ = reader.read_clip(write_video(tmp_path / name, codec, 20, pix_fmt=pix_fmt, encoder=encoder))
    assert numbers(frames) == [(2 * index + 1) * 20 // 32 for index in range(16)]
    bars = frames.float().mean(2).reshape(16, 3, 8, 12)[..., 4:8]
    assert (torch.minimum(bars, 255 - bars) < 8).all(), "black and white stay what they are"


@pytest.mark.parametrize(
    "name, codec, pix_fmt, encoder",
    [
        ("a.mov", "qtrle", "argb", {}),
        ("a.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0"}),
        ("b.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0"}),
        ("a.apng", "apng", "rgba", {}),
    ],
)
def test_transparent_videos_lie_on_white(name, codec, pix_fmt, encoder, tmp_path, reader):
    def draw(number):
        pixels = np.zeros((64, 96, 4), np.uint8)
        pixels[:, 48:] = (0, 200, 0, 255)
        return pixels

    path = write_video(tmp_path / name, codec, 12, pix_fmt=pix_fmt, draw=draw, encoder=encoder)
    frames, seconds = reader.read_clip(path, num_frames=4)
    assert torch.allclose(seconds, torch.tensor([1, 4, 7, 10]) / 25, atol=1e-3)
    assert (frames[:, :, 30, 20] > 250).all()
    assert (frames[:, :, 30, 70].int() - torch.tensor([0, 200, 0])).abs().max() < 6


@pytest.mark.parametrize(
    "name, codec, pix_fmt, encoder",
    [
        ("a.mp4", "libx264", "yuv420p", {"x264-params": "interlaced=1:qp=1"}),
        ("a.mkv", "libx264", "yuv422p10le", {"x264-params": "interlaced=1:qp=1"}),
        ("a.ts", "mpeg2video", "yuv422p", {"qmin": "1", "qmax": "1", "g": "1"}),
    ],
)
def test_interlaced_frames_become_one_moment(name, codec, pix_fmt, encoder, tmp_path, reader):
    def draw(number):
        combed = np.zeros((64, 96, 3), np.uint8)
        combed[::2, 16:48] = 255  # one field
        combed[1::2, 48:80] = 255  # the other, when the bar has moved
        return combed

    settings = {"flags": "+ildct+ilme", **encoder}
    path = write_video(tmp_path / name, codec, 4, pix_fmt=pix_fmt, draw=draw, encoder=settings)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    bar = reader.read_clip(path)[0].float().mean(1)[:, 4:-4]
    left, right = bar[:, :, 20:44], bar[:, :, 52:76]
    assert ((left - right).abs() > 200).all() and left.std() < 5 and right.std() < 5


ONE = 1 << 16  # Plain speed.
# Of a clip of 40 frames: (frames it is shown for, first frame or -1 for nothing, speed), and the frames to be seen.
EDITS = {
    "begins late": ([(30, 10, ONE)], range(10, 40)),
    "ends early": ([(15, 0, ONE)], range(15)),
    "a delay": ([(10, -1, ONE), (40, 0, ONE)], range(40)),
    "cut out": ([(10, 0, ONE), (10, 20, ONE)], [*range(10), *range(20, 30)]),
    "swapped": ([(10, 20, ONE), (10, 0, ONE)], [*range(20, 30), *range(10)]),
    "twice": ([(10, 0, ONE), (10, 0, ONE)], [*range(10), *range(10)]),
    "a gap": ([(10, 0, ONE), (5, -1, ONE), (10, 10, ONE)], "a gap between two entries"),
    "slow": ([(40, 0, ONE // 2)], "at 0.5 times its speed"),
    "frozen": ([(40, 5, 0)], "at 0 times its speed"),
}


def edited(data, edits):
    """A clip of 40 frames with another edit list."""
    start = data.index(b"elst") + 4
    size = int.from_bytes(data[start - 8 : start - 4]) - 8
    duration, first, _ = struct.unpack(">3i", data[start + 8 : start + 20])
    with av.open(io.BytesIO(data)) as container:
        ticks = round(1 / container.streams.video[0].time_base / 25)
    entries = b"".join(
        struct.pack(">3i", duration * length // 40, at if at < 0 else first + at * ticks, speed)
        for length, at, speed in edits
    )
    table = struct.pack(">2I", 0, len(edits)) + entries
    return replace_in_boxes(data, start, start + size, table, b"elst", b"edts", b"trak", b"moov")


@pytest.mark.parametrize("keys", ["100", "8"])
@pytest.mark.parametrize("name", EDITS)
def test_edit_lists_are_followed_or_refused(name, keys, tmp_path, reader, numbers):
    edits, expected = EDITS[name]
    data = edited(write_video(tmp_path / "a.mp4", encoder={"g": keys}).read_bytes(), edits)
    if isinstance(expected, str):
        with pytest.raises(VideoDecodeError, match=rf"unsupported edit list \(.*{expected}\); export it again"):
            reader.read_clip(data)
        return
    frames, seconds = reader.read_clip(data, num_frames=40)
    assert numbers(frames) == list(expected)
    assert torch.allclose(seconds, torch.arange(len(expected)) / 25)


@pytest.mark.parametrize("name, shown", [("a gap", 20), ("slow", 20), ("frozen", 1)])
def test_what_is_refused_would_be_read_wrongly(name, shown, tmp_path, reader, monkeypatch):
    """FFmpeg gives other frames than are to be seen; once it does not, the check can go."""
    data = edited(write_video(tmp_path / "a.mp4").read_bytes(), EDITS[name][0])
    monkeypatch.setattr(video_source_tgdfer, "_unfollowed_edit", lambda file: "")
    assert len(reader.read_clip(data, num_frames=60)[0]) > shown


def test_playlists_and_scripts_open_nothing(tmp_path, clip, reader, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = clip.as_uri()
    # The reference is not followed: what is there is what the file itself holds.
    assert torch.equal(reader.read_clip(external_data(uri.encode()))[0], reader.read_clip(valid_video("h264.mp4"))[0])
    playlists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{uri}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"ffconcat version 1.0\nfile {clip}\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "list.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{uri}</BaseURL></MPD>',
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        for video in (name, text.encode()):
            with pytest.raises(VideoDecodeError, match="is not a video"):
                reader.read_clip(video)
    for name in (f"concat:{clip}", f"subfile,,start,0,end,9,,:{clip}", "pipe:0"):
        with pytest.raises(VideoDecodeError, match="does not exist"):
            reader.read_clip(name)


def test_nothing_is_fetched_for_a_file(reader):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        playlists = [
            f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile {url}\n",
            f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>',
            f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        ]
        for text in playlists:
            with pytest.raises(VideoDecodeError):
                reader.read_clip(text.encode())
        reader.read_clip(external_data(url.encode()))
        with pytest.raises(BlockingIOError):
            server.accept()
        socket.create_connection(server.getsockname()).close()
        server.accept()[0].close()  # A visit would have been seen.


def test_frames_too_large_for_any_camera_are_refused(reader):
    side = int(MAX_PIXELS**0.5) + 16
    data = io.BytesIO()
    Image.new("L", (side, side)).save(data, "PNG")
    with pytest.raises(VideoDecodeError, match="can be decoded"):
        reader.read_clip(data.getvalue())


class _Slow(BaseHTTPRequestHandler):
    """Never stops sending."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(2**16))
        except OSError:
            pass

    def log_message(self, *args):
        pass


def test_limits_of_addresses(reader, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/endless.mp4"
        with pytest.raises(VideoDecodeError, match="larger than 1 MiB; raise `url_max_bytes`"):
            reader(url, url_max_bytes=2**20, url_allow_private=True)
        reader.url_allow_private = True
        reader.url_timeout = 0.05
        with pytest.raises(VideoDecodeError, match="could not be downloaded within 0.05 s; raise `url_timeout`"):
            reader.read_clip(url)
        server.shutdown()
