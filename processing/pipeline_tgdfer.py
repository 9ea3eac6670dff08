"""The emotion timeline: which emotion a clip shows, when, and which frames decided it."""

import os
from typing import Any

import torch
from transformers import AutoModelForVideoClassification, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

TASK = "emotion-timeline"


class EmotionTimelinePipeline(Pipeline):
    """Emotion of a clip over time, by a TG-DFER model.

    Example:
        ```python
        timeline = pipeline("emotion-timeline", model="user/tgdfer-model")
        timeline("clip.mp4")
        # {"label": "surprise", "scores": {"anger": 0.01, ...}, "timestamps": [0.02, ...],
        #  "frame_scores": {"anger": [0.05, ...], ...}, "frame_relevance": [0.01, ...],
        #  "description_relevance": [[0.21, ...], ...]}
        ```
    """

    model: Any
    video_processor: Any
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = True
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Analyses one video or several.

        Args:
            inputs: a path, URL, bytes or file object of a video, or a folder of frames; or a list of them.
            *args: ignored, as in every pipeline.
            **kwargs: `num_frames`, frames sampled from each clip, default `model.config.num_frames`; `batch_size` and
                `num_workers`, as in every pipeline.

        Returns:
            For each video a dict: `label`, the most probable class; `scores`, the probability of each class, by name;
            `timestamps`, seconds of the T frames, None where unknown; `frame_scores`, for each class its probability
            in each of the T frames; `frame_relevance`, how much each frame counts for the label: T shares of one;
            `description_relevance`, for each description of the label its cosine with each of the T frames.
            With the `face_crop` of the video processor also `track`, the number of the face in the video, and `boxes`,
            its left, top, right and bottom in pixels in each of the T frames, None where it was not found. With
            `face_crop="all"` a list of these for each video, the face that fills most of it first.

        Raises:
            VideoReadError: a video cannot be read; `NoFaceError`, one of them, if it has no face, by `no_face`.
        """
        if self.video_processor.face_crop == "none":
            return super().__call__(inputs, *args, **kwargs)
        alone = not isinstance(inputs, list | tuple)
        num_frames = kwargs.pop("num_frames", None) or self.model.config.num_frames
        people = [self.video_processor.read_faces(video, num_frames) for video in ([inputs] if alone else inputs)]
        found = iter(super().__call__([face for faces in people for face in faces], *args, **kwargs))
        results: list[Any] = [[{**next(found), **_place(face)} for face in faces] for faces in people]
        if self.video_processor.face_crop != "all":
            results = [result for (result,) in results]
        return results[0] if alone else results

    def _sanitize_parameters(self, num_frames: int | None = None, **kwargs: Any) -> tuple[dict, dict, dict]:
        return {} if num_frames is None else {"num_frames": num_frames}, {}, {}

    def preprocess(self, input_: Any, num_frames: int | None = None) -> dict[str, Any]:  # type: ignore[override]
        """Reads one clip; those without time stamps get NaN, so that all items have the same keys."""
        num_frames = num_frames or self.model.config.num_frames
        seconds = None
        if hasattr(input_, "track"):  # A face, cut out by `read_faces`.
            input_, seconds, num_frames = input_.frames, input_.seconds, len(input_.frames)
        batch = self.video_processor([input_], timestamps=[seconds], num_frames=num_frames, return_tensors="pt")
        batch = batch.to(self.dtype)
        return {"timestamps": torch.full(batch["frame_mask"].shape, torch.nan), **batch}

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> Any:
        seconds, frame_mask = input_tensors["timestamps"], input_tensors["frame_mask"]
        # What the model takes where it is given no time at all, here for single clips of a batch.
        usual = torch.arange(seconds.shape[1], device=seconds.device) * self.model.config.frame_interval
        outputs = self.model(**{**input_tensors, "timestamps": torch.where(seconds.isnan(), usual, seconds)})
        names = ("logits", "frame_logits", "frame_relevance", "description_relevance")
        chosen = {name: outputs[name].float() for name in names}
        return {**chosen, "timestamps": seconds, "frame_mask": frame_mask}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> dict[str, Any]:
        """Names and numbers of one clip, without the frames that only pad it."""
        (mask,) = model_outputs["frame_mask"]
        names = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]
        (scores,) = model_outputs["logits"].softmax(-1)
        frame_scores = model_outputs["frame_logits"][0, mask].softmax(-1)
        best = int(scores.argmax())
        seconds = model_outputs["timestamps"][0, mask]
        described = self.model.tgdfer.text_guidance.description_mask[best].cpu()
        return {
            "label": names[best],
            "scores": dict(zip(names, scores.tolist(), strict=True)),
            "timestamps": None if seconds.isnan().any() else seconds.tolist(),
            "frame_scores": dict(zip(names, frame_scores.T.tolist(), strict=True)),
            "frame_relevance": model_outputs["frame_relevance"][0, mask, best].tolist(),
            "description_relevance": model_outputs["description_relevance"][0, mask, best][:, described].T.tolist(),
        }

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves the model, the video processor and the code of this pipeline."""
        super().save_pretrained(save_directory, **kwargs)
        self.video_processor.save_pretrained(save_directory)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> PipelineIterator:
        """Batches clips of different lengths, which the collation of `transformers` knows for texts alone."""
        dataset = (PipelineDataset if hasattr(inputs, "__len__") else PipelineIterator)(
            inputs, self.preprocess, preprocess_params
        )
        loader = torch.utils.data.DataLoader(
            dataset, num_workers=num_workers, batch_size=batch_size, collate_fn=_collate
        )
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)


def _place(face: Any) -> dict[str, Any]:
    boxes = [box if there else None for box, there in zip(face.boxes.tolist(), face.found, strict=True)]
    return {"track": face.track, "boxes": boxes}


def _collate(clips: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Batch of clips (1, T_i, ...), padded by their last frame under the mask."""
    lengths = [clip["frame_mask"].shape[1] for clip in clips]
    which = [torch.arange(max(lengths)).clamp(max=length - 1) for length in lengths]
    batch = {
        name: torch.cat([clip[name][:, index] for clip, index in zip(clips, which, strict=True)]) for name in clips[0]
    }
    batch["frame_mask"] &= torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return batch


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=EmotionTimelinePipeline, pt_model=AutoModelForVideoClassification, type="multimodal"
)
