"""Processor of TG-DFER: a video processor and a tokenizer, and the words that stand for each class."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPImageProcessor
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack

from .description_files_tgdfer import read_descriptions
from .explanation_tgdfer import Explanation, at_temperature, candidates, explain_clip, references_of
from .saved_settings_tgdfer import from_checkpoint
from .video_processing_tgdfer import TGDFERVideoProcessor, TGDFERVideoProcessorKwargs, VideoBatchFeature

# What a video processor and an image processor both know.
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
    """Keyword arguments of the processor, for texts and for videos, and what texts have by default."""

    videos_kwargs: TGDFERVideoProcessorKwargs  # type: ignore[misc]
    _defaults = {"text_kwargs": {"padding": "longest"}}  # type: ignore[misc]


class TGDFERProcessor(ProcessorMixin):
    """Prepares clips for a TG-DFER model, and the descriptions of its classes.

    Args:
        video_processor: a `TGDFERVideoProcessor`.
        tokenizer: the tokenizer of the CLIP, SigLIP or other dual encoder.
        descriptions: for each label what its face looks like, one sentence or more. Saved with the processor.
        context_phrase: words before each description; the model learns to replace them (CoOp).
        text_padding: "longest" pads texts to the longest one, "max_length" to all that the text tower reads. SigLIP
            sees padding, and was trained with the latter.
        lowercase: whether texts are lowered before the tokenizer sees them. SigLIP was trained so, and not all of its
            tokenizers do it.

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
        chat_template: str | None = None,
    ):
        _require_texts(descriptions, context_phrase)
        self.descriptions = descriptions
        self.context_phrase = context_phrase
        self.text_padding = text_padding
        self.lowercase = lowercase
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
        """Makes a processor that feeds a model as its CLIP was fed: its tokenizer, picture size, mean and deviation.

        Args:
            name_or_folder: Hub id or folder of any CLIP, SigLIP or other dual encoder that a model can start from.
            descriptions: for each label one sentence or more; None leaves them to `class_prompts`.
            num_frames: frames sampled from each clip.
            context_phrase: words before each description.
            **kwargs: of `from_pretrained` (`revision`, `token`, `cache_dir`, ...).

        Raises:
            OSError: the CLIP, its tokenizer or its image processor cannot be found.
        """
        images = AutoImageProcessor.from_pretrained(name_or_folder, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder, **kwargs)
        config = AutoConfig.from_pretrained(name_or_folder, **kwargs)
        # Not every checkpoint tells its tokenizer how long a text may be.
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
        video_processor = TGDFERVideoProcessor(
            **from_checkpoint(_picture_settings(images.to_dict())) | {"num_frames": num_frames}
        )
        words = None if descriptions is None else {label: list(texts) for label, texts in descriptions.items()}
        of_siglip = config.model_type == "siglip"
        padding = "max_length" if of_siglip else "longest"
        return cls(video_processor, tokenizer, words, context_phrase, padding, lowercase=of_siglip)

    def __call__(
        self, videos: Any = None, text: str | list[str] | None = None, **kwargs: Unpack[TGDFERProcessorKwargs]
    ) -> BatchFeature:
        """Prepares clips, texts or both.

        Args:
            videos: a video or a list of them, as in `TGDFERVideoProcessor.read_clip`.
            text: a text or a list of them, tokenized as they are, without the context phrase.
            **kwargs: of the video processor and the tokenizer.

        Returns:
            `pixel_values_videos`, `frame_mask` and `timestamps` of the clips; `input_ids` and `attention_mask` of the
            texts.

        Raises:
            VideoDecodeError: a video cannot be read.
        """
        if text is not None:
            of_texts: Any = kwargs.get("text_kwargs", {})
            given = "padding" in kwargs or "padding" in of_texts or "padding" in self.tokenizer.init_kwargs
            if not given:
                kwargs["text_kwargs"] = {**of_texts, "padding": self.text_padding}
            text = self._cased(text) if isinstance(text, str) else [self._cased(one) for one in text]
        data = super().__call__(text=text, videos=videos, **kwargs)
        return VideoBatchFeature(data.data)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Saves the processor with its code and that of the pipeline that a model's `custom_pipelines` may name.

        `preprocessor_config.json` describes the same pictures for an image processor, without which
        `pipeline("video-classification")` does not make batches.
        """
        os.makedirs(save_directory, exist_ok=True)
        settings = self.video_processor.to_dict()
        known = CLIPImageProcessor.valid_kwargs.__annotations__
        images = CLIPImageProcessor(**{name: settings[name] for name in IMAGE_SETTINGS if name in known})
        images.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, push_to_hub, **kwargs)

    def class_prompts(self, descriptions: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Token ids of K classes, sorted by name, each of at most M descriptions; prompts are at most L tokens long.

        Every prompt is `[BOS] context phrase, description [EOS]`, then padding; the prompts of SigLIP have no `[BOS]`.

        Args:
            descriptions: for each label one sentence or more; those of the processor when None.

        Returns:
            `labels` (K names), `input_ids` and `attention_mask` (K, M, L) int64, `description_mask` (K, M) bool, False
            where a class has fewer than M descriptions and repeats its first, and `context_length`, the tokens of the
            context phrase.

        Raises:
            ValueError: no descriptions, an empty or doubled one, one that the tokenizer cannot take, or labels that
                clash; they are named.
        """
        descriptions = self.descriptions if descriptions is None else descriptions
        if not descriptions:
            raise ValueError(
                'There are no class descriptions; give {"label": ["what its face looks like", ...], ...}.'
            )
        labels = sorted(descriptions)
        for label in labels:
            _check(label, descriptions[label])
        _check_apart({label: _plain(label) for label in labels}, "are one label but for case and spaces; rename one")
        said = {label: frozenset(map(_plain, descriptions[label])) for label in labels}
        _check_apart(said, "have the same descriptions, so no clip could be told apart by them; reword one")
        most = max(len(descriptions[label]) for label in labels)
        texts = [[*descriptions[label], *[descriptions[label][0]] * most][:most] for label in labels]
        tokens = self._tokenize([text for several in texts for text in several])
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
        """Says in words what the answers of a model rest on: when, and what the face fits then.

        Args:
            outputs: of a model whose classes are those of `descriptions`, for B clips of T frames: `logits` (B, K),
                `frame_relevance` (B, T, K) and `description_relevance` (B, T, K, M).
            timestamps: (B, T) seconds of the frames; where not given, or NaN, spans are told in frames.
            frame_mask: (B, T) frames that count; all where not given.
            labels: names of the K classes in the order of the model, as `model.config.id2label` gives them; where not
                given, those of `config`, or of `descriptions` in the order of `class_prompts`, by name.
            config: of the model, whose calibration is then used: its temperature, when it is unsure, and what its
                descriptions have in clips in general. Without it, probabilities are those of the plain softmax, and a
                description need only fit the decisive frames better than the others.

        Returns:
            An explanation for each clip; printed it is a sentence, its fields are the numbers behind it.

        Raises:
            ValueError: the processor does not describe the classes of the outputs.

        Example:
            ```python
            clip = processor(videos="clip.mp4", return_tensors="pt")
            outputs = model(**clip)
            print(processor.post_process_explanation(outputs, clip["timestamps"], config=model.config)[0])
            ```
        """
        words = self.descriptions or {}
        if labels is None and config is not None:
            labels = config.id2label
        labels = sorted(words) if labels is None else _in_order(labels)
        if sorted(labels) != sorted(words):
            raise ValueError(
                f"The labels are {', '.join(labels)}, but the processor describes {', '.join(sorted(words)) or 'none'}"
                "; set `processor.descriptions` to the words of the model's classes."
            )
        relevance, cosines = (
            outputs[name].detach().float().cpu() for name in ("frame_relevance", "description_relevance")
        )
        if cosines.shape[2:] != (len(labels), max(map(len, words.values()), default=0)):
            raise ValueError(
                f"The outputs are of {cosines.shape[2]} classes with up to {cosines.shape[3]} descriptions, which are"
                " not those of the processor; set `processor.descriptions` to the words of the model's classes."
            )
        scores = at_temperature(outputs["logits"].detach().float().cpu(), config).softmax(-1)
        explanations = []
        for clip, index in enumerate(scores.argmax(-1).tolist()):
            explanations.append(
                explain_clip(
                    candidates(scores[clip].tolist(), labels, config),
                    float(scores[clip, index]),
                    relevance[clip, :, index],
                    cosines[clip, :, index],
                    words[labels[index]],
                    None if timestamps is None else torch.as_tensor(timestamps)[clip].cpu(),
                    None if frame_mask is None else torch.as_tensor(frame_mask)[clip].cpu().bool(),
                    references_of(labels[index], config),
                )
            )
        return explanations

    def encode_classes(self, descriptions: Mapping[str, Sequence[str]] | str | os.PathLike) -> dict[str, Any]:
        """Takes over the classes of a label set, and gives their token ids: `model.set_classes` takes them.

        Args:
            descriptions: for each label one sentence or more, or a YAML or JSON file of them, one file a label set.

        Returns:
            What `class_prompts` gives. From then on these are the descriptions of the processor.

        Raises:
            ValueError: the file holds something else, or the descriptions cannot be used; the others are kept.
            OSError: the file cannot be read.
        """
        if isinstance(descriptions, str | os.PathLike):
            descriptions = read_descriptions(Path(descriptions))
        prompts = self.class_prompts(descriptions)
        self.descriptions = {label: list(texts) for label, texts in descriptions.items()}
        return prompts

    def _context_length(self) -> int:
        return len(self.tokenizer(self._cased(self.context_phrase), add_special_tokens=False)["input_ids"])

    def _cased(self, text: str) -> str:
        return text.lower() if self.lowercase else text

    def _tokenize(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (len(texts), L) of the context phrase followed by each text."""
        prompts = [self._cased(f"{self.context_phrase} {text}".strip()) for text in texts]
        options = {"padding_side": "right", "return_attention_mask": True, "return_tensors": "pt"}
        tokens = self.tokenizer(prompts, padding=self.text_padding, **options)
        lengths = tokens["attention_mask"].sum(1)
        limit = self.tokenizer.model_max_length
        if lengths.max() > limit:
            index = int(lengths.argmax())
            raise ValueError(
                f'The description "{texts[index]}" has {lengths[index]} tokens with the context phrase and the CLIP '
                f"takes {limit}; shorten it."
            )
        # The unknown token of CLIP is its end of text: such a prompt would silently end there.
        end = self.tokenizer.sep_token_id if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id
        ends = ((tokens["input_ids"] == end) & tokens["attention_mask"].bool()).sum(1)
        if (ends != 1).any():
            text = texts[int((ends != 1).nonzero()[0])]
            raise ValueError(f'The description "{text}" has characters that the tokenizer does not know; reword it.')
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}


def _picture_settings(images: dict[str, Any]) -> dict[str, Any]:
    """What the image processor of a checkpoint says, as settings of the video processor."""
    known = TGDFERVideoProcessor.valid_kwargs.__annotations__
    settings = {name: value for name, value in images.items() if name in known and value is not None}
    settings.setdefault("do_center_crop", False)  # those that do not crop do not say so
    if "crop_pct" in images:  # as ConvNeXT has it: small pictures are the middle of larger ones
        side = images["size"]["shortest_edge"]
        square = {"height": side, "width": side}
        if side >= 384:
            return settings | {"size": square}
        larger = {"shortest_edge": int(side / images["crop_pct"])}
        return settings | {"size": larger, "crop_size": square, "do_center_crop": True}
    return settings


def _in_order(labels: Mapping[int, str] | Sequence[str]) -> list[str]:
    """Names by their numbers, which are strings in a `config.json`."""
    return [labels[index] for index in sorted(labels, key=int)] if isinstance(labels, Mapping) else list(labels)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _check_apart(classes: Mapping[str, Hashable], clash: str) -> None:
    """Raises a ValueError about two classes of the same value."""
    first: dict[Hashable, str] = {}
    for label, value in classes.items():
        if first.setdefault(value, label) != label:
            raise ValueError(f'The classes "{first[value]}" and "{label}" {clash}.')


def _require_texts(descriptions: Any, context_phrase: Any) -> None:
    """Checks what a `processor_config.json` may hold.

    Raises:
        ValueError: it is something else.
    """
    known = descriptions if descriptions is not None else {}
    if not isinstance(known, Mapping) or not all(
        isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts) for texts in known.values()
    ):
        raise ValueError('The descriptions of a processor must be {"label": ["what its face looks like", ...], ...}.')
    if not isinstance(context_phrase, str):
        raise ValueError(f"The context phrase of a processor must be text, not {context_phrase!r}.")


def _check(label: str, texts: Sequence[str]) -> None:
    if not label.strip():
        raise ValueError("A class has an empty label; name it.")
    if not texts or not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'The class "{label}" needs a list of descriptions; give at least one.')
    seen: set[str] = set()
    for text in texts:
        plain = _plain(text)
        if not plain:
            raise ValueError(f'The class "{label}" has an empty description; write it or delete it.')
        if plain in seen:
            raise ValueError(f'The class "{label}" has the description "{text}" twice; delete one.')
        seen.add(plain)


TGDFERProcessor.register_for_auto_class()
