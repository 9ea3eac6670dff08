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
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.batches import (
    ClipDataset,
    augmentation,
    clip_targets,
    no_marks,
    with_hard_labels,
)
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.opening import name_in_dataset
from tgdfer.training.data.people import count_shared_people
from tgdfer.training.data.quarantine import unreadable_reasons, warn_about_quarantine, write_quarantine
from tgdfer.training.data.splits import Part, load_parts
from tgdfer.training.energy import GpuEnergy
from tgdfer.training.errors import UserError
from tgdfer.training.features import FeatureDataset, Views, frame_features
from tgdfer.training.files import write_text
from tgdfer.training.interruption import DeferredSigterm, Terminated, deferring_sigterm
from tgdfer.training.metrics import recognition_figures
from tgdfer.training.metrics.label_kinds import multiple_label_figures
from tgdfer.training.models import face_options, model_commit, start_model
from tgdfer.training.objectives.registry import Objectives
from tgdfer.training.optimisation.acceleration import accelerate_training, require_compiler
from tgdfer.training.optimisation.freezing import choose_trainable, print_parameters
from tgdfer.training.optimisation.loop import (
    DivergedError,
    TrainingData,
    TrainingLoop,
    clip_loader,
    end_workers,
    loader_workers,
    parameter_groups,
    start_accelerator,
)
from tgdfer.training.processes import (
    batch_loader,
    gather_batches,
    num_workers,
    own_batches,
    true_in_any_process,
)
from tgdfer.training.provenance import dataset_entry, environment_facts, with_entry
from tgdfer.training.runs.checkpoints import Checkpoints, CheckpointSchedule, Progress, checkpoint_folders
from tgdfer.training.runs.curves import CurvesFile
from tgdfer.training.runs.epoch_log import LOG, log_rows, tracked_epoch
from tgdfer.training.runs.record import RunRecord
from tgdfer.training.runs.run_folder import (
    hash_clips,
    prepare_folder,
    require_new_or_resumable,
    require_same_descriptions,
    training_facts,
    write_clip_lists,
)
from tgdfer.training.runs.step_log import StepLog, describe_step
from tgdfer.training.runs.trackers import require_trackers, start_trackers
from tgdfer.training.stills import train_after_stills

logger = logging.getLogger(__name__)

# Share of the time of training that may be spent waiting for data, without a warning.
MAX_WAITING = 0.1


def train(config: TrainingConfig) -> Path:
    """Trains a model and writes all results to the folder `config.run.output`.

    The folder contains `config.yaml` (all options), `run.json` (how the run was made), `log.jsonl` (a line per epoch),
    `steps.jsonl` (a line every few steps), `learning_curves.png`, `training.json` (facts for the model card),
    `checkpoints/` (the last ones, for `resume`), and the models `best/` and `last/` with their processors and LoRA
    merged. All files and folders are written atomically, except that lines are appended to `steps.jsonl`. At the end,
    `best` is calibrated on the validation clips if there are any.

    If training is interrupted at any moment, `resume` continues after the last checkpoint. On a CPU, the result is
    identical to that of a run without an interruption. After SIGTERM, a checkpoint is saved after the current step.

    Args:
        config (`TrainingConfig`): The configuration.

    Returns:
        The folder of the run.

    Raises:
        UserError: If the configuration cannot be used (nothing is written then), if the loss diverges, or if a
            checkpoint cannot be written.
        VideoDecodeError: If a clip turns out to be damaged when it is read, and either `strict` is set, or none of the
            clips that are tried in its place can be read.
        Terminated: After SIGTERM. It is a `SystemExit`.
    """
    return run_stage(config) if config.data.stills is None else train_after_stills(config, run_stage)


