"""Model cards, generated from the files of a run with the template `template.md`."""

import hashlib
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from tgdfer.model_card.measured import DatasetResults
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, read_yaml, write_text
from tgdfer.weights import BUNDLED

TEMPLATE = Path(__file__).with_name("template.md")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Options that are meaningful only on the machine of the training.
LOCAL_OPTIONS = ("output", "resume", "workers", "face_model")
# Keys whose values are texts and never file names.
TEXT_KEYS = ("labels", "validation", "license", "sources", "limits")

# Captions of pictures, by the start of their file names.
CAPTIONS = {
    "confusion_matrix": "Confusion matrix of true classes (rows) and predicted classes (columns)",
    "risk_coverage": "Share of wrong labels (risk) if only the most confident share of the clips (coverage) get a"
    " label",
    "timeline": "Scores of the classes in each frame of a clip (curves), and relevance of each frame (bars)",
}
# Pictures that exist for each data set. The rest of the file name is the name of the data set.
PER_DATASET_PICTURES = ("confusion_matrix", "risk_coverage")
PACKAGES = ("torchvision", "av")
# Names of data sets of faces that were rendered by this package.
RENDERED = ("rendered_faces", "rendered-faces")
# Most important options of a run. training_config.yaml contains all options.
OPTIONS = ("num_frames", "frozen_features", "batch_size", "lora_lr", "prompts_lr", "new_lr", "class_balance")


