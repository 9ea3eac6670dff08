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

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig, require_sizes
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import DUAL_ENCODERS, require_dual_encoder
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import FaceConfig, ModelConfig
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.face_crops import crop_settings_of
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
    source, frames = model_source(options.model), options.num_frames
    fields = {**options.model_options, "num_frames": frames}
    with _model_errors(options.model):
        if _model_type(source) != "tgdfer":
            descriptions = descriptions_for(classes, options.descriptions)
            with _damaged_file_errors(options.model):
                processor = TGDFERProcessor.from_clip(source, descriptions, num_frames=frames)
            prompts = processor.class_prompts()
            with _damaged_file_errors(options.model):
                model = TGDFERForVideoClassification.from_clip(source, prompts, **fields)
        else:
            # Always in fp32, because small updates are lost in half precision.
            model, processor = load_trained(source, dtype=torch.float32, **fields)
            processor.video_processor.num_frames = frames
            descriptions = descriptions_for(classes, options.descriptions, processor.descriptions)
            if descriptions != processor.descriptions or list(model.config.id2label.values()) != list(classes):
                processor.descriptions = descriptions
                model.set_classes(processor.class_prompts())
        for name, value in (faces or {}).items():
            setattr(processor.video_processor, name, value)
        model.config.reset_calibration()  # The calibration is only valid for the weights before this training.
        model.freeze_clip()
        if not options.frozen_features:
            model.attach_lora()
        return model, processor


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
        source (`str` or `Path`): Hub id, folder of a run (its best model is used) or of a model, or `tgdfer-tiny`.
        **options (`Any`): Config fields to change, or options of `from_pretrained`.

    Raises:
        UserError: If the model cannot be read, or is not a TG-DFER model.
    """
    with _model_errors(source):
        folder = model_source(source)
        kind = _model_type(folder)
        if kind != "tgdfer":
            raise UserError(
                f"{source} is a checkpoint of {kind or 'another program'}, not of a trained TG-DFER model."
            )
        with _damaged_file_errors(source):
            model = TGDFERForVideoClassification.from_pretrained(folder, use_safetensors=True, **options)
            return model.eval(), TGDFERProcessor.from_pretrained(folder)


def is_trained(source: str | Path) -> bool:
    """Returns whether a checkpoint is a TG-DFER model rather than a CLIP.

    Raises:
        UserError: If it is neither, or cannot be read.
    """
    with _model_errors(source):
        return _model_type(model_source(source)) == "tgdfer"


def model_source(name: str | Path) -> str:
    """Returns the folder or Hub id of a model, given a folder, Hub id or bundled name. A run gives its best model."""
    if str(name) in BUNDLED:
        return str(BUNDLED[str(name)])
    folder = os.path.expanduser(name)
    best = Path(folder) / "best"
    return str(best if (best / "config.json").is_file() else folder)


def _model_type(source: str | Path) -> str | None:
    """Returns the model type in the config of a checkpoint."""
    with _damaged_file_errors(source):
        config: Any = PreTrainedConfig.get_config_dict(str(source))[0]
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
    return kind


def _require_options(options: dict[str, Any]) -> None:
    """Checks that all options are config fields that users may set."""
    # Users may not set fields that are derived from the data, the processor, the CLIP or the trained weights.
    derived = {"num_frames", "max_descriptions", "prompt_length", "context_length"}
    derived |= {"temperature", "unsure_below", "description_references"}
    derived |= {"training_data", "clip_config", "clip_name", "clip_revision", "clip_sha256"}
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
