"""All that decides a training run, in one dataclass: read from YAML, overridden by flags, saved with the run."""

from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from tgdfer.training.errors import UserError, nearest
from tgdfer.training.files import write_text


def _option(default: Any, help: str) -> Any:
    """A field with its help text, which the command line shows as well."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(kw_only=True)
class TrainingConfig:
    """One training run. The help text of every field stands beside it, in `field.metadata["help"]`.

    Raises:
        UserError: if a value has the wrong type or lies outside its range.
    """

    # Data
    dataset: str = _option(MISSING, "Data set to train on: a Hub id, or a folder of SPLIT/LABEL/CLIP.mp4")
    dataset_config: str | None = _option(None, "Configuration of a Hub data set that has several")
    video_column: str | None = _option(None, "Column that holds the videos; by default the only one of type Video")
    label_column: str | None = _option(None, "Column that holds the label; by default 'label' or the only ClassLabel")
    train_split: str = _option("train", "Split to train on")
    test_split: str = _option("test", "Split for `tgdfer evaluate`; of it training reads only who is seen")
    validation_split: str | None = _option(
        None, "Split that picks the best epoch; by default 'validation' if there is one, else people held out of train"
    )
    validation_fraction: float = _option(
        0.2, "Share of train held out where there is no validation split; 0 trains on everything, last is then best"
    )
    fold: int = _option(0, "Which of the 1 / validation_fraction folds is held out, from 0")

    # Model
    model: str = _option(
        "clip-tiny-faces", "Model to start from: clip-tiny-faces, any CLIP or any trained TG-DFER, as Hub id or folder"
    )
    descriptions: str | None = _option(None, "YAML file of `label: [description, ...]` for labels not built in")
    num_frames: int = _option(16, "Frames sampled from a clip")
    face_crop: Literal["none", "largest", "center"] | None = _option(
        None, "Face to cut out, here and wherever the model is used; by default as `tgdfer faces` or the model did"
    )
    face_detector: Literal["auto", "yunet", "mtcnn"] | None = _option(
        None, "What finds the face; by default as `tgdfer faces` or the model did, else YuNet where it can be had"
    )
    face_model: str | None = _option(None, "File of the face detector YuNet, instead of the Hub's")
    no_face: Literal["skip", "error", "full_frame"] | None = _option(
        None, "Frames without the face: leave them out, stop, or give them whole; by default skip"
    )
    frozen_features: bool = _option(False, "Freeze CLIP, compute its frame features once and train on these")
    feature_views: int = _option(4, "Views of a training clip that are cached for frozen_features; the first is plain")
    model_options: dict[str, Any] = _option(
        {}, "Any other field of TGDFERConfig, such as lora_layers=2 or mil_pooling=mean"
    )

    augmentation: dict[str, Any] = _option(
        {}, "Any field of Augmentation, how training clips are changed, such as erase=0.25 or crop=0.8"
    )

    # Optimisation
    epochs: int = _option(20, "Passes over the training clips")
    batch_size: int = _option(16, "Clips a step and process")
    gradient_accumulation: int = _option(1, "Steps whose gradients are summed before an update")
    lora_lr: float = _option(2e-4, "Learning rate of the LoRA matrices")
    prompts_lr: float = _option(5e-4, "Learning rate of the class texts and the visual prompts")
    new_lr: float = _option(5e-4, "Learning rate of all other new modules")
    weight_decay: float = _option(0.05, "AdamW's weight decay; biases, scales and norms have none")
    warmup: float = _option(0.1, "Share of the updates in which the learning rates rise, before they follow a cosine")
    max_grad_norm: float = _option(1.0, "Gradients are clipped to this norm")
    class_balance: Literal["none", "weights", "sampler"] = _option(
        "none", "Against imbalance: weight the loss, or draw every class equally often"
    )

    # Running
    output: str = _option("runs/train", "Folder of the run")
    resume: bool = _option(False, "Continue the run in the output folder from its last checkpoint")
    mixed_precision: Literal["no", "bf16", "fp16"] = _option("no", "Precision of the forward pass")
    workers: int = _option(0, "Processes that decode clips; 0 decodes in the main one")
    seed: int = _option(0, "Seed of everything random")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for option in fields(self):
            setattr(self, option.name, _typed(option.name, getattr(self, option.name), hints[option.name]))
        for name in ("num_frames", "feature_views", "epochs", "batch_size", "gradient_accumulation"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("lora_lr", "prompts_lr", "new_lr", "max_grad_norm"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("weight_decay", "workers", "seed", "fold"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("warmup", 0 <= self.warmup < 1, "at least 0 and below 1")
        self._require("validation_fraction", 0 <= self.validation_fraction <= 0.5, "between 0 and 0.5")
        for name in ("test_split", "validation_split"):
            self._require(name, getattr(self, name) != self.train_split, "another split than the one to train on")
        self._require("fold", self.fold < max(self.num_folds, 1), f"below the number of folds, {self.num_folds}")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise UserError(f"{name} is {getattr(self, name)!r}, but must be {wanted}.")

    @property
    def num_folds(self) -> int:
        """Into how many folds train is cut where a fraction of it is held out; 0 if nothing is."""
        return round(1 / self.validation_fraction) if self.validation_fraction else 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """Makes a config of plain values.

        Raises:
            UserError: for an unknown key (named with the nearest valid one), a missing `dataset` or a wrong type.
        """
        names = {option.name for option in fields(cls)}
        for name in values:
            if name not in names:
                raise UserError(f"Unknown option {name!r}{nearest(str(name), names)}")
        if not values.get("dataset"):
            raise UserError(
                "No data set to train on: name a Hub id or a folder with --dataset, or dataset: in the YAML."
            )
        return cls(**values)

    def save(self, path: str | Path) -> None:
        """Writes the config as YAML, each field below its help text."""
        lines = []
        values = asdict(self)
        for option in fields(self):
            lines += [f"# {option.metadata['help']}", yaml.safe_dump({option.name: values[option.name]}).rstrip(), ""]
        write_text(path, "\n".join(lines))


def default_of(option: Field) -> Any:
    """Default value of a dataclass field; `MISSING` if it must be given."""
    return option.default_factory() if option.default_factory is not MISSING else option.default


def _typed(name: str, value: Any, hint: Any) -> Any:
    """`value` as `hint` wants it: an int is a float as well, and so is `1e-4`, which YAML reads as a string."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        # YAML reads a bare `no` as False.
        value = "no" if value is False and "no" in get_args(hint) else value
        if value not in get_args(hint):
            raise UserError(f"{name} is {value!r}, but must be one of: {', '.join(get_args(hint))}.")
        return value
    kind = get_origin(hint) or hint
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if kind is str and isinstance(value, Path):
        return str(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} is {value!r}, but must be of type {kind.__name__}.")
    return value
