"""Where a video comes from, and how it is opened: path, URL, bytes or file object.

Nothing but the given file is opened, whatever its content asks for. Formats that open other files are refused, and so
are edit lists that FFmpeg does not follow.
"""

import errno
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import av

from .addresses_tgdfer import URL_MAX_BYTES, URL_TIMEOUT, fetch
from .animated_images_tgdfer import HEAD, copy_animated_webp, is_animated_webp

# Formats that hold their pictures in themselves, and songs, to say that they are songs. Not among them: playlists,
# scripts and patterns of names (hls, dash, concat, sdp, image2, ...), which open other files and addresses.
FORMATS = (
    "mov,mp4,m4a,3gp,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,ogg,asf,mxf,"
    "nut,dv,rm,wtv,swf,yuv4mpegpipe,mjpeg,mpjpeg,gif,apng,png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,webp_pipe,ppm_pipe,"
    "pgm_pipe,jpegxl_anim,jpegxl_pipe,webp,wav,w64,mp3,aac,flac,ac3,eac3,aiff,amr,caf,opus"
)
# An 8K frame is smaller. What declares more is damaged, and would take gigabytes.
MAX_PIXELS = 2**25
# No file has more boxes in one place, or parts in an edit list; a damaged one may seem to.
MAX_BOXES = 10_000

LIMITS = {"max_pixels": str(MAX_PIXELS)}
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, **LIMITS}
# Titles of files are in any encoding. From PyAV 19 on that is no error, and the argument is gone.
_ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class VideoDecodeError(ValueError):
    """A video that cannot be read. Its message is one sentence that names the video and what to do about it."""


class VideoSource:
    """One video file, opened anew for every pass over it: seeking is not to be trusted in damaged files.

    Args:
        video: path, URL, bytes, seekable or other binary file object, or an open PyAV container, which is left as it
            is.
        name: of the video in messages, where it has none of its own.
        url_timeout: seconds that fetching a URL may take.
        url_max_bytes: size that what a URL gives may have.
        url_allow_private: whether a URL may lead to this machine or into a private network.

    Raises:
        VideoDecodeError: it does not exist, is empty, or cannot be fetched.
    """

    def __init__(
        self,
        video: Any,
        name: str = "",
        url_timeout: float = URL_TIMEOUT,
        url_max_bytes: int = URL_MAX_BYTES,
        url_allow_private: bool = False,
    ):
        if isinstance(video, av.container.InputContainer):
            video = video.file.file if video.file is not None else video.name
        if isinstance(video, str) and video.startswith("file:"):
            video = unquote(urlsplit(video).path) if video.startswith("file://") else video[len("file:") :]
        self.source: str | BinaryIO
        self.damage = ""
        self.large = False
        if isinstance(video, bytes | bytearray):
            self.name, self.source = name or f"The video of {len(video)} bytes", io.BytesIO(video)
        elif not isinstance(video, str | os.PathLike):
            self.name = name or str(getattr(video, "name", "The video file object"))
            self.source = _seekable(video, self.name)
        elif "://" in os.fspath(video):
            self.name = os.fspath(video)
            self.source = _fetch(self.name, url_timeout, url_max_bytes, url_allow_private)
        elif not os.path.isfile(video):
            raise VideoDecodeError(f"{os.fspath(video)} does not exist; check the path.")
        else:
            self.name = os.fspath(video)
            # The prefix keeps names such as "concat:a" or "http:b" from being read as protocols.
            self.source = f"file:{self.name}"
        with self._from_the_start() as source:
            size = os.path.getsize(self.name) if isinstance(source, str) else source.seek(0, io.SEEK_END)
        if size == 0:
            raise VideoDecodeError(f"{self.name} is empty (0 bytes); copy or download it again.")
        self._replace_animated_webp()

    def _replace_animated_webp(self) -> None:
        """Has a copy of it read that FFmpeg can read, where it is an animated WebP."""
        with self._as_file() as file:
            is_animated = is_animated_webp(file.read(HEAD))
            file.seek(0)
            if is_animated:
                try:
                    copy = copy_animated_webp(file, MAX_PIXELS)
                except ValueError as error:
                    raise VideoDecodeError(
                        f"{self.name} cannot be read ({error}); download or make it again."
                    ) from error
        if is_animated:
            self.source = copy

    def tags(self) -> dict[str, str]:
        """What the file says of itself.

        Raises:
            VideoDecodeError: it cannot be opened.
        """
        with self._open() as container:
            return dict(container.metadata)

    def declared_duration(self) -> float | None:
        """Seconds that its head promises, None where it promises nothing: for a progress bar, not to rely on.

        Raises:
            VideoDecodeError: it cannot be opened.
        """
        with self._open() as container:
            return container.duration / av.time_base if container.duration else None

    def has_video(self) -> bool:
        """Whether its head promises pictures.

        Raises:
            VideoDecodeError: it cannot be opened.
        """
        with self._open() as container:
            return bool(container.streams.video)

    @contextmanager
    def _from_the_start(self) -> Iterator[Any]:
        """The source, from its first byte on. File objects are left where they were: others may be reading them."""
        if isinstance(self.source, str):
            yield self.source
            return
        place = self.source.tell()
        self.source.seek(0)
        try:
            yield self.source
        finally:
            self.source.seek(place)

    @contextmanager
    def _as_file(self) -> Iterator[BinaryIO]:
        """The bytes of the source, from the first one on."""
        with self._from_the_start() as source:
            if not isinstance(source, str):
                yield source
                return
            try:
                file = open(self.name, "rb")  # noqa: SIM115
            except OSError as error:
                raise VideoDecodeError(
                    f"{self.name} cannot be opened ({error.strerror}); give a file that may be read."
                ) from error
            with file:
                yield file

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._from_the_start() as source:
            try:
                container = av.open(source, "r", options=_OPTIONS, **_ANY_TAGS)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                # What FFmpeg answers where a format is not allowed.
                if getattr(error, "errno", None) == errno.EINVAL:
                    reason = "formats that open other files or none that hold video are refused"
                raise VideoDecodeError(
                    f"{self.name} is not a video, or was cut off before it can be played ({reason}); download or "
                    "convert it again."
                ) from error
            with container:
                yield container

    def _refuse_edits(self) -> None:
        with self._as_file() as file:
            reason = _unfollowed_edit(file)
        if reason:
            raise VideoDecodeError(f"{self.name} has an edit list that cannot be followed: {reason}; export it anew.")

    def _stream(self, container: Any) -> Any:
        stream = shown_stream(container)
        if stream is None:
            kinds = sorted({stream.type for stream in container.streams} - {"video"}) or ["nothing"]
            raise VideoDecodeError(f"{self.name} has no pictures in it, only {', '.join(kinds)}; give a video file.")
        if stream.codec_context is None:
            raise VideoDecodeError(f"{self.name} is encoded in a way that PyAV cannot decode; convert it to H.264.")
        stream.codec_context.options = LIMITS
        # Frame threads pay for large pictures only; clips of faces are small and read by many workers at once.
        self.large = stream.codec_context.width * stream.codec_context.height >= 640 * 480
        if self.large:
            stream.thread_type = "AUTO"
        return stream


