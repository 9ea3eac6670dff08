"""A training run: from a configuration to the folder of a finished run."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import Tensor

from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, bag_loss, hard_labels
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.calibration import calibrate
from tgdfer.training.config import DataConfig, TrainingConfig
from tgdfer.training.data.batches import (
    ClipDataset,
    augmentation,
    clip_targets,
    no_marks,
    with_hard_labels,
)
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.loading import people_of
from tgdfer.training.data.quarantine import unreadable_reasons, warn_about_quarantine, write_quarantine
from tgdfer.training.data.splits import Part, load_parts
from tgdfer.training.energy import GpuEnergy
from tgdfer.training.features import FeatureDataset, Views, frame_features
from tgdfer.training.files import write_text
from tgdfer.training.metrics import recognition_figures
from tgdfer.training.metrics.label_kinds import multiple_label_figures
from tgdfer.training.models import face_options, model_commit, start_model
from tgdfer.training.objectives.registry import Objectives
from tgdfer.training.optimisation.loop import (
    TrainingData,
    TrainingLoop,
    clip_loader,
    loader_workers,
    parameter_groups,
    start_accelerator,
)
from tgdfer.training.processes import (
    batch_loader,
    gather_batches,
    num_workers,
    own_batches,
)
from tgdfer.training.provenance import dataset_entry, environment_facts, with_entry
from tgdfer.training.runs.checkpoints import Checkpoints, Progress
from tgdfer.training.runs.run_folder import hash_clips, prepare_folder, require_new_or_resumable, training_facts

logger = logging.getLogger(__name__)

# Share of the time of training that may be spent waiting for data, without a warning.
MAX_WAITING = 0.1


def train(config: TrainingConfig) -> Path:
    """Trains a model and writes all results to the folder `config.run.output`.

    The folder contains `config.yaml` (all options), `log.jsonl` (a line per epoch), `training.json` (facts of the
    run), `data.sha256` (hash of its clips), `checkpoints/` (the last one, for `resume`), and the models `best/` and
    `last/` with their processors and LoRA merged. All files and folders are written atomically. At the end, `best` is
    calibrated on the validation clips if there are any.

    If training is interrupted, the finished epochs are kept, and `resume` continues after them.

    Args:
        config (`TrainingConfig`): The configuration.

    Returns:
        The folder of the run.

    Raises:
        UserError: If the configuration cannot be used (nothing is written then), or if the loss diverges.
        VideoDecodeError: If a clip turns out to be damaged when it is read.
    """
    folder, seed = Path(config.run.output), config.run.seed
    accelerator = start_accelerator(config.run.mixed_precision, config.optimisation.gradient_accumulation)
    # The precision given by the launcher is saved in the configuration, so that the run resumes with it.
    config = config.with_options(mixed_precision=accelerator.mixed_precision)
    require_new_or_resumable(folder, config)
    train_part, validation_part, held_out_by = load_parts(config.data, seed)
    if accelerator.is_main_process:
        _warn_about_shared_people(config.data, train_part)
    classes = train_part.clips.classes
    if validation_part is not None:
        require_known(validation_part.clips, classes, "validation")
    clips_hash = hash_clips(folder, train_part, validation_part)
    set_seed(seed)
    model, processor = start_model(config.model, classes, face_options(config.faces, config.data.dataset))
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    commit = model_commit(config.model.source, model)
    facts = training_facts(config, train_part, held_out_by, trainable, commit) | environment_facts(accelerator, model)
    learnt_from = dataset_entry(config.data.dataset, config.data.train_split, len(train_part.indices))
    model.config.training_data = with_entry(model.config.training_data, config.model.source, learnt_from)
    if config.data.label_kind == "multiple":
        model.config.problem_type = "multi_label_classification"
    options = config.optimisation
    objectives = (
        Objectives(options.objectives, model, options.epochs, config.model.frozen_features)
        if options.objectives
        else None
    )
    accelerator.wait_for_everyone()  # Otherwise a slower process would find a folder that is no longer empty.
    if accelerator.is_main_process:
        prepare_folder(folder, config, clips_hash, train_part, validation_part)
        for part in (train_part, validation_part):
            if part is not None and (part is train_part or part.clips is not train_part.clips):
                warn_about_quarantine(config.data.dataset, part.clips)
    data = _datasets(config, accelerator, model, processor, train_part, validation_part)
    if accelerator.is_main_process:
        write_quarantine(folder, config.data.train_split, train_part.clips)
    facts["num_quarantined"] = len(train_part.clips.quarantined)
    _Run(config, accelerator, model, processor, *data, facts=facts, objectives=objectives).run()
    return folder


class _Run:
    """A run of `tgdfer train`: trains, validates, prints a table of the epochs, and saves the results."""

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: TGDFERForVideoClassification,
        processor: TGDFERProcessor,
        train_data: TrainingData,
        validation_data: TrainingData | None,
        facts: dict[str, Any],
        objectives: Objectives | None = None,
    ) -> None:
        options, seed, workers = config.optimisation, config.run.seed, num_workers(config.data.workers)
        self.options, self.resume, self.accelerator, self.facts = options, config.run.resume, accelerator, facts
        self.folder, self.workers = Path(config.run.output), workers
        self.names = [name for _, name in sorted(model.config.id2label.items())]
        groups = parameter_groups(model, options)
        self.several = config.data.label_kind == "multiple"
        loop_options = (seed, workers, self.several, objectives)
        self.loop = TrainingLoop(model, train_data, groups, options, accelerator, *loop_options)
        self.model = self.loop.model
        self.validation_data, self.validation_loader = validation_data, None
        if validation_data is not None:
            loader = clip_loader(validation_data, options.batch_size, accelerator, seed, workers)
            self.validation_loader = accelerator.prepare(loader)
        validation_split = config.data.validation_split or "validation"
        self.split_names = {"train": config.data.train_split, "validation": validation_split}
        self.reported: dict[str, set[int]] = {}
        self.checkpoints = Checkpoints(self.folder, accelerator, processor)
        self.progress = Progress()

    def run(self) -> None:
        """Trains the remaining epochs and calibrates the best model."""
        if self.resume:
            self.progress = self.checkpoints.load()
        with _progress_bar(self.accelerator.is_main_process) as self.bar:
            figures = ("mAP", "F1") if self.several else ("WAR", "UAR")
            self._print_row("epoch", "loss", "val. loss", *figures, "seconds", "waiting")
            energy = GpuEnergy(self.accelerator)
            for epoch in range(len(self.progress.history), self.options.epochs):
                start, rates = time.perf_counter(), self.loop.learning_rates
                loss = self.loop.train_epoch(epoch, self._track(f"Epoch {epoch + 1} of {self.options.epochs}"))
                record = {"epoch": epoch + 1, "loss": loss, "lr": rates, **self._validate()}
                record["seconds"] = round(time.perf_counter() - start, 3)
                record["waiting"] = round(self.loop.waiting, 4)
                self._warn_about_waiting(epoch)
                self._quarantine()
                used = energy.since_last()
                record |= {} if used is None else {"energy_kwh": used}
                self._save_epoch(record)
        self.checkpoints.save_model(self.model, "last")
        self._calibrate()

    def _calibrate(self) -> None:
        """Calibrates the best model on the validation clips, and writes the result to `training.json`."""
        if self.validation_data is not None and not self.several:
            data = self.validation_data
            batches = own_batches(len(data), self.options.batch_size)
            loader = with_hard_labels(batch_loader(data, batches, loader_workers(data, self.workers)))
            calibration = calibrate(self.folder / "best", loader, self.accelerator.device)
            if self.accelerator.is_main_process:
                self._write_facts(calibration=calibration.facts)
                get_console().print(str(calibration), highlight=False, soft_wrap=True)
        self.accelerator.wait_for_everyone()

    def _validate(self) -> dict[str, float | None]:
        """Returns the loss and two figures on the validation clips, each None if there are none.

        The figures are WAR and UAR, or with several labels F1 and mAP. The second one selects the best epoch.
        """
        first, second = ("f1", "map") if self.several else ("war", "uar")
        if self.validation_loader is None:
            return {"validation_loss": None, first: None, second: None}
        self.model.eval()
        logits, labels = [], []
        for batch in self._track("Validation")(self.validation_loader):
            for truth in ("intensity", "activity"):  # Only for evaluation. They must not select a model.
                batch.pop(truth, None)
            targets = batch.pop("labels")
            with torch.inference_mode():
                gathered = self.accelerator.gather_for_metrics((self.model(**batch).logits.float(), targets))
            logits.append(gathered[0].cpu())
            labels.append(gathered[1].cpu())
        scores, targets = torch.cat(logits), torch.cat(labels)
        loss = float(bag_loss(scores, targets, None, 0.0, self.several))
        if self.several:
            known = (targets >= 0).all(-1)
            several = multiple_label_figures(scores[known].sigmoid().numpy(), targets[known].numpy(), self.names)
            return {"validation_loss": loss, "f1": several["macro_f1"], "map": several["map"]}
        targets = hard_labels(targets)
        known = targets != IGNORED
        figures = recognition_figures(
            predictions=[self.names[index] for index in scores[known].argmax(-1).tolist()],
            references=[self.names[index] for index in targets[known].tolist()],
            labels=self.names,
        )
        return {"validation_loss": loss, "war": figures["war"], "uar": figures["uar"]}

    def _warn_about_waiting(self, epoch: int) -> None:
        """Says after the first complete epoch how to wait less for data."""
        share = self.loop.waiting
        if epoch == 1 and share > MAX_WAITING and self.accelerator.is_main_process:
            logger.warning(
                "%.0f %% of the time of training is spent waiting for data: give more `workers` than %d, crop the"
                " faces with `tgdfer faces`, or train on frozen features.",
                100 * share,
                self.workers,
            )

    def _quarantine(self) -> None:
        """Puts clips that could not be read in this epoch into quarantine: a warning, a list and a count."""
        for split, data in {"train": self.loop.data, "validation": self.validation_data}.items():
            if not isinstance(data, ClipDataset) or data.unreadable is None:
                continue
            marks = data.unreadable
            marks |= torch.stack(gather_batches([marks.clone()])).any(0)
            new = marks.clone()
            new[list(self.reported.get(split, []))] = False
            if not new.any() or not self.accelerator.is_main_process:
                continue
            reasons = unreadable_reasons(data.clips, new, data.video_processor, data.num_frames)
            self.reported.setdefault(split, set()).update(reasons)
            found = {data.clips.files[index]: reason for index, reason in reasons.items()}
            data.clips.quarantined.update(found)
            warn_about_quarantine(f"the {split} clips", replace(data.clips, quarantined=found))
            write_quarantine(self.folder, self.split_names[split], data.clips)
            self.facts["num_quarantined"] += len(found) if split == "train" else 0

    def _save_epoch(self, record: dict[str, Any]) -> None:
        """Saves an epoch. The best model is saved first, so that an epoch interrupted here is repeated."""
        progress = self.progress
        progress.history.append(record)
        progress.seconds += record["seconds"]
        # With few validation clips, epochs often have the same UAR: then the lower loss decides. Without any, the last
        # epoch is the best.
        value = record["map" if self.several else "uar"]
        figures = [0.0, 0.0] if value is None else [value, -record["validation_loss"]]
        if value is None or figures > progress.best:
            progress.best, progress.best_epoch = figures, record["epoch"]
            self.checkpoints.save_model(self.model, "best")
        self.checkpoints.save(progress)
        if self.accelerator.is_main_process:
            write_text(self.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in progress.history))
            self._write_facts()
            names = ("map", "f1") if self.several else ("war", "uar")
            cells = [record[name] for name in ("epoch", "loss", "validation_loss", *names, "seconds")]
            self._print_row(
                *cells, f"{record['waiting']:.0%}", style="bold" if record["epoch"] == progress.best_epoch else ""
            )

    def _write_facts(self, **more: Any) -> None:
        progress = self.progress
        facts = {**self.facts, "best_epoch": progress.best_epoch, "seconds": round(progress.seconds, 1), **more}
        energy = [record.get("energy_kwh") for record in progress.history]
        if energy and None not in energy:
            facts["energy_kwh"] = sum(energy)
        write_text(self.folder / "training.json", json.dumps(facts, indent=2) + "\n")

    def _print_row(self, *cells: Any, style: str = "") -> None:
        """Prints a row of the table of epochs."""
        if self.accelerator.is_main_process:
            texts = [
                "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells
            ]
            self.bar.console.print("".join(text.rjust(10) for text in texts), style=style)

    def _track(self, description: str) -> Callable[[Any], Iterator[dict[str, Tensor]]]:
        """Returns a wrapper of loaders that shows a progress bar."""

        def track(loader: Any) -> Iterator[dict[str, Tensor]]:
            task = self.bar.add_task(description, total=len(loader))
            yield from self.bar.track(loader, task_id=task)
            self.bar.remove_task(task)

        return track


def _datasets(
    config: TrainingConfig,
    accelerator: Accelerator,
    model: TGDFERForVideoClassification,
    processor: TGDFERProcessor,
    train_part: Part,
    validation_part: Part | None,
) -> tuple[Any, Any]:
    """Creates the training data and the validation data: clips, or the cached features of clips."""
    names, seed, frames = train_part.clips.classes, config.run.seed, config.model.num_frames
    augment = augmentation(config.data.augmentation)
    model.to(accelerator.device)

    def dataset(part: Part | None, training: bool) -> TrainingData | None:
        if part is None:
            return None
        marks = None if config.data.strict else no_marks(part.clips)
        if not config.model.frozen_features:
            clips = part.clips.select(part.indices)
            own = None if marks is None else no_marks(clips)
            return ClipDataset(clips, names, processor.video_processor, frames, training, seed, augment, own)
        # Clips that are held out have the same views, so that all folds share the same cached features.
        number = config.model.feature_views if part.clips is train_part.clips else 1
        workers = num_workers(config.data.workers)
        views = Views(number, seed, augment, config.optimisation.batch_size, workers)
        features = frame_features(model, processor.video_processor, part.clips, views, accelerator, marks)
        indices = part.indices
        if marks is not None and marks.any():
            indices = [index for index in indices if not marks[index]]
            reasons = unreadable_reasons(part.clips, marks, processor.video_processor, frames)
            part.clips.quarantined.update({part.clips.files[index]: reason for index, reason in reasons.items()})
            if accelerator.is_main_process:
                warn_about_quarantine("the data set", part.clips)
        targets, soft_targets = clip_targets(part.clips.select(indices), names)
        return FeatureDataset(features, indices, targets, training, seed, soft_targets=soft_targets)

    return dataset(train_part, True), dataset(validation_part, False)


def _warn_about_shared_people(data: DataConfig, train_part: Part) -> None:
    """Warns if people of the training split are also in the test split."""
    if train_part.clips.people is None:
        return
    test_people = people_of(data.dataset, data.test_split, **data.reading)
    if shared := test_people & set(train_part.clips.people):
        logger.warning(
            "%d of the %d people of the split %r are also in %r: its figures say little about faces that the model has"
            " not seen.",
            len(shared),
            len(test_people),
            data.test_split,
            data.train_split,
        )


@contextmanager
def _progress_bar(shown: bool) -> Iterator[ProgressBar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=get_console(), transient=True, disable=not shown) as bar:
        yield bar