def run_stage(
    config: TrainingConfig,
    start: str | None = None,
    labels: list[str] | None = None,
    before_writing: Callable[[], None] | None = None,
) -> Path:
    """Trains a model as `train`, as one of the stages of a run.

    Args:
        config (`TrainingConfig`): The configuration of the stage.
        start (`str`, *optional*): Folder of the model to start from, which an earlier stage of the run has trained. By
            default it is the model in the configuration, and this is the first stage.
        labels (`list[str]`, *optional*): Labels to train on, if the stage trains on photographs.
        before_writing (`Callable[[], None]`, *optional*): Is called before the first file of the stage is written.

    Returns:
        The folder of the stage.
    """
    require_trackers(config.run.report_to)
    folder, seed = Path(config.run.output), config.run.seed
    accelerator = start_accelerator(config.run.mixed_precision, config.optimisation.gradient_accumulation)
    # The precision given by the launcher is saved in the configuration, so that the run resumes with it.
    config = config.with_options(mixed_precision=accelerator.mixed_precision)
    if start is None:
        require_new_or_resumable(folder, config)
    if config.optimisation.torch_compile:
        require_compiler(accelerator.device)
    train_part, validation_part, held_out_by = load_parts(config.data, seed, labels)
    shared = count_shared_people(config.data, train_part, validation_part) if accelerator.is_main_process else {}
    classes = train_part.clips.classes
    if validation_part is None and config.optimisation.early_stopping:
        raise UserError("early_stopping needs validation clips: set validation_fraction above 0, or leave it out.")
    if validation_part is not None:
        require_known(validation_part.clips, classes, "validation")
    clips_hash = hash_clips(folder, train_part, validation_part)
    set_seed(seed)
    started = config if start is None else config.with_options(model=start, revision=None)
    model, processor = start_model(started.model, classes, face_options(config.faces, config.data.source))
    descriptions = processor.descriptions or {}
    require_same_descriptions(folder, descriptions)
    choose_trainable(model, config.optimisation.freeze, config.optimisation.unfreeze, config.model.frozen_features)
    accelerate_training(model, config.optimisation)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    commit = model_commit(started.model.source, model)
    facts = training_facts(started, train_part, held_out_by, trainable, commit) | environment_facts(accelerator, model)
    facts |= {"shared_people": shared} if shared else {}
    split = name_in_dataset(config.data.train_split, config.data.split_map)
    learnt_from = dataset_entry(config.data.dataset, split, len(train_part.indices))
    if labels is not None:
        learnt_from["kind"] = "photographs"
    model.config.training_data = with_entry(model.config.training_data, started.model.source, learnt_from)
    several = config.data.label_kind == "multiple"
    model.config.problem_type = "multi_label_classification" if several else None
    options = config.optimisation
    objectives = (
        Objectives(options.objectives, model, options.epochs, config.model.frozen_features)
        if options.objectives
        else None
    )
    accelerator.wait_for_everyone()  # Otherwise a slower process would find a folder that is no longer empty.
    record = None
    if accelerator.is_main_process:
        if before_writing is not None:
            before_writing()
        record = prepare_folder(folder, config, facts, clips_hash, descriptions, train_part, validation_part)
        for part in (train_part, validation_part):
            if part is not None and (part is train_part or part.clips is not train_part.clips):
                warn_about_quarantine(config.data.dataset, part.clips)
    data = _datasets(config, accelerator, model, processor, train_part, validation_part)
    if accelerator.is_main_process:
        write_clip_lists(folder, config.data, train_part, validation_part)
    facts["num_quarantined"] = len(train_part.clips.quarantined)
    _Run(config, accelerator, model, processor, *data, facts=facts, record=record, objectives=objectives).run()
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
        record: RunRecord | None,
        objectives: Objectives | None = None,
    ) -> None:
        options, seed, workers = config.optimisation, config.run.seed, num_workers(config.data.workers)
        self.config, self.options, self.accelerator, self.facts = config, options, accelerator, facts
        self.record = record  # None in all processes but the first.
        self.folder, self.workers = Path(config.run.output), workers
        self.names = model.config.class_names
        groups = parameter_groups(model, options)
        if accelerator.is_main_process:
            print_parameters(model, groups)
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
        self.reported_epochs = 0  # Epochs that an interrupted run has sent to the trackers.
        self.total_steps = self.loop.updates_per_epoch * options.epochs
        self.checkpoints = Checkpoints(self.folder, accelerator, processor, config.run.keep, self.loop.optimizer)
        self.progress = Progress()
        self.schedule = CheckpointSchedule(config.run)
        self.steps = StepLog(
            self.folder, accelerator, self.loop, config.run.log_every, self.total_steps, self._show_step
        )
        self.curves = CurvesFile(self.folder, self.loop.updates_per_epoch)
        self.loop.after_update = self._after_update
        self.sigterm = DeferredSigterm()
        self.epoch_start = 0.0
        self.is_saved = False  # Whether the last checkpoint has the current state.

    def run(self) -> None:
        """Trains the remaining epochs and calibrates the best model."""
        if self.config.run.resume:
            self._resume()
        if self.record is not None:
            self.record.start(self.progress.step)
        start_trackers(self.accelerator, self.config.run.report_to, self.folder, self.config.options())
        try:
            with deferring_sigterm() as self.sigterm, _progress_bar(self.accelerator.is_main_process) as self.bar:
                self._train()
            with self.loop.averaged_weights():
                self.checkpoints.save_model(self.model, "last")
            self._calibrate()
        except DivergedError as error:
            kept = checkpoint_folders(self.folder)
            last = f"The last good checkpoint is {kept[-1]}." if kept else "There is no checkpoint yet."
            raise UserError(f"{error} {last}") from error
        finally:
            self.loop.end_workers()
            end_workers(self.validation_loader)
            for tracker in self.accelerator.trackers:
                tracker.finish()
            if self.record is not None:
                self.record.end(self.loop.step, self.progress.seconds)

    def _resume(self) -> None:
        """Continues after the last checkpoint. Rows of logs that training writes again are removed."""
        reported = log_rows(self.folder)
        self.progress = self.checkpoints.load()
        found = self.checkpoints.weights_hash("best")
        if self.progress.best_weights and self.progress.best_weights != found:
            # `best` was replaced after the checkpoint. On a GPU, the epoch that replaced it may come out differently.
            self.progress.best = []
        if self.progress.loop:
            self.loop.load_state_dict(self.progress.loop)
            self.is_saved = True
        self._restore_quarantine()
        self.steps.continue_after(self.progress.step)
        self.reported_epochs = len(reported)

    def _train(self) -> None:
        figures = ("mAP", "F1") if self.several else ("WAR", "UAR")
        self._print_row("epoch", "loss", "val. loss", *figures, "seconds", "waiting")
        energy = GpuEnergy(self.accelerator)
        for epoch in range(len(self.progress.history), self.options.epochs):
            if self._is_stopped:
                if self.accelerator.is_main_process:
                    self.bar.console.print(f"Stopped early: epoch {self.progress.best_epoch} was the best.")
                break
            is_continued = self.loop.continues(epoch)
            self.epoch_start = time.perf_counter() - (self.progress.epoch_seconds if is_continued else 0.0)
            self.steps.start_clock()
            done = self.loop.batches if is_continued else 0
            loss = self.loop.train_epoch(epoch, self._track(f"Epoch {epoch + 1} of {self.options.epochs}", done))
            self.steps.stop_clock()
            record = {"epoch": epoch + 1, "loss": loss, "lr": self.loop.epoch_rates, **self._validate_or_stop()}
            record["seconds"] = round(time.perf_counter() - self.epoch_start, 3)
            record["waiting"] = round(self.loop.waiting, 4)
            self._warn_about_waiting(epoch)
            self._quarantine()
            used = energy.since_last()
            # The energy before an interruption in this epoch is not known.
            record |= {} if used is None or is_continued else {"energy_kwh": used}
            self._save_epoch(record)
            self._stop_after_sigterm()
        if not self.is_saved:
            self._save_checkpoint()
        if self.accelerator.is_main_process:
            self.curves.draw(self.progress)

    def _after_update(self) -> None:
        """Writes the log and saves a checkpoint, if they are due. Ends training after SIGTERM."""
        self.is_saved = False
        self.steps.after_update()
        due, stop = true_in_any_process(self.schedule.is_due(self.loop.step), self.sigterm.arrived)
        if due or stop:
            self.steps.stop_clock()
            self._save_checkpoint()
            self.steps.start_clock(self.loop.timer.waited)
        if stop:
            raise Terminated

    def _stop_after_sigterm(self) -> None:
        """Saves a checkpoint and ends training if SIGTERM has arrived in any process."""
        if true_in_any_process(self.sigterm.arrived)[0]:
            if not self.is_saved:
                self._save_checkpoint()
            raise Terminated

    def _save_checkpoint(self) -> None:
        self.progress.loop = self.loop.state_dict()
        self.progress.epoch_seconds = round(time.perf_counter() - self.epoch_start, 3)
        self.checkpoints.save(self.progress)
        self.schedule.saved()
        self.is_saved = True

    @property
    def _is_stopped(self) -> bool:
        """Whether the last epochs were no better than an earlier one, so that training stops early."""
        patience = self.options.early_stopping
        return patience is not None and len(self.progress.history) - self.progress.best_epoch >= patience

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

    def _validate_or_stop(self) -> dict[str, float | None]:
        """Validates. After SIGTERM, saves a checkpoint with all steps of the epoch, and ends training."""
        try:
            with self.loop.averaged_weights():
                return self._validate()
        except Terminated:
            if not self.is_saved:
                self._save_checkpoint()
            raise

    def _validate(self) -> dict[str, float | None]:
        """Returns the loss and two figures on the validation clips, each None if there are none.

        The figures are WAR and UAR, or with several labels F1 and mAP. The second one selects the best epoch.

        Raises:
            Terminated: After SIGTERM.
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
            if true_in_any_process(self.sigterm.arrived)[0]:
                raise Terminated
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
            reasons = unreadable_reasons(data.clips, new, data.video_processor)
            self.reported.setdefault(split, set()).update(reasons)
            found = {data.clips.files[index]: reason for index, reason in reasons.items()}
            data.clips.quarantined.update(found)
            self.progress.quarantined.setdefault(split, {}).update(found)
            warn_about_quarantine(f"the {split} clips", replace(data.clips, quarantined=found))
            write_quarantine(self.folder, self.split_names[split], data.clips)
            self.facts["num_quarantined"] += len(found) if split == "train" else 0

    def _restore_quarantine(self) -> None:
        """Leaves out the clips that could not be read before the interruption."""
        for split, data in {"train": self.loop.data, "validation": self.validation_data}.items():
            found = self.progress.quarantined.get(split)
            if not found or not isinstance(data, ClipDataset) or data.unreadable is None:
                continue
            indices = [index for index, file in enumerate(data.clips.files) if file in found]
            data.unreadable[indices] = True
            self.reported[split] = set(indices)
            data.clips.quarantined.update(found)
            self.facts["num_quarantined"] += len(found) if split == "train" else 0
            if self.accelerator.is_main_process:
                write_quarantine(self.folder, self.split_names[split], data.clips)

    def _save_epoch(self, record: dict[str, Any]) -> None:
        """Saves an epoch. The best model is saved first, so that an epoch interrupted here is validated again."""
        progress = self.progress
        progress.history.append(record)
        progress.seconds += record["seconds"]
        # With few validation clips, epochs often have the same UAR: then the lower loss decides. Without any, the last
        # epoch is the best.
        value = record["map" if self.several else "uar"]
        figures = [0.0, 0.0] if value is None else [value, -record["validation_loss"]]
        if value is None or figures > progress.best:
            progress.best, progress.best_epoch = figures, record["epoch"]
            with self.loop.averaged_weights():
                self.checkpoints.save_model(self.model, "best")
            progress.best_weights = self.checkpoints.weights_hash("best")
        self.is_saved = False
        if self.schedule.by_epoch:
            self._save_checkpoint()
        if self.accelerator.is_main_process:
            write_text(self.folder / LOG, "".join(json.dumps(line) + "\n" for line in progress.history))
            if record["epoch"] > self.reported_epochs:
                self.accelerator.log(tracked_epoch(record), step=self.loop.step)
            self.curves.draw_if_old(progress)
            self._write_facts()
            names = ("map", "f1") if self.several else ("war", "uar")
            cells = [record[name] for name in ("epoch", "loss", "validation_loss", *names, "seconds")]
            self._print_row(
                *cells, f"{record['waiting']:.0%}", style="bold" if record["epoch"] == progress.best_epoch else ""
            )

    def _write_facts(self, **more: Any) -> None:
        progress = self.progress
        facts = {**self.facts, "best_epoch": progress.best_epoch, "seconds": round(progress.seconds, 1), **more}
        if self._is_stopped and len(progress.history) < self.options.epochs:
            facts["stopped_after_epoch"] = len(progress.history)
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

    def _show_step(self, row: dict[str, Any]) -> None:
        """Shows the loss beside the progress bar, or prints a line where there is no terminal."""
        if self.bar.console.is_terminal:
            loss = "not finite" if row["loss"] is None else f"{row['loss']:.3f}"
            self.bar.update(self.task, description=f"{self.task_title}, loss {loss}")
        else:
            self.bar.console.print(describe_step(row, self.total_steps), highlight=False, markup=False, soft_wrap=True)

    def _track(self, description: str, done: int = 0) -> Callable[[Any], Iterator[dict[str, Tensor]]]:
        """Returns a wrapper of loaders that shows a progress bar. A resumed epoch starts with some steps done."""

        def track(loader: Any) -> Iterator[dict[str, Tensor]]:
            total = done + len(loader)
            self.task, self.task_title = self.bar.add_task(description, total=total, completed=done), description
            yield from self.bar.track(loader, total=total, completed=done, task_id=self.task)
            self.bar.remove_task(self.task)

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
            reasons = unreadable_reasons(part.clips, marks, processor.video_processor)
            part.clips.quarantined.update({part.clips.files[index]: reason for index, reason in reasons.items()})
            if accelerator.is_main_process:
                warn_about_quarantine("the data set", part.clips)
            if not indices:
                which = "training" if training else "validation"
                raise UserError(f"None of the {which} clips of {config.data.dataset} can be read: encode them again.")
        targets, soft_targets = clip_targets(part.clips.select(indices), names)
        return FeatureDataset(features, indices, targets, training, seed, soft_targets=soft_targets)

    return dataset(train_part, True), dataset(validation_part, False)


@contextmanager
def _progress_bar(shown: bool) -> Iterator[ProgressBar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=get_console(), transient=True, disable=not shown) as bar:
        yield bar
