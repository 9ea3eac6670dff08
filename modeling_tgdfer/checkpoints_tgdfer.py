"""Loading and saving: a model from its CLIP, as a whole, or as an adapter (all but the CLIP), and LoRA on and off.

An adapter is one small file beside `config.json`. It is not peft's adapter folder, which would lose bare parameters
and send `AutoModel` to CLIP's config. An adapter fits one CLIP only, so its config holds a fingerprint of that CLIP's
weights.
"""

import copy
import dataclasses
import difflib
import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from .configuration_tgdfer import BASIC_EMOTIONS, FORMAT_VERSION, TGDFERConfig
from .dual_encoders_tgdfer import (
    DUAL_ENCODERS,
    context_start,
    empty_dual_encoders,
    lora_targets,
    require_dual_encoder,
    text_length,
)

ADAPTER_NAME = "tgdfer_adapter.safetensors"
# Not "default", the name that peft gives to adapters of its users.
LORA_NAME = "tgdfer"
# Where from a file is fetched, among the options of `from_clip` and `from_adapter`.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "subfolder", "token")
# Fields of the config that follow from CLIP and prompts.
DERIVED: tuple[str, ...] = (
    "clip_config",
    "clip_name",
    "clip_revision",
    "clip_sha256",
    "context_length",
    "format_version",
    "id2label",
)
DERIVED += ("label2id", "lora_attached", "max_descriptions", "prompt_length")


def locate(name_or_folder: str | os.PathLike, file: str, revision: str | None, **options: Any) -> tuple[str, str]:
    """Path of a file of a Hub repository or of a folder, and the commit it is of (of a folder, `revision`).

    Raises:
        OSError: There is none.
    """
    path = cached_file(str(name_or_folder), file, revision=revision, **options)
    return path, extract_commit_hash(path, None) or revision


def require_known(options: Mapping[str, Any], known: set[str]) -> None:
    """Refuses options that do not exist.

    Raises:
        ValueError: One does not; the sentence names those that are written alike.
    """
    for name in options:
        if name not in known:
            alike = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {alike[0]!r}?" if alike else "see `TGDFERConfig` for the fields of a model."
            raise ValueError(f"There is no option {name!r}; {hint}")


def load_clip(name_or_folder: str | os.PathLike, revision: str | None, **options: Any) -> tuple[Any, str]:
    """A CLIP in fp32, whatever its checkpoint (small updates vanish in half precision), and the commit it is of.

    Raises:
        ValueError: The checkpoint is not one of a CLIP, or lacks weights.
        OSError: There is none.
    """
    path, commit = locate(name_or_folder, CONFIG_NAME, revision, **options)
    config = TGDFERConfig.get_config_dict(os.path.dirname(path))[0]
    require_dual_encoder(config, name_or_folder)
    loaded: Any = DUAL_ENCODERS[config["model_type"]].from_pretrained(
        name_or_folder, revision=commit, dtype=torch.float32, output_loading_info=True, **options
    )
    clip, report = loaded
    if report["missing_keys"]:
        raise ValueError(f"{name_or_folder} lacks weights of its CLIP, such as {min(report['missing_keys'])}.")
    if os.path.isdir(name_or_folder):
        clip.config._name_or_path = ""  # a path of this machine is nobody else's business
    return clip, commit


