"""Makes damaged and unusual videos from a few valid ones.

`FILES` maps the name of each video to a function that returns its bytes. The bytes are the same every time.
"""

import functools
import io
import struct
from collections.abc import Callable
from random import Random

import av
import numpy as np
from PIL import Image

# Container format, encoder and pixel format of the valid videos.
VALID = {
    "h264.mp4": ("mp4", "libx264", "yuv420p"),
    "hevc.mkv": ("matroska", "libx265", "yuv420p"),
    "h264.mkv": ("matroska", "libx264", "yuv420p"),
    "vp9.webm": ("webm", "libvpx-vp9", "yuv420p"),
    "vp8.webm": ("webm", "libvpx", "yuv420p"),
    "av1.mp4": ("mp4", "libsvtav1", "yuv420p"),
    "mpeg4.avi": ("avi", "mpeg4", "yuv420p"),
    "h264.avi": ("avi", "libx264", "yuv420p"),
    "mjpeg.avi": ("avi", "mjpeg", "yuvj420p"),
    "mpeg2.ts": ("mpegts", "mpeg2video", "yuv420p"),
    "h264.ts": ("mpegts", "libx264", "yuv420p"),
    "mpeg1.mpg": ("mpeg", "mpeg1video", "yuv420p"),
    "flv1.flv": ("flv", "flv", "yuv420p"),
    "wmv2.asf": ("asf", "wmv2", "yuv420p"),
    "ffv1.nut": ("nut", "ffv1", "yuv420p"),
    "raw.nut": ("nut", "rawvideo", "rgb24"),
    "prores.mov": ("mov", "prores_ks", "yuv422p10le"),
    "animated.gif": ("gif", "gif", "rgb8"),
    "animated.apng": ("apng", "apng", "rgb24"),
}
# With several threads, the output of x265 is not deterministic, and encoding sometimes fails.
_X265 = "log-level=0:frame-threads=1:pools=none"
SIZES = [(1, 1), (1, 64), (64, 1), (2, 2), (3, 5), (17, 31), (17, 4097), (4097, 17), (1080, 1920), (255, 257)]
FILES: dict[str, Callable[[], bytes]] = {}


