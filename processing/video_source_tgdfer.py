"""Opens a video from a path, URL, bytes or file object.

Only the given file is opened. Formats that refer to other files are refused, and so are edit lists that FFmpeg does
not apply correctly.
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

from .addresses_tgdfer import URL_MAX_BYTES, URL_TIMEOUT, DownloadError, fetch
from .animated_images_tgdfer import HEAD, copy_animated_webp, is_animated_webp

# Formats that contain their own frames. Audio formats are included so that the error message can say that the file has
# no video. Playlists, scripts and file name patterns (hls, dash, concat, sdp, image2, ...) are excluded, because they
# open other files and URLs.
FORMATS = (
    "mov,mp4,m4a,3gp,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,ogg,asf,mxf,"
    "nut,dv,rm,wtv,swf,yuv4mpegpipe,mjpeg,mpjpeg,gif,apng,png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,webp_pipe,ppm_pipe,"
    "pgm_pipe,jpegxl_anim,jpegxl_pipe,webp,wav,w64,mp3,aac,flac,ac3,eac3,aiff,amr,caf,opus"
)
_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jps", ".mpo")
# Maximum number of pixels in a frame, slightly more than in an 8K frame. A file that declares more is damaged, and
# decoding it would take gigabytes of memory.
MAX_PIXELS = 2**25
# Maximum number of boxes per level, and of entries in an edit list. Damaged files may declare more.
MAX_BOXES = 10_000

LIMITS = {"max_pixels": str(MAX_PIXELS)}
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, **LIMITS}
# Metadata may have any encoding. PyAV 19 no longer raises an error for it, and has removed this argument.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class VideoDecodeError(ValueError):
    """Raised if a video cannot be read. The message is one sentence that names the video, the cause and the remedy."""


def undecodable_error(name: str) -> VideoDecodeError:
    """Creates the error for a video without a frame that can be decoded.

    Args:
        name (`str`): Name of the video.
    """
    return VideoDecodeError(f"No frame of {name} can be decoded; download or encode it again.")


class VideoSource:
    """A video file. It is reopened for every pass, because seeking is not reliable in damaged files.

    Args:
        video (`Any`): A path, a URL, bytes, a binary file object, or an open PyAV container, which is not modified.
        name (`str`, *optional*, defaults to `""`): Name for messages, used for bytes and file objects.
        url_timeout (`float`, *optional*, defaults to 60.0): Maximum time in seconds for downloading a URL.
        url_max_bytes (`int`, *optional*, defaults to 1 GiB): Maximum size of a download in bytes.
        url_allow_private (`bool`, *optional*, defaults to `False`): Whether a URL may point to this machine or a
            private network.

    Raises:
        VideoDecodeError: If the video does not exist, is empty, or cannot be downloaded.
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
        elif not os.fspath(video):
            raise VideoDecodeError("The path of the video is empty; give the path of a file.")
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
        # Name of the format. None leaves it to FFmpeg.
        self.format: str | None = None
        self._inspect_begin()

    def _inspect_begin(self) -> None:
        """Recognises JPEG, and replaces an animated WebP by a copy that FFmpeg can decode."""
        with self._as_file() as file:
            head = file.read(HEAD)
            is_animated = is_animated_webp(head)
            file.seek(0)
            # FFmpeg takes most files that are named like this for a sequence of files, which is not allowed.
            name = self.name if isinstance(self.source, str) else str(getattr(self.source, "name", ""))
            if head.startswith(b"\xff\xd8\xff") and name.lower().endswith(_JPEG_SUFFIXES):
                self.format = "jpeg_pipe"
            if is_animated:
                try:
                    copy = copy_animated_webp(file, MAX_PIXELS)
                except ValueError as error:
                    raise VideoDecodeError(f"{self.name} cannot be read: {error}.") from error
        if is_animated:
            self.source = copy

    def tags(self) -> dict[str, str]:
        """Returns the metadata tags of the file.

        Returns:
            `dict[str, str]`: The value of each tag.

        Raises:
            VideoDecodeError: If the file cannot be opened.
        """
        with self._open() as container:
            return dict(container.metadata)

    def declared_duration(self) -> float | None:
        """Returns the duration in the header of the file. It may be wrong, so it is used only to show progress.

        Returns:
            `float` or `None`: The duration in seconds, or None if the header does not contain it.

        Raises:
            VideoDecodeError: If the file cannot be opened.
        """
        with self._open() as container:
            return container.duration / av.time_base if container.duration else None

    def has_video(self) -> bool:
        """Whether the header of the file declares a video stream.

        Raises:
            VideoDecodeError: If the file cannot be opened.
        """
        with self._open() as container:
            return bool(container.streams.video)

    @contextmanager
    def _from_the_start(self) -> Iterator[Any]:
        """Yields the source, positioned at its start. The position of a file object is restored afterwards."""
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
        """Yields the source as a binary file, positioned at its start."""
        with self._from_the_start() as source:
            if not isinstance(source, str):
                yield source
                return
            try:
                file = open(self.name, "rb")  # noqa: SIM115
            except OSError as error:
                raise VideoDecodeError(
                    f"{self.name} cannot be opened ({error.strerror}); check its permissions."
                ) from error
            with file:
                yield file

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._from_the_start() as source:
            try:
                container = av.open(source, "r", self.format, options=_OPTIONS, **ANY_TAGS)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                # FFmpeg returns EINVAL for formats that are not in `FORMATS`.
                if getattr(error, "errno", None) == errno.EINVAL:
                    reason = "its format contains no video or refers to other files"
                raise VideoDecodeError(
                    f"{self.name} is not a video or is truncated ({reason}); download or convert it again."
                ) from error
            with container:
                yield container

    def _refuse_edits(self) -> None:
        with self._as_file() as file:
            reason = _unfollowed_edit(file)
        if reason:
            raise VideoDecodeError(f"{self.name} has an unsupported edit list ({reason}); export it again.")

    def _stream(self, container: Any) -> Any:
        stream = shown_stream(container)
        if stream is None:
            kinds = sorted({stream.type for stream in container.streams} - {"video"}) or ["nothing"]
            raise VideoDecodeError(f"{self.name} contains no video, only {', '.join(kinds)}; choose a video file.")
        if stream.codec_context is None:
            raise VideoDecodeError(f"{self.name} has a codec that PyAV cannot decode; convert it to H.264.")
        stream.codec_context.options = LIMITS
        # Decoding in several threads is faster only for large frames. Face crops are small, and several workers read
        # them at once.
        self.large = stream.codec_context.width * stream.codec_context.height >= 640 * 480
        if self.large:
            stream.thread_type = "AUTO"
        return stream


