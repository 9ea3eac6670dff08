"""Loading and saving whole models and adapters, and starting a model from a CLIP.

An adapter is a model without its CLIP: a small file of weights and a `config.json` in the same folder. The adapter
format of peft is not used. It would lose parameters that are not in a submodule, and `AutoModel` would read the config
of CLIP. An adapter fits only one CLIP, so its config contains a fingerprint of the weights of that CLIP.
"""

import copy
import dataclasses
import difflib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from .configuration_tgdfer import FORMAT_VERSION, TGDFERConfig
from .dual_encoders_tgdfer import (
    DUAL_ENCODERS,
    context_start,
    empty_dual_encoders,
    fingerprint,
    label_prompts,
    require_dual_encoder,
    text_length,
)
from .lora_tgdfer import LORA_NAME, AdaptedModel

ADAPTER_NAME = "tgdfer_adapter.safetensors"
# The top-level parts that only one of the models with a head has.
HEADS = {"relevance": "TGDFERForVideoClassification", "head": "TGDFERForTemporalLocalization"}
# Options of `from_clip` and `from_adapter` that are passed to the Hub.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "subfolder", "token")
# Fields of the config that `from_clip` derives from the CLIP and the prompts. The caller cannot set them.
DERIVED: tuple[str, ...] = ("clip_config", "clip_frozen_sha256", "clip_name", "clip_revision", "clip_sha256")
DERIVED += ("context_length", "id2label")
DERIVED += ("format_version", "label2id", "lora_attached", "max_descriptions", "prompt_length", "training_data")


def locate(name_or_folder: str | os.PathLike, file: str, revision: str | None, **options: Any) -> tuple[str, str]:
    """Returns the path of a file in a Hub repository or folder, and its commit (for a folder, `revision`).

    Raises:
        OSError: If the file does not exist.
    """
    path = cached_file(str(name_or_folder), file, revision=revision, **options)
    return path, extract_commit_hash(path, None) or revision


def require_known(options: Mapping[str, Any], known: set[str]) -> None:
    """Checks that all options exist.

    Raises:
        ValueError: If an option does not exist. The message suggests a similar one.
    """
    for name in options:
        if name not in known:
            similar = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else "see `TGDFERConfig` for the fields of a model."
            raise ValueError(f"There is no option {name!r}; {hint}")


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Returns the dtype of a name, such as "bfloat16". A dtype is returned as it is."""
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def load_clip(name_or_folder: str | os.PathLike, revision: str | None, **options: Any) -> tuple[Any, str]:
    """Loads a CLIP, and returns it with its commit. It is in float32, because half precision loses small updates.

    Raises:
        ValueError: If the checkpoint is not a CLIP or lacks weights.
        OSError: If the checkpoint does not exist.
    """
    path, commit = locate(name_or_folder, CONFIG_NAME, revision, **options)
    config = TGDFERConfig.get_config_dict(os.path.dirname(path))[0]
    require_dual_encoder(config, name_or_folder)
    loaded: Any = DUAL_ENCODERS[config["model_type"]].from_pretrained(
        name_or_folder, revision=commit, dtype=torch.float32, output_loading_info=True, **options
    )
    clip, report = loaded
    if report["missing_keys"]:
        raise ValueError(
            f"{name_or_folder} lacks weights, such as {min(report['missing_keys'])}; save or download it again."
        )
    if os.path.isdir(name_or_folder):
        clip.config._name_or_path = ""  # do not save paths of this machine
    return clip, commit


def take_training_data(clip: Any, name_or_folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Removes the training data of a CLIP from its config and returns them, so that the config of TG-DFER has them.

    If the config does not record them, the result is an entry that says so.
    """
    recorded = vars(clip.config).pop("training_data", None)
    if recorded:
        return recorded
    if os.path.isdir(name_or_folder):
        return [{"name": f"training data of {Path(name_or_folder).resolve().name}", "kind": "not recorded"}]
    source = f"https://huggingface.co/{name_or_folder}"
    return [{"name": f"training data of {name_or_folder}", "kind": "not recorded", "source": source}]


def adapter_state(model: AdaptedModel) -> dict[str, Tensor]:
    """Returns all weights except those of the base CLIP: LoRA, class prompts, context, temporal network and head.

    Biases of CLIP that were trained with LoRA belong to them.
    """
    prefix = f"{model.base_model_prefix}.clip."
    biases = {f"{prefix}{name}" for name in model.lora_biases}
    return {
        name: weight
        for name, weight in model.state_dict().items()
        if "lora_" in name or name in biases or not name.startswith(prefix)
    }