@dataclass
class CardData:
    """Contents of a card, read from the folder of a run or of a model.

    Paths of this machine are shortened to their last names.

    Attributes:
        name (`str`): Title of the card, which is the name of the repository or of the run.
        model_id (`str`): Name of the model in examples: the id of its repository, its folder, or the name of a model
            in the package.
        labels (`list[str]`): Names of the classes in order.
        descriptions (`dict[str, list[str]]`): Descriptions of each class.
        metrics (`dict[str, Any]`): Contents of `metrics.json`, or only the facts of the training if nothing was
            measured.
        config (`dict[str, Any]`): Contents of `config.yaml` without `LOCAL_OPTIONS`. Empty if the run has none.
        pictures (`list[str]`): Paths of the pictures for links in the card.
        calibration (`dict[str, float | None]`): `temperature` and `unsure_below` of the model.
        face_crop (`str`): Option `face_crop` of the video processor.
        packages (`list[str]`): Packages that are needed besides `transformers` to use the model without this package.
    """

    name: str
    model_id: str
    labels: list[str]
    descriptions: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    calibration: dict[str, float | None] = field(default_factory=dict)
    face_crop: str = "none"
    packages: list[str] = field(default_factory=lambda: list(PACKAGES))

    @classmethod
    def from_run(cls, run: str | Path, repo_id: str | None = None, pictures: bool = True) -> "CardData":
        """Reads the folder of a run.

        Args:
            run (`str` or `Path`): Folder of a run or of a model.
            repo_id (`str`, *optional*): Repository of the card, or `tgdfer-tiny` for the model in the package. Without
                it, the card is for the model folder on disk.
            pictures (`bool`, *optional*, defaults to `True`): Whether the card shows the pictures of the run.

        Returns:
            `CardData`: The contents of the card.

        Raises:
            UserError: If the folder contains no model, a file cannot be read, or the results belong to other weights.
        """
        run = Path(run)
        folder, metrics = model_folder(run), read_metrics(run)
        require_measured(folder, metrics, run)
        model = read_json(folder / "config.json")
        id2label = model.get("id2label", {})
        processor = read_json(folder / "processor_config.json") if (folder / "processor_config.json").exists() else {}
        vision = (model.get("clip_config") or {}).get("vision_config") or {}
        name = Path(repo_id or run.resolve()).name
        to_pictures = Path("figures") if repo_id else Path(os.path.relpath(run / "figures", folder))
        return cls(
            name=name,
            model_id=repo_id or relative_name(folder),
            labels=[id2label[index] for index in sorted(id2label, key=int)],
            descriptions=processor.get("descriptions") or {},
            metrics=public_metrics(metrics, name),
            config=public_config(run, metrics.get("training") or {}),
            calibration={name: model.get(name) for name in ("temperature", "unsure_below")},
            face_crop=(processor.get("video_processor") or {}).get("face_crop", "none"),
            packages=[*PACKAGES, *(["timm"] if vision.get("model_type") == "timm_wrapper" else [])],
            pictures=[quote((to_pictures / path.name).as_posix()) for path in pictures_of(run) if pictures],
        )

    @property
    def training(self) -> dict[str, Any]:
        """Facts of the training. Empty if they were not recorded."""
        return self.metrics.get("training") or {}

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Trainings of this model in order. Each of them started from the model of the previous one."""
        stages: list[dict[str, Any]] = []
        facts = self.training
        while facts:
            stages.insert(0, facts)
            facts = facts.get("continued_from") or {}
        return stages

    @property
    def license(self) -> str | None:
        """Hub id of the license of the weights, or None if this package cannot determine it."""
        if self.training.get("license"):
            return self.training["license"]
        own = {(stage.get("base_model"), stage.get("dataset") in RENDERED) for stage in self.stages}
        return "apache-2.0" if own == {("clip-tiny-faces", True)} else None

    @property
    def reproducible(self) -> bool:
        """Whether the initial model and the descriptions of the training are available to readers."""
        start = self.config.get("model", "")
        local = self.config.get("descriptions") or self.training.get("continued_from")
        return (start == "clip-tiny-faces" or is_hub_id(start)) and not local

    @property
    def measured(self) -> list[DatasetResults]:
        """Results on each data set. Empty if nothing was measured."""
        all_metrics = [self.metrics, *(self.metrics.get("also_measured") or [])]
        results = [DatasetResults(metrics, is_hub_id(metrics.get("dataset", ""))) for metrics in all_metrics]
        return [result for result in results if result.figures]

    def metadata(self) -> ModelCardData:
        """Creates the metadata block, which the Hub uses for search."""
        trained_on = [stage["dataset"] for stage in self.stages if is_hub_id(stage.get("dataset") or "")]
        base = self.training.get("base_model") or ""
        metrics = [figure.metric for results in self.measured for figure in results.figures if figure.metric]
        return ModelCardData(
            license=self.license,
            library_name="transformers",
            pipeline_tag="video-classification",
            tags=["tgdfer", "facial-expression-recognition", "multiple-instance-learning", "clip", "video"],
            datasets=list(dict.fromkeys(trained_on)) or None,
            base_model=base if is_hub_id(base) else None,
            metrics=list(dict.fromkeys(metrics)) or None,
            model_name=self.name,
            eval_results=[result for results in self.measured for result in results.eval_results()] or None,
        )

    def card(self) -> ModelCard:
        """Creates the card."""
        environment = Environment(
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
        )
        template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        return ModelCard(template.render(self.template_values()))

    def template_values(self) -> dict[str, Any]:
        """Returns the variables of `template.md`."""
        return {
            "metadata": self.metadata().to_yaml(),
            "name": self.name,
            "model_id": self.model_id,
            "is_bundled": self.model_id in BUNDLED,
            "finds_faces": self.face_crop != "none",
            "packages": self.packages,
            "labels": self.labels,
            "descriptions": self.descriptions,
            "measured": self.measured,
            "columns": {column for results in self.measured for column in results.columns},
            "calibration": self.calibration_facts(),
            "pictures": [{"path": path, "caption": caption(path)} for path in self.pictures],
            "stages": [(self.training_facts(stage), describe_sources(stage)) for stage in self.stages],
            "limits": self.training.get("limits") or [],
            "commands": self.commands(),
            "data_folder": None if is_hub_id(self.config.get("dataset", "")) else self.config.get("dataset"),
            "license": self.license,
            "states_license": bool(self.training.get("license")),
        }

    def calibration_facts(self) -> dict[str, str]:
        """Returns facts about the calibration by name. The result is empty for a model that is not calibrated.

        Metrics are included only if there is a single data set. Those of several data sets are listed separately.
        """
        temperature, unsure_below = (self.calibration.get(name) for name in ("temperature", "unsure_below"))
        if temperature in (None, 1.0) and unsure_below is None:
            return {}
        calibration = self.training.get("calibration") or {}
        facts = {
            "Calibrated on": calibration.get("num_clips") and f"{calibration['num_clips']} validation clips",
            "Temperature": f"{1.0 if temperature is None else temperature:.2f}",
            'Probability below which the label is "unsure"': (
                None if unsure_below is None else f"{100 * unsure_below:.1f}%"
            ),
            **(self.measured[0].confidence if len(self.measured) == 1 else {}),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def training_facts(self, stage: dict[str, Any]) -> dict[str, str]:
        """Returns facts about a training by name."""
        start = stage.get("base_model") and f"`{stage['base_model']}`"
        # The config belongs to the last training.
        config = self.config if stage is self.training else {}
        options = [f"`{key}: {config[key]}`" for key in OPTIONS if config.get(key) not in (None, False, "none")]
        facts = {
            "Initial model": "the model of the previous stage" if stage.get("continued_from") else start,
            "Data": describe_data(stage),
            "Clips": stage.get("num_clips"),
            "Held out for validation": stage.get("validation"),
            "Epochs": stage.get("epochs"),
            "Best epoch": stage.get("best_epoch"),
            "Trainable parameters": stage.get("trainable_parameters") and f"{stage['trainable_parameters']:,}",
            "Seed": stage.get("seed"),
            "Time": stage.get("seconds") and f"{stage['seconds']:.0f} s",
            "Options": ", ".join(options) or None,
            "Command": stage.get("command") and f"`{stage['command']}`",
        }
        return {name: str(value) for name, value in facts.items() if value is not None}

    def commands(self) -> list[str]:
        """Returns the commands that reproduce the model and its results, or an empty list if that is not possible."""
        if not self.reproducible:
            return []
        train = shlex.join(["tgdfer", "train", "--config", "training_config.yaml", "--output", self.name])
        return [train, *filter(None, [self.metrics.get("command")])]


def describe_data(stage: dict[str, Any]) -> str | None:
    """Describes the training data: the data set, or the number of clips of each of its sources."""
    if not stage.get("sources"):
        return stage.get("dataset") and f"`{stage['dataset']}`, split `{stage.get('split', 'train')}`"
    numbers = [(source["name"], source.get("num_clips")) for source in stage["sources"]]
    return "; ".join(name if number is None else f"{name}, {number:,} clips" for name, number in numbers)


def describe_sources(stage: dict[str, Any]) -> list[str]:
    """Returns the terms and the citation of each source of the training data, if they are given."""
    sources = [
        (source["name"], [source[key].rstrip(".") for key in ("terms", "citation") if source.get(key)])
        for source in stage.get("sources") or []
    ]
    return [f"{name}: {'. '.join(texts)}." for name, texts in sources if texts]


def build_card(run: str | Path, repo_id: str | None = None, pictures: bool = True) -> ModelCard:
    """Creates the model card of a run.

    Args:
        run (`str` or `Path`): Folder of a run or of a model.
        repo_id (`str`, *optional*): Repository of the card, or `tgdfer-tiny` for the model in the package. Without it,
            the examples use the folder on disk.
        pictures (`bool`, *optional*, defaults to `True`): Whether the card shows the pictures of the run.

    Returns:
        `ModelCard`: The card.

    Raises:
        UserError: If the folder contains no model, a file cannot be read, or the results belong to other weights.
    """
    return CardData.from_run(run, repo_id, pictures).card()


def write_card(run: str | Path) -> Path:
    """Writes the card of a run to `README.md` in the folder of its model, and returns its path.

    Raises:
        UserError: If the folder contains no model, a file cannot be read, or the results belong to other weights.
    """
    card = build_card(run)
    path = model_folder(run) / "README.md"
    write_text(path, str(card))
    return path


def model_folder(run: str | Path) -> Path:
    """Returns the folder of the model of a run, or the folder itself if it contains a model.

    For a run it is the model that was measured, so that the card matches the weights, or `best` if none was measured.

    Raises:
        UserError: If the folder contains no model.
    """
    run = Path(run)
    measured = read_metrics(run).get("model")
    for folder in (run / "last" if measured == "last" else run / "best", run):
        if (folder / "config.json").is_file():
            return folder
    raise UserError(
        f"{run} contains no model (no best/config.json and no config.json); train one with `tgdfer train`, or give the"
        " folder that `save_pretrained` wrote."
    )


def require_measured(folder: Path, metrics: dict[str, Any], run: Path) -> None:
    """Checks that the results belong to the weights in a folder, if the hash of the measured weights is recorded.

    Raises:
        UserError: If they belong to other weights, for example because the training was continued.
    """
    measured, weights = metrics.get("weights_sha256"), folder / "model.safetensors"
    if not measured or not weights.is_file():
        return
    with weights.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != measured:
        raise UserError(
            f"{run / 'metrics.json'} was measured with other weights than those in {folder}; evaluate again with "
            f"`tgdfer evaluate {run}`."
        )


def pictures_of(run: str | Path) -> list[Path]:
    """Returns the pictures of a run, sorted by name."""
    return sorted((Path(run) / "figures").glob("*.png"), key=lambda path: path.stem)


def caption(path: str) -> str:
    """Returns the caption of a picture from its file name, such as `confusion_matrix_photographs.png`."""
    name = unquote(Path(path).stem)
    for start, text in CAPTIONS.items():
        if name.startswith(start):
            rest = re.sub(r"[_-]+", " ", name.removeprefix(start)).strip()
            return f"{text}: {rest}" if rest and start in PER_DATASET_PICTURES else text
    return re.sub(r"[_-]+", " ", name).capitalize()


def is_hub_id(name: str) -> bool:
    """Returns whether a name is a Hub id and not an existing folder."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).exists()


