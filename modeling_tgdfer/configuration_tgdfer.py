"""Configuration of TG-DFER: every switch and size of the network and of its losses, with the reason for each value."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
from transformers.models.auto.configuration_auto import AutoConfig

# transformers names the code of a folder by a hash of the file that it loads and of those that this one imports, and
# knows imports by how their lines look. It keeps one class of models for a class of configs. With the network in the
# hash, folders of one name and different code share neither; an import proper would be a cycle.
_HASHED_WITH_THIS_FILE = """
from .modeling_tgdfer import TGDFERForVideoClassification
"""

# The classes of a config that names none. The built-in descriptions have the same names, as keys of a file in another
# folder, which this one must not import: a test compares the two.
BASIC_EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

CONTEXTS = ("none", "shared", "class")
MIL_POOLINGS = ("attention", "topk", "mean", "max")
RELEVANCE_TEXTS = ("label", "prompted")

# The format of saved folders and adapters. It is raised when a field, a weight or an output changes its name or its
# meaning. Folders from before formats were numbered have the fields and weights of format 1, but the LoRA of their
# adapters has another name.
FORMAT_VERSION = 1

# The most that sizes and counts of a config may be. They are well above those of any model that exists, and a config
# that asks for more is damaged, or made to fill the memory of whoever loads it.
MOST_LAYERS, MOST_CLASSES, LARGEST_SIZE = 1000, 100_000, 2**24
_LAYERS = {"depth", "depths", "layers", "num_layers", "num_hidden_layers"}
_LAYERS |= {"long_range_layers", "lora_layers", "lora_text_layers"}
_CLASSES = {"num_classes", "num_labels"}
# What no network can be built from if it is below 1, whichever network it is.
_SIZES = {"hidden_size", "image_size", "intermediate_size", "max_position_embeddings", "num_attention_heads"}
_SIZES |= {"num_channels", "num_hidden_layers", "patch_size", "projection_dim", "vocab_size"}

# The answer of a calibrated model that does not know. `processing/` has the same word, which this folder must not
# import: a test compares the two.
UNSURE = "unsure"


@strict
class TGDFERConfig(PreTrainedConfig):
    """Configuration of a TG-DFER model: text-guided, weakly supervised expression recognition in video.

    The paper (arXiv 2511.10958) fixes the parts and their purpose, not every layer. Where a value is our choice, the
    reason stands beside the field. Every part has a switch, so that an ablation is a list of configs.

    Args:
        clip_config: Configuration of the CLIP that sees the frames and reads the texts: a `CLIPConfig`, `SiglipConfig`
            or `VisionTextDualEncoderConfig`. "CLIP" means any of these dual encoders wherever no class is named.
        clip_name: Hub id of the CLIP that the model started from; None of a folder.
        clip_revision: Commit of that Hub repository.
        clip_sha256: Fingerprint of the weights of that CLIP, by which an adapter knows its base.
        num_frames: Frames that are sampled from a clip (the bag holds that many instances).
        frame_interval: Seconds between two frames where the caller gives no timestamps.
        max_descriptions: Descriptions a class, the longest list of all classes (shorter ones are masked).
        prompt_length: Tokens of the longest class prompt, with its begin and end.
        context: Learnable context before each description: "none" (the phrase as CLIP reads it), "shared", or "class"
            (each class has its own).
        context_length: Tokens of the context phrase; the context starts from their embeddings.
        short_term: Whether the short-term grain is on.
        short_term_width: Width of its bottleneck.
        short_term_window: Frames it attends to on either side.
        long_range: Whether the long-range grain is on.
        long_range_width: Width of its bottleneck.
        long_range_layers: Transformer layers over the whole clip.
        temporal_heads: Attention heads of both grains.
        relevance_text: What relevance is computed against: the class text ("label") or the visually prompted one.
        relevance_width: Width of the gated attention that scores the frames.
        initial_scale: Start of the learned scale of all cosines.
        initial_sharpness: Start of the learned sharpness, per class, of the relevance over time.
        visual_prompts: Whether class texts are rewritten by the clip.
        visual_prompt_rank: Rank of that rewriting.
        visual_prompt_limit: The most that it may add to a class text of length one.
        mil_pooling: How frames make the answer of the clip: "attention", "topk", "mean" or "max".
        topk_fraction: Share of the frames that "topk" averages.
        feature_dropout: Dropout on the frame features in training.
        instance_dropout: Share of the frames that are dropped as a whole in training.
        long_range_dropout: Share of the training clips for which the long-range grain is skipped.
        lora_attached: Whether LoRA is attached, not merged, so that it is saved beside the weights that it adapts.
            `attach_lora` and `merge_lora` set it.
        lora_layers: Last blocks of the vision tower that `attach_lora` adapts.
        lora_text_layers: Last blocks of the text tower that `attach_lora` adapts.
        lora_rank: Rank of LoRA.
        lora_alpha: Scale of LoRA: updates are multiplied by `lora_alpha / lora_rank`.
        lora_dropout: Dropout on the input of LoRA.
        label_smoothing: Smoothing of the cross-entropy on the bag.
        alignment_weight: Weight of the supervised contrastive loss between clips and class texts.
        separation_weight: Weight of the loss that keeps class texts apart.
        smoothness_weight: Weight of the loss on jumps of the relevance of the true class between adjacent frames.
        instance_weight: Weight of the cross-entropy on the most relevant frames of the true class.
        temperature: Divides the logits of a clip before the softmax, wherever probabilities are made of them. The
            network itself returns logits that are not divided.
        unsure_below: Probability of the best class, at this temperature, below which the answer is "unsure"; None if
            the answer is never unsure.
        description_references: For each label, for each of its descriptions, the mean and the standard deviation over
            clips of its cosine with the decisive frames: `{label: {description: [mean, deviation]}}`. None if unknown.
        format_version: Format of the folder that the config was read from, 0 where it does not say.
    """

    model_type = "tgdfer"
    # `Trainer` hands the rest of the output, the logits, to `compute_metrics`.
    keys_to_ignore_at_inference = [
        "frame_logits",
        "frame_relevance",
        "description_relevance",
        "video_embeds",
        "text_embeds",
        "hidden_states",
        "attentions",
    ]
    sub_configs_defaults = {"clip_config": SubConfigSpec(config_class=AutoConfig, model_type="clip")}

    # The base. The type that is usual after loading comes first: `strict` tries them in turn, and a failed try writes
    # out the whole value.
    clip_config: PreTrainedConfig | dict | None = None
    clip_name: str | None = None
    clip_revision: str | None = None
    clip_sha256: str | None = None

    # The bag.
    num_frames: int = 16
    frame_interval: float | int = 0.125

    # Text guidance. One context for all classes, as CoOp has by default: few clips teach it, and new ones use it. In
    # UAR it was neutral (up to 1.8 points, and no more than chance); "none" spares the text tower in training.
    # Its length is that of the phrase it starts from, so that an untrained model is CLIP reading that phrase.
    max_descriptions: int = 1
    prompt_length: int = 3
    context: str = "shared"
    context_length: int = 0

    # Multi-grained temporal network. Narrow bottlenecks: a few hundred clips are learnt by heart at full width, and
    # the frames are the first thing lost. On held-out people a width of 16 had 1 to 3 points of UAR more than widths
    # of 48 and 64 on photographs, and no less on rendered faces; thousands of clips may fill more. A window of 2 is a
    # quarter of a second either way at the default interval; one layer, the fewest, for the same reason as the width;
    # 4 heads leave 4 channels, two rotations, each. Window, layers and heads: not tuned. Both grains are on: without
    # one of them UAR differs by no more than chance, without both it is lower.
    short_term: bool = True
    short_term_width: int = 16
    short_term_window: int = 2
    long_range: bool = True
    long_range_width: int = 16
    long_range_layers: int = 1
    temporal_heads: int = 4

    # Relevance. "label": a text that has seen the whole clip may make every frame of it look emotional. With prompts
    # as short as ours (below) "prompted" makes no difference that was measured. A scale near 10, not CLIP's 100: at
    # 100 the softmax over time starts saturated on one frame. Gated attention has 128 hidden units in Ilse et al.
    # (2018); a quarter of them here, for few clips: it is still the largest part beside LoRA. Not tuned.
    relevance_text: str = "label"
    relevance_width: int = 32
    initial_scale: float | int = 10.0
    initial_sharpness: float | int = 1.0

    # Visual prompts. Neutral where they were measured: with and without them UAR differs by no more than chance. On,
    # because the paper has them. The limit keeps the label readable: it turns the text by at most some 17 degrees. The
    # rank is that of the grains' bottlenecks, and not tuned.
    visual_prompts: bool = True
    visual_prompt_rank: int = 16
    visual_prompt_limit: float | int = 0.3

    # Multiple-instance head. A quarter of the frames, about what an apex takes of a short clip: a guess, not tuned.
    # Only "topk" and the instance loss use it.
    mil_pooling: str = "attention"
    topk_fraction: float | int = 0.25

    # Regularisation, strong because the labels are few and weak.
    feature_dropout: float | int = 0.3
    instance_dropout: float | int = 0.3
    long_range_dropout: float | int = 0.5

    # LoRA. The last blocks only: those below run without gradient. Rank 8 is what peft takes by default; alpha at
    # twice the rank is a common convention, so that updates are doubled. Neither was tuned. No dropout: on a CPU it
    # takes a tenth of a step, and held-out people are not told apart by it. Of a few hundred clips LoRA learns the
    # people (docs/experiments.md): small data are trained on frozen features, without it.
    lora_attached: bool = False
    lora_layers: int = 4
    lora_text_layers: int = 0
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float | int = 0.0

    # Loss. Smoothing by 0.1 is that of Szegedy et al. (2016). The auxiliary terms are to help the bag, not to lead it:
    # weights well below its 1, the instance term a little more because it alone trains single frames. None was tuned.
    label_smoothing: float | int = 0.1
    alignment_weight: float | int = 0.1
    separation_weight: float | int = 0.0
    smoothness_weight: float | int = 0.0
    instance_weight: float | int = 0.2

    # Calibration. It is chosen on validation clips after training, and `set_classes` resets it, because it holds for
    # the classes and words that it was chosen with.
    temperature: float | int = 1.0
    unsure_below: float | int | None = None
    description_references: dict | None = None

    format_version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Makes a config of a dictionary, such as a `config.json`.

        Raises:
            ValueError: It is of a newer format, or of an older one with fields that do not exist any more.
        """
        require_sizes(config_dict)
        saved = config_dict.get("format_version", 0 if config_dict.get("model_type") == cls.model_type else None)
        if saved is not None and not isinstance(saved, int):
            raise ValueError(f"`format_version` is {saved!r}; it must be a number: load another model.")
        if saved is None:
            return super().from_dict(config_dict, **kwargs)
        if saved > FORMAT_VERSION:
            raise ValueError(
                f"The model was saved in format {saved}, and this version of tgdfer reads formats up to "
                f"{FORMAT_VERSION}: upgrade it with `pip install -U tgdfer`, or load the model's own code with "
                "`trust_remote_code=True`."
            )
        if saved < FORMAT_VERSION:
            known = {field.name for field in dataclasses.fields(cls)} | set(_OF_TRANSFORMERS)
            unknown = sorted(name for name in config_dict if name not in known and not name.startswith("_"))
            if unknown:
                raise ValueError(
                    f"The config of the model has the field {unknown[0]!r}, which this version of tgdfer does not "
                    "know, so its answers could change: load it with the version that saved it, or train it again."
                )
        return super().from_dict({**config_dict, "format_version": saved}, **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        # Where this package is installed it has registered the task, and nobody need trust a folder's code for it.
        if __name__.startswith("tgdfer."):
            kwargs.pop("custom_pipelines", None)
        require_sizes({**vars(self), **kwargs})
        if self.id2label is not None and not _are_labels(self.id2label):
            raise ValueError(
                f"`id2label` is {str(self.id2label)[:80]}; it must be the name of each class by its index."
            )
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(BASIC_EMOTIONS))
        if self.id2label is not None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Checks what types alone cannot say; part of the validation that `strict` adds.

        Raises:
            ValueError: A field has a value that no model can be built from.
        """
        choices = {"context": CONTEXTS, "mil_pooling": MIL_POOLINGS, "relevance_text": RELEVANCE_TEXTS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; choose one of {', '.join(allowed)}.")
        counts = ("num_frames", "max_descriptions", "prompt_length", "temporal_heads", "short_term_window")
        widths = ("short_term_width", "long_range_width", "long_range_layers", "relevance_width", "visual_prompt_rank")
        for name in counts + widths:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 1.")
        for name in (
            "frame_interval",
            "initial_scale",
            "visual_prompt_limit",
            "lora_rank",
            "lora_alpha",
            "temperature",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be above 0 and finite.")
        for name in ("short_term_width", "long_range_width"):
            # Pairs of channels are rotated by time, so a head has an even number of them.
            if getattr(self, name) % (2 * self.temporal_heads):
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}; it must be a multiple of {2 * self.temporal_heads}, twice "
                    "`temporal_heads`."
                )
        for name in ("feature_dropout", "instance_dropout", "long_range_dropout", "lora_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 0 and below 1.")
        if not 0 < self.topk_fraction <= 1:
            raise ValueError(f"`topk_fraction` is {self.topk_fraction}; it must be above 0 and at most 1.")
        self._validate_calibration()

    def _validate_calibration(self) -> None:
        if self.unsure_below is not None:
            if not 0 <= self.unsure_below <= 1:
                raise ValueError(f"`unsure_below` is {self.unsure_below}; it must be a probability or None.")
            if UNSURE in self.label2id:
                raise ValueError(
                    f"A class is called {UNSURE!r}, which is the answer of a model that does not know; rename the "
                    "class or set `unsure_below` to None."
                )
        for label, descriptions in (self.description_references or {}).items():
            for text, reference in descriptions.items() if isinstance(descriptions, dict) else [("", None)]:
                if not _is_reference(reference):
                    raise ValueError(
                        f"`description_references` has {reference!r} for {text!r} of {label!r}; give "
                        "{label: {description: [mean, standard deviation above 0]}}."
                    )

    @property
    def is_calibrated(self) -> bool:
        """Whether temperature or threshold were chosen on data for the present classes."""
        return self.temperature != 1.0 or self.unsure_below is not None

    def reset_calibration(self) -> None:
        """Goes back to the model as it is without calibration, for other weights or other classes."""
        self.temperature, self.unsure_below, self.description_references = 1.0, None, None


# What transformers writes into a `config.json` beside the fields.
_OF_TRANSFORMERS = (
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "model_type",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)


def require_sizes(config: Mapping[str, Any]) -> None:
    """Checks the config of any model, and the configs in it, before anything is built of them: sizes and counts.

    Args:
        config: A `config.json`, or the fields of a config object.

    Raises:
        ValueError: One of them is larger than that of any model, or so small that nothing can be built; or a network
            would be fetched from elsewhere.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            require_sizes(value)
        # timm fetches a network with a prefix, or reads it from any folder.
        if name == "architecture" and isinstance(value, str) and (":" in value or "/" in value):
            raise ValueError(f"`architecture` is {value!r}, which is no network of timm: load another model.")
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Mapping):
                require_sizes(one)
            elif isinstance(one, int | float) and not isinstance(one, bool):
                _require_size(name, one)


def _require_size(name: str, value: float) -> None:
    most = MOST_LAYERS if name in _LAYERS else MOST_CLASSES if name in _CLASSES else LARGEST_SIZE
    if name in _SIZES and not value >= 1:
        raise ValueError(f"`{name}` is {value}; it must be at least 1: correct the config, or load another model.")
    # Some numbers are no sizes, such as the ids of tokens that do not exist, but none of them is so large either.
    if isinstance(value, int) and value > most:
        raise ValueError(f"`{name}` is {value}; it must be at most {most}: correct the config, or load another model.")


def _are_labels(value: Any) -> bool:
    """Whether a value names a class for each index, which JSON gives as text."""
    return isinstance(value, Mapping) and all(
        isinstance(label, str) and str(index).isdecimal() for index, label in value.items()
    )


def _is_reference(value: Any) -> bool:
    """Whether a value is a mean and a standard deviation."""
    numbers = (
        isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, float | int) for one in value)
    )
    return numbers and all(map(math.isfinite, value)) and value[1] > 0


TGDFERConfig.register_for_auto_class()

__all__ = ["TGDFERConfig"]