def weights_metadata(config: TGDFERConfig) -> dict[str, str]:
    """Returns the metadata in the header of a file of weights: format, version of this package, and training data."""
    metadata = {"format": "pt", "format_version": str(FORMAT_VERSION)}
    with suppress(importlib.metadata.PackageNotFoundError):  # The code of a Hub repository runs without the package.
        metadata["tgdfer_version"] = importlib.metadata.version("tgdfer")
    if config.training_data:
        metadata["training_data"] = json.dumps(config.training_data, sort_keys=True)
    return metadata


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Adds metadata to the header of a file of weights. The weights are copied as they are."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with path.open("rb") as old, draft.open("wb") as new:
            header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
            # transformers keeps the metadata of a quantisation here.
            text = json.dumps({**header, "__metadata__": header.get("__metadata__", {}) | metadata}).encode()
            text = text.ljust(-(-len(text) // 8) * 8)  # The weights are aligned to 8 bytes.
            new.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(old, new, 1 << 20)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_adapter(model: AdaptedModel, folder: str | os.PathLike) -> None:
    """Writes the adapter of a model and its config. An interrupted write leaves no adapter in the folder.

    Raises:
        ValueError: If the CLIP of the model has changed, or the folder contains a whole model.
    """
    config: Any = copy.deepcopy(model.config)
    clip: Any = model.base_model.clip
    if fingerprint(clip, model.lora_biases) != (config.clip_frozen_sha256 or config.clip_sha256):
        raise ValueError(
            "The CLIP of this model is not the one it started from (LoRA was merged into it, or its weights or their "
            "dtype were changed), so an adapter would not fit; save the whole model with `save_pretrained`."
        )
    folder = Path(folder)
    if (folder / SAFE_WEIGHTS_NAME).exists():
        raise ValueError(f"{folder} contains a whole model; save the adapter in a separate folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("auto_map", "custom_pipelines"):  # These refer to code that is saved only with whole models.
        if hasattr(config, name):
            delattr(config, name)
    config.architectures = [type(model).__name__]
    weights = {name: weight.contiguous() for name, weight in adapter_state(model).items()}
    with TemporaryDirectory(dir=folder) as drafts:
        config.to_json_file(Path(drafts, CONFIG_NAME))
        save_file(weights, Path(drafts, ADAPTER_NAME), metadata=weights_metadata(config))
        (folder / ADAPTER_NAME).unlink(missing_ok=True)  # The folder must never hold an old adapter and a new config.
        for name in (CONFIG_NAME, ADAPTER_NAME):
            Path(drafts, name).replace(folder / name)


def read_adapter(path: str) -> dict[str, Tensor]:
    """Reads the weights of an adapter, and renames those of older formats.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        # LoRA was called "default" before formats were numbered.
        return {
            re.sub(r"(\.lora_[AB])\.default\.", rf"\1.{LORA_NAME}.", name): w for name, w in load_file(path).items()
        }
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); save or download the adapter again.") from error


def load_base(config: TGDFERConfig, clip: str | os.PathLike | None, **options: Any) -> PreTrainedModel:
    """Loads the base CLIP of an adapter from `clip`, or from the repository in its config.

    Raises:
        ValueError: If neither is given, or if the weights are not those of the base CLIP.
    """
    if clip is None and config.clip_name is None:
        raise ValueError("This adapter was trained on a local CLIP whose path is not recorded; pass it as `clip`.")
    if clip is None:
        model, _ = load_clip(config.clip_name, config.clip_revision, **options)
    else:
        model, _ = load_clip(clip, None, **options)
    vars(model.config).pop("training_data", None)  # The config of the adapter has them.
    if fingerprint(model) != config.clip_sha256:
        base = config.clip_name or "a local CLIP"
        base += f" at revision {config.clip_revision}" if config.clip_revision else ""
        raise ValueError(
            f"{clip or base} does not have the weights that this adapter was trained with ({base}, SHA-256 "
            f"{str(config.clip_sha256)[:12]}..); pass that CLIP as `clip`."
        )
    return model


def require_complete(model: Any, report: Mapping[str, Any], name: Any) -> None:
    """Checks that all weights of a model were loaded. Otherwise its predictions could be wrong without a message.

    Args:
        model (`CheckpointedModel`): The loaded model.
        report (`Mapping[str, Any]`): Loading info of `from_pretrained`.
        name (`Any`): Folder or Hub id for messages.

    Raises:
        ValueError: If weights are missing or do not fit.
    """
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    lacking, others = ({key.split(".")[0] for key in keys} & HEADS.keys() for keys in (missing, unexpected))
    if lacking and others - lacking:
        saved = HEADS[min(others - lacking)]
        convert = "" if "head" in others else " and convert it with `TGDFERForTemporalLocalization.from_classifier`"
        raise ValueError(f"{name} contains a {saved}, not a {type(model).__name__}; load it with `{saved}`{convert}.")
    if any("text_guidance.prompt_ids" in str(key) for key in report["mismatched_keys"]):
        raise ValueError(
            f"The class prompts in {name} do not fit the requested {model.config.num_labels} classes with "
            f"{model.config.max_descriptions} descriptions of {model.config.prompt_length} tokens; load the model "
            "without such options, and call `model.set_classes(processor.encode_classes(descriptions))`."
        )
    if any("lora_" in key for key in missing):
        raise ValueError(
            f"The config of {name} says that LoRA is attached, but the weights of LoRA are missing; save or download "
            "the model again."
        )
    if model.config.format_version < FORMAT_VERSION and missing and unexpected:
        raise ValueError(
            f"{name} was saved in the older format {model.config.format_version}, whose weights have other names "
            f"(such as {min(unexpected)} instead of {min(missing)}); load it with the version of tgdfer that saved "
            "it, or train it again."
        )


class CheckpointedModel(AdaptedModel):
    """Base class that saves and loads whole models.

    CLIP is frozen in every model that is loaded.
    """

    config: TGDFERConfig
    config_class = TGDFERConfig
    # What a saved config names: the class for each Auto class, and the pipelines, whose code is saved with the
    # processor. The base model and the classifier can load the weights of each other.
    _auto_map: ClassVar[dict[str, str]] = {
        "AutoModel": "modeling_tgdfer.TGDFERModel",
        "AutoModelForVideoClassification": "modeling_tgdfer.TGDFERForVideoClassification",
    }
    _pipelines: ClassVar[dict[str, str]] = {
        "emotion-timeline": "pipeline_tgdfer.EmotionTimelinePipeline",
        "emotion-search": "search_pipeline_tgdfer.EmotionSearchPipeline",
    }

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
        """Saves the model and its code for all Auto classes.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write to.
            is_main_process (`bool`, *optional*, defaults to `True`): Whether this process writes the files.
            state_dict (`dict[str, Tensor]`, *optional*): Weights to save instead of those of the model.
            push_to_hub (`bool`, *optional*, defaults to `False`): Whether to upload the folder to the Hub.
            *args: Options of `PreTrainedModel.save_pretrained`.
            merge_lora (`bool`, *optional*): Whether to merge LoRA into the saved weights, which can then be loaded
                without peft. The model itself does not change. By default LoRA is merged only if the model is
                uploaded. Otherwise it is saved separately, so that `Trainer` can resume.
            **kwargs: Options of `PreTrainedModel.save_pretrained`.
        """
        if self.has_lora and (push_to_hub if merge_lora is None else merge_lora):
            merged = self.merged_copy(state_dict)
            merged.save_pretrained(save_directory, is_main_process, None, push_to_hub, *args, **kwargs)
            return
        if not self.has_lora:
            self.forget_lora()
        self.config.format_version = FORMAT_VERSION
        # transformers would record only the class that is saved.
        self.config.auto_map = {"AutoConfig": "configuration_tgdfer.TGDFERConfig", **self._auto_map}
        vars(self.config).pop("custom_pipelines", None)  # those of a model that this one was made from
        if self._pipelines:
            self.config.custom_pipelines = {
                task: {"impl": implementation, "pt": ["AutoModelForVideoClassification"]}
                for task, implementation in self._pipelines.items()
            }
        super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, *args, **kwargs)
        if self.should_save_on_this_rank(is_main_process):
            self._write_weights_metadata(save_directory)

    def _write_weights_metadata(self, folder: str | os.PathLike) -> None:
        for path in Path(folder).glob("model*.safetensors"):
            write_metadata(path, weights_metadata(self.config))

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # With `push_to_hub`, transformers uploads the files before `save_pretrained` returns.
        self._write_weights_metadata(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        """Uploads the model and its code to the Hub. LoRA is merged only in the uploaded copy."""
        return super(CheckpointedModel, self.merged_copy() if self.has_lora else self).push_to_hub(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Loads a model like `PreTrainedModel.from_pretrained`, and freezes its CLIP.

        Args:
            *args: Options of `PreTrainedModel.from_pretrained`.
            output_loading_info (`bool`, *optional*, defaults to `False`): Whether to also return the loading info.
            **kwargs: Options of `PreTrainedModel.from_pretrained`.

        Returns:
            `CheckpointedModel`: The model, or a tuple of the model and the loading info.

        Raises:
            ValueError: If the saved class prompts do not fit the requested number of classes, or the weights are of
                another version or a model with another head.
            ImportError: If LoRA is attached and peft is not installed.
        """
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, report = loaded
        require_complete(model, report, args[0] if args else kwargs.get("pretrained_model_name_or_path"))
        model.config.format_version = FORMAT_VERSION
        model.freeze_clip()
        return (model, report) if output_loading_info else model


class ClassifierCheckpoints(CheckpointedModel):
    """Base class of a classifier that is created from a CLIP, and can be saved and loaded as an adapter."""

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
        """Creates a model from a CLIP or another dual encoder. Before training, it classifies zero-shot.

        Args:
            clip (`str` or `os.PathLike`): Hub id, such as `openai/clip-vit-base-patch16`, or folder of a `CLIPModel`,
                a `SiglipModel` (also SigLIP 2 of fixed resolution) or a `VisionTextDualEncoderModel` with a text tower
                of CLIP, BERT, RoBERTa or XLM-RoBERTa. If it has no safetensors, transformers reads its pickled weights
                without running code in them.
            class_prompts (`Mapping[str, Any]`, *optional*): Output of `TGDFERProcessor.class_prompts()`. Defaults to
                the names of the seven basic emotions. `set_classes` can replace them later.
            revision (`str`, *optional*): Revision of the Hub repository.
            dtype (`str` or `torch.dtype`, *optional*, defaults to `torch.float32`): Dtype of the model. "auto" uses
                that of the checkpoint. Small updates are lost in half precision.
            **options: Fields of `TGDFERConfig`, and Hub options such as `token`, `cache_dir` and `local_files_only`.

        Returns:
            `ClassifierCheckpoints`: The model in `eval` mode with CLIP frozen.

        Raises:
            ValueError: If `clip` is not supported, the prompts do not fit, or an option does not exist.
            ImportError: If `clip` needs a package that is not installed, such as timm.
            OSError: If `clip` cannot be found.
        """
        hub_options = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
        fields = {field.name for field in dataclasses.fields(cls.config_class)} | {"attn_implementation"}
        require_known(options, fields.difference(DERIVED))
        clip_model, commit = load_clip(clip, revision, **hub_options)
        if class_prompts is None:
            tokenizer = AutoTokenizer.from_pretrained(clip, revision=commit, **hub_options)
            class_prompts = label_prompts(tokenizer, text_length(clip_model.config))
        training_data = take_training_data(clip_model, clip)
        config = cls.config_class(
            clip_config=clip_model.config,
            clip_name=None if os.path.isdir(clip) else str(clip),
            clip_revision=commit,
            clip_sha256=fingerprint(clip_model),
            training_data=training_data,
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
        return model.to(dtype=as_dtype(dtype)).eval()  # type: ignore[call-arg]

    @classmethod
    def from_adapter(
        cls,
        adapter: str | os.PathLike,
        clip: str | os.PathLike | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype = torch.float32,
        **hub_options: Any,
    ) -> Self:
        """Loads an adapter together with the CLIP that it was trained with.

        Args:
            adapter (`str` or `os.PathLike`): Hub id or folder of the adapter.
            clip (`str` or `os.PathLike`, *optional*): Hub id or folder of that CLIP. Defaults to the id and revision
                in the config of the adapter.
            revision (`str`, *optional*): Revision of the Hub repository of the adapter.
            dtype (`str` or `torch.dtype`, *optional*, defaults to `torch.float32`): Dtype of the model. "auto" uses
                that in the config of the adapter. Small updates are lost in half precision.
            **hub_options: Hub options for the adapter and the CLIP, such as `token`, `cache_dir` and
                `local_files_only`.

        Returns:
            `ClassifierCheckpoints`: The model in `eval` mode, with CLIP frozen and LoRA attached if the
            adapter has it.

        Raises:
            ValueError: If the adapter was trained with another CLIP, or is damaged.
            OSError: If the adapter or its CLIP cannot be found.
            ImportError: If the adapter has LoRA and peft is not installed.
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
                f"The weights and the config of the adapter {adapter} do not match (first difference: {min(wrong)}); "
                "save or download the adapter again."
            )
        model.load_state_dict(weights, strict=False)
        model.freeze_clip()
        if dtype == "auto":
            dtype = config.dtype or torch.float32
        return model.to(dtype=as_dtype(dtype)).eval()  # type: ignore[call-arg]

    def save_adapter(self, folder: str | os.PathLike) -> None:
        """Saves the model without its CLIP. This takes a few MB instead of hundreds.

        `tgdfer_adapter.safetensors` contains LoRA (not merged), class prompts, context, temporal network, visual
        prompts and head. `config.json` contains the id, revision and fingerprint of the CLIP. `from_adapter` loads
        them.

        Args:
            folder (`str` or `os.PathLike`): Folder to write to. It is created if it does not exist. The files appear
                in it only when both are complete.

        Raises:
            ValueError: If the CLIP of the model has changed, for example because LoRA was merged, or if the folder
                contains a whole model.
        """
        write_adapter(self, folder)
