"""Loading the model and the processor of a run: from a CLIP or a trained TG-DFER, for the labels of a data set."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedConfig
from transformers.utils.hub import cached_file

from tgdfer.modeling_tgdfer.checkpoints_tgdfer import ADAPTER_NAME
from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig, require_sizes
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import DUAL_ENCODERS, require_dual_encoder
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import FaceConfig, ModelConfig
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.face_crops import crop_settings_of
from tgdfer.training.revisions import HubName
from tgdfer.weights import BUNDLED


def start_model(
    options: ModelConfig, classes: Sequence[str], faces: Mapping[str, Any] | None = None
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Loads the model that training starts from, and its processor. CLIP is frozen, and LoRA is attached if needed.

    Args:
        options (`ModelConfig`): Model to load, its options, and the file of descriptions. LoRA is not attached if
            `frozen_features` is set.
        classes (`Sequence[str]`): Labels of the training clips.
        faces (`Mapping[str, Any]`, *optional*): Options of the video processor, as returned by `face_options`.

    Returns:
        A model with the given classes, in `eval` mode, and its processor.

    Raises:
        UserError: If the model cannot be read or has another architecture, an option is unknown or not valid, or a
            label has no descriptions.
    """
    _require_options(options.model_options)
    source, frames = model_source(options.source), options.num_frames
    pinned = HubName.parse(options.source).options
    fields = {**options.model_options, "num_frames": frames, **_lora_options(options)}
    with _model_errors(options.model):
        if _read_config(source, pinned).get("model_type") != "tgdfer":
            descriptions = descriptions_for(classes, options.descriptions)
            with _damaged_file_errors(options.model):
                processor = TGDFERProcessor.from_clip(source, descriptions, num_frames=frames, **pinned)
            prompts = processor.class_prompts()
            with _damaged_file_errors(options.model):
                model = TGDFERForVideoClassification.from_clip(source, prompts, **pinned, **fields)
        else:
            # Always in fp32, because small updates are lost in half precision.
            model, processor = load_trained(options.source, dtype=torch.float32, **fields)
            processor.video_processor.num_frames = frames
            descriptions = descriptions_for(classes, options.descriptions, processor.descriptions)
            if descriptions != processor.descriptions or model.config.class_names != list(classes):
                processor.descriptions = descriptions
                model.set_classes(processor.class_prompts())
        for name, value in (faces or {}).items():
            setattr(processor.video_processor, name, value)
        processor.video_processor.resolve_face_detector()
        model.config.reset_calibration()  # The calibration is only valid for the weights before this training.
        model.freeze_clip()
        if not options.frozen_features:
            model.attach_lora()
            # It is only valid for the embeddings before this training.
            processor.search_reference = None
        return model, processor


def _lora_options(options: ModelConfig) -> dict[str, Any]:
    """Returns the fields of `LoraConfig` that are set, as fields of `TGDFERConfig`."""
    given = {name: getattr(options, name) for name in ("lora_options", "lora_text_options")}
    given = {name: dict(fields) for name, fields in given.items() if fields}
    if given and options.frozen_features:
        raise UserError(f"{min(given)} has fields, but frozen_features trains without LoRA: leave out one of them.")
    return given


def face_options(faces: FaceConfig, dataset: str) -> dict[str, Any]:
    """Returns the face crop of a run as options of the video processor, with which it is saved.

    Crops that `tgdfer faces` wrote are read unchanged, and the saved model expects such crops.

    Args:
        faces (`FaceConfig`): Face options of the run, which override the settings of `tgdfer faces`.
        dataset (`str`): Folder or Hub id of the data set.
    """
    options = crop_settings_of(dataset) | faces.model_dump(exclude_none=True)
    if options.get("face_crop") == "all":  # `tgdfer faces` wrote one clip per person, so every clip shows one face.
        options["face_crop"] = "largest"
    return options