def _base_weights(clip: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights of a CLIP under their plain names, without its LoRA, if attached."""
    for name, weight in clip.state_dict().items():
        if "lora_" not in name:
            yield name.replace(".base_layer.", "."), weight


def fingerprint(clip: nn.Module) -> str:
    """SHA-256 of all weights of a CLIP in fp32; LoRA, while it is not merged, does not change it."""
    digest = hashlib.sha256()
    for name, weight in sorted(_base_weights(clip)):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.float().cpu().flatten().numpy().data)
    return digest.hexdigest()


def adapter_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """All of a model that is not its base CLIP: LoRA, class prompts, context, temporal network and head."""
    prefix = f"{model.base_model_prefix}.clip."
    return {
        name: weight for name, weight in model.state_dict().items() if "lora_" in name or not name.startswith(prefix)
    }


def write_adapter(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Writes the adapter of a model and its config; a folder whose writing is cut off holds no adapter.

    Raises:
        ValueError: The CLIP of the model is not its base any more, or the folder holds a whole model.
    """
    config: Any = copy.deepcopy(model.config)
    clip: Any = model.base_model.clip
    if fingerprint(clip) != config.clip_sha256:
        raise ValueError(
            "The CLIP of this model is not the one it started from (LoRA was merged into it, or its weights or their "
            "dtype were changed), so an adapter would not fit: save the whole model with `save_pretrained`."
        )
    folder = Path(folder)
    if (folder / SAFE_WEIGHTS_NAME).exists():
        raise ValueError(f"{folder} holds a whole model; save the adapter in a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("auto_map", "custom_pipelines"):  # name code that is saved with whole models only
        if hasattr(config, name):
            delattr(config, name)
    config.architectures = [type(model).__name__]
    weights = {name: weight.contiguous() for name, weight in adapter_state(model).items()}
    with TemporaryDirectory(dir=folder) as drafts:
        config.to_json_file(Path(drafts, CONFIG_NAME))
        save_file(weights, Path(drafts, ADAPTER_NAME), metadata={"format": "pt"})
        (folder / ADAPTER_NAME).unlink(missing_ok=True)  # an older one must not stand beside the new config
        for name in (CONFIG_NAME, ADAPTER_NAME):
            Path(drafts, name).replace(folder / name)


def read_adapter(path: str) -> dict[str, Tensor]:
    """Weights of an adapter, under the names of the present format.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        # LoRA was called "default" before formats were numbered.
        return {
            re.sub(r"(\.lora_[AB])\.default\.", rf"\1.{LORA_NAME}.", name): w for name, w in load_file(path).items()
        }
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); save or download the adapter again.") from error


def load_base(config: TGDFERConfig, clip: str | os.PathLike | None, **options: Any) -> PreTrainedModel:
    """The CLIP that an adapter belongs to, from where its config says or from `clip`.

    Raises:
        ValueError: The config names none and `clip` is not given, or the weights are not those of the base.
    """
    base = config.clip_name or "a CLIP in a folder"
    base += f" at revision {config.clip_revision}" if config.clip_revision else ""
    if clip is None and config.clip_name is None:
        raise ValueError(f"This adapter belongs to {base}, so its config cannot say where that is: give it as `clip`.")
    if clip is None:
        model, _ = load_clip(config.clip_name, config.clip_revision, **options)
    else:
        model, _ = load_clip(clip, None, **options)
    if fingerprint(model) != config.clip_sha256:
        raise ValueError(
            f"The weights of {clip or base} are not those that this adapter was trained with, of {base} (SHA-256 "
            f"{str(config.clip_sha256)[:12]}..): give that CLIP as `clip`."
        )
    return model


class _Kept:
    """A layer whose own adapter stays in use whichever adapters peft is told to use beside it.

    `get_peft_model` would otherwise silence what the model has learnt.
    """

    def set_adapter(self, adapter_names: str | list[str], *args: Any, **kwargs: Any) -> None:
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        layer: Any = super()
        layer.set_adapter([*(name for name in names if name != LORA_NAME), LORA_NAME], *args, **kwargs)


@functools.cache
def _kept(layer: Any) -> Any:
    """A class of layers of peft, made one whose adapter stays in use."""
    return type(f"TGDFER{layer.__name__}", (_Kept, layer), {})


def _is_lora(module: nn.Module) -> bool:
    # Where peft was not imported, no module is of its classes.
    lora = sys.modules.get("peft.tuners.lora")
    return lora is not None and isinstance(module, lora.LoraLayer)


def _class_word_prompts(tokenizer: Any, length: int | None) -> dict[str, Any]:
    """Prompts of the basic emotions by their names alone, without context, padded to `length` where it is given."""
    padding = {"padding": "max_length", "max_length": length} if length else {"padding": True}
    tokens = tokenizer(list(BASIC_EMOTIONS), padding_side="right", return_tensors="pt", **padding)
    ids = tokens.input_ids.unsqueeze(1)
    mask = torch.ones(ids.shape[:2], dtype=torch.bool)
    return {"labels": list(BASIC_EMOTIONS), "input_ids": ids, "description_mask": mask, "context_length": 0}


def require_whole(model: Any, report: Mapping[str, Any], name: Any) -> None:
    """Refuses a loaded model that would answer wrongly without a word.

    Args:
        model: As it was loaded.
        report: What `output_loading_info` gives.
        name: Folder or Hub id, for the message.

    Raises:
        ValueError: It would.
    """
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    if any("text_guidance.prompt_ids" in str(key) for key in report["mismatched_keys"]):
        raise ValueError(
            f"The class texts of {name} are not for {model.config.num_labels} classes with prompts of "
            f"{model.config.max_descriptions} x {model.config.prompt_length} tokens: load the model as it is, and "
            "give it other classes with `model.set_classes(processor.class_prompts(descriptions))`."
        )
    if any("lora_" in key for key in missing):
        raise ValueError(
            f"The config of {name} says that LoRA is attached, but its weights are missing: save it again."
        )
    if model.config.format_version < FORMAT_VERSION and missing and unexpected:
        raise ValueError(
            f"The weights of {name} have other names than those of this version of tgdfer, such as {min(unexpected)} "
            f"in place of {min(missing)}: load it with the version that saved it, or train it again."
        )


class CheckpointedModel(PreTrainedModel):
    """A model with a CLIP inside: how it is saved and loaded as a whole, and takes LoRA on and off.

    CLIP is frozen in every model that is loaded.
    """

    config: TGDFERConfig
    config_class = TGDFERConfig

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        *args: Any,
        merge_lora: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Saves a model that every Auto class loads, with its code.

        Args:
            save_directory: Where to.
            is_main_process: Whether this process writes the files.
            state_dict: Weights to save in place of those of the model, under the same names.
            push_to_hub: Whether to publish the folder as well.
            *args: Of `PreTrainedModel.save_pretrained`.
            merge_lora: Whether LoRA is merged into what is saved, which then loads without peft; the model itself
                stays as it is. By default it is merged where the model is published. Otherwise it is kept apart, so
                that training can go on from the folder: that is what `Trainer` saves and loads.
            **kwargs: Of `PreTrainedModel.save_pretrained`.
        """
        if self.has_lora and (push_to_hub if merge_lora is None else merge_lora):
            merged = self.merged_copy(state_dict)
            merged.save_pretrained(save_directory, is_main_process, None, push_to_hub, *args, **kwargs)
            return
        self.config.format_version = FORMAT_VERSION
        home = "modeling_tgdfer"
        # Saving notes only the class that is saved; the same weights serve both.
        self.config.auto_map = {
            "AutoConfig": "configuration_tgdfer.TGDFERConfig",
            "AutoModel": f"{home}.TGDFERModel",
            "AutoModelForVideoClassification": f"{home}.TGDFERForVideoClassification",
        }
        # The code of this pipeline is saved with the processor.
        self.config.custom_pipelines = {
            "emotion-timeline": {
                "impl": "pipeline_tgdfer.EmotionTimelinePipeline",
                "pt": ["AutoModelForVideoClassification"],
            }
        }
        super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, *args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        """Publishes the model with its code, LoRA merged, without changing this one."""
        return super(CheckpointedModel, self.merged_copy() if self.has_lora else self).push_to_hub(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Loads a model as every `PreTrainedModel` does, and freezes its CLIP.

        Raises:
            ValueError: The saved class texts do not fit the number of classes that was asked for, or the weights are
                those of another version.
            ImportError: The folder has LoRA that is not merged, and peft is not installed.
        """
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, report = loaded
        require_whole(model, report, args[0] if args else kwargs.get("pretrained_model_name_or_path"))
        model.config.format_version = FORMAT_VERSION
        model.freeze_clip()
        return (model, report) if output_loading_info else model

    def freeze_clip(self) -> None:
        """Freezes all of CLIP but its LoRA, if attached; called after every load."""
        for name, parameter in self.base_model.clip.named_parameters():
            parameter.requires_grad_("lora_" in name)

    @property
    def has_lora(self) -> bool:
        """Whether LoRA is attached and not merged."""
        return any(_is_lora(module) for module in self.modules())

    def attach_lora(self) -> None:
        """Adapts the last blocks of CLIP by LoRA (Hu et al., 2021), as many of each tower as the config says.

        In blocks with attention it adapts the attention projections, in others the convolutions and matrices. LoRA
        starts at zero: the outputs are unchanged. All else of CLIP is frozen. Where LoRA is attached already, it is
        kept as it is.

        Raises:
            ImportError: peft is not installed.
            ValueError: The config asks for more blocks than a tower has, or for another LoRA than the attached one.
        """
        # Only training needs it, and it takes long to import: saved models are plain, with LoRA merged.
        try:
            import peft
        except ImportError as error:
            raise ImportError("LoRA needs peft: `pip install peft`.") from error
        clip: Any = self.base_model.clip
        targets = []
        for tower, count in (("vision", self.config.lora_layers), ("text", self.config.lora_text_layers)):
            if count:
                module = getattr(clip, f"{tower}_model")
                targets += [f"{tower}_model.{name}" for name in lora_targets(module, count, tower)]
        attached = {name: module for name, module in clip.named_modules() if _is_lora(module)}
        if attached:
            if set(targets) != set(attached) or any(
                one.r != {LORA_NAME: self.config.lora_rank} for one in attached.values()
            ):
                raise ValueError(
                    "The attached LoRA is not the one that the config asks for (`lora_layers`, `lora_text_layers`, "
                    "`lora_rank`): call `merge_lora` first, or leave these fields as they were."
                )
            return
        if not targets:
            return
        lora = peft.LoraConfig(
            r=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            lora_dropout=self.config.lora_dropout,
            target_modules=targets,
        )
        peft.inject_adapter_in_model(lora, clip, LORA_NAME)
        for module in clip.modules():
            if _is_lora(module):
                layer: Any = type(module)
                module.__class__ = _kept(layer)
                for inner in module.modules():
                    inner._is_hf_initialized = True  # transformers would take LoRA from its start
        self.config.lora_attached = True
        self.freeze_clip()

    def merge_lora(self) -> None:
        """Folds LoRA into the weights it adapts: the same outputs, a plain model."""
        for name, module in list(self.named_modules()):
            if _is_lora(module):
                module.merge(safe_merge=True)
                self.set_submodule(name, module.get_base_layer())
        self.base_model.clip.__dict__.pop("peft_config", None)
        self.config.lora_attached = False
        self.base_model.train(self.base_model.training)  # which drops the class texts that were read

    def merged_copy(self, state_dict: Mapping[str, Tensor] | None = None) -> Self:
        """A copy of this model with LoRA merged; of other weights of the same names where they are given."""
        if state_dict is None:
            merged = copy.deepcopy(self)
        else:  # The weights of this model may be sharded, so that they cannot be copied.
            with torch.device("meta"):
                merged = type(self)(copy.deepcopy(self.config))
            merged.load_state_dict(state_dict, assign=True)
        merged.merge_lora()
        return merged


class ClassifierCheckpoints(CheckpointedModel):
    """A classifier: how it starts from a CLIP, and is saved and loaded as an adapter."""

    tgdfer: Any
    set_classes: Any

    @classmethod
    def from_clip(
        cls,
        clip: str | os.PathLike,
        class_prompts: Mapping[str, Any] | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype = torch.float32,
        **options: Any,
    ) -> Self:
        """Starts a model from any CLIP or other dual encoder: at first it answers as that does, zero-shot.

        Args:
            clip: A Hub id such as `openai/clip-vit-base-patch16`, or a folder, of a `CLIPModel`, a `SiglipModel`
                (SigLIP 2 of fixed resolution too) or a `VisionTextDualEncoderModel` with a text tower of CLIP, BERT
                or RoBERTa. Where it has no safetensors, transformers reads its weights without running what is
                pickled in them.
            class_prompts: What `TGDFERProcessor.class_prompts()` returns. Without it the names of the seven basic
                emotions are the texts, one word a class, and `set_classes` may bring descriptions later.
            revision: Revision of the Hub repository.
            dtype: Of the model, by default float32 whatever the checkpoint has, because small updates vanish in half
                precision; "auto" takes that of the checkpoint.
            **options: Fields of `TGDFERConfig`, and `token`, `cache_dir`, `local_files_only` and so on.

        Returns:
            The model, in `eval` mode, with CLIP frozen.

        Raises:
            ValueError: `clip` is none of these, the prompts do not fit it, or an option does not exist.
            ImportError: It needs a package that is not installed, such as timm.
            OSError: `clip` cannot be found.
        """
        hub_options = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
        fields = {field.name for field in dataclasses.fields(cls.config_class)} | {"attn_implementation"}
        require_known(options, fields.difference(DERIVED))
        clip_model, commit = load_clip(clip, revision, **hub_options)
        if class_prompts is None:
            tokenizer = AutoTokenizer.from_pretrained(clip, revision=commit, **hub_options)
            class_prompts = _class_word_prompts(tokenizer, text_length(clip_model.config))
        config = cls.config_class(
            clip_config=clip_model.config,
            clip_name=None if os.path.isdir(clip) else str(clip),
            clip_revision=commit,
            clip_sha256=fingerprint(clip_model),
            id2label=dict(enumerate(class_prompts["labels"])),
            context_length=class_prompts["context_length"],
            **options,
        )
        with empty_dual_encoders():
            model = cls(config)
        model.tgdfer.clip = clip_model
        model.set_classes(class_prompts)
        guidance = model.tgdfer.text_guidance
        if guidance.context is not None:
            start = context_start(clip_model.config)
            phrase = clip_model.text_model.get_input_embeddings()(
                guidance.prompt_ids[:, 0, start : start + guidance.context_length]
            )
            contexts = guidance.context.num_embeddings // guidance.context_length
            with torch.no_grad():
                guidance.context.weight.copy_(phrase[:contexts].flatten(0, 1))
        model.freeze_clip()
        if dtype == "auto":
            saved = TGDFERConfig.get_config_dict(clip, revision=commit, **hub_options)[0]
            dtype = saved.get("dtype") or saved.get("torch_dtype") or torch.float32
        model.to(dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype)  # type: ignore[call-arg]
        return model.eval()

    @classmethod
    def from_adapter(
        cls,
        adapter: str | os.PathLike,
        clip: str | os.PathLike | None = None,
        revision: str | None = None,
        **hub_options: Any,
    ) -> Self:
        """Loads what `save_adapter` wrote, onto the CLIP that it was trained with.

        Args:
            adapter: Hub id or folder of the adapter.
            clip: Hub id or folder where that CLIP lies, in place of the id and revision in the adapter's config.
            revision: Revision of the adapter's Hub repository.
            **hub_options: `token`, `cache_dir`, `local_files_only` and so on, for both.

        Returns:
            The model, in `eval` mode, in fp32, with CLIP frozen, and LoRA attached where it was when saved.

        Raises:
            ValueError: The CLIP is not the one that the adapter was trained with, or the adapter is damaged.
            OSError: The adapter or its CLIP cannot be found.
            ImportError: The adapter has LoRA, and peft is not installed.
        """
        path, commit = locate(adapter, ADAPTER_NAME, revision, **hub_options)
        weights = read_adapter(path)
        config = cls.config_class.from_pretrained(adapter, revision=commit, **hub_options)
        clip_model = load_base(config, clip, **hub_options)
        config.clip_config, config.lora_attached, config.format_version = clip_model.config, False, FORMAT_VERSION
        with empty_dual_encoders():
            model = cls(config)
        model.tgdfer.clip = clip_model
        if any("lora_" in name for name in weights):
            model.attach_lora()
        expected = adapter_state(model)
        wrong = {name for name in weights.keys() & expected.keys() if weights[name].shape != expected[name].shape}
        wrong |= weights.keys() ^ expected.keys()
        if wrong:
            raise ValueError(
                f"The weights and the config of the adapter {adapter} do not fit each other: {min(wrong)}."
            )
        model.load_state_dict(weights, strict=False)
        model.freeze_clip()
        return model.eval()

    def save_adapter(self, folder: str | os.PathLike) -> None:
        """Saves all that is not base CLIP, which an adapter names only: some MB in place of hundreds.

        `tgdfer_adapter.safetensors` holds LoRA (not merged), class prompts, context, temporal network, visual prompts
        and head; `config.json` the id, revision and fingerprint of the CLIP. `from_adapter` loads them.

        Args:
            folder: Where to; it is made if need be, and holds no adapter until both files are whole.

        Raises:
            ValueError: The CLIP of this model is not its base any more (LoRA was merged), or the folder holds a whole
                model.
        """
        write_adapter(self, folder)
