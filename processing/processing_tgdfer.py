"""Processor of TG-DFER: combines a video processor, a tokenizer and the descriptions of the classes."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPImageProcessor
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack

from .description_files_tgdfer import read_descriptions
from .explanation_tgdfer import Explanation, candidates, explain_clip, probabilities, references_of
from .saved_settings_tgdfer import from_checkpoint
from .search_tgdfer import LIMIT, MIN_SCORE, FaceIndex, SearchReference, search_indexes
from .video_processing_tgdfer import TGDFERVideoProcessor, TGDFERVideoProcessorKwargs, VideoBatchFeature

# Settings that video processors and image processors share.
IMAGE_SETTINGS = (
    "crop_size",
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
)


class TGDFERProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of the processor for texts and videos, with their defaults."""

    videos_kwargs: TGDFERVideoProcessorKwargs  # type: ignore[misc]
    _defaults = {"text_kwargs": {"padding": "longest"}}  # type: ignore[misc]


class TGDFERProcessor(ProcessorMixin):
    """Prepares videos and class descriptions for a TG-DFER model.

    Args:
        video_processor (`TGDFERVideoProcessor`, *optional*): Processor of the videos.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Tokenizer of the CLIP, SigLIP or other dual encoder.
        descriptions (`dict[str, list[str]]`, *optional*): One or more sentences per label that describe the face. They
            are saved with the processor.
        context_phrase (`str`, *optional*, defaults to `"a photo of a face:"`): Text before each description. The model
            can replace it with a learned context (CoOp, Zhou et al., 2022).
        text_padding (`str`, *optional*, defaults to `"longest"`): "longest" pads texts to the longest one, and
            "max_length" pads them to the maximum length of the text tower. SigLIP needs "max_length": it attends to
            padding and was trained with it.
        lowercase (`bool`, *optional*, defaults to `False`): Whether to convert texts to lower case before they are
            tokenized. SigLIP was trained on lower case, but not all of its tokenizers convert texts.
        search_reference (`dict[str, Any]`, *optional*): Distribution of the frame embeddings of the model over many
            faces, as returned by `SearchReference.to_dict`. Searches compare their scores with it.
        chat_template (`str`, *optional*): Chat template, which `ProcessorMixin` requires. It is not used.

    Example:
        ```python
        processor = TGDFERProcessor.from_clip("openai/clip-vit-base-patch16", built_in_descriptions())
        batch = processor(videos=["clip.mp4"], return_tensors="pt")
        model = TGDFERForVideoClassification.from_clip("openai/clip-vit-base-patch16", processor.class_prompts())
        ```
    """

    valid_processor_kwargs = TGDFERProcessorKwargs  # type: ignore[assignment]

    def __init__(
        self,
        video_processor: TGDFERVideoProcessor | None = None,
        tokenizer: Any = None,
        descriptions: dict[str, list[str]] | None = None,
        context_phrase: str = "a photo of a face:",
        text_padding: str = "longest",
        lowercase: bool = False,
        search_reference: dict[str, Any] | None = None,
        chat_template: str | None = None,
    ):
        _require_texts(descriptions, context_phrase)
        if search_reference is not None:
            SearchReference.from_dict(search_reference)
        self.descriptions = descriptions
        self.context_phrase = context_phrase
        self.text_padding = text_padding
        self.lowercase = lowercase
        self.search_reference = search_reference
        super().__init__(video_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_clip(
        cls,
        name_or_folder: str,
        descriptions: Mapping[str, Sequence[str]] | None,
        num_frames: int = 16,
        context_phrase: str = "a photo of a face:",
        **kwargs,
    ) -> "TGDFERProcessor":
        """Creates a processor with the tokenizer, image size, mean and standard deviation of a CLIP.

        Args:
            name_or_folder (`str`): Hub id or folder of a CLIP, SigLIP or other supported dual encoder.
            descriptions (`Mapping[str, Sequence[str]]`, *optional*): One or more sentences per label. If None, they
                must be passed to `class_prompts`.
            num_frames (`int`, *optional*, defaults to 16): Number of frames that are sampled from each video.
            context_phrase (`str`, *optional*, defaults to `"a photo of a face:"`): Text before each description.
            **kwargs (`Any`): Options of `from_pretrained`, such as `revision`, `token` and `cache_dir`.

        Returns:
            `TGDFERProcessor`: The processor.

        Raises:
            OSError: If the CLIP, its tokenizer or its image processor cannot be found.
        """
        image_processor = AutoImageProcessor.from_pretrained(name_or_folder, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder, **kwargs)
        config = AutoConfig.from_pretrained(name_or_folder, **kwargs)
        # Some checkpoints do not set the maximum length of their tokenizer.
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
        video_processor = TGDFERVideoProcessor(
            **from_checkpoint(_image_settings(image_processor.to_dict())) | {"num_frames": num_frames}
        )
        texts_by_label = (
            None if descriptions is None else {label: list(texts) for label, texts in descriptions.items()}
        )
        is_siglip = config.model_type == "siglip"
        padding = "max_length" if is_siglip else "longest"
        return cls(video_processor, tokenizer, texts_by_label, context_phrase, padding, lowercase=is_siglip)

    def __call__(
        self, videos: Any = None, text: str | list[str] | None = None, **kwargs: Unpack[TGDFERProcessorKwargs]
    ) -> BatchFeature:
        """Prepares videos, texts or both.

        Args:
            videos (`Any`, *optional*): A video or a list of videos, in the formats of
                `TGDFERVideoProcessor.read_clip`.
            text (`str` or `list[str]`, *optional*): A text or a list of texts. They are tokenized without the context
                phrase.
            **kwargs: Options of the video processor and the tokenizer.

        Returns:
            `BatchFeature`: `pixel_values_videos` (B, T, 3, H, W), `frame_mask` (B, T) and `timestamps` (B, T) of the
            videos; `input_ids` and `attention_mask` (N, L) of the texts.

        Raises:
            VideoDecodeError: If a video cannot be read.
            ValueError: If there are `images`.
        """
        if kwargs.get("images") is not None:
            raise ValueError("`images` is not an input of TG-DFER; pass pictures as `videos` of one frame.")
        if text is not None:
            text_options: Any = kwargs.get("text_kwargs", {})
            has_padding = "padding" in kwargs or "padding" in text_options or "padding" in self.tokenizer.init_kwargs
            if not has_padding:
                kwargs["text_kwargs"] = {**text_options, "padding": self.text_padding}
            text = self._normalize_case(text) if isinstance(text, str) else [self._normalize_case(t) for t in text]
        data = super().__call__(text=text, videos=videos, **kwargs)
        return VideoBatchFeature(data.data)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Saves the processor, its code, and the code of the pipeline that a saved model names in `custom_pipelines`.

        The folder also gets a `preprocessor_config.json` with the same settings for an image processor, because
        `pipeline("video-classification")` needs one to create batches.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write to. It is created if it does not exist.
            push_to_hub (`bool`, *optional*, defaults to `False`): Whether to upload the folder to the Hub.
            **kwargs: Options of `ProcessorMixin.save_pretrained`.

        Returns:
            `list[str]`: Paths of the files that the processor wrote.
        """
        os.makedirs(save_directory, exist_ok=True)
        self._save_image_settings(save_directory)
        return super().save_pretrained(save_directory, push_to_hub, **kwargs)

    def _save_image_settings(self, folder: str | os.PathLike) -> None:
        settings = self.video_processor.to_dict()
        known = CLIPImageProcessor.valid_kwargs.__annotations__
        images = CLIPImageProcessor(**{name: settings[name] for name in IMAGE_SETTINGS if name in known})
        images.save_pretrained(folder)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # With `push_to_hub`, transformers uploads only files that are written after its own bookkeeping starts.
        self._save_image_settings(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def class_prompts(self, descriptions: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Tokenizes the descriptions of K classes, sorted by name.

        Each prompt is `[BOS] context phrase description [EOS]`, followed by padding. SigLIP has no `[BOS]`.

        Args:
            descriptions (`Mapping[str, Sequence[str]]`, *optional*): One or more sentences per label. Defaults to the
                descriptions of the processor.

        Returns:
            `dict[str, Any]`: `labels` (K names); `input_ids` and `attention_mask` (K, M, L), int64, for up to M
            descriptions per class of up to L tokens; `description_mask` (K, M), bool, which is False where a class has
            fewer than M descriptions and repeats its first one; `context_length`, the number of tokens of the context
            phrase.

        Raises:
            ValueError: If there are no descriptions; a description is empty, repeated, too long or cannot be encoded
                by the tokenizer; two labels are the same except for case and spaces; or two classes have the same
                descriptions. The message names the label or the description.
        """
        descriptions = self.descriptions if descriptions is None else descriptions
        if not descriptions:
            raise ValueError(
                'There are no class descriptions; give {"label": ["what its face looks like", ...], ...}.'
            )
        if not isinstance(descriptions, Mapping):
            raise ValueError(
                f"Class descriptions must be a dictionary with a list of texts for each label, not a "
                f"{type(descriptions).__name__}."
            )
        labels = sorted(descriptions)
        for label in labels:
            _require_descriptions(label, descriptions[label])
        normalized_labels = {label: _normalize(label) for label in labels}
        _require_distinct(normalized_labels, "differ only in case and spaces; rename one")
        normalized_texts = {label: frozenset(map(_normalize, descriptions[label])) for label in labels}
        _require_distinct(normalized_texts, "have the same descriptions, so they cannot be told apart; reword one")
        most = max(len(descriptions[label]) for label in labels)
        padded = [[*descriptions[label], *[descriptions[label][0]] * most][:most] for label in labels]
        tokens = self._tokenize([text for texts in padded for text in texts])
        return {
            "labels": labels,
            **{name: ids.reshape(len(labels), most, -1) for name, ids in tokens.items()},
            "description_mask": torch.tensor(
                [[index < len(descriptions[label]) for index in range(most)] for label in labels]
            ),
            "context_length": self._context_length(),
        }

    def post_process_explanation(
        self,
        outputs: Any,
        timestamps: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        labels: Mapping[int, str] | Sequence[str] | None = None,
        config: Any = None,
    ) -> list[Explanation]:
        """Explains the predictions of a model by the decisive frames and the descriptions that match them.

        Decisive frames are those with a relevance above the mean. See `decisive_frames`.

        Args:
            outputs (`TGDFEROutput`): Outputs for B clips of T frames, of a model with the classes of `descriptions`:
                `logits` (B, K), `frame_relevance` (B, T, K) and `description_relevance` (B, T, K, M).
            timestamps (`torch.Tensor` of shape `(B, T)`, *optional*): Times of the frames in seconds. If they are
                missing or NaN, spans are given as frame numbers.
            frame_mask (`torch.Tensor` of shape `(B, T)`, *optional*): True for valid frames. Defaults to all frames.
            labels (`Mapping[int, str]` or `Sequence[str]`, *optional*): Names of the K classes in the order of the
                model, such as `model.config.id2label`. Defaults to the labels of `config`, or without it to those of
                `descriptions`, sorted by name.
            config (`TGDFERConfig`, *optional*): Config of the model. Its calibration is used: the temperature, the
                threshold for "unsure", and the reference cosines of the descriptions. Without it, the probabilities
                are the softmax of the logits, and a description is named if it matches the decisive frames better than
                the other frames.

        Returns:
            `list[Explanation]`: An explanation of each clip. `str` of it is a sentence.

        Raises:
            ValueError: If the model has other classes or descriptions than the processor.

        Example:
            ```python
            clip = processor(videos="clip.mp4", return_tensors="pt")
            outputs = model(**clip)
            print(processor.post_process_explanation(outputs, clip["timestamps"], config=model.config)[0])
            ```
        """
        descriptions = self.descriptions or {}
        if labels is None and config is not None:
            labels = config.id2label
        labels = sorted(descriptions) if labels is None else _in_order(labels)
        if sorted(labels) != sorted(descriptions):
            described = ", ".join(sorted(descriptions)) or "none"
            raise ValueError(
                f"The labels are {', '.join(labels)}, but the processor describes {described}; "
                "set `processor.descriptions` to the descriptions of the model's classes."
            )
        relevance, cosines = (
            outputs[name].detach().float().cpu() for name in ("frame_relevance", "description_relevance")
        )
        if cosines.shape[2:] != (len(labels), max(map(len, descriptions.values()), default=0)):
            raise ValueError(
                f"The outputs have {cosines.shape[2]} classes with up to {cosines.shape[3]} descriptions, which are"
                " not those of the processor; set `processor.descriptions` to the descriptions of the model's classes."
            )
        scores = probabilities(outputs["logits"].detach().float().cpu(), config)
        explanations = []
        for clip, index in enumerate(scores.argmax(-1).tolist()):
            explanations.append(
                explain_clip(
                    candidates(scores[clip].tolist(), labels, config),
                    float(scores[clip, index]),
                    relevance[clip, :, index],
                    cosines[clip, :, index],
                    descriptions[labels[index]],
                    None if timestamps is None else torch.as_tensor(timestamps)[clip].cpu(),
                    None if frame_mask is None else torch.as_tensor(frame_mask)[clip].cpu().bool(),
                    references_of(labels[index], config),
                )
            )
        return explanations

    def encode_classes(self, descriptions: Mapping[str, Sequence[str]] | str | os.PathLike) -> dict[str, Any]:
        """Replaces the descriptions of the processor, and tokenizes the new ones for `model.set_classes`.

        This changes the processor, which then describes and explains the new classes.

        Args:
            descriptions (`Mapping[str, Sequence[str]]`, `str` or `os.PathLike`): One or more sentences per label, or
                the path of a YAML or JSON file with them.

        Returns:
            `dict[str, Any]`: The output of `class_prompts`.

        Raises:
            ValueError: If the file or the descriptions are not valid. The processor then keeps its descriptions.
            OSError: If the file cannot be read.
        """
        if isinstance(descriptions, str | os.PathLike):
            descriptions = read_descriptions(Path(descriptions))
        prompts = self.class_prompts(descriptions)
        self.descriptions = {label: list(texts) for label, texts in descriptions.items()}
        return prompts

    def phrase_prompts(self, phrases: Sequence[str]) -> dict[str, torch.Tensor]:
        """Tokenizes phrases to search for, with the context phrase before each of them.

        Args:
            phrases (`Sequence[str]`): P phrases that describe a face, such as "raised brows".

        Returns:
            `dict[str, torch.Tensor]`: `input_ids` (P, L) for `model.encode_phrases`.

        Raises:
            ValueError: If there is no phrase, or a phrase is empty, too long or cannot be encoded by the tokenizer.
        """
        if isinstance(phrases, str) or not phrases or not all(isinstance(one, str) and one.strip() for one in phrases):
            raise ValueError('Give a list of phrases that describe a face, such as ["raised brows", "eyes closed"].')
        return {"input_ids": self._tokenize([" ".join(one.split()) for one in phrases], "phrase")["input_ids"]}

    def search(
        self,
        indexes: FaceIndex | Sequence[FaceIndex],
        phrases: Sequence[str],
        phrase_embeds: torch.Tensor,
        min_score: float = MIN_SCORE,
        limit: int | None = LIMIT,
    ) -> list[dict[str, Any]]:
        """Finds the moments of videos that match each phrase best, from embeddings alone.

        The score of a phrase in a frame says how many standard deviations better it fits this face than the faces of
        the `search_reference` on average. So scores can be compared between phrases. Up to half of the mean score of
        the person is subtracted, the more the longer the person is visible. If no frame has at least `min_score`, the
        phrase has no moments. A processor without a reference compares with all frames of these videos instead.

        Args:
            indexes (`FaceIndex` or `Sequence[FaceIndex]`): One or several videos, as returned by the `index` method of
                the pipeline `emotion-search`.
            phrases (`Sequence[str]`): P phrases.
            phrase_embeds (`torch.Tensor` of shape `(P, D)`): The encoded phrases:
                `model.encode_phrases(**processor.phrase_prompts(phrases))`.
            min_score (`float`, *optional*, defaults to 1.5): Minimum score of a moment.
            limit (`int`, *optional*, defaults to 5): Maximum number of moments of a phrase. None is no limit.

        Returns:
            `list[dict[str, Any]]`: For each phrase a dictionary with

            - `phrase`;
            - `moments`: dictionaries with `score`, `start` and `end` in seconds, `person` (None if faces were not
                detected), `video` (position in `indexes`), and `time`, `frame` and `box` of the frame with this score,
                best first;
            - `best`: the frame with the highest score, even if it is below `min_score`.

        Raises:
            ValueError: If the reference belongs to another model, or if there is none and the videos have fewer than
                32 frames.
        """
        reference = None if self.search_reference is None else SearchReference.from_dict(self.search_reference)
        indexes = [indexes] if isinstance(indexes, FaceIndex) else indexes
        return search_indexes(indexes, phrases, phrase_embeds, reference, min_score, limit)

    def _context_length(self) -> int:
        return len(self.tokenizer(self._normalize_case(self.context_phrase), add_special_tokens=False)["input_ids"])

    def _normalize_case(self, text: str) -> str:
        return text.lower() if self.lowercase else text

    def _tokenize(self, texts: list[str], kind: str = "description") -> dict[str, torch.Tensor]:
        """Tokenizes the context phrase followed by each text: `input_ids` and `attention_mask` (len(texts), L)."""
        prompts = [self._normalize_case(f"{self.context_phrase} {text}".strip()) for text in texts]
        options = {"padding_side": "right", "return_attention_mask": True, "return_tensors": "pt"}
        tokens = self.tokenizer(prompts, padding=self.text_padding, **options)
        lengths = tokens["attention_mask"].sum(1)
        limit = self.tokenizer.model_max_length
        if lengths.max() > limit:
            index = int(lengths.argmax())
            raise ValueError(
                f'The {kind} "{texts[index]}" has {lengths[index]} tokens with the context phrase, but the '
                f"text encoder accepts at most {limit}; shorten it."
            )
        # CLIP uses its end-of-text token as unknown token, so an unknown character would silently end the prompt.
        end = self.tokenizer.sep_token_id if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id
        ends = ((tokens["input_ids"] == end) & tokens["attention_mask"].bool()).sum(1)
        if (ends != 1).any():
            text = texts[int((ends != 1).nonzero()[0])]
            raise ValueError(f'The {kind} "{text}" has characters that the tokenizer does not know; reword it.')
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}


