"""Configuration of TG-DFER: the switches and sizes of the network and its losses, with the reason for each default."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
from transformers.models.auto.configuration_auto import AutoConfig

# transformers caches remote code under a hash of the loaded file and the files that it imports. A regular expression
# finds these imports, also in a string. Without this string, the hash of this file would not include the network, and
# two models in folders of the same name could share the cached code of one of them. A real import would be circular.
_HASHED_WITH_THIS_FILE = """
from .modeling_tgdfer import TGDFERForVideoClassification
"""

# Default classes of a config. `processing/` contains built-in descriptions of the same classes. This folder must not
# import it, so a test compares the names.
BASIC_EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

CONTEXTS = ("none", "shared", "class")
MIL_POOLINGS = ("attention", "topk", "mean", "max")
RELEVANCE_TEXTS = ("label", "prompted")
VISUAL_PROMPT_SOURCES = ("contrast", "cross_attention")

# Version of the format of saved folders and adapters. It increases when the name or the meaning of a field, a weight
# or an output changes. Folders that were saved before formats were numbered have the fields and weights of format 1,
# but their adapters use another name for LoRA. Since format 2, `frame_logits` and `frame_relevance` are the evidence
# and its weights in the logits, for every pooling.
FORMAT_VERSION = 3

# Upper limits for the sizes and counts in a config. They are well above those of any existing model. A config that
# exceeds them is damaged, or was made to exhaust the memory of the machine that loads it.
MAX_LAYERS, MAX_CLASSES, MAX_SIZE = 1000, 100_000, 2**24
_LAYERS = {"depth", "depths", "layers", "num_layers", "num_hidden_layers"}
_LAYERS |= {"localization_layers", "long_range_layers", "lora_layers", "lora_text_layers"}
_CLASSES = {"num_classes", "num_labels"}
# Sizes that must be at least 1 in every network.
_SIZES = {"hidden_size", "image_size", "intermediate_size", "max_position_embeddings", "num_attention_heads"}
_SIZES |= {"num_channels", "num_hidden_layers", "patch_size", "projection_dim", "vocab_size"}

# Answer of a calibrated model if no class is probable enough. `processing/` defines the same constant. This folder
# must not import it, so a test compares the two.
UNSURE = "unsure"


@strict
class TGDFERConfig(PreTrainedConfig):
    """Configuration of a TG-DFER model: text-guided, weakly supervised expression recognition in video.

    The paper (arXiv 2511.10958) describes the parts and their purpose, but not every layer. A comment beside the field
    gives the reason for each value that is our own choice. Every part can be switched off in the config, for example
    for an ablation study.

    Args:
        clip_config (`CLIPConfig`, `SiglipConfig` or `VisionTextDualEncoderConfig`, *optional*):
            Configuration of the dual encoder that encodes the frames and the texts. In this package, "CLIP" stands for
            any of these dual encoders.
        clip_name (`str`, *optional*): Hub id of the CLIP that the model started from. None if it was a local folder.
        clip_revision (`str`, *optional*): Commit of that Hub repository.
        clip_sha256 (`str`, *optional*): SHA-256 of the weights of that CLIP. An adapter is loaded only onto a CLIP
            with this hash.
        clip_frozen_sha256 (`str`, *optional*): The same without the biases that are trained with LoRA. None if there
            are none. `attach_lora` and `merge_lora` set this field.
        num_frames (`int`, *optional*, defaults to 16): Number of frames that are sampled from a clip. It is the size
            of the bag.
        frame_interval (`float`, *optional*, defaults to 0.125): Seconds between two frames if the caller gives no
            timestamps. Pipelines sample recordings at this interval by default.
        max_descriptions (`int`, *optional*, defaults to 1): Largest number of descriptions of any class. Shorter lists
            are padded and masked. `set_classes` sets this field.
        prompt_length (`int`, *optional*, defaults to 3): Number of tokens in the longest prompt, including the context
            and the start and end tokens. `set_classes` sets this field.
        context (`str`, *optional*, defaults to `"none"`): Context before each description. It starts from the token
            embeddings of the context phrase of the processor. "none" uses these embeddings unchanged, "shared" learns
            one context for all classes, and "class" learns one context for each class.
        context_length (`int`, *optional*, defaults to 0): Number of tokens in the context phrase. `from_clip` sets
            this field.
        short_term (`bool`, *optional*, defaults to `True`): Whether to use the short-term grain, which is the part of
            the temporal network that models changes between neighbouring frames.
        short_term_width (`int`, *optional*, defaults to 16): Width of the bottleneck of the short-term grain.
        short_term_window (`int`, *optional*, defaults to 2): Number of frames on either side of a frame to which the
            short-term grain attends.
        long_range (`bool`, *optional*, defaults to `False`): Whether to use the long-range grain, which is the part
            of the temporal network that models the whole clip.
        long_range_width (`int`, *optional*, defaults to 16): Width of the bottleneck of the long-range grain.
        long_range_layers (`int`, *optional*, defaults to 1): Number of Transformer layers over the whole clip.
        temporal_heads (`int`, *optional*, defaults to 4): Number of attention heads in both grains.
        temporal_adapter (`bool`, *optional*, defaults to `False`): Whether frames pass through the temporal adapter of
            S2D before the grains.
        motion_weights (`bool`, *optional*, defaults to `False`): Whether the relevance of a frame is weighted by the
            motion in it, as in GRACE.
        residue_width (`int`, *optional*, defaults to 0): Number of directions of the residue that is removed from each
            frame, as in PF-ViT. Zero removes nothing.
        localization_width (`int`, *optional*, defaults to 32): Width of the head of `TGDFERForTemporalLocalization`.
        localization_layers (`int`, *optional*, defaults to 4): Number of dilated convolutions of that head. The last
            one compares a frame with frames at a distance of `2 ** (localization_layers - 1)`.
        relevance_text (`str`, *optional*, defaults to `"prompted"`): Text that the frames are compared with to compute
            their relevance: "prompted" for the class text with visual prompts, or "label" for the class text.
        relevance_width (`int`, *optional*, defaults to 32): Width of the gated attention that scores the frames.
        initial_scale (`float`, *optional*, defaults to 10.0): Initial value of the learned scale of all cosines.
        initial_sharpness (`float`, *optional*, defaults to 1.0): Initial value of the learned sharpness of the
            relevance over time. Each class has its own.
        visual_prompts (`bool`, *optional*, defaults to `True`): Whether the class texts are adapted to each clip.
        visual_prompt_source (`str`, *optional*, defaults to `"cross_attention"`): Frames that a visual prompt is made
            of, compared with the mean of the clip: "cross_attention" for the frames that the class text attends to,
            or "contrast" for the relevant frames.
        visual_prompt_rank (`int`, *optional*, defaults to 16): Rank of the two layers that compute the visual prompts.
        visual_prompt_limit (`float`, *optional*, defaults to 0.3): Maximum length of a visual prompt, the vector that
            is added to a class text of length one.
        mil_pooling (`str`, *optional*, defaults to `"attention"`): How the evidence of the frames is averaged to the
            logits of the clip: "attention" weights the frames by their relevance, "topk" and "max" use only the frames
            with the highest evidence, and "mean" weights all frames equally.
        topk_fraction (`float`, *optional*, defaults to 0.25): Fraction of the frames that "topk" and the instance loss
            use.
        feature_dropout (`float`, *optional*, defaults to 0.3): Dropout probability of single frame features.
        instance_dropout (`float`, *optional*, defaults to 0.3): Probability that a frame is dropped in training. A
            dropped frame is treated like a masked frame.
        long_range_dropout (`float`, *optional*, defaults to 0.5): Probability that the long-range grain is skipped for
            a clip in training.
        lora_attached (`bool`, *optional*, defaults to `False`): Whether LoRA is attached and not merged. Its weights
            are then saved separately from those that it adapts. `attach_lora` and `merge_lora` set this field.
        lora_layers (`int`, *optional*, defaults to 4): Number of blocks at the end of the vision tower that
            `attach_lora` adapts.
        lora_text_layers (`int`, *optional*, defaults to 0): Number of blocks at the end of the text tower that
            `attach_lora` adapts.
        lora_rank (`int`, *optional*, defaults to 8): Rank of the LoRA matrices.
        lora_alpha (`int`, *optional*, defaults to 16): Scale of LoRA. Updates are multiplied by
            `lora_alpha / lora_rank`.
        lora_dropout (`float`, *optional*, defaults to 0.0): Dropout probability of the input of LoRA.
        lora_options (`dict`, *optional*): Other fields of peft's `LoraConfig` for the vision tower, such as
            `{"use_dora": True}`. They override the fields above. `target_modules` are names in the tower, and replace
            the choice by `lora_layers`. `LORA_FIELDS` in `lora_tgdfer.py` has all fields that can be set.
        lora_text_options (`dict`, *optional*): The same for the text tower.
        label_smoothing (`float`, *optional*, defaults to 0.1): Label smoothing in the cross-entropy of the clips.
        alignment_weight (`float`, *optional*, defaults to 0.1): Weight of the supervised contrastive loss between
            clips and class texts.
        separation_weight (`float`, *optional*, defaults to 0.0): Weight of the loss that keeps class texts apart.
        smoothness_weight (`float`, *optional*, defaults to 0.0): Weight of the loss that penalises differences between
            adjacent frames in their relevance for the true class.
        instance_weight (`float`, *optional*, defaults to 0.2): Weight of the cross-entropy of the frames that are most
            relevant for the true class.
        temperature (`float`, *optional*, defaults to 1.0): Temperature that the logits of a clip are divided by before
            the softmax. The network itself returns logits that are not divided.
        unsure_below (`float`, *optional*): Threshold for the answer "unsure". The answer is "unsure" if the calibrated
            probability of the best class is below it. If it is None, the answer is never "unsure".
        description_references (`dict`, *optional*): Reference values for the fit of each description. The fit is the
            mean cosine of the description and the decisive frames, which are the frames of above-average relevance for
            the label. The values are the mean and the standard deviation of the fit over clips:
            `{label: {description: [mean, deviation]}}`. None if they are unknown.
        training_data (`list[dict]`, *optional*): Data that the weights were trained on, including the data of the CLIP
            and of every model that this one was fine-tuned from. An entry has a `name`, and optionally the texts
            `kind` (such as "photographs"), `source` (a link), `license` (as the Hub names it), `terms` (a sentence)
            and `citation`, and the number `num_clips`. A missing `license` was not recorded. None if nothing was
            recorded.
        format_version (`int`, *optional*, defaults to 3): Version of the format of the folder that the config was read
            from. It is 0 if the folder does not contain a version.
    """

    model_type = "tgdfer"
    # `Trainer` passes the remaining output, the logits, to `compute_metrics`.
    keys_to_ignore_at_inference = [
        "frame_logits",
        "frame_relevance",
        "description_relevance",
        "video_embeds",
        "text_embeds",
        "coarse_logits",
        "fine_logits",
        "hidden_states",
        "attentions",
    ]
    sub_configs_defaults = {"clip_config": SubConfigSpec(config_class=AutoConfig, model_type="clip")}

    # CLIP. The decorator `strict` tries the types in order and formats the whole value after each failure, so the most
    # frequent type comes first.
    clip_config: PreTrainedConfig | dict | None = None
    clip_name: str | None = None
    clip_revision: str | None = None
    clip_sha256: str | None = None
    clip_frozen_sha256: str | None = None

    # Frames of a clip.
    num_frames: int = 16
    frame_interval: float | int = 0.125

    # Text guidance. The context is not learned by default: a shared one, as by default in CoOp, did not change UAR on
    # rendered faces (+0.6 points, not significant) and lowered it on real faces (-2.9, 95% interval -5.3 to -0.5) and
    # on bags of photographs (-2.1, -3.9 to -0.4, see docs/results/ablation.md). With "none", the text tower need not
    # run in training. A learned context may help with thousands of clips or with LoRA. It has the length of the phrase
    # that it starts from, so an untrained model is equivalent to CLIP with that phrase.
    max_descriptions: int = 1
    prompt_length: int = 3
    context: str = "none"
    context_length: int = 0

    # Temporal network. Its two parts, called grains, model different time scales. Their bottlenecks are narrow because
    # a network of full width overfits a few hundred clips, and frame-level results suffer first. On held-out people,
    # a width of 16 had a UAR 1 to 3 points higher than widths of 48 and 64 on photographs, and no lower on rendered
    # faces. Thousands of clips may justify a larger width. A window of 2 frames is a quarter of a second on either
    # side at the default interval. There is only one layer for the same reason. With 4 heads, each head has 4
    # channels, which are two rotations. Window, layers and heads were not tuned. The short-term grain is on because it
    # tells apart clips that differ only in the order of their frames (docs/results/temporal.md). The long-range grain
    # is off because it did not change UAR, frame AP or that accuracy significantly (docs/results/ablation.md). It may
    # help with thousands of clips, or with clips of many seconds.
    short_term: bool = True
    short_term_width: int = 16
    short_term_window: int = 2
    long_range: bool = False
    long_range_width: int = 16
    long_range_layers: int = 1
    temporal_heads: int = 4

    # Parts of neighbouring methods (docs/reference/neighbours.md). They are off because the paper does not have them.
    # The head for localization exists only in `TGDFERForTemporalLocalization`. With 4 layers, a frame sees 15 frames
    # on either side, almost two seconds at the default interval. Width and layers were not tuned.
    temporal_adapter: bool = False
    motion_weights: bool = False
    residue_width: int = 0
    localization_width: int = 32
    localization_layers: int = 4

    # Relevance. The default is "prompted", as in the paper. A text that depends on the whole clip could make every
    # frame look emotional, but on held-out people frame AP did not fall (docs/experiments.md). The scale starts at 10
    # and not at CLIP's 100, because at 100 the softmax over time starts saturated on a single frame. The gated
    # attention has 32 hidden units instead of the 128 of Ilse et al. (2018), because there are few clips. With 32, it
    # still has more parameters than any other part besides CLIP and LoRA. The number was not tuned.
    relevance_text: str = "prompted"
    relevance_width: int = 32
    initial_scale: float | int = 10.0
    initial_sharpness: float | int = 1.0

    # Visual prompts. They raised UAR on bags of photographs by 1.4 points, did not change it significantly on the
    # other data (docs/results/ablation.md), and are on because the paper has them. Neither UAR nor frame AP falls on
    # held-out people if each class text attends over the frames, and prompts of this source reach a length of about
    # 0.1 to 0.2, where those by contrast hardly grow on a few hundred clips. The limit preserves the meaning of the
    # class text: a visual prompt rotates the text by at most about 17 degrees. A limit of 1 gave no better UAR on
    # held-out people. The rank equals the width of the bottlenecks above and was not tuned.
    visual_prompts: bool = True
    visual_prompt_source: str = "cross_attention"
    visual_prompt_rank: int = 16
    visual_prompt_limit: float | int = 0.3

    # Multiple-instance head. The peak of an expression lasts for roughly a quarter of a short clip. This value of
    # `topk_fraction` is a guess and was not tuned.
    mil_pooling: str = "attention"
    topk_fraction: float | int = 0.25

    # Regularisation. It is strong because the labels are few and weak.
    feature_dropout: float | int = 0.3
    instance_dropout: float | int = 0.3
    long_range_dropout: float | int = 0.5

    # LoRA. Only the last blocks are adapted, so the blocks before them need no gradient. Rank 8 is the default of
    # peft. An alpha of twice the rank is a common convention, which doubles the updates. Neither was tuned. The
    # default is no dropout, because dropout takes a tenth of the time of a training step on a CPU and did not change
    # the results on held-out people. On a few hundred clips, LoRA learns the identities of the people
    # (docs/experiments.md). Small data sets should therefore be trained on frozen features, without LoRA.
    lora_attached: bool = False
    lora_layers: int = 4
    lora_text_layers: int = 0
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float | int = 0.0
    lora_options: dict | None = None
    lora_text_options: dict | None = None

    # Loss. A smoothing of 0.1 follows Szegedy et al. (2016). The cross-entropy of the clips has weight 1. The
    # auxiliary terms must not dominate it, so their weights are well below 1. The instance term has a slightly larger
    # weight because it is the only one that trains single frames. None of the weights was tuned.
    label_smoothing: float | int = 0.1
    alignment_weight: float | int = 0.1
    separation_weight: float | int = 0.0
    smoothness_weight: float | int = 0.0
    instance_weight: float | int = 0.2

    # Calibration. It is fitted on validation clips after training. `set_classes` resets it because it is valid only
    # for the classes and descriptions that it was fitted with.
    temperature: float | int = 1.0
    unsure_below: float | int | None = None
    description_references: dict | None = None

    training_data: list | None = None

    format_version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Creates a config from a dictionary, such as the contents of a `config.json`.

        Args:
            config_dict (`dict[str, Any]`): Fields of the config.
            **kwargs: Fields that override those of the dictionary, and options of `PreTrainedConfig.from_dict`.

        Returns:
            `TGDFERConfig`: The config.

        Raises:
            ValueError: If the format is newer than this version can read, or if it is older and has fields that no
                longer exist.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        # Own fields among the options are checked as those of the dictionary. The others, such as `dtype`, may have
        # values that only transformers understands.
        own = fields - {field.name for field in dataclasses.fields(PreTrainedConfig)} | {"id2label"}
        config_dict = config_dict | {name: kwargs.pop(name) for name in own & kwargs.keys()}
        require_sizes(config_dict)
        saved = config_dict.get("format_version", 0 if config_dict.get("model_type") == cls.model_type else None)
        if saved is not None and not isinstance(saved, int):
            raise ValueError(
                f"`format_version` is {saved!r}, but must be an integer. The config is damaged; load another model."
            )
        if saved is None:
            return super().from_dict(config_dict, **kwargs)
        if saved > FORMAT_VERSION:
            raise ValueError(
                f"The model was saved in format {saved}, but this version of tgdfer reads formats up to "
                f"{FORMAT_VERSION}. Upgrade it with `pip install -U tgdfer`, or load the model's own code with "
                "`trust_remote_code=True`."
            )
        if saved < FORMAT_VERSION:
            known = fields | set(_TRANSFORMERS_FIELDS)
            unknown = sorted(name for name in config_dict if name not in known and not name.startswith("_"))
            if unknown:
                raise ValueError(
                    f"The model was saved in the older format {saved}. Its config has the field {unknown[0]!r}, which "
                    "this version of tgdfer does not know, so its answers could change. Load the model with the "
                    "version of tgdfer that saved it, or train it again."
                )
        earlier = {"visual_prompt_source": "contrast"} if saved < 3 else {}  # the only source before format 3
        return super().from_dict({**earlier, **config_dict, "format_version": saved}, **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        # The installed package registers the pipeline itself, so users need not trust the code in the folder for it.
        if __name__.startswith("tgdfer."):
            kwargs.pop("custom_pipelines", None)
        require_sizes({**vars(self), **kwargs})
        if self.id2label is not None and not _are_labels(self.id2label):
            raise ValueError(
                f"`id2label` is {str(self.id2label)[:80]}, but must map the indices 0, 1, ... to different names."
            )
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = dict(enumerate(BASIC_EMOTIONS))
        if self.id2label is not None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        self.architectures = self.architectures or []  # `AutoModel`, which has two classes for us, iterates over it
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Checks the values of the fields. The validation of the decorator `strict` calls this method.

        Raises:
            ValueError: If no model can be built with the value of a field.
        """
        choices = {
            "context": CONTEXTS,
            "mil_pooling": MIL_POOLINGS,
            "relevance_text": RELEVANCE_TEXTS,
            "visual_prompt_source": VISUAL_PROMPT_SOURCES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; choose one of {', '.join(allowed)}.")
        counts = ("num_frames", "max_descriptions", "prompt_length", "temporal_heads", "short_term_window")
        layers = ("localization_width", "localization_layers")
        widths = ("short_term_width", "long_range_width", "long_range_layers", "relevance_width", "visual_prompt_rank")
        for name in counts + layers + widths:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 1.")
        if self.residue_width < 0:
            raise ValueError(f"`residue_width` is {self.residue_width}; it must be at least 0.")
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
            # The attention rotates pairs of channels, so each head needs an even number of channels.
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
        self._validate_training_data()

    def _validate_training_data(self) -> None:
        for entry in self.training_data or []:
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                raise ValueError(
                    f"`training_data` has the entry {str(entry)[:80]}, but needs a dictionary with a `name`."
                )
            for name in _TRAINING_DATA_TEXTS:
                if not isinstance(entry.get(name), str | None):
                    raise ValueError(f"`training_data` has {str(entry[name])[:80]} as `{name}`, but needs a text.")

    def _validate_calibration(self) -> None:
        if self.unsure_below is not None:
            if not 0 <= self.unsure_below <= 1:
                raise ValueError(f"`unsure_below` is {self.unsure_below}; it must be a probability or None.")
            if UNSURE in self.label2id:
                raise ValueError(
                    f"A class is called {UNSURE!r}, but this name is reserved for answers below `unsure_below`; "
                    "rename the class, or set `unsure_below` to None."
                )
        for label, descriptions in (self.description_references or {}).items():
            remedy = "give {label: {description: [mean, standard deviation above 0]}}."
            if not isinstance(descriptions, dict):
                raise ValueError(f"`description_references` has no descriptions of {label!r}; {remedy}")
            for text, reference in descriptions.items():
                if not _is_reference(reference):
                    raise ValueError(f"`description_references` has {reference!r} for {text!r} of {label!r}; {remedy}")

    @property
    def text_config(self) -> PreTrainedConfig:
        """Configuration of the text tower, which transformers and DeepSpeed look up for its vocabulary and width."""
        return cast(PreTrainedConfig, self.clip_config).text_config

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return [name for _, name in sorted(self.id2label.items())]

    @property
    def is_calibrated(self) -> bool:
        """Whether the temperature or the threshold was fitted on data with the current classes."""
        return self.temperature != 1.0 or self.unsure_below is not None

    def reset_calibration(self) -> None:
        """Removes the calibration, because it is valid only for the weights and classes that it was fitted with."""
        self.temperature, self.unsure_below, self.description_references = 1.0, None, None


_TRAINING_DATA_TEXTS = ("kind", "source", "license", "terms", "citation")

# Keys that transformers writes into a `config.json` in addition to the fields.
_TRANSFORMERS_FIELDS = (
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "model_type",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)


def require_sizes(config: Mapping[str, Any]) -> None:
    """Checks the sizes and counts in the config of any model, and in nested configs, before the model is built.

    Args:
        config (`Mapping[str, Any]`): The contents of a `config.json`, or the fields of a config object.

    Raises:
        ValueError: If a size is larger than in any existing model or too small to build a network, or if timm would
            load a network from the Hub or a folder.
    """
    for name, value in config.items():
        if name == "training_data":  # Data sets are larger than any size of a network.
            continue
        if isinstance(value, Mapping):
            require_sizes(value)
        # With a prefix such as "hf-hub:" or "local-dir:", timm would load a network from the Hub or from a folder.
        if name == "architecture" and isinstance(value, str) and (":" in value or "/" in value):
            raise ValueError(f"`architecture` is {value!r}, which is not a timm architecture; load another model.")
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Mapping):
                require_sizes(item)
            elif isinstance(item, int | float) and not isinstance(item, bool):
                _require_size(name, item)


def _require_size(name: str, value: float) -> None:
    limit = MAX_LAYERS if name in _LAYERS else MAX_CLASSES if name in _CLASSES else MAX_SIZE
    if name in _SIZES and not value >= 1:
        raise ValueError(f"`{name}` is {value}; it must be at least 1. Correct the config, or load another model.")
    # Numbers that are not sizes, such as the ids of special tokens, stay below the limit too.
    if isinstance(value, int) and value > limit:
        raise ValueError(
            f"`{name}` is {value}; it must be at most {limit}. Correct the config, or load another model."
        )


def _are_labels(value: Any) -> bool:
    """Whether a value maps the indices of all classes to different names. JSON stores the indices as strings."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(label, str) and str(index).isdecimal() for index, label in value.items())
        and {int(index) for index in value} == set(range(len(value)))
        and len(set(value.values())) == len(value)
    )


def _is_reference(value: Any) -> bool:
    """Whether a value is a pair of a mean and a positive standard deviation."""
    numbers = (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(number, float | int) for number in value)
    )
    return numbers and all(map(math.isfinite, value)) and value[1] > 0


TGDFERConfig.register_for_auto_class()

__all__ = ["TGDFERConfig"]
