"""Video processor of TG-DFER: converts videos to frames, a frame mask and timestamps."""

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
from transformers.video_utils import VideoMetadata

from .addresses_tgdfer import URL_MAX_BYTES, URL_TIMEOUT
from .detectors_tgdfer import load_detector
from .faces_tgdfer import CROP_MARK, FaceClip, FaceSettings, crop_faces
from .frame_sampling_tgdfer import ALL_FRAMES, Sampling
from .recordings_tgdfer import Recording, RecordingReader
from .saved_settings_tgdfer import CALLER_SETTINGS, from_checkpoint
from .video_batches_tgdfer import list_metadata, list_videos, per_video, stack_videos, video_name
from .video_file_tgdfer import BACKENDS, VideoFile
from .video_reading_tgdfer import (
    OVERSHOOT,
    Clip,
    FrameTransform,
    VideoDecodeError,
    in_unit_range,
    open_video,
    read,
)

logger = logging.get_logger(__name__)

# transformers saves and downloads a file together with its relative imports, which it finds by a regular expression.
# This string makes sure that the files below are always included. A real import would be circular.
_SAVED_WITH_THIS_FILE = """
from .pipeline_tgdfer import EmotionTimelinePipeline
from .search_pipeline_tgdfer import EmotionSearchPipeline
from .processing_tgdfer import TGDFERProcessor
"""

SAMPLING_OPTIONS = ("num_frames", "fps", "sampling", "stride")
OPEN_OPTIONS = ("url_timeout", "url_max_bytes", "url_allow_private", "video_backend")
FACE_OPTIONS = ("face_crop", "face_detector", "face_model", "face_size", "face_margin", "face_every", "no_face")
# Maximum ratio of the sides of an image. More elongated images are center-cropped, because they would take gigabytes
# of memory after their short side is resized.
MAX_ASPECT = 16
_CONFLICT = "`num_frames` and `fps` both set the number of sampled frames; pass only one of them."


