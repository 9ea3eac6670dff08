"""The pipeline `emotion-search`: finds the moments of a video that match phrases such as "raised brows"."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForVideoClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .pipeline_tgdfer import EmotionTimelinePipeline
from .search_tgdfer import LIMIT, MIN_SCORE, FaceIndex
from .segments_tgdfer import Presence

TASK = "emotion-search"


class EmotionSearchPipeline(EmotionTimelinePipeline):
    """Finds the moments of videos that match phrases best, with a TG-DFER model.

    Reading a video takes time, and searching in its index takes milliseconds. Keep the index for further searches.

    Example:
        ```python
        search = pipeline("emotion-search", model="user/tgdfer-model")
        index = search.index("talk.mp4")
        for result in search(index, phrases=["raised brows", "eyes closed", "a broad smile"]):
            for moment in result["moments"]:
                print(result["phrase"], moment["score"], moment["start"], moment["end"], moment["person"])
        ```
    """

    processor: Any
    _load_processor: Any = True
    _load_video_processor: Any = False

    def __init__(self, model: Any, processor: Any, video_processor: Any = None, **kwargs: Any):
        super().__init__(model, video_processor or processor.video_processor, **kwargs)
        self.processor = processor

    def index(self, inputs: Any, **kwargs: Any) -> Any:
        """Reads videos and encodes the faces in them.

        Args:
            inputs (`Any`): A path, URL, bytes or file object of a video or photograph, a folder of frames, or a list
                of these.
            **kwargs (`Any`): `interval`, `progress`, `batch_size`, `num_workers` and the options of faces, as in
                `EmotionTimelinePipeline`.

        Returns:
            `FaceIndex` or `list[FaceIndex]`: The index of each video.

        Raises:
            VideoDecodeError: If a video cannot be read, or has no face.
        """
        return super().__call__(inputs, **kwargs)

    def __call__(
        self,
        inputs: Any,
        *args: Any,
        phrases: Sequence[str] | str | None = None,
        min_score: float = MIN_SCORE,
        limit: int | None = LIMIT,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Finds the moments of one or several videos that match each phrase best.

        Args:
            inputs (`Any`): A video or its `FaceIndex`, or a list of these, as in `index`.
            *args (`Any`): Ignored, as in every pipeline.
            phrases (`Sequence[str]` or `str`): One or several phrases that describe a face.
            min_score (`float`, *optional*, defaults to 1.5): Minimum score of a moment, in standard deviations of the
                scores of the phrase over the reference faces of the model.
            limit (`int`, *optional*, defaults to 5): Maximum number of moments of a phrase over all videos. None is no
                limit.
            **kwargs (`Any`): As in `index`.

        Returns:
            `list[dict[str, Any]]`: For each phrase its moments, best first, as in `TGDFERProcessor.search`. There are
            none if the phrase matches no face.

        Raises:
            VideoDecodeError: If a video cannot be read, or has no face.
            ValueError: If there is no phrase, or a phrase cannot be encoded.
        """
        texts = [phrases] if isinstance(phrases, str) else list(phrases or ())
        embeds = self.encode(texts)
        videos = inputs if isinstance(inputs, list | tuple) else [inputs]
        indexes = [one if isinstance(one, FaceIndex) else self.index(one, **kwargs) for one in videos]
        return self.processor.search(indexes, texts, embeds, min_score, limit)

    def encode(self, phrases: Sequence[str]) -> torch.Tensor:
        """Encodes phrases: P texts -> (P, D), of unit length.

        Raises:
            ValueError: If there is no phrase, or a phrase cannot be encoded.
        """
        prompts = self.processor.phrase_prompts(phrases)
        with self.get_inference_context()():
            return self.model.encode_phrases(prompts["input_ids"].to(self.device)).float().cpu()

    def postprocess(self, model_outputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Creates the index of a video from the features of all its people."""
        recording, people = model_outputs.recording, model_outputs.people
        parts = []
        for person in people:
            presence = Presence(person.places, recording.edges, recording.cuts, recording.seconds)
            count = len(person.places)
            number = 0 if recording.detector is None or person.path is None else person.path.person
            lengths = np.linalg.norm(person.features, axis=1, keepdims=True)
            parts.append(
                {
                    "embeddings": (person.features / np.maximum(lengths, 1e-12)).astype(np.float16),
                    "spans": np.array([presence.span(row, row) for row in range(count)], np.float32),
                    "seconds": recording.seconds[person.places].astype(np.float32),
                    "frames": recording.indices[person.places].astype(np.int32),
                    "people": np.full(count, number, np.int32),
                    "boxes": person.boxes.astype(np.float16),
                }
            )
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return FaceIndex(**arrays, duration=float(recording.duration))

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves the model, the processor and the code of this pipeline.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write to.
            **kwargs (`Any`): Options of `Pipeline.save_pretrained`.
        """
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=EmotionSearchPipeline, pt_model=AutoModelForVideoClassification, type="multimodal"
)
