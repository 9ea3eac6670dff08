"""Answers requests of Inference Endpoints: https://huggingface.co/docs/inference-endpoints/guides/custom_handler.

This file is part of every published model. It uses only the code in the repository of the model, not this package.

A request is JSON: `{"inputs": VIDEO, "parameters": {...}}`, where VIDEO is a video file in base64. Parameters, all
optional:

- `labels`: other classes, as `{"bored": ["half-closed eyes", "a slack mouth"], ...}`;
- `interval`: seconds between two analysed frames.

The answer is the output of the pipeline `emotion-timeline`, with an `explanation` of each person and a `sentence` of
each segment. An input that cannot be used raises a `ValueError` with one sentence, which the endpoint returns.
"""

import base64
import binascii
import copy
import importlib
import io
from collections.abc import Mapping
from typing import Any

from transformers import AutoProcessor, pipeline

MAX_BYTES = 50_000_000
MAX_CLASSES = 32
PARAMETERS = ("labels", "interval")


class EndpointHandler:
    """Loads a model once, and analyses one video for each request.

    Args:
        path (`str`, *optional*, defaults to `""`): Folder or Hub id of the model.
    """

    def __init__(self, path: str = ""):
        # transformers does not know the names of the pipelines of repositories.
        load: Any = pipeline
        self.timeline: Any = load("emotion-timeline", model=path, trust_remote_code=True)
        self.processor: Any = AutoProcessor.from_pretrained(path, trust_remote_code=True)
        # A model that was trained on cropped faces can predict every face in a video.
        if self.timeline.video_processor.face_crop != "none":
            self.timeline.video_processor.face_crop = "all"
        package = type(self.timeline).__module__.rpartition(".")[0]
        self.explain_timeline = importlib.import_module(f"{package}.explanation_tgdfer").explain_timeline
        self.no_face_error = importlib.import_module(f"{package}.faces_tgdfer").NoFaceError

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Analyses a video.

        Args:
            data (`Mapping[str, Any]`): `inputs` and `parameters`, as described at the top of this file. `inputs` may
                also be the bytes of the video.

        Returns:
            `dict[str, Any]`: Plain values.

        Raises:
            ValueError: If the request or the video cannot be used.
        """
        video, options = video_of(data.get("inputs")), options_of(data.get("parameters"))
        timeline, descriptions = self.timeline, self.processor.descriptions or {}
        if "labels" in options:
            descriptions = options["labels"]
            timeline = self._with_classes(descriptions)
        try:
            result = timeline({"path": "The video", "bytes": io.BytesIO(video)}, interval=options.get("interval"))
        except self.no_face_error as error:
            raise ValueError(
                "The video shows no face that can be found; send one with a larger or brighter face, or turn it to the"
                " camera."
            ) from error
        return self.explain_timeline(result, descriptions, timeline.model.config)

    def _with_classes(self, descriptions: dict[str, list[str]]) -> Any:
        """Returns a pipeline with other classes. The usual one does not change, for requests at the same time."""
        model = self.timeline.model
        # Parameters are shared with the copy. `set_classes` replaces those that it changes.
        relabelled = copy.deepcopy(model, {id(one): one for one in model.parameters()})
        relabelled.set_classes(self.processor.class_prompts(descriptions))
        return type(self.timeline)(
            model=relabelled, video_processor=self.timeline.video_processor, device=self.timeline.device
        )


def video_of(inputs: Any) -> bytes:
    """Returns the bytes of the video in a request.

    A text is never taken for a path or a URL, because a request must not make the server read its own files or other
    addresses.

    Raises:
        ValueError: If there is no video, it is not base64, or it is too large.
    """
    if isinstance(inputs, str):
        text = inputs.partition(";base64,")[2] if inputs.startswith("data:") else inputs
        text = "".join(text.split())  # many encoders break lines
        if len(text) > MAX_BYTES * 4 // 3 + 4:
            raise ValueError(f"The video has more than {MAX_BYTES // 1_000_000} MB; send a shorter one.")
        try:
            inputs = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("`inputs` is not base64; encode the video file as base64.") from error
    if not isinstance(inputs, bytes) or not inputs:
        raise ValueError("`inputs` must be a video file, as base64; there is none.")
    if len(inputs) > MAX_BYTES:
        raise ValueError(f"The video has more than {MAX_BYTES // 1_000_000} MB; send a shorter one.")
    return inputs


def options_of(parameters: Any) -> dict[str, Any]:
    """Checks the parameters of a request.

    Raises:
        ValueError: If a parameter is unknown or has a wrong value.
    """
    options = {} if parameters is None else parameters
    if not isinstance(options, dict):
        raise ValueError('`parameters` must be an object, such as {"interval": 0.25}.')
    for name in options:
        if name not in PARAMETERS:
            raise ValueError(f"There is no parameter {name!r}; the parameters are {' and '.join(PARAMETERS)}.")
    options = {name: value for name, value in options.items() if value is not None}
    interval = options.get("interval", 1.0)
    if not isinstance(interval, int | float) or isinstance(interval, bool) or not 0 < interval < float("inf"):
        raise ValueError(f"interval is {interval!r}, but must be a number of seconds above 0.")
    labels = options.get("labels", {"a": [], "b": []})
    if not isinstance(labels, dict) or not 2 <= len(labels) <= MAX_CLASSES:
        raise ValueError(
            f'labels must be 2 to {MAX_CLASSES} classes, such as {{"bored": ["half-closed eyes"], "awake": ["wide open'
            ' eyes"]}.'
        )
    return options