def shown_stream(container: Any) -> Any:
    """The stream of pictures that players show; None where there is none.

    It is the one that is marked as the default. Of several, or where none is marked, it is the one that FFmpeg finds
    best. The cover of a song and the previews of a film are no video, though they are streams of pictures as well.
    """
    others = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & others]
    marked = [stream for stream in streams if stream.disposition & av.stream.Disposition.default] or streams
    best = container.streams.best("video")
    return best if best in marked else next(iter(marked), None)


def _seekable(file: Any, name: str) -> BinaryIO:
    """A file object, or where it cannot be gone through again, what it reads.

    Raises:
        VideoDecodeError: it is closed, or gives something else than bytes.
    """
    if not hasattr(file, "read"):
        raise VideoDecodeError(
            f"A {type(file).__name__} is no video file; give a path, bytes or a binary file object."
        )
    try:
        seeks = hasattr(file, "seekable") and file.seekable()
        data = file.read(0) if seeks else file.read()
    except (OSError, ValueError) as error:
        raise VideoDecodeError(f"{name} cannot be read ({error}); open it for reading and leave it open.") from error
    if not isinstance(data, bytes | bytearray):
        raise VideoDecodeError(f'{name} gives {type(data).__name__} instead of bytes; open it in binary mode, "rb".')
    return file if seeks else io.BytesIO(data)


# Edit lists. FFmpeg applies those of MP4 and QuickTime files, with two exceptions: it ignores the speed of a part, so
# that times are wrong, and fills a gap between two parts with frames from elsewhere. PyAV tells of neither.


def _unfollowed_edit(file: BinaryIO) -> str:
    """What the edit list of the video track asks for and FFmpeg does not do, in words; "" where there is nothing.

    Args:
        file: a seekable MP4 or QuickTime file, whole or damaged.
    """
    for track in _boxes(file, 0, file.seek(0, io.SEEK_END), b"moov", b"trak"):
        handler, _ = next(_boxes(file, *track, b"mdia", b"hdlr"), (0, 0))
        if _bytes_at(file, handler + 8, 4) != b"vide":
            continue
        for start, end in _boxes(file, *track, b"edts", b"elst"):
            # Version 1 has 64 bits for the duration of a part and for the moment it starts at, -1 for a gap.
            version, count = struct.unpack(">B3xI", _bytes_at(file, start, 8).ljust(8, b"\0"))
            part = struct.Struct(">QqhH" if version == 1 else ">IihH")
            parts = _bytes_at(file, start + 8, min(count, (end - start - 8) // part.size, MAX_BOXES) * part.size)
            for number, (_, moment, whole, share) in enumerate(part.iter_unpack(parts)):
                if moment == -1 and number > 0:
                    return "there is a gap between its parts"
                if moment != -1 and (whole, share) != (1, 0):
                    return f"a part of it is to be played at {whole + share / 2**16:g} times its speed"
    return ""


def _boxes(file: BinaryIO, start: int, end: int, kind: bytes, *inner: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the content of each box of a kind, or of those of the `inner` kinds in it."""
    for _ in range(MAX_BOXES):
        head = _bytes_at(file, start, 16)
        if start + 8 > end or len(head) < 8:
            return
        size, found, skip = *struct.unpack(">I4s", head[:8]), 8
        if size == 1 and len(head) == 16:
            size, skip = int.from_bytes(head[8:]), 16
        size = size or end - start
        if size < skip:
            return
        content = start + skip, min(start + size, end)
        if found == kind:
            yield from _boxes(file, *content, *inner) if inner else [content]
        start += size


def _bytes_at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(max(0, count))


# Addresses


def _fetch(url: str, timeout: float, max_bytes: int, allow_private: bool) -> BinaryIO:
    """What is behind a URL, as a file."""
    try:
        return fetch(url, timeout, max_bytes, allow_private)
    except TimeoutError as error:
        raise VideoDecodeError(f"{url} takes longer than {timeout:g} s; see `url_timeout`.") from error
    # Every file system has exceptions of its own.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise VideoDecodeError(f"{url} cannot be fetched ({reason}); check the address and the connection.") from error
