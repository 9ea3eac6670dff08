"""The model and the processor of a run: from any CLIP or any trained TG-DFER, for the labels of a data set."""

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
from tgdfer.training.data.labels import words_for
from tgdfer.training.errors import UserError, nearest
from tgdfer.training.face_crops import cropped_by
from tgdfer.weights import BUNDLED


def start_model(
    options: ModelConfig, classes: Sequence[str], faces: Mapping[str, Any] | None = None
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """The model that training starts from, and its processor; CLIP is frozen, with LoRA unless features are frozen.

    Args:
        options: names the model, its options and the file of descriptions.
        classes: labels of the training clips.
        faces: options of the video processor, as `face_options` gives them.

    Returns:
        A model whose classes are `classes`, in `eval` mode; and its processor.

    Raises:
        UserError: the model cannot be read or is of another architecture, an option does not exist or does not fit,
            or a label has no descriptions.
    """
    _require_options(options.model_options)
    source, frames = model_source(options.model), options.num_frames
    fields = {**options.model_options, "num_frames": frames}
    with _sentences_about(options.model):
        if _model_type(source) != "tgdfer":
            descriptions = words_for(classes, options.descriptions)
            with _reading(options.model):
                processor = TGDFERProcessor.from_clip(source, descriptions, num_frames=frames)
            prompts = processor.class_prompts()
            with _reading(options.model):
                model = TGDFERForVideoClassification.from_clip(source, prompts, **fields)
        else:
            # In fp32 whatever the checkpoint: small updates vanish in half precision.
            model, processor = load_trained(source, dtype=torch.float32, **fields)
            processor.video_processor.num_frames = frames
            descriptions = words_for(classes, options.descriptions, processor.descriptions)
            if descriptions != processor.descriptions or list(model.config.id2label.values()) != list(classes):
                processor.descriptions = descriptions
                model.set_classes(processor.class_prompts())
        for name, value in (faces or {}).items():
            setattr(processor.video_processor, name, value)
        model.config.reset_calibration()  # It is that of the weights before this training.
        model.freeze_clip()
        if not options.frozen_features:
            model.attach_lora()
        return model, processor


def face_options(faces: FaceConfig, dataset: str) -> dict[str, Any]:
    """The face crop of a run, as options of the video processor. It is saved with the model.

    Crops that `tgdfer faces` has written are read as they are, and the model learns to expect such crops.
    """
    options = cropped_by(dataset) | faces.model_dump(exclude_none=True)
    if options.get("face_crop") == "all":  # `tgdfer faces` wrote a clip for each person: a clip shows one face.
        options["face_crop"] = "largest"
    return options


def load_trained(source: str | Path, **options: Any) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """A trained model in `eval` mode and its processor.

    Args:
        source: Hub id, folder of a run (its best model is taken) or of a model, or the name `tgdfer-tiny`.
        **options: fields of the config to change, or options of `from_pretrained`.

    Raises:
        UserError: if it cannot be read or is no TG-DFER model.
    """
    with _sentences_about(source):
        folder = model_source(source)
        kind = _model_type(folder)
        if kind != "tgdfer":
            raise UserError(
                f"{source} is a checkpoint of {kind or 'another program'}, not of a trained TG-DFER model."
            )
        with _reading(source):
            model = TGDFERForVideoClassification.from_pretrained(folder, use_safetensors=True, **options)
            return model.eval(), TGDFERProcessor.from_pretrained(folder)


def is_trained(source: str | Path) -> bool:
    """Whether a checkpoint is a TG-DFER model, and no CLIP.

    Raises:
        UserError: if it is neither, or cannot be read.
    """
    with _sentences_about(source):
        return _model_type(model_source(source)) == "tgdfer"


def model_source(name: str | Path) -> str:
    """Folder or Hub id of a model; of the folder of a run, its best model. The package's own models have names."""
    if str(name) in BUNDLED:
        return str(BUNDLED[str(name)])
    folder = os.path.expanduser(name)
    best = Path(folder) / "best"
    return str(best if (best / "config.json").is_file() else folder)


def _model_type(source: str | Path) -> str | None:
    """What a checkpoint says that it is."""
    with _reading(source):
        config: Any = PreTrainedConfig.get_config_dict(str(source))[0]
        require_sizes(config)
    kind = config.get("model_type")
    if kind not in (*DUAL_ENCODERS, "siglip2", "tgdfer"):
        raise UserError(
            f"{source} is a checkpoint of {kind or 'another program'}: name a CLIP, such as"
            " openai/clip-vit-base-patch16, or a trained TG-DFER model."
        )
    with _reading(source):
        if kind != "tgdfer":
            require_dual_encoder(config, source)
    return kind


def _require_options(options: dict[str, Any]) -> None:
    # Those that follow from the data, the processor, the CLIP or the trained weights are not for the user to set.
    derived = {"num_frames", "max_descriptions", "prompt_length", "context_length"}
    derived |= {"temperature", "unsure_below", "description_references"}
    derived |= {"clip_config", "clip_name", "clip_revision", "clip_sha256"}
    inherited = {option.name for option in fields(PreTrainedConfig)}
    known = {option.name for option in fields(TGDFERConfig)} - inherited - derived
    for name in options:
        if name not in known:
            raise UserError(f"model_options has the unknown field {name!r}{nearest(str(name), known)}")


@contextmanager
def _reading(name: str | Path) -> Iterator[None]:
    """Makes one sentence of the errors that libraries run into where a file of a checkpoint holds something odd."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError) as error:
        told = f"{type(error).__name__}: {_first_lines(error)}"
        raise UserError(f"The files of the model {str(name)!r} are damaged ({told}): download it again.") from error


@contextmanager
def _sentences_about(name: str | Path) -> Iterator[None]:
    """Makes one sentence of whatever the libraries say when a checkpoint, an option or a prompt does not fit."""
    try:
        yield
    except UserError:
        raise
    except (StrictDataclassError, ValueError, ImportError) as error:
        # A config says what is wrong with it in the cause of an error that names the check.
        reason = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
        raise UserError(f"Cannot use the model {str(name)!r}: {_first_lines(reason).rstrip('.')}.") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"Cannot read the model {str(name)!r} ({_first_lines(error)}): give {' or '.join(BUNDLED)}, or the Hub id"
            " or folder of a CLIP or a trained TG-DFER model."
        ) from error


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