def load_trained(source: str | Path, **options: Any) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Loads a trained model in `eval` mode, and its processor.

    Args:
        source (`str` or `Path`): Hub id such as "user/model" or "user/model@revision", folder of a run (its best model
            is used), of a model or of an adapter, or `tgdfer-tiny`.
        **options (`Any`): Config fields to change, or options of `from_pretrained`.

    Raises:
        UserError: If the model cannot be read, or is not a TG-DFER model.
    """
    with _model_errors(source):
        folder, pinned = model_source(source), HubName.parse(source).options
        config = _read_config(folder, pinned)
        if (kind := config.get("model_type")) != "tgdfer":
            raise UserError(
                f"{source} is a checkpoint of {kind or 'another program'}, not of a trained TG-DFER model."
            )
        with _damaged_file_errors(source):
            if _is_adapter(folder, config, pinned):
                model = _load_adapter(folder, config, pinned, **options)
            else:
                model = TGDFERForVideoClassification.from_pretrained(folder, use_safetensors=True, **pinned, **options)
            return model.eval(), TGDFERProcessor.from_pretrained(folder, **pinned)


def _is_adapter(source: str, config: Mapping[str, Any], pinned: Mapping[str, Any]) -> bool:
    """Returns whether a folder or a Hub repository contains an adapter instead of a whole model."""
    if "auto_map" in config:  # Only whole models refer to their code.
        return False
    return cached_file(source, ADAPTER_NAME, **pinned, _raise_exceptions_for_missing_entries=False) is not None


def _load_adapter(
    source: str, config: Mapping[str, Any], pinned: Mapping[str, Any], dtype: Any = torch.float32, **fields: Any
) -> TGDFERForVideoClassification:
    """Loads an adapter with its CLIP, which is that of the package if it is not on the Hub.

    Raises:
        ValueError: If a field of the config would change the network.
    """
    clip = None if config.get("clip_name") else str(BUNDLED["clip-tiny-faces"])
    model = TGDFERForVideoClassification.from_adapter(source, clip, **pinned)
    for name, value in fields.items():
        if name != "num_frames" and getattr(model.config, name) != value:
            raise ValueError(f"an adapter cannot be loaded with another `{name}` than {getattr(model.config, name)}")
        setattr(model.config, name, value)
    return model if dtype == "auto" else model.to(dtype)


def model_commit(name: str, model: TGDFERForVideoClassification) -> str | None:
    """Returns the commit of the model on the Hub that a network was loaded from.

    Args:
        name (`str`): Hub id, with or without a revision, or folder or name of another model.
        model (`TGDFERForVideoClassification`): The network.

    Returns:
        `str`, *optional*: The commit. None for folders and for models in the package.
    """
    source = HubName.parse(name)
    if name in BUNDLED or os.path.exists(os.path.expanduser(name)):
        return None
    commit = getattr(model.config, "_commit_hash", None)
    return commit or (model.config.clip_revision if model.config.clip_name == source.name else source.revision)


def is_trained(source: str | Path) -> bool:
    """Returns whether a checkpoint is a TG-DFER model rather than a CLIP.

    Raises:
        UserError: If it is neither, or cannot be read.
    """
    with _model_errors(source):
        config = _read_config(model_source(source), HubName.parse(source).options)
        return config.get("model_type") == "tgdfer"


def model_source(name: str | Path) -> str:
    """Returns the folder or Hub id of a model, given a folder, Hub id or bundled name. A run gives its best model.

    The revision of a Hub id is removed.
    """
    if str(name) in BUNDLED:
        return str(BUNDLED[str(name)])
    folder = os.path.expanduser(name)
    best = Path(folder) / "best"
    return str(best) if (best / "config.json").is_file() else HubName.parse(folder).name


def _read_config(source: str, pinned: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the config of a checkpoint, which is that of a TG-DFER model or of a CLIP."""
    with _damaged_file_errors(source):
        config: Any = PreTrainedConfig.get_config_dict(source, **pinned)[0]
        require_sizes(config)
    kind = config.get("model_type")
    if kind not in (*DUAL_ENCODERS, "siglip2", "tgdfer"):
        raise UserError(
            f"{source} is a checkpoint of {kind or 'another program'}: name a CLIP, such as"
            " openai/clip-vit-base-patch16, or a trained TG-DFER model."
        )
    with _damaged_file_errors(source):
        if kind != "tgdfer":
            require_dual_encoder(config, source)
    return config


def _require_options(options: dict[str, Any]) -> None:
    """Checks that all options are config fields that users may set."""
    # Users may not set fields that are derived from the data, the processor, the CLIP or the trained weights.
    derived = {"num_frames", "max_descriptions", "prompt_length", "context_length"}
    derived |= {"temperature", "unsure_below", "description_references"}
    derived |= {"training_data", "clip_config", "clip_name", "clip_revision", "clip_sha256", "clip_frozen_sha256"}
    derived |= {"lora_attached", "lora_options", "lora_text_options"}  # The last two are options themselves.
    inherited = {option.name for option in fields(PreTrainedConfig)}
    known = {option.name for option in fields(TGDFERConfig)} - inherited - derived
    for name in options:
        if name not in known:
            raise UserError(f"model_options has the unknown field {name!r}{did_you_mean(str(name), known)}")


@contextmanager
def _damaged_file_errors(name: str | Path) -> Iterator[None]:
    """Converts errors that libraries raise for damaged files of a checkpoint to a `UserError`."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError) as error:
        details = f"{type(error).__name__}: {_one_line(error)}"
        raise UserError(f"The files of the model {str(name)!r} are damaged ({details}): download it again.") from error


@contextmanager
def _model_errors(name: str | Path) -> Iterator[None]:
    """Converts errors that libraries raise about a checkpoint, an option or a prompt to a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (StrictDataclassError, ValueError, ImportError) as error:
        # If a check of the config fails, the message is in the cause of the error.
        reason = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
        raise UserError(f"Cannot use the model {str(name)!r}: {_one_line(reason).rstrip('.')}.") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"Cannot read the model {str(name)!r} ({_one_line(error)}): give {' or '.join(BUNDLED)}, or the Hub id"
            " or folder of a CLIP or a trained TG-DFER model."
        ) from error


def _one_line(error: BaseException) -> str:
    """Returns the message of an error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]