def _image_settings(images: dict[str, Any]) -> dict[str, Any]:
    """Converts the settings of the image processor of a checkpoint to settings of the video processor."""
    known = TGDFERVideoProcessor.valid_kwargs.__annotations__
    settings = {name: value for name, value in images.items() if name in known and value is not None}
    settings.setdefault("do_center_crop", False)  # image processors that never crop lack this setting
    if "crop_pct" in images:  # as in ConvNeXT, which center-crops small images from larger ones
        side = images["size"]["shortest_edge"]
        square = {"height": side, "width": side}
        if side >= 384:
            return settings | {"size": square}
        larger = {"shortest_edge": int(side / images["crop_pct"])}
        return settings | {"size": larger, "crop_size": square, "do_center_crop": True}
    return settings


def _in_order(labels: Mapping[int, str] | Sequence[str]) -> list[str]:
    """Sorts names by their indices, which are strings in a `config.json`."""
    return [labels[index] for index in sorted(labels, key=int)] if isinstance(labels, Mapping) else list(labels)


def _normalize(text: str) -> str:
    return " ".join(text.lower().split())


def _require_distinct(classes: Mapping[str, Hashable], clash: str) -> None:
    """Raises a ValueError if two classes have the same value."""
    first: dict[Hashable, str] = {}
    for label, value in classes.items():
        if first.setdefault(value, label) != label:
            raise ValueError(f'The classes "{first[value]}" and "{label}" {clash}.')


def _require_texts(descriptions: Any, context_phrase: Any) -> None:
    """Checks the types of the texts in a `processor_config.json`.

    Raises:
        ValueError: If they have other types.
    """
    classes = descriptions if descriptions is not None else {}
    if not isinstance(classes, Mapping) or not all(
        isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts) for texts in classes.values()
    ):
        raise ValueError('The descriptions of a processor must be {"label": ["what its face looks like", ...], ...}.')
    if not isinstance(context_phrase, str):
        raise ValueError(f"The context phrase of a processor must be text, not {context_phrase!r}.")


def _require_descriptions(label: str, texts: Sequence[str]) -> None:
    if not label.strip():
        raise ValueError("A class has an empty label; name it.")
    if not texts or not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'The class "{label}" needs a list of descriptions; give at least one.')
    previous: set[str] = set()
    for text in texts:
        normalized = _normalize(text)
        if not normalized:
            raise ValueError(f'The class "{label}" has an empty description; write it or delete it.')
        if normalized in previous:
            raise ValueError(f'The class "{label}" has the description "{text}" twice; delete one.')
        previous.add(normalized)


TGDFERProcessor.register_for_auto_class()