@functools.cache
def valid_video(name: str, height: int = 48, width: int = 64, frames: int = 20, interlaced: bool = False) -> bytes:
    """Returns a valid video of noise that moves sideways."""
    container_format, codec, pix_fmt = VALID[name]
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = {"g": "8", "x265-params": _X265, "preset": "12" if "av1" in codec else "ultrafast"}
        if interlaced:
            stream.options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}
        for number in range(frames):
            picture = np.roll(noise, 3 * number, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def cut(name: str, share: float) -> bytes:
    """Returns the first part of a video. `share` is the part of the bytes that is kept (0 to 1)."""
    data = valid_video(name)
    return data[: int(len(data) * share)]


def flip(name: str, seed: int, every: int, head: int | None = None) -> bytes:
    """Overwrites one in `every` bytes at random positions, only among the first `head` bytes if it is given."""
    data = bytearray(valid_video(name))
    random = Random(f"{name} {seed}")
    end = min(head or len(data), len(data))
    for _ in range(max(1, end // every)):
        data[random.randrange(end)] = random.randrange(256)
    return bytes(data)


def patch(name: str, marker: bytes, offset: int, value: bytes) -> bytes:
    """Overwrites bytes at an offset after the start of the first `marker`."""
    data = bytearray(valid_video(name))
    position = data.index(marker) + offset
    data[position : position + len(value)] = value
    return bytes(data)


def replace_in_boxes(data: bytes, start: int, end: int, new: bytes, *boxes: bytes) -> bytes:
    """Replaces the bytes from `start` to `end` of an MP4 file with one track, and corrects the sizes of the boxes.

    Args:
        data (`bytes`): Bytes of the file.
        start (`int`): Index of the first replaced byte.
        end (`int`): Index after the last replaced byte.
        new (`bytes`): The new bytes.
        *boxes: Types of the boxes that contain them, the innermost first.
    """
    changed = bytearray(data)
    for box in boxes:
        position = data.rindex(box, 0, start) - 4
        size = int.from_bytes(data[position : position + 4]) + len(new) - (end - start)
        changed[position : position + 4] = size.to_bytes(4)
    changed[start:end] = new
    return bytes(changed)


def external_data(url: bytes) -> bytes:
    """Returns an MP4 file that declares that its frames are in another file."""
    data = valid_video("h264.mp4")
    start = data.index(b"url ") - 4
    entry = struct.pack(">I4sI", 12 + len(url) + 1, b"url ", 0) + url + b"\0"
    return replace_in_boxes(data, start, start + 12, entry, b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov")


def header_only(name: str, marker: bytes) -> bytes:
    """Returns the bytes of a video before the first `marker`."""
    data = valid_video(name)
    return data[: data.index(marker)]


def still(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    """Returns an image file of a format of Pillow."""
    file = io.BytesIO()
    Image.new("RGB", size, (200, 100, 0)).save(file, kind)
    return file.getvalue()


def huge_png() -> bytes:
    """Returns a PNG file whose header declares 65,000 by 65,000 pixels, but that contains none of them."""
    data = bytearray(still("PNG"))
    data[16:24] = struct.pack(">2I", 65000, 65000)
    return bytes(data)


for _name in VALID:
    FILES[f"whole/{_name}"] = functools.partial(valid_video, _name)
    FILES[f"one_frame/{_name}"] = functools.partial(valid_video, _name, frames=1)
    for _share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        FILES[f"cut_at_{_share}/{_name}"] = functools.partial(cut, _name, _share)
    for _seed in range(2):
        FILES[f"head_flipped_{_seed}/{_name}"] = functools.partial(flip, _name, _seed, 40, 800)
        FILES[f"few_flipped_{_seed}/{_name}"] = functools.partial(flip, _name, _seed, 1000)
        FILES[f"many_flipped_{_seed}/{_name}"] = functools.partial(flip, _name, _seed, 50)
for _height, _width in SIZES:
    for _name in ("raw.nut", "vp9.webm", "animated.gif", "mjpeg.avi"):
        FILES[f"size_{_width}x{_height}/{_name}"] = functools.partial(valid_video, _name, _height, _width, 2)
for _kind, _extension in {
    "PNG": "png",
    "JPEG": "jpg",
    "BMP": "bmp",
    "WEBP": "webp",
    "TIFF": "tiff",
    "PPM": "ppm",
}.items():
    FILES[f"still/a.{_extension}"] = functools.partial(still, _kind)
FILES |= {
    "nothing.mp4": lambda: b"",
    "one_byte.mp4": lambda: b"\0",
    "zeros.mp4": lambda: bytes(10_000),
    "noise.mp4": lambda: Random(0).randbytes(10_000),
    "text.mkv": lambda: b"This is no video. " * 50,
    "interlaced/h264.mp4": functools.partial(valid_video, "h264.mp4", interlaced=True),
    "other_extension/webm_named.mp4": functools.partial(valid_video, "vp9.webm"),
    "other_extension/mp4_named.avi": functools.partial(valid_video, "h264.mp4"),
    "other_extension/gif_named.m3u8": functools.partial(valid_video, "animated.gif"),
    "no_moov/h264.mp4": lambda: valid_video("h264.mp4").replace(b"moov", b"free"),
    "header_only/h264.mp4": lambda: (
        valid_video("h264.mp4")[: valid_video("h264.mp4").index(b"mdat") + 4]
        + valid_video("h264.mp4")[valid_video("h264.mp4").index(b"moov") - 4 :]
    ),
    "header_only/h264.mkv": functools.partial(header_only, "h264.mkv", b"\x1f\x43\xb6\x75"),
    "header_only/vp9.webm": functools.partial(header_only, "vp9.webm", b"\x1f\x43\xb6\x75"),
    "header_only/mjpeg.avi": functools.partial(header_only, "mjpeg.avi", b"movi"),
    "two_in_one/h264.mp4": lambda: valid_video("h264.mp4") + valid_video("vp9.webm"),
    "junk_before/h264.ts": lambda: Random(1).randbytes(999) + valid_video("h264.ts"),
    "huge/png": huge_png,
    "huge/gif_screen": functools.partial(patch, "animated.gif", b"GIF89a", 6, b"\xff\xff\xff\xff"),
    "huge/avi_size": functools.partial(patch, "mpeg4.avi", b"strf", 12, struct.pack("<2i", 30000, 30000)),
    "huge/avi_negative_size": functools.partial(patch, "mjpeg.avi", b"strf", 12, struct.pack("<2i", -5, -7)),
    "huge/mp4_size": functools.partial(patch, "h264.mp4", b"avc1", 28, b"\xff\xff\xff\xff"),
    "huge/mjpeg_size": functools.partial(patch, "mjpeg.avi", b"\xff\xc0", 5, b"\xff\xff\xff\xff"),
    "huge/mp4_samples": functools.partial(patch, "h264.mp4", b"stsz", 12, b"\xff\xff\xff\xff"),
    "huge/mp4_times": functools.partial(patch, "h264.mp4", b"stts", 8, b"\x7f\xff\xff\xff"),
    "huge/mp4_frame_duration": functools.partial(patch, "h264.mp4", b"stts", 16, b"\x7f\xff\xff\xff"),
    "huge/mp4_box": functools.partial(patch, "h264.mp4", b"mdat", -4, b"\xff\xff\xff\xff"),
    "huge/mp4_timescale_0": functools.partial(patch, "h264.mp4", b"mdhd", 16, bytes(4)),
    "huge/mp4_edit": functools.partial(patch, "h264.mp4", b"elst", 12, b"\x7f\xff\xff\xff\x7f\xff\xff\xff"),
    "huge/mkv_cluster": functools.partial(
        patch, "h264.mkv", b"\x1f\x43\xb6\x75", 4, b"\x08\xff\xff\xff\xff\xff\xff\xff"
    ),
    "playlist/a.m3u8": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "playlist/a.mp4": lambda: b"ffconcat version 1.0\nfile /etc/hostname\n",
    "playlist/b.mp4": lambda: b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "playlist/c.mp4": lambda: b"ffconcat version 1.0\nfile concat:/etc/hostname|/etc/hostname\n",
    "playlist/a.asx": lambda: b'<asx version="3.0"><entry><ref href="http://127.0.0.1:9/a.wmv"/></entry></asx>',
    "playlist/a.mpd": lambda: (
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        b"<Period><AdaptationSet><Representation><BaseURL>file:///etc/hostname</BaseURL></Representation></AdaptationSet>"
        b"</Period></MPD>"
    ),
    "elsewhere/file.mp4": functools.partial(external_data, b"file:///etc/hostname"),
    "elsewhere/http.mp4": functools.partial(external_data, b"http://127.0.0.1:9/a.mp4"),
    "playlist/a.sdp": lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}
