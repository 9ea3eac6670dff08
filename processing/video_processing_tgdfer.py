"""Video processor of TG-DFER: from any video to frames, their mask and their time stamps."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2.functional as tvF
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, ChannelDimension, PILImageResampling
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata, is_valid_video

from .detectors_tgdfer import load_detector
from .faces_tgdfer import CUT_MARK, FaceClip, FaceSettings, crop_faces
from .recordings_tgdfer import Recording, RecordingReader
from .saved_settings_tgdfer import OF_THE_CALLER, from_checkpoint
from .video_file_tgdfer import BACKENDS, URL_MAX_BYTES, URL_TIMEOUT, VideoFile
from .video_reading_tgdfer import (
    Clip,
    Each,
    Sampling,
    VideoDecodeError,
    count_segments,
    dense_indices,
    in_unit_range,
    is_frame_files,
    open_video,
    read,
    sample_indices,
)

logger = logging.get_logger(__name__)

# With a file transformers saves and fetches what it imports relatively, and knows imports by how their lines look. So
# these files are never left behind, whichever part is saved, and by whomever; an import proper would be a cycle.
_SAVED_WITH_THIS_FILE = """
from .pipeline_tgdfer import EmotionTimelinePipeline
from .processing_tgdfer import TGDFERProcessor
"""

OPENING = ("url_timeout", "url_max_bytes", "url_allow_private", "video_backend")
FACE_OPTIONS = ("face_crop", "face_detector", "face_model", "face_size", "face_margin", "face_every", "no_face")
# Longer pictures are cut to this many times their width: enlarged until their short side is seen, they fill gigabytes.
MAX_ASPECT = 16
_BOTH = "`num_frames` and `fps` both say how many frames to sample; give one of them."


class TGDFERVideoProcessorKwargs(VideosKwargs, total=False):
    """Keyword arguments of the video processor.

    Attributes:
        timestamps: for each video its (T,) seconds, or None where they are unknown. Needed only for arrays and lists
            of images: video files have their own.
        sampling: "segments", one frame of each of `num_frames` equal parts of the clip; "dense", a window of
            `num_frames` frames `stride` apart; or "fps", as many segments as give `fps` frames a second.
        stride: from one frame of a dense window to the next.
        url_timeout: seconds that fetching a URL may take. Not saved, as the next two: a checkpoint does not set them.
        url_max_bytes: size that the video behind a URL may have.
        url_allow_private: whether a URL may lead to this machine or into a private network.
        video_backend: "pyav", or "torchcodec", which decodes the clips that it gives the frames of PyAV for at the
            times of PyAV, where it is installed and finds its FFmpeg. Not saved: the frames are the same.
        face_crop: "none" takes the pictures as they are; "largest" and "center" cut out one face, "all" makes a clip
            of each. Arrays that have the size of the crop already, and files of crops that `tgdfer faces` has written
            at that size, are taken as they are.
        face_detector: "yunet", "mtcnn" or "auto": YuNet where its model can be had, else MTCNN.
        face_model: path of YuNet's model; None takes it from the Hub. Not saved.
        face_size: height and width of the crops in pixels, before `size` is applied.
        face_margin: how much more than the face is seen around it, as a share.
        face_every: faces are looked for in every n-th sampled frame.
        no_face: frames without the face are left out ("skip", an error only where all are), given whole
            ("full_frame"), or an error ("error").
    """

    timestamps: Any
    sampling: str
    stride: int
    url_timeout: float
    url_max_bytes: int
    url_allow_private: bool
    video_backend: str
    face_crop: str
    face_detector: str
    face_model: str | None
    face_size: int
    face_margin: float
    face_every: int
    no_face: str


class VideoBatchFeature(BatchFeature):
    """A `BatchFeature` whose `timestamps` stay in float32: in half precision they would be off by whole frames."""

    def to(self, *args, **kwargs) -> "VideoBatchFeature":
        seconds = self.data.pop("timestamps", None)
        try:
            super().to(*args, **kwargs)
        finally:
            if seconds is not None:
                self.data["timestamps"] = seconds.to(self.data["frame_mask"].device)
        return self


class TGDFERVideoProcessor(BaseVideoProcessor):
    """Decodes clips, samples their frames and makes them what a CLIP sees.

    Each clip is cut into `num_frames` equal segments and the middle frame of each is taken; `sampling` has other ways.
    Clips with fewer frames give each of them once; their last frame is repeated under `frame_mask`, so that clips can
    be batched afterwards, too. With `fps`, or where nothing is sampled, they are as long as the longest of the batch.

    Example:
        ```python
        video_processor = TGDFERVideoProcessor(num_frames=16)
        batch = video_processor(["a.mp4", "b.webm"], return_tensors="pt")
        batch["pixel_values_videos"].shape  # (2, 16, 3, 224, 224)
        ```
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 224}
    default_to_square = False
    crop_size = {"height": 224, "width": 224}
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = True
    num_frames = 16
    fps: float | None = None
    sampling = "segments"
    stride = 1
    url_timeout = URL_TIMEOUT
    url_max_bytes = URL_MAX_BYTES
    url_allow_private = False
    video_backend = "pyav"
    face_crop = "none"
    face_detector = FaceSettings.detector
    face_model = FaceSettings.model
    face_size = FaceSettings.size
    face_margin = FaceSettings.margin
    face_every = FaceSettings.every
    no_face = FaceSettings.no_face
    valid_kwargs = TGDFERVideoProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values_videos", "frame_mask", "timestamps"]

    def read_clip(
        self, video: Any, num_frames: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Reads sampled frames at their own size, before anything else is done to them.

        Given back as `video_processor([frames], timestamps=[seconds])` they give what the video itself would, so that
        augmentation can be done in between.

        Args:
            video: path, http(s) or `hf://` URL, bytes or binary file object of a video; a value of a `datasets` column
                of videos (`{"path": ..., "bytes": ...}`); an open PyAV container or torchcodec decoder; folder of
                frames or list of their files, in natural order; array (T, H, W, 3) or (T, 3, H, W) or list of T
                images. Floating values are in 0..1, or in 0..255 if any in the
                video is above 1.
            num_frames: frames of the clip, default `self.num_frames`, or what `self.fps` gives where it is set.
            generator: draws a random frame of each segment, or a dense window (training); None takes the middle one
                (evaluation).

        Returns:
            Frames (T, 3, H, W), uint8 RGB, and their times (T,) in seconds, float32, or None where nothing tells
            them (arrays, folders of frames). T is `num_frames`, or what a shorter clip has. With `face_crop` they are
            crops of the first face that `read_faces` gives.

        Raises:
            VideoDecodeError: nothing can be read; one sentence names the video and the remedy.
        """
        source = self.open_video(video)
        clip = self._read(source, self._own_sampling(num_frames, generator))
        clip, _ = self._people(clip, self._face_settings(), source, _name(video))[0]
        return self._as_bytes(clip.frames, clip.unit), clip.seconds

    def read_faces(
        self, video: Any, num_frames: int | None = None, generator: torch.Generator | None = None
    ) -> list[FaceClip]:
        """Reads a clip as `read_clip` does, and cuts out what `face_crop` says: one face, or all of them.

        Returns:
            A clip for each face, with its boxes and the number of its person, those that fill most of the video first.
            Each can be given to the processor: `video_processor([face.frames], timestamps=[face.seconds])`.

        Raises:
            VideoDecodeError: nothing can be read; `NoFaceError`, one of them, where there is no face, by `no_face`.
            ValueError: `face_crop` is "none".
        """
        settings = self._face_settings()
        if settings is None:
            raise ValueError('face_crop is "none"; set it to "largest", "center" or "all" to read faces.')
        clip = self._read(self.open_video(video), self._own_sampling(num_frames, generator))
        return crop_faces(self._as_bytes(clip.frames, clip.unit), clip.seconds, settings, _name(video))

    def read_recording(
        self,
        video: Any,
        interval: float,
        num_frames: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Recording:
        """Reads a video of any length for prediction: who is in it, and then the face of each of them frame by frame.

        The frames of a short video are kept in memory. A longer one is decoded twice, and little of it is in memory at
        a time: people are followed through the whole video before the first of them is cut out.

        Args:
            video: as in `read_clip`.
            interval: seconds from one sampled frame to the next; frames of arrays and folders are taken to be
                `ASSUMED_FPS` a second.
            num_frames: frames that are sampled at least, default `self.num_frames`, where the video has as many.
            progress: is called with the share of the work that is done.

        Returns:
            The people by `face_crop`, and an iterator over their frames.

        Raises:
            VideoDecodeError: nothing can be read; one sentence names the video and the remedy. `NoFaceError`, one of
                them, where there is no face, by `no_face`.
            ValueError: `interval` is not above 0.
        """
        if not interval > 0:
            raise ValueError(f"interval must be above 0 seconds, not {interval}.")
        settings = self._face_settings()
        source = self.open_video(video)
        if settings is not None and _is_cut(source, settings):
            settings = None
        reader = RecordingReader(
            source,
            settings,
            interval,
            num_frames or self.num_frames,
            partial(self._as_bytes, unit=in_unit_range(source)),
            self._reducer() if settings is None and not hasattr(source, "ndim") else None,
            _name(video),
            progress or (lambda share: None),
        )
        return reader.read()

    def open_video(self, video: Any) -> Any:
        """What to give to several readings of a video, so that a URL is fetched once and checked once.

        Args:
            video: as in `read_clip`.

        Raises:
            VideoDecodeError: it does not exist, is empty, or cannot be fetched.
        """
        return open_video(video, **self._opening())

    def _as_bytes(self, frames: torch.Tensor, unit: bool) -> torch.Tensor:
        """Pictures (..., H, W) as RGB in uint8; `unit` says whether white is 1 in their video."""
        pictures: Any = self.convert_to_rgb(_in_bytes(frames, unit))
        return pictures if pictures.dtype == torch.uint8 else pictures.round().clamp(0, 255).to(torch.uint8)

    def _face_settings(self, **given: Any) -> FaceSettings | None:
        """What to cut out, None for nothing. "auto" is settled once: models keep the crop they are trained with.

        Raises:
            ValueError: a value that is not known.
            VideoDecodeError: there is no detector.
        """
        values = {name: _given(given.get(name), getattr(self, name)) for name in FACE_OPTIONS}
        settings = FaceSettings(**{name.removeprefix("face_"): value for name, value in values.items()})
        if settings.crop == "none":
            return None
        if settings.detector == "auto":
            self.face_detector, _ = load_detector("auto", settings.model)
            settings = replace(settings, detector=self.face_detector)
        return settings

    def _people(
        self, clip: Clip, settings: FaceSettings | None, source: Any, name: str
    ) -> list[tuple[Clip, FaceClip | None]]:
        """The clip as it is, or a clip of each of its faces; `source` is what `open_video` made of its video."""
        if settings is None or (
            (clip.metadata.height, clip.metadata.width) == (settings.size, settings.size) and _is_cut(source, settings)
        ):
            return [(clip, None)]
        faces = crop_faces(self._as_bytes(clip.frames, clip.unit), clip.seconds, settings, name)
        sampled = np.array(clip.metadata.frames_indices)
        return [
            (
                Clip(face.frames, face.seconds, replace(clip.metadata, frames_indices=sampled[face.indices].tolist())),
                face,
            )
            for face in faces
        ]

    def to_dict(self) -> dict[str, Any]:
        """All settings but those that are up to the caller, such as the limits of what is fetched."""
        return {name: value for name, value in super().to_dict().items() if name not in OF_THE_CALLER}

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Makes a processor of a dictionary, such as a `preprocessor_config.json`.

        Raises:
            ValueError: a setting has a value that cannot be used.
        """
        return super().from_dict(from_checkpoint(video_processor_dict), **kwargs)

    def preprocess(self, videos: Any, **kwargs: Unpack[TGDFERVideoProcessorKwargs]) -> BatchFeature:
        """Reads, samples and normalises clips; `video_processor(...)` calls it.

        Args:
            videos: one video as in `read_clip`, or a list of them; frames may have different sizes from clip to clip.
            **kwargs: override the attributes of the processor for this call. `num_frames` or `fps` (frames sampled
                a second) set how many frames are taken, `do_sample_frames=False` takes all of them. `timestamps`, or
                `video_metadata` with the `fps` of the source, time clips given as arrays. `return_metadata=True` adds
                `video_metadata`, and with `face_crop` also `faces`: for each row of the batch the number of its
                `video`, the number of the `person`, its `boxes` (T, 4) in pixels, where the face was `found` (T,), and
                the seconds of the sampled frames in which it is `missing`. Arrays that float are in 0..1, or in 0..255
                if any value is above 1; they are taken as they are where `do_rescale=False`.

        Returns:
            Of B videos, or of the B faces in them for `face_crop="all"`: `pixel_values_videos` (B, T, 3, S, S)
            float32; `frame_mask` (B, T) bool, False where a short clip is padded
            by its last frame; `timestamps` (B, T) float32 seconds, left out where those of a clip are unknown.

        Raises:
            VideoDecodeError: a video cannot be read.
            ValueError: arguments that contradict each other.
        """
        videos = _as_list(videos)
        timestamps = _one_each("timestamps", kwargs.pop("timestamps", None), len(videos))
        sources = _one_each("video_metadata", _flat(kwargs.pop("video_metadata", None)), len(videos))
        num_frames, fps = kwargs.pop("num_frames", None), kwargs.pop("fps", None)
        if num_frames is not None and fps is not None:
            raise ValueError(_BOTH)
        if num_frames is None and fps is None:
            num_frames, fps = self.num_frames, self.fps
        if not _given(kwargs.pop("do_sample_frames", None), self.do_sample_frames):
            num_frames = fps = None
        return_tensors, with_metadata = kwargs.pop("return_tensors", None), kwargs.pop("return_metadata", None)
        kwargs.pop("input_data_format", None)

        options: dict[str, Any] = {**kwargs}
        sampling = self._sampling(
            num_frames, fps, **{name: options.pop(name, None) for name in ("sampling", "stride")}
        )
        opening = self._opening(**{name: options.pop(name, None) for name in OPENING})
        settings = self._face_settings(**{name: options.pop(name, None) for name in FACE_OPTIONS})
        each = self._reducer(**options) if settings is None else None
        people = []
        for number, (video, *told) in enumerate(zip(videos, timestamps, sources, strict=True)):
            source = open_video(video, **opening)  # once: it may be fetched, or not be seekable
            clip = self._read(source, sampling, told, each)
            people += [(number, *person) for person in self._people(clip, settings, source, _name(video))]
        clips = [clip for _, clip, _ in people]
        rescale = _given(options.get("do_rescale"), self.do_rescale)
        frames = [_in_bytes(clip.frames, clip.unit) if rescale else clip.frames for clip in clips]
        processed = super().preprocess(
            frames, **options, do_sample_frames=False, return_metadata=False, input_data_format=ChannelDimension.FIRST
        )
        batch = VideoBatchFeature(
            _pad(processed["pixel_values_videos"], clips, (num_frames or 0) if fps is None else 0),
            tensor_type=return_tensors,
        )
        if _given(with_metadata, self.return_metadata):
            batch["video_metadata"] = [clip.metadata for clip in clips]
            if settings is not None:
                batch["faces"] = [
                    {"video": number, **({} if face is None else _about(face))} for number, _, face in people
                ]
        return batch

    def _own_sampling(self, num_frames: int | None, generator: torch.Generator | None) -> Sampling:
        """How the processor samples by itself, where a caller says at most how many frames."""
        fps = self.fps if num_frames is None else None
        return self._sampling(num_frames or self.num_frames, fps, generator=generator)

    def _sampling(
        self,
        num_frames: int | None,
        fps: float | None = None,
        sampling: str | None = None,
        stride: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Sampling:
        method = "fps" if fps is not None else _given(sampling, self.sampling)
        return Sampling(method, num_frames, fps, _given(stride, self.stride), generator)

    def _opening(
        self,
        url_timeout: float | None = None,
        url_max_bytes: int | None = None,
        url_allow_private: bool | None = None,
        video_backend: str | None = None,
    ) -> dict[str, Any]:
        """How a `VideoFile` is opened."""
        backend = _given(video_backend, self.video_backend)
        if backend not in BACKENDS:
            raise ValueError(f'video_backend is one of {", ".join(BACKENDS)}, not "{backend}".')
        return {
            "url_timeout": _given(url_timeout, self.url_timeout),
            "url_max_bytes": _given(url_max_bytes, self.url_max_bytes),
            "url_allow_private": _given(url_allow_private, self.url_allow_private),
            "backend": backend,
        }

    def _read(
        self,
        video: Any,
        sampling: Sampling,
        told: Sequence[Any] = (None, None),
        each: Each | None = None,
    ) -> Clip:
        """Reads one clip.

        Args:
            video: what `open_video` made of it.
            sampling: which frames are taken.
            told: time stamps, or else metadata of the source, which time frames that have no time of their own.
            each: is done to each picture before it is kept.
        """
        known: np.ndarray | None = None

        def choose(seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
            nonlocal known
            known = seconds if seconds is not None else _told_times(total, *told)
            if duration is None and known is not None and total > 1:
                duration = float(known[-1] - known[0]) * total / (total - 1)
            return sampling.indices(total, known, duration)

        clip = read(video, choose, each)
        clip.unit = clip.frames.is_floating_point() and in_unit_range(video)
        if clip.seconds is None and known is not None:
            clip.seconds = torch.from_numpy(known[clip.metadata.frames_indices]).float()
        _, source = told
        if clip.metadata.fps is None and source is not None:
            clip.metadata.fps = dict(source).get("fps")
        return clip

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Which frames of a clip are taken, by the interface that `transformers` has for it.

        Args:
            metadata: its `total_num_frames`, and for `fps` its own `fps`.
            num_frames: frames wanted, default `self.num_frames`.
            fps: frames wanted a second.
            **kwargs: ignored.

        Returns:
            Strictly increasing indices.

        Raises:
            ValueError: both are given, or `fps` without the rate of the clip.
        """
        if num_frames is not None and fps is not None:
            raise ValueError(_BOTH)
        total, rate = metadata.total_num_frames, metadata.fps
        if num_frames is None and fps is None:
            num_frames, fps = self.num_frames, self.fps
        if self.sampling == "dense" and fps is None:
            return dense_indices(total, num_frames or 0, self.stride)
        seconds = np.arange(total) / rate if rate else None
        return sample_indices(total, count_segments(num_frames, fps, total / rate if rate else None), seconds)

    def resize(self, image: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Resizes pictures (..., H, W), the middle of those that no camera makes (one side 16 times the other)."""
        longest = MAX_ASPECT * min(image.shape[-2:])
        if max(image.shape[-2:]) > longest:
            image = tvF.center_crop(image, [min(side, longest) for side in image.shape[-2:]])
        return super().resize(image, *args, **kwargs)

    def _reducer(
        self,
        do_resize: bool | None = None,
        size: Any = None,
        resample: Any = None,
        default_to_square: bool | None = None,
        device: Any = None,
        **kwargs: Any,
    ) -> Each | None:
        """Resizes single pictures as all of them would be later, so that a large video never is in memory as a whole.

        None where that is not the same: on another device, or to a size that depends on more than the shortest edge.
        """
        square = _given(default_to_square, self.default_to_square)
        aim = self._standardize_kwargs(size=_given(size, self.size), default_to_square=square)["size"]
        if not _given(do_resize, self.do_resize) or device is not None or aim.longest_edge or aim.max_height:
            return None
        return partial(self.resize, size=aim, resample=_given(resample, self.resample))


def _told_times(total: int, timestamps: Any, source: Any) -> np.ndarray | None:
    """Seconds (total,) from what the caller says about an array: its time stamps, or the metadata of its source."""
    if timestamps is not None:
        seconds = np.asarray(timestamps, dtype=np.float64)
        if seconds.shape != (total,):
            raise ValueError(f"A clip of {total} frames needs {total} timestamps, not an array {seconds.shape}.")
        return seconds
    rate = dict(source).get("fps") if source is not None else None
    if not rate:  # What writers say that do not know it.
        return None
    if not 0 < rate < float("inf"):
        raise VideoDecodeError(f"The metadata of a clip tells an fps of {rate:g}; give one above 0, or none.")
    indices = dict(source).get("frames_indices")
    return np.asarray(indices if indices is not None and len(indices) == total else np.arange(total)) / rate


def _in_bytes(frames: torch.Tensor, unit: bool) -> torch.Tensor:
    """Frames in 0..255: those in 0..1 are scaled, without rounding."""
    return frames * 255.0 if unit and frames.is_floating_point() else frames


def _pad(videos: list[torch.Tensor], clips: list[Clip], least: int) -> dict[str, torch.Tensor]:
    """Batch of clips (T_i, C, H, W), padded by their last frame to the longest or to `least`."""
    if len({video.shape[1:] for video in videos}) > 1:
        raise ValueError("The clips of a batch differ in size; leave `do_resize` and `do_center_crop` on.")
    lengths = torch.tensor([len(video) for video in videos], device=videos[0].device)
    longest = max(int(lengths.max()), least)

    def stack(tensors: list[torch.Tensor]) -> torch.Tensor:
        steps = torch.arange(longest, device=lengths.device)
        padded = [one if len(one) == longest else one[steps.clamp(max=len(one) - 1)] for one in tensors]
        return torch.stack(padded) if len(padded) > 1 else padded[0][None]

    batch = {
        "pixel_values_videos": stack(videos),
        "frame_mask": torch.arange(longest, device=lengths.device) < lengths[:, None],
    }
    known = [clip.seconds.to(lengths.device) for clip in clips if clip.seconds is not None]
    if len(known) == len(clips):
        batch["timestamps"] = stack(known)
    elif known:
        logger.warning_once("Some clips of this batch have no time stamps, so those of the others are left out too.")
    return batch


def _about(face: FaceClip) -> dict[str, Any]:
    return {"person": face.person, "boxes": face.boxes, "found": face.found, "missing": face.missing}


def _is_cut(source: Any, settings: FaceSettings) -> bool:
    """Whether a video holds faces that are cut out already: frames at hand of that size, or a file that says so."""
    if isinstance(source, VideoFile):
        return source.tags().get("comment") == f"{CUT_MARK} {settings.size}"
    frames = read(source, lambda *_: np.array([0]))
    return frames.metadata.video_backend == "array" and frames.frames.shape[-2:] == (settings.size, settings.size)


def _name(video: Any) -> str:
    """What messages call a video."""
    if isinstance(video, dict):
        video = video.get("path")
    return os.fspath(video) if isinstance(video, str | os.PathLike) else str(getattr(video, "name", "The clip"))


def _as_list(videos: Any) -> list[Any]:
    """Videos of a batch; nested lists are flattened, a single video or list of frames is a batch of one."""
    if getattr(videos, "ndim", 0) == 5:
        return list(videos)
    if not isinstance(videos, list | tuple) or is_valid_video(videos) or is_frame_files(videos):
        return [videos]
    if not videos:
        raise VideoDecodeError("An empty list has no video in it; give at least one.")
    return [video for item in videos for video in _as_list(item)]


def _flat(metadata: Any) -> Any:
    """Metadata of each video, of lists in lists too, as `transformers` takes them."""
    if isinstance(metadata, dict | VideoMetadata):
        return [metadata]
    if metadata and isinstance(metadata[0], list):
        return [one for several in metadata for one in several]
    return metadata


def _one_each(name: str, values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"Received {count} videos but {len(values)} entries in `{name}`; give one for each video.")
    return values


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


TGDFERVideoProcessor.register_for_auto_class()