def shown_stream(container: Any) -> Any:
    """Returns the video stream that players show.

    This is the stream that is marked as the default. If several streams or none are marked, it is the one that FFmpeg
    considers the best. Cover art and thumbnails are ignored, although they are stored as video streams.

    Args:
        container (`av.container.InputContainer`): The open container.

    Returns:
        `av.video.stream.VideoStream` or `None`: The stream, or None if the container has no video.
    """
    others = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & others]
    marked = [stream for stream in streams if stream.disposition & av.stream.Disposition.default] or streams
    best = container.streams.best("video")
    return best if best in marked else next(iter(marked), None)


def _seekable(file: Any, name: str) -> BinaryIO:
    """Returns a seekable file object. A file object that is not seekable is read into memory.

    Args:
        file (`Any`): The file object.
        name (`str`): Name for messages.

    Returns:
        `BinaryIO`: The same file object, or one with its content.

    Raises:
        VideoDecodeError: If the file object is closed, not readable or not binary.
    """
    if not hasattr(file, "read"):
        raise VideoDecodeError(
            f"A {type(file).__name__} is not a video file; use a path, bytes or a binary file object."
        )
    try:
        seeks = hasattr(file, "seekable") and file.seekable()
        data = file.read(0) if seeks else file.read()
    except (OSError, ValueError) as error:
        raise VideoDecodeError(f"{name} cannot be read ({error}); open it for reading and leave it open.") from error
    if not isinstance(data, bytes | bytearray):
        raise VideoDecodeError(f'{name} returns {type(data).__name__} instead of bytes; open it in binary mode, "rb".')
    return file if seeks else io.BytesIO(data)


# Edit lists. FFmpeg applies the edit lists of MP4 and QuickTime files, with two exceptions. It ignores the speed of an
# entry, so the times are wrong. It fills a gap between two entries with other frames. PyAV reports neither.


def _unfollowed_edit(file: BinaryIO) -> str:
    """Describes the first entry in the edit list of a video track that FFmpeg does not apply.

    Args:
        file (`BinaryIO`): A seekable MP4 or QuickTime file. It may be damaged.

    Returns:
        `str`: The description, or "" if there is no such entry.
    """
    for track in _boxes(file, 0, file.seek(0, io.SEEK_END), b"moov", b"trak"):
        handler, _ = next(_boxes(file, *track, b"mdia", b"hdlr"), (0, 0))
        if _bytes_at(file, handler + 8, 4) != b"vide":
            continue
        for start, end in _boxes(file, *track, b"edts", b"elst"):
            # Version 1 has 64-bit durations and start times. A start time of -1 is a gap.
            version, count = struct.unpack(">B3xI", _bytes_at(file, start, 8).ljust(8, b"\0"))
            part = struct.Struct(">QqhH" if version == 1 else ">IihH")
            parts = _bytes_at(file, start + 8, min(count, (end - start - 8) // part.size, MAX_BOXES) * part.size)
            for number, (_, moment, whole, share) in enumerate(part.iter_unpack(parts)):
                if moment == -1 and number > 0:
                    return "there is a gap between two entries"
                if moment != -1 and (whole, share) != (1, 0):
                    return f"an entry is played at {whole + share / 2**16:g} times its speed"
    return ""


def _boxes(file: BinaryIO, start: int, end: int, kind: bytes, *inner: bytes) -> Iterator[tuple[int, int]]:
    """Yields the positions of the boxes of a type.

    Args:
        file (`BinaryIO`): A seekable MP4 or QuickTime file. It may be damaged.
        start (`int`): Position in bytes at which the search starts.
        end (`int`): Position at which it ends.
        kind (`bytes`): Type of the boxes.
        *inner (`bytes`): Types of nested boxes, from the outermost to the innermost. If they are given, the innermost
            boxes are yielded.

    Yields:
        `tuple[int, int]`: Start and end in bytes of the content of a box.
    """
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


# Downloads


def _fetch(url: str, timeout: float, max_bytes: int, allow_private: bool) -> BinaryIO:
    """Downloads a URL to a temporary file, and converts all errors to `VideoDecodeError`."""
    try:
        return fetch(url, timeout, max_bytes, allow_private)
    except TimeoutError as error:
        raise VideoDecodeError(f"{url} could not be downloaded within {timeout:g} s; raise `url_timeout`.") from error
    except DownloadError as error:
        raise VideoDecodeError(f"{url} cannot be downloaded: {error}.") from error
    # Each file system raises its own exceptions.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise VideoDecodeError(f"{url} cannot be downloaded ({reason}); check the URL and the connection.") from error