class TGDFERVideoProcessorKwargs(VideosKwargs, total=False):
    """Keyword arguments of the video processor.

    Attributes:
        timestamps (`Sequence`): For each video the times (T,) of its frames in seconds, or None if they are unknown.
            They are needed only for arrays and lists of images. Video files have timestamps.
        sampling (`str`): "segments" takes one frame of each of `num_frames` equal parts of the video. "dense" takes
            `num_frames` frames with a distance of `stride`. "fps" takes `fps` frames per second, and samples in
            segments if the caller gives `num_frames`.
        stride (`int`): Distance between two frames with `sampling="dense"`.
        url_timeout (`float`): Maximum time in seconds for downloading a URL. This option and the next two are not
            saved, so a checkpoint cannot set them.
        url_max_bytes (`int`): Maximum size in bytes of a video at a URL.
        url_allow_private (`bool`): Whether a URL may point to this machine or a private network.
        video_backend (`str`): "pyav" or "torchcodec". PyAV is also used if torchcodec is not available, or would give
            other frames or timestamps. The option is not saved, because the frames are the same.
        face_crop (`str`): "none" uses whole images. "largest" and "center" crop one face. "all" crops each face, and
            gives each its own row in the batch. `pipeline("video-classification")` expects one row for each video, so
            use `pipeline("emotion-timeline")` for several faces. Arrays that already have the size of the crops, and
            files of crops of that size that were written by `tgdfer faces`, are not cropped again.
        face_detector (`str`): "yunet", "mtcnn" or "auto", which selects YuNet if its model is available.
        face_model (`str`, *optional*): Path of the model of YuNet. None loads it from the Hub. It is not saved.
        face_size (`int`): Height and width of the crops in pixels, before `size` is applied.
        face_margin (`float`): Margin around the face, as a fraction of the size of the face.
        face_every (`int`): Faces are detected in every n-th sampled frame.
        no_face (`str`): What to do with frames without the face. "skip" leaves them out, and raises an error only if
            no frame is left. "full_frame" uses the whole frame. "error" raises an error.
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
    """A `BatchFeature` that keeps `timestamps` in float32. In half precision they would be off by whole frames."""

    def to(self, *args, **kwargs) -> "VideoBatchFeature":
        seconds = self.data.pop("timestamps", None)
        try:
            super().to(*args, **kwargs)
        finally:
            if seconds is not None:
                self.data["timestamps"] = seconds.to(self.data["frame_mask"].device)
        return self


class TGDFERVideoProcessor(BaseVideoProcessor):
    """Decodes videos, samples their frames, and resizes and normalises them for CLIP.

    By default a video is divided into `num_frames` equal parts, and the middle frame of each is taken. `sampling`
    selects other methods. A video with fewer frames is padded with its last frame, and `frame_mask` is False there.
    With `fps`, or without sampling, videos are padded to the longest one of the batch.

    Args:
        **kwargs (`Any`): `num_frames`, `fps`, and options of `TGDFERVideoProcessorKwargs` and `BaseVideoProcessor`.

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
        """Reads sampled frames at their original size, before they are resized and normalised.

        The frames can then be augmented. `video_processor([frames], timestamps=[seconds], do_sample_frames=False)`
        gives the same result for them as `video_processor(video)`, except that it does not pad a short video.

        Args:
            video (`Any`): A path, bytes or a binary file object of a video; a URL (`http://`, `https://`, `hf://`,
                `s3://`, `gs://`, `gcs://`, `az://` or `abfs://`); a value of a video column of `datasets`
                (`{"path": ..., "bytes": ...}`); an open PyAV container or torchcodec decoder; a folder of frames or a
                list of their files, in natural order; an array (T, H, W, 3) or (T, 3, H, W), or a list of T images; a
                single image, which is a video of one frame.
                Floating-point values are in the range 0 to 1, or 0 to 255 if any value in the video is above 1.
            num_frames (`int`, *optional*): Number of frames. Defaults to `self.num_frames`, or to `self.fps` frames
                per second if that is set. With `sampling="fps"`, a given number of frames is taken in segments.
            generator (`torch.Generator`, *optional*): Draws random frames, for training. None takes the middle ones.

        Returns:
            `tuple[torch.Tensor, torch.Tensor | None]`: Frames (T, 3, H, W), uint8 RGB, and their times (T,) in
            seconds, float32. The times are None if they are unknown, as for arrays and folders of frames. T is
            `num_frames`, or less for a shorter video. With `face_crop` the frames are crops of the first face of
            `read_faces`.

        Raises:
            VideoDecodeError: If no frame can be read.
        """
        source = self.open_video(video)
        clip = self._read(source, self._sampling(num_frames, generator=generator))
        clip, _ = self._crop_faces(clip, self._face_settings(), source, video_name(video))[0]
        return self._to_uint8(clip.frames, clip.is_unit_range), clip.seconds

    def read_faces(
        self, video: Any, num_frames: int | None = None, generator: torch.Generator | None = None
    ) -> list[FaceClip]:
        """Reads a video, and crops one face or all faces, depending on `face_crop`.

        Args:
            video (`Any`): As in `read_clip`.
            num_frames (`int`, *optional*): As in `read_clip`.
            generator (`torch.Generator`, *optional*): As in `read_clip`.

        Returns:
            `list[FaceClip]`: The crops, the boxes and the person of each face, most prominent first. The processor
            accepts the crops: `video_processor([face.frames], timestamps=[face.seconds], do_sample_frames=False)`.

        Raises:
            VideoDecodeError: If no frame can be read, or `NoFaceError` if there is no face, depending on `no_face`.
            ValueError: If `face_crop` is "none".
        """
        settings = self._face_settings()
        if settings is None:
            raise ValueError('face_crop is "none"; set it to "largest", "center" or "all" to read faces.')
        clip = self._read(self.open_video(video), self._sampling(num_frames, generator=generator))
        return crop_faces(self._to_uint8(clip.frames, clip.is_unit_range), clip.seconds, settings, video_name(video))

    def read_recording(
        self,
        video: Any,
        interval: float,
        num_frames: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Recording:
        """Reads a video of any length for prediction: finds its people, and then yields their frames.

        The frames of a short video are decoded once and kept in memory. A longer video is decoded twice after a
        preview of a few frames, because people are tracked through the whole video before the first face is cropped.
        Only few of its frames are in memory at a time.

        Args:
            video (`Any`): As in `read_clip`.
            interval (`float`): Seconds between two sampled frames. Arrays and folders of frames are assumed to have 25
                frames per second.
            num_frames (`int`, *optional*, defaults to `self.num_frames`): Minimum number of sampled frames.
            progress (`Callable[[float], None]`, *optional*): Called with the fraction of the work that is done.

        Returns:
            `Recording`: The people selected by `face_crop`, and an iterator over their frames.

        Raises:
            VideoDecodeError: If no frame can be read, or `NoFaceError` if there is no face, depending on `no_face`.
            ValueError: If `interval` is not above 0, or infinite.
        """
        if not 0 < interval < float("inf"):
            raise ValueError(f"interval must be above 0 seconds and finite, not {interval}.")
        settings = self._face_settings()
        source = self.open_video(video)
        if settings is not None and _is_cropped(source, settings):
            settings = None
        reader = RecordingReader(
            source,
            settings,
            interval,
            num_frames or self.num_frames,
            partial(self._to_uint8, is_unit_range=in_unit_range(source)),
            self._resizer() if settings is None and not hasattr(source, "ndim") else None,
            video_name(video),
            progress or (lambda fraction: None),
        )
        return reader.read()

    def open_video(self, video: Any) -> Any:
        """Opens a video for several calls of the other methods, so that a URL is downloaded and checked only once.

        Args:
            video (`Any`): As in `read_clip`.

        Raises:
            VideoDecodeError: If the video does not exist, is empty, or cannot be downloaded.
        """
        return open_video(video, **self._open_options())

    def _to_uint8(self, frames: torch.Tensor, is_unit_range: bool) -> torch.Tensor:
        """Converts images (..., H, W) to RGB in uint8; `is_unit_range` is whether their values are from 0 to 1."""
        images: Any = self.convert_to_rgb(_scale_to_255(frames, is_unit_range))
        return images if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)

    def resolve_face_detector(self) -> None:
        """Replaces the face detector "auto" by the one that it selects, as the first video would.

        Copies of this processor in other processes then use the same detector, and its name can be recorded.
        """
        self._face_settings()

    def _face_settings(self, **overrides: Any) -> FaceSettings | None:
        """Returns the settings for cropping faces, or None if faces are not cropped.

        The detector that "auto" selects is stored in `self.face_detector`, because a model needs the crops that it was
        trained with.
        """
        values = {name: _default(overrides.get(name), getattr(self, name)) for name in FACE_OPTIONS}
        settings = FaceSettings(**{name.removeprefix("face_"): value for name, value in values.items()})
        if settings.crop == "none":
            return None
        if settings.detector == "auto":
            self.face_detector, _ = load_detector("auto", settings.model)
            settings = replace(settings, detector=self.face_detector)
        return settings

    def _crop_faces(
        self, clip: Clip, settings: FaceSettings | None, source: Any, name: str
    ) -> list[tuple[Clip, FaceClip | None]]:
        """Returns the frames of a video, or the crops of each of its faces; `source` is the output of `open_video`."""
        if settings is None or (
            (clip.metadata.height, clip.metadata.width) == (settings.size, settings.size)
            and _is_cropped(source, settings)
        ):
            return [(clip, None)]
        faces = crop_faces(self._to_uint8(clip.frames, clip.is_unit_range), clip.seconds, settings, name)
        sampled = np.array(clip.metadata.frames_indices)
        return [
            (
                Clip(face.frames, face.seconds, replace(clip.metadata, frames_indices=sampled[face.indices].tolist())),
                face,
            )
            for face in faces
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings except those in `CALLER_SETTINGS`, such as the limits for downloads."""
        return {name: value for name, value in super().to_dict().items() if name not in CALLER_SETTINGS}

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Creates a processor from a dictionary, such as the contents of a `preprocessor_config.json`.

        Raises:
            ValueError: If a setting has an invalid value.
        """
        return super().from_dict(from_checkpoint(video_processor_dict), **kwargs)

    def preprocess(self, videos: Any, **kwargs: Unpack[TGDFERVideoProcessorKwargs]) -> BatchFeature:
        """Reads, samples, resizes and normalises videos. `video_processor(...)` calls this method.

        Args:
            videos (`Any`): A video as in `read_clip`, or a list of videos. Their sizes may differ.
            **kwargs: Options that override the attributes of the processor. `num_frames` or `fps` (frames per second)
                sets the number of sampled frames, and `do_sample_frames=False` takes all frames. `timestamps`, or
                `video_metadata` with the `fps` of the source, sets the times of arrays. `return_metadata=True` adds
                `video_metadata`, and with `face_crop` also `faces`: for each row of the batch the index of its
                `video`, the number of the `person`, `boxes` (T, 4) in pixels, `found` (T,), which is True where the
                face was found, and `missing`, the times in seconds of the sampled frames without it.
                `do_rescale=False` does not rescale floating-point values.

        Returns:
            `BatchFeature`: For B videos, or for the B faces in them with `face_crop="all"`: `pixel_values_videos`
            (B, T, 3, S, S), float32; `frame_mask` (B, T), bool, which is False on padding; `timestamps` (B, T) in
            seconds, float32. Times that are unknown are NaN, and `timestamps` is missing if those of all videos are.

        Raises:
            VideoDecodeError: If a video cannot be read.
            ValueError: If options contradict each other.
        """
        videos = list_videos(videos)
        timestamps = per_video("timestamps", kwargs.pop("timestamps", None), len(videos))
        sources = per_video("video_metadata", list_metadata(kwargs.pop("video_metadata", None)), len(videos))
        do_sample_frames = _default(kwargs.pop("do_sample_frames", None), self.do_sample_frames)
        return_tensors, with_metadata = kwargs.pop("return_tensors", None), kwargs.pop("return_metadata", None)
        kwargs.pop("input_data_format", None)

        options: dict[str, Any] = {**kwargs}
        sampling_options = {name: options.pop(name, None) for name in SAMPLING_OPTIONS}
        sampling = self._sampling(**sampling_options) if do_sample_frames else ALL_FRAMES
        open_options = self._open_options(**{name: options.pop(name, None) for name in OPEN_OPTIONS})
        settings = self._face_settings(**{name: options.pop(name, None) for name in FACE_OPTIONS})
        resize = self._resizer(**options) if settings is None else None
        people = []
        for number, (video, *times) in enumerate(zip(videos, timestamps, sources, strict=True)):
            source = open_video(video, **open_options)  # once, because it may be downloaded or not seekable
            clip = self._read(source, sampling, times, resize)
            people += [(number, *person) for person in self._crop_faces(clip, settings, source, video_name(video))]
        clips = [clip for _, clip, _ in people]
        rescale = _default(options.get("do_rescale"), self.do_rescale)
        frames = [_scale_to_255(clip.frames, clip.is_unit_range) if rescale else clip.frames for clip in clips]
        processed = super().preprocess(
            frames, **options, do_sample_frames=False, return_metadata=False, input_data_format=ChannelDimension.FIRST
        )
        batch = VideoBatchFeature(
            stack_videos(processed["pixel_values_videos"], clips, sampling.num_frames or 0),
            tensor_type=return_tensors,
        )
        if _default(with_metadata, self.return_metadata):
            batch["video_metadata"] = [clip.metadata for clip in clips]
            if settings is not None:
                batch["faces"] = [{"video": number, **_face_metadata(face)} for number, _, face in people]
        return batch

    def _sampling(
        self,
        num_frames: int | None = None,
        fps: float | None = None,
        sampling: str | None = None,
        stride: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Sampling:
        """Returns how frames are sampled. Options that are None are those of the processor."""
        if num_frames is not None and fps is not None:
            raise ValueError(_CONFLICT)
        method = _default(sampling, self.sampling)
        if num_frames is None and fps is None:
            num_frames, fps = (self.num_frames, None) if self.fps is None else (None, self.fps)
        elif sampling is None and method == "fps":
            method = "segments"  # for a given number of frames
        method = "fps" if fps is not None else method
        return Sampling(method, num_frames, fps, _default(stride, self.stride), generator)

    def _open_options(
        self,
        url_timeout: float | None = None,
        url_max_bytes: int | None = None,
        url_allow_private: bool | None = None,
        video_backend: str | None = None,
    ) -> dict[str, Any]:
        """Returns the options for opening a `VideoFile`."""
        backend = _default(video_backend, self.video_backend)
        if backend not in BACKENDS:
            raise ValueError(f'video_backend must be one of {", ".join(BACKENDS)}, not "{backend}".')
        return {
            "url_timeout": _default(url_timeout, self.url_timeout),
            "url_max_bytes": _default(url_max_bytes, self.url_max_bytes),
            "url_allow_private": _default(url_allow_private, self.url_allow_private),
            "backend": backend,
        }

    def _read(
        self,
        video: Any,
        sampling: Sampling,
        times: Sequence[Any] = (None, None),
        resize: FrameTransform | None = None,
    ) -> Clip:
        """Reads one video.

        Args:
            video (`Any`): Output of `open_video`.
            sampling (`Sampling`): Method for sampling frames.
            times (`Sequence`): Timestamps and metadata from the caller, used if the video has no timestamps.
            resize (`FrameTransform`, *optional*): Applied to each image before it is stored.
        """
        all_seconds: np.ndarray | None = None

        def choose(seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
            nonlocal all_seconds
            all_seconds = seconds if seconds is not None else _times_of_caller(total, *times)
            if duration is None and all_seconds is not None and total > 1:
                duration = float(all_seconds[-1] - all_seconds[0]) * total / (total - 1)
            return sampling.indices(total, all_seconds, duration)

        clip = read(video, choose, resize)
        clip.is_unit_range = clip.frames.is_floating_point() and in_unit_range(video)
        if clip.seconds is None and all_seconds is not None:
            clip.seconds = torch.from_numpy(all_seconds[clip.metadata.frames_indices]).float()
        _, source = times
        if clip.metadata.fps is None and source is not None:
            clip.metadata.fps = dict(source).get("fps")
        return clip

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Selects the frames of a video. This is the interface of `BaseVideoProcessor`.

        Args:
            metadata (`VideoMetadata`): Metadata of the video with `total_num_frames`, and `fps` if `fps` is given.
            num_frames (`int`, *optional*): Number of frames. Defaults to `self.num_frames`.
            fps (`float`, *optional*): Frames per second.
            **kwargs: Ignored.

        Returns:
            `np.ndarray`: Strictly increasing indices.

        Raises:
            ValueError: If both are given, or if `fps` is given and the frame rate of the video is unknown.
        """
        total, rate = metadata.total_num_frames, metadata.fps
        seconds, duration = (np.arange(total) / rate, total / rate) if rate else (None, None)
        return self._sampling(num_frames, fps).indices(total, seconds, duration)

    def resize(self, image: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Resizes images (..., H, W). Images with an aspect ratio above `MAX_ASPECT` are center-cropped first."""
        longest = MAX_ASPECT * min(image.shape[-2:])
        if max(image.shape[-2:]) > longest:
            image = tvF.center_crop(image, [min(side, longest) for side in image.shape[-2:]])
        return super().resize(image, *args, **kwargs)

    def _resizer(
        self,
        do_resize: bool | None = None,
        size: Any = None,
        resample: Any = None,
        default_to_square: bool | None = None,
        device: Any = None,
        **kwargs: Any,
    ) -> FrameTransform | None:
        """Returns a function that resizes single images while a video is read, to save memory.

        It returns None if the result would differ from resizing all frames later: on another device, or for a size
        that does not depend only on the shortest edge.
        """
        square = _default(default_to_square, self.default_to_square)
        target = self._standardize_kwargs(size=_default(size, self.size), default_to_square=square)["size"]
        if not _default(do_resize, self.do_resize) or device is not None or target.longest_edge or target.max_height:
            return None
        return partial(self.resize, size=target, resample=_default(resample, self.resample))


def _times_of_caller(total: int, timestamps: Any, source: Any) -> np.ndarray | None:
    """Computes the times (total,) of an array in seconds from the timestamps or the metadata that the caller gave."""
    if timestamps is not None:
        seconds = np.asarray(timestamps, dtype=np.float64)
        if seconds.shape != (total,):
            raise ValueError(f"A video of {total} frames needs {total} timestamps, not an array {seconds.shape}.")
        return seconds
    rate = dict(source).get("fps") if source is not None else None
    if not rate:  # Some writers store 0 for an unknown rate.
        return None
    if not 0 < rate < float("inf"):
        raise VideoDecodeError(f"The metadata of a video has an fps of {rate:g}; it must be above 0 or missing.")
    indices = dict(source).get("frames_indices")
    return np.asarray(indices if indices is not None and len(indices) == total else np.arange(total)) / rate


def _scale_to_255(frames: torch.Tensor, is_unit_range: bool) -> torch.Tensor:
    """Scales floating-point frames from 0..1 to 0..255 if `is_unit_range`, without rounding.

    Raises:
        VideoDecodeError: If the values are in neither range.
    """
    if not frames.is_floating_point() or not frames.numel():
        return frames
    darkest, brightest = (float(value) for value in frames.aminmax())
    # Values of -1 to 1, and normalised ones, are about as far below zero as above it.
    if darkest < -0.5 * max(brightest, 1.0) or brightest > OVERSHOOT * 255:
        raise VideoDecodeError(
            f"Floats from {darkest:.4g} to {brightest:.4g} are not the pixels of a video; scale them to 0 to 1, or to "
            "0 to 255."
        )
    return frames * 255.0 if is_unit_range else frames


def _face_metadata(face: FaceClip | None) -> dict[str, Any]:
    if face is None:
        return {}
    return {"person": face.person, "boxes": face.boxes, "found": face.found, "missing": face.missing}


def _is_cropped(source: Any, settings: FaceSettings) -> bool:
    """Whether a video is already cropped: an array of the size of the crops, or a file written by `tgdfer faces`."""
    if isinstance(source, VideoFile):
        return source.tags().get("comment") == f"{CROP_MARK} {settings.size}"
    frames = read(source, lambda *_: np.array([0]))
    return frames.metadata.video_backend == "array" and frames.frames.shape[-2:] == (settings.size, settings.size)


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


TGDFERVideoProcessor.register_for_auto_class()
