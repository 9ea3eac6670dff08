"""Configuration of a training run, in sections. Each section is passed to the code that needs it."""

import os
import re
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.files import dump_yaml, write_text
from tgdfer.training.reading_options import ReadingOptions
from tgdfer.training.revisions import with_revision
from tgdfer.weights import BUNDLED


def _as_location(value: Any) -> Any:
    """Converts path objects to text and expands `~`. Other values stay as they are, for pydantic to check."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return os.path.expanduser(text) if isinstance(text, str) else text


# A number of steps, or a time.
_INTERVAL = re.compile(r"[1-9]\d*|(?!0+(\.0*)?[smh])\d+(\.\d+)?[smh]")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
# A folder, a file or a Hub id. Path objects are converted to text, and `~` is expanded.
_LOCATION = BeforeValidator(_as_location)
Location = Annotated[str, _LOCATION]


def _as_text(value: Any) -> Any:
    """Converts whole numbers to text. Other values stay as they are, for pydantic to check."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    """Makes a list of a single text."""
    return [value] if isinstance(value, str) else value


# Texts, of which a single one need not be in a list.
Texts = Annotated[list[str], BeforeValidator(_as_list)]


class Section(BaseModel):
    """A section of options. The description of a field is its help text on the command line and in the YAML file."""

    model_config = ConfigDict(strict=True, extra="forbid", validate_assignment=True, protected_namespaces=())


class DataConfig(Section):
    """The data set, and how it is read."""

    dataset: Location = Field(
        description="Data set to train on: a Hub id, a folder of SPLIT/LABEL/CLIP.mp4, another folder or Parquet file"
        " that `datasets` reads, or with data_root one of dfew, ferv39k, mafw, afew, crema_d and ravdess"
    )
    data_root: Location | None = Field(None, description="Folder of a published data set, such as dfew")
    dataset_config: str | None = Field(None, description="Configuration of a Hub data set with several configurations")
    split_map: dict[str, Any] = Field(
        {}, description="Names of the splits in the data set, such as test=eval, if they differ from those here"
    )
    streaming: bool = Field(False, description="Read a data set of the Hub without preparing a copy of it")
    video_column: str | None = Field(
        None,
        description="Column of videos, their bytes or photographs; by default the only Video or Image column",
    )
    label_column: str | None = Field(
        None, description="Column of the labels; by default 'label' or the only ClassLabel column"
    )
    label_kind: Literal["single", "multiple", "votes"] = Field(
        "single", description="Labels of a clip: one, several, or the votes of the people who labelled it"
    )
    vote_columns: dict[str, Any] = Field(
        {}, description="Column with the votes for a label, such as anger=ang or anger=votes[4]; once for each label"
    )
    vote_file: Location | None = Field(
        None, description="CSV file with the vote columns, if they are not in the data set; a row per clip"
    )
    train_split: str = Field("train", description="Split to train on")
    test_split: str = Field("test", description="Split for `tgdfer evaluate`; training reads only its `person` column")
    validation_split: str | None = Field(
        None,
        description="Split that selects the best epoch; by default 'validation' if it exists, else people who are held"
        " out of the training split",
    )
    validation_fraction: float = Field(
        0.2,
        ge=0,
        le=0.5,
        description="Share of the training split that is held out if there is no validation split, such as 0.5, 0.33"
        " or 0.25; with 0, training uses all clips, and the last epoch counts as the best",
    )
    fold: int | None = Field(
        None,
        ge=0,
        description="Fold of a published data set to test on, from 1. Otherwise fold to hold out for validation, from"
        " 0; there are 1 / validation_fraction folds. By default the first",
    )
    stills: Location | None = Field(
        None,
        description="Labelled photographs to train on before the clips, as clips of one frame: a Hub id, a folder or a"
        " Parquet file",
    )
    stills_label_column: str | None = Field(
        None, description="Column of the labels of the photographs; by default as for label_column"
    )
    stills_vote_columns: dict[str, Any] = Field(
        {}, description="Columns of the photographs with the votes for a label; as vote_columns"
    )
    augmentation: dict[str, Any] = Field(
        {}, description="Fields of Augmentation, which changes training clips, such as erase=0.25 or crop=0.8"
    )
    strict: bool = Field(False, description="Stop at the first clip that cannot be read, instead of leaving it out")
    workers: int | None = Field(
        None,
        ge=0,
        description="Processes that decode clips ahead; 0 decodes in the main process. By default one per free CPU, at"
        " most 8, if a GPU trains, else 0",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("test_split", "validation_split"):
            if getattr(self, name) == self.train_split:
                raise ValueError(f"{name} is {self.train_split!r}, but must differ from the split to train on")
        if self.stills is None and (self.stills_label_column or self.stills_vote_columns):
            raise ValueError("stills_label_column and stills_vote_columns are given, but stills is not")
        if self.validation_fraction and abs(self.validation_fraction * self.num_folds - 1) > 0.05:
            raise ValueError(
                f"validation_fraction is {self.validation_fraction:g}, but one of several equal folds is held out: use"
                f" 1/2, 1/3, 1/4 and so on, such as {1 / self.num_folds:.3g}"
            )
        if not self.is_published and (self.fold or 0) >= max(self.num_folds, 1):
            raise ValueError(f"fold is {self.fold}, but must be below the number of folds, {self.num_folds}")
        return self

    @property
    def num_folds(self) -> int:
        """Number of folds of the training split; 0 if no clips are held out."""
        return round(1 / max(self.validation_fraction, 1e-6)) if self.validation_fraction else 0

    @property
    def is_published(self) -> bool:
        """Whether the data set is a published one, which has folds of its own."""
        return self.data_root is not None

    @property
    def source(self) -> str:
        """Folder or Hub id that the clips are read from."""
        return self.data_root or self.dataset

    @property
    def held_out_fold(self) -> int:
        """Index of the fold of the training split that is held out for validation."""
        return 0 if self.is_published or self.fold is None else self.fold

    @property
    def reading(self) -> ReadingOptions:
        """The options that are keyword arguments of `load_clips`."""
        names = set(ReadingOptions.__optional_keys__)
        options = cast(ReadingOptions, self.model_dump(include=names))
        if not self.is_published:
            options["fold"] = None
        return options


class ModelConfig(Section):
    """The model that training starts from, and its inputs."""

    model: Location = Field(
        "clip-tiny-faces",
        description="Model to start from: clip-tiny-faces, tgdfer-tiny, or a Hub id or folder of a CLIP, SigLIP or"
        " TG-DFER",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of the model on the Hub; MODEL@REVISION does the same"
    )
    descriptions: Location | None = Field(
        None, description="YAML file of `label: [description, ...]`, for labels without built-in descriptions"
    )
    num_frames: int = Field(16, ge=1, description="Frames sampled from a clip")
    frozen_features: bool = Field(
        False, description="Freeze CLIP, compute its frame features once, and train on these features"
    )
    feature_views: int = Field(
        4, ge=1, description="Cached views of each training clip for frozen_features; the first one is not augmented"
    )
    model_options: dict[str, Any] = Field(
        {}, description="Fields of TGDFERConfig that are not set otherwise, such as lora_layers=2 or mil_pooling=mean"
    )
    lora_options: dict[str, Any] = Field(
        {},
        description="Fields of peft's LoraConfig for the vision tower, such as use_dora=true, r=16 or"
        " target_modules=[q_proj, v_proj]",
    )
    lora_text_options: dict[str, Any] = Field(
        {}, description="Fields of LoraConfig for the text tower; also set lora_text_layers or target_modules"
    )

    @property
    def source(self) -> str:
        """The model with its revision, as "user/model@revision"."""
        return with_revision(self.model, self.revision)


class FaceConfig(Section):
    """The face crops of training, which are saved with the model."""

    face_crop: Literal["none", "largest", "center"] | None = Field(
        None, description="Face to crop; by default as in `tgdfer faces` or in the model"
    )
    face_detector: Literal["auto", "yunet", "mtcnn"] | None = Field(
        None,
        description="Face detector; by default that of `tgdfer faces` or of the model, else YuNet if it is available",
    )
    face_model: Location | None = Field(
        None, description="Local file of the face detector YuNet, instead of the Hub's"
    )
    no_face: Literal["skip", "error", "full_frame"] | None = Field(
        None, description="How to treat frames without a face: skip, error or full_frame; by default skip"
    )


class OptimisationConfig(Section):
    """How the weights are updated."""

    epochs: int = Field(20, ge=1, description="Passes over the training clips")
    stills_epochs: int | None = Field(
        None, ge=1, description="Passes over the photographs of stills; by default as many as epochs"
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many epochs in a row that are not better on the validation clips"
    )
    batch_size: int = Field(16, ge=1, description="Clips per step and process")
    gradient_accumulation: int = Field(1, ge=1, description="Steps whose gradients are averaged for an update")
    lora_lr: float = Field(2e-4, gt=0, description="Learning rate of the LoRA matrices")
    prompts_lr: float = Field(5e-4, gt=0, description="Learning rate of the class texts and the visual prompts")
    new_lr: float = Field(5e-4, gt=0, description="Learning rate of all other new modules")
    clip_lr: float = Field(1e-5, gt=0, description="Learning rate of weights of CLIP that unfreeze trains")
    freeze: Texts = Field(
        [],
        description="Parameters to keep as they are: vision, text, lora, context, residue, temporal_adapter,"
        " short_term, long_range, relevance, visual_prompts, head, or a pattern of names such as '*norm*'; once for"
        " each",
    )
    unfreeze: Texts = Field([], description="Frozen parameters to train, such as vision; as for freeze")
    lr_schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="Learning rates after the warm-up: decrease to zero along a cosine, or stay constant"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the updates in which the learning rates increase")
    weight_decay: float = Field(
        0.05, ge=0, description="Weight decay of AdamW; not applied to biases, scales and norms"
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of a moving average of the weights, such as 0.999, which is validated and saved instead of"
        " the weights themselves",
    )
    mixup: float = Field(
        0.0, ge=0, description="Mix clips and their labels in pairs: parameter of the Beta distribution, such as 0.2"
    )
    class_balance: Literal["none", "weights", "sampler", "adjustment"] = Field(
        "none",
        description="Remedy for imbalance: weight the loss, sample classes equally, or adjust the logits",
    )
    objectives: dict[str, Any] = Field(
        {},
        description="Losses of other methods to add, by name and weight: ial=0.1, memory=1, transport=0.1 or"
        " identity=10",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass, which saves memory and takes longer"
    )
    torch_compile: bool = Field(
        False, description="Compile the network with torch.compile, which takes minutes and makes long runs faster"
    )


class RunConfig(Section):
    """The folder of a run, its checkpoints and logs, its precision and its seed."""

    output: Location = Field("runs/train", description="Folder of the run")
    resume: bool = Field(False, description="Continue the run in the output folder from its last checkpoint")
    checkpoint_every: Annotated[str | None, BeforeValidator(_as_text)] = Field(
        None,
        description="Steps or time between checkpoints, such as 500, 90s, 10m or 2h; by default they are saved at the"
        " end of every epoch",
    )
    keep: int = Field(
        2, ge=1, description="Checkpoints to keep; with 2, one is left if the last one turns out to be damaged"
    )
    log_every: int = Field(10, ge=1, description="Steps between the rows of steps.jsonl")
    report_to: Annotated[list[Literal["trackio", "tensorboard"]], BeforeValidator(_as_list)] = Field(
        [], description="Tracker that also gets the logged values; once for each tracker"
    )
    mixed_precision: Literal["no", "bf16", "fp16"] | None = Field(
        None, description="Precision of the forward pass; by default that of `accelerate launch`, else no"
    )
    seed: int = Field(0, ge=0, description="Seed of all random numbers")

    @field_validator("checkpoint_every")
    @classmethod
    def _check_interval(cls, value: str | None) -> str | None:
        if value is not None and not _INTERVAL.fullmatch(value):
            raise ValueError(
                f"checkpoint_every is {value!r}, but must be a number of steps such as 500, or a time such as 10m"
            )
        return value

    @property
    def checkpoint_steps(self) -> int | None:
        """Number of steps between checkpoints. None if they have no such distance."""
        if self.checkpoint_every is None or not self.checkpoint_every.isdigit():
            return None
        return int(self.checkpoint_every)

    @property
    def checkpoint_seconds(self) -> float | None:
        """Time between checkpoints in seconds. None if they have no such distance."""
        if self.checkpoint_every is None or self.checkpoint_every.isdigit():
            return None
        return float(self.checkpoint_every[:-1]) * _SECONDS[self.checkpoint_every[-1]]


class TrainingConfig(BaseModel):
    """The configuration of one training run.

    Option names are unique across the sections. So command-line flags and YAML files do not name the section.

    Attributes:
        data (`DataConfig`): The data set.
        model (`ModelConfig`): The model to start from.
        faces (`FaceConfig`): The face crops.
        optimisation (`OptimisationConfig`): The updates of the weights.
        run (`RunConfig`): Folder, precision and seed.
    """

    data: DataConfig
    model: ModelConfig
    faces: FaceConfig
    optimisation: OptimisationConfig
    run: RunConfig

    @classmethod
    def from_options(cls, **options: Any) -> Self:
        """Creates a configuration from options of any section.

        Raises:
            UserError: If an option is unknown (the message suggests a similar one), `dataset` is missing, or a value
                has the wrong type or is out of range.
        """
        for name in options:
            if name not in OPTIONS:
                raise UserError(f"Unknown option {name!r}{did_you_mean(name, OPTIONS)}")
        if not options.get("dataset"):
            raise UserError(
                "No data set to train on: give a Hub id or a folder with --dataset, or with dataset: in the YAML file."
            )
        sections: dict[str, dict[str, Any]] = {name: {} for name in cls.model_fields}
        for name, value in options.items():
            sections[OPTIONS[name].section][name] = value
        try:
            config = cls(**sections)
        except ValidationError as error:
            raise UserError(_first_error(error)) from error
        if config.optimisation.stills_epochs is not None and config.data.stills is None:
            raise UserError("stills_epochs is given, but stills is not: name the photographs with --stills.")
        return config

    def options(self) -> dict[str, Any]:
        """Returns all options by name, without their sections."""
        return {name: value for section in self.model_dump().values() for name, value in section.items()}

    def with_options(self, **changes: Any) -> Self:
        """Returns a copy in which some options have other values.

        Raises:
            UserError: As in `from_options`.
        """
        return self.from_options(**self.options() | changes)

    def with_absolute_paths(self) -> Self:
        """Returns a copy with absolute paths to local data, models and files, which is valid in any working folder."""
        names = [name for name, option in OPTIONS.items() if option.is_location]
        if self.data.is_published:  # Its name may also be that of a folder.
            names.remove("dataset")
        values = {name: value for name, value in self.options().items() if name in names and value is not None}
        return self.with_options(
            **{
                name: os.path.abspath(value)
                for name, value in values.items()
                if value not in BUNDLED and os.path.exists(value)
            }
        )

    def save(self, path: str | Path) -> None:
        """Writes the configuration as YAML, with a heading for each section and the help text above each option."""
        text = StringIO()
        for section, values in self.model_dump().items():
            text.write(f"# {section.capitalize()}\n\n")
            for name, value in values.items():
                text.write(f"# {OPTIONS[name].help}\n{dump_yaml({name: value})}\n")
        write_text(path, text.getvalue())


class Option:
    """An option of a training run, as the command line and the YAML file show it.

    Attributes:
        section (`str`): Name of its section, which is a field of `TrainingConfig`.
        type (`Any`): Its type annotation.
        help (`str`): Its help text.
        is_location (`bool`): Whether its value is a folder, a file or a Hub id.
        default (`Any`): Its default value. None if there is none.
    """

    def __init__(self, section: str, field: FieldInfo) -> None:
        self.section = section
        self.type = field.annotation
        self.help = field.description or ""
        # Pydantic separates the validator from the type, except in a union.
        self.is_location = _LOCATION in (
            *field.metadata,
            *(m for t in get_args(field.annotation) for m in get_args(t)),
        )
        self.default = None if field.is_required() else field.get_default(call_default_factory=True)


OPTIONS: dict[str, Option] = {
    name: Option(section, field)
    for section, part in TrainingConfig.model_fields.items()
    for name, field in part.annotation.model_fields.items()
}


def _first_error(error: ValidationError) -> str:
    """Returns the first validation error as one sentence."""
    first = error.errors()[0]
    if "error" in first.get("ctx", {}):  # An error of a validator in this file.
        return f"{first['ctx']['error']}."
    name, wanted = first["loc"][1], first["msg"].removeprefix("Input should be ")
    return f"{name} is {first['input']!r}, but must be {wanted}."