def shorten_path(name: str) -> str:
    """Shortens a path to its last part, because paths of the training machine are useless. Hub ids are unchanged."""
    return name if is_hub_id(name) else re.split(r"[/\\]+", name.rstrip("/\\"))[-1]


def shorten_paths(value: Any) -> Any:
    """Applies `shorten_path` to all paths in nested lists and dictionaries."""
    if isinstance(value, dict):
        result = {key: item if key in TEXT_KEYS else shorten_paths(item) for key, item in value.items()}
        if value.get("command"):
            result["command"] = shlex.join(map(shorten_path, shlex.split(value["command"])))
        return result
    if isinstance(value, list):
        return [shorten_paths(item) for item in value]
    return shorten_path(value) if isinstance(value, str) else value


def public_metrics(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    """Removes local paths from the results. In the command, the run is replaced by `name`."""
    public = shorten_paths(metrics)
    if metrics.get("command", "").startswith("tgdfer evaluate "):
        arguments = shlex.split(metrics["command"])
        for flag, value in {"--output": None, "--dataset": public.get("dataset")}.items():
            if flag in arguments:
                position = arguments.index(flag)
                arguments[position : position + 2] = [flag, value] if value else []
        public["command"] = shlex.join([*arguments[:2], name, *map(shorten_path, arguments[3:])])
    return public


def public_config(run: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Reads the options of a run or of a published model folder, without local paths.

    Raises:
        UserError: If the options cannot be read.
    """
    path = next((run / name for name in ("config.yaml", "training_config.yaml") if (run / name).is_file()), None)
    config = {
        key: shorten_paths(value)
        for key, value in (read_yaml(path) if path else {}).items()
        if key not in LOCAL_OPTIONS
    }
    if "dataset" in config and training.get("dataset"):
        # The path of a folder on another machine may look like a Hub id, so the record of the training is used.
        config["dataset"] = shorten_path(training["dataset"])
    return config


def relative_name(folder: Path) -> str:
    """Returns the path of a folder relative to the working directory, or only its name if it is elsewhere."""
    folder = folder.resolve()
    here = Path.cwd()
    return (folder.relative_to(here) if folder.is_relative_to(here) else Path(folder.name)).as_posix()


def read_metrics(run: Path) -> dict[str, Any]:
    """Reads the results of a run, with the facts of its training. The facts exist even if nothing was measured."""
    metrics = read_json(run / "metrics.json") if (run / "metrics.json").exists() else {}
    if "training" not in metrics and (run / "training.json").exists():
        metrics["training"] = read_json(run / "training.json")
    return metrics
