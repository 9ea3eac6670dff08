"""The training loop: from a configuration to the folder of a finished run."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.calibration import calibrate
from tgdfer.training.checkpoints import Checkpoints, Progress
from tgdfer.training.config import DataConfig, OptimisationConfig, TrainingConfig
from tgdfer.training.data.batches import EpochSampler, SampledClips, augmentation
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.loading import people_of, require_readable
from tgdfer.training.data.splits import Part, load_parts
from tgdfer.training.errors import UserError
from tgdfer.training.features import FeatureClips, Views, frame_features
from tgdfer.training.files import write_text
from tgdfer.training.metrics import recognition_figures
from tgdfer.training.models import face_options, start_model
from tgdfer.training.processes import loader_of, on_cpu, own_batches, process_state
from tgdfer.training.run_folder import fingerprint, prepare, require_new_or_same, training_facts

logger = logging.getLogger(__name__)


class TrainingData(Protocol):
    """A map-style data set whose items, once batched, are inputs of the network with their `labels`.

    Its method `collate` makes a batch of items; without one they are stacked, as `DataLoader` does.
    """

    @property
    def targets(self) -> Sequence[int]:
        """Class of each item."""

    def set_epoch(self, epoch: int) -> None:
        """Decides the order, augmentation and sampling of an epoch, whose number starts at 0."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def train(config: TrainingConfig) -> Path:
    """Trains a model and keeps everything in the folder `config.run.output`.

    The folder holds `config.yaml` (all options), `log.jsonl` (a line per epoch), `training.json` (the facts of the
    run), `data.sha256` (hash of its clips), `checkpoints/` (the last one, for `resume`), `best/` and `last/` (models
    with their processors, LoRA merged). Each appears under its name only when it is whole. At the end `best` is
    calibrated on the validation clips if there are any.

    Where it is interrupted, the epochs that are done are kept, and `resume` continues after them.

    Returns:
        The folder of the run.

    Raises:
        UserError: something that the configuration names cannot be used, and nothing is written; or the loss diverges.
        VideoDecodeError: a clip turns out to be damaged while it is read.
    """
    folder, seed = Path(config.run.output), config.run.seed
    accelerator = start_accelerator(config.run.mixed_precision, config.optimisation.gradient_accumulation)
    # What the launcher says is kept with the run, which is resumed with it.
    config = config.with_options(mixed_precision=accelerator.mixed_precision)
    require_new_or_same(folder, config)
    train_part, validation_part, held_out_by = load_parts(config.data, seed)
    if accelerator.is_main_process:
        _warn_of_shared_people(config.data, train_part)
    classes = train_part.clips.classes
    if validation_part is not None:
        require_known(validation_part.clips, classes, "validation")
    clips_hash = fingerprint(folder, train_part, validation_part)
    set_seed(seed)
    model, processor = start_model(config.model, classes, face_options(config.faces, config.data.dataset))
    for clips in {id(part.clips): part.clips for part in (train_part, validation_part) if part}.values():
        require_readable(clips, processor.video_processor)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    facts = training_facts(config, train_part, held_out_by, trainable)
    accelerator.wait_for_everyone()  # A slower process must not find a folder that is no longer empty.
    if accelerator.is_main_process:
        prepare(folder, config, clips_hash, train_part, validation_part)
    data = _datasets(config, accelerator, model, processor, train_part, validation_part)
    _Run(config, accelerator, model, processor, *data, facts=facts).run()
    return folder


class TrainingLoop:
    """Passes over training data, each of which updates a model.

    Args:
        model: called as `model(**batch)` with the batches of the data; its output has a `loss`.
        data: the clips, or their cached features, or any other data set of this form.
        groups: parameter groups of AdamW, each with its learning rate.
        options: how the weights are updated.
        accelerator: prepares model, data and optimiser.
        seed: decides the order of the clips and all dropout.
        workers: processes that decode clips.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        groups: list[dict[str, Any]],
        options: OptimisationConfig,
        accelerator: Accelerator,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        self.options, self.accelerator, self.data = options, accelerator, data
        # Whether features came from the cache must make no difference. Each process drops other features and frames.
        set_seed(seed, device_specific=True)
        sampler = EpochSampler(data.targets, seed, options.class_balance == "sampler")
        self.loader = accelerator.prepare(clip_loader(data, options.batch_size, accelerator, seed, workers, sampler))
        optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        updates = math.ceil(len(self.loader) / options.gradient_accumulation) * options.epochs
        schedule = _schedule(optimizer, options, updates, accelerator.num_processes)
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        self.inputs: dict[str, Tensor] = {}
        if options.class_balance == "weights":
            counts = torch.bincount(torch.tensor(data.targets))
            self.inputs["class_weights"] = (counts.sum() / (len(counts) * counts)).to(accelerator.device)

    def train_epoch(self, epoch: int, track: Callable[[Any], Iterable[dict[str, Tensor]]] = iter) -> float:
        """Trains on every clip once.

        Args:
            epoch: its number, from 0, which decides order and augmentation.
            track: wraps the loader, for example to show progress.

        Returns:
            The mean loss.

        Raises:
            UserError: the loss is not finite.
        """
        self.model.train()
        self.data.set_epoch(epoch)
        self.loader.set_epoch(epoch)
        total = torch.zeros((), device=self.accelerator.device)
        for batch in track(self.loader):
            with self.accelerator.accumulate(self.model):
                loss = self.model(**batch, **self.inputs).loss
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            total += loss.detach()
        mean = float(self.accelerator.reduce(total, "mean")) / len(self.loader)
        if not math.isfinite(mean):
            raise UserError(
                f"The loss is {mean} in epoch {epoch + 1}: start again with lower learning rates or in full precision."
            )
        return mean

    @property
    def rates(self) -> dict[str, float]:
        """The present learning rate of each named parameter group."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}


class _Run:
    """A run of `tgdfer train`: epochs of training and validation, shown as a table, and what is kept of them."""

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: TGDFERForVideoClassification,
        processor: TGDFERProcessor,
        train_data: TrainingData,
        validation_data: TrainingData | None,
        facts: dict[str, Any],
    ) -> None:
        options, seed, workers = config.optimisation, config.run.seed, config.data.workers
        self.options, self.resume, self.accelerator, self.facts = options, config.run.resume, accelerator, facts
        self.folder, self.workers = Path(config.run.output), workers
        self.names = [name for _, name in sorted(model.config.id2label.items())]
        groups = parameter_groups(model, options)
        self.loop = TrainingLoop(model, train_data, groups, options, accelerator, seed, workers)
        self.model = self.loop.model
        self.validation_data, self.validation_loader = validation_data, None
        if validation_data is not None:
            loader = clip_loader(validation_data, options.batch_size, accelerator, seed, workers)
            self.validation_loader = accelerator.prepare(loader)
        self.checkpoints = Checkpoints(self.folder, accelerator, processor)
        self.progress = Progress()

    def run(self) -> None:
        """Trains from where the run stands to its end."""
        if self.resume:
            self.progress = self.checkpoints.load()
        with _progress_bar(self.accelerator.is_main_process) as self.bar:
            self._print_row("epoch", "loss", "val. loss", "WAR", "UAR", "seconds")
            for epoch in range(len(self.progress.history), self.options.epochs):
                start, rates = time.perf_counter(), self.loop.rates
                loss = self.loop.train_epoch(epoch, self._track(f"Epoch {epoch + 1} of {self.options.epochs}"))
                row = {"epoch": epoch + 1, "loss": loss, "lr": rates, **self._validate()}
                row["seconds"] = round(time.perf_counter() - start, 3)
                self._keep(row)
        self.checkpoints.save_model(self.model, "last")
        self._calibrate()

    def _calibrate(self) -> None:
        """Calibrates the best model on the validation clips, and notes the result in `training.json`."""
        if self.validation_data is not None:
            data = self.validation_data
            loader = loader_of(data, own_batches(len(data), self.options.batch_size), _workers(data, self.workers))
            calibration = calibrate(self.folder / "best", loader, self.accelerator.device)
            if self.accelerator.is_main_process:
                self._write_facts(calibration=calibration.facts)
                get_console().print(str(calibration), highlight=False, soft_wrap=True)
        self.accelerator.wait_for_everyone()

    def _validate(self) -> dict[str, float | None]:
        """Loss, WAR and UAR of the validation clips, each None without any."""
        if self.validation_loader is None:
            return {"validation_loss": None, "war": None, "uar": None}
        self.model.eval()
        logits, labels = [], []
        for batch in self._track("Validation")(self.validation_loader):
            for truth in ("intensity", "activity"):  # for evaluation alone; no model is chosen by them
                batch.pop(truth, None)
            targets = batch.pop("labels")
            with torch.inference_mode():
                gathered = self.accelerator.gather_for_metrics((self.model(**batch).logits.float(), targets))
            logits.append(gathered[0].cpu())
            labels.append(gathered[1].cpu())
        scores, targets = torch.cat(logits), torch.cat(labels)
        figures = recognition_figures(
            predictions=[self.names[index] for index in scores.argmax(-1).tolist()],
            references=[self.names[index] for index in targets.tolist()],
            labels=self.names,
        )
        loss = float(F.cross_entropy(scores, targets))
        return {"validation_loss": loss, "war": figures["war"], "uar": figures["uar"]}

    def _keep(self, row: dict[str, Any]) -> None:
        """Saves an epoch: the best model before the checkpoint, so that an epoch cut off here is repeated."""
        progress = self.progress
        progress.history.append(row)
        progress.seconds += row["seconds"]
        # With few people held out, epochs often tie in UAR: the lower loss decides. With none, the last is best.
        figures = [0.0, 0.0] if row["uar"] is None else [row["uar"], -row["validation_loss"]]
        if row["uar"] is None or figures > progress.best:
            progress.best, progress.best_epoch = figures, row["epoch"]
            self.checkpoints.save_model(self.model, "best")
        self.checkpoints.save(progress)
        if self.accelerator.is_main_process:
            write_text(self.folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
            self._write_facts()
            cells = [row[name] for name in ("epoch", "loss", "validation_loss", "war", "uar", "seconds")]
            self._print_row(*cells, style="bold" if row["epoch"] == progress.best_epoch else "")

    def _write_facts(self, **more: Any) -> None:
        progress = self.progress
        facts = {**self.facts, "best_epoch": progress.best_epoch, "seconds": round(progress.seconds, 1), **more}
        write_text(self.folder / "training.json", json.dumps(facts, indent=2) + "\n")

    def _print_row(self, *cells: Any, style: str = "") -> None:
        """Prints a line of the table of epochs, which grows as they end."""
        if self.accelerator.is_main_process:
            texts = [
                "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells
            ]
            self.bar.console.print("".join(text.rjust(10) for text in texts), style=style)

    def _track(self, description: str) -> Callable[[Any], Iterator[dict[str, Tensor]]]:
        """Shows the progress over a loader."""

        def track(loader: Any) -> Iterator[dict[str, Tensor]]:
            task = self.bar.add_task(description, total=len(loader))
            yield from self.bar.track(loader, task_id=task)
            self.bar.remove_task(task)

        return track


def start_accelerator(mixed_precision: str | None = None, gradient_accumulation: int = 1) -> Accelerator:
    """A new accelerator.

    Args:
        mixed_precision: "no", "bf16" or "fp16"; None leaves it to `accelerate launch`, and without it means "no".
        gradient_accumulation: steps before an update.

    Raises:
        UserError: the precision cannot be had on this machine.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed_precision is not None and launched not in ("no", mixed_precision) and process_state().is_main_process:
        logger.warning("accelerate launch says mixed_precision %r, but this run has %r.", launched, mixed_precision)
    # Accelerate keeps the precision of an earlier run of this process otherwise.
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(
            mixed_precision=mixed_precision, gradient_accumulation_steps=gradient_accumulation, cpu=on_cpu()
        )
    except ValueError as error:  # for example bf16 on an old GPU
        given = mixed_precision or launched
        raise UserError(f"mixed_precision is {given!r}, but {str(error).rstrip('.')}.") from error
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would ignore it.
        raise UserError("mixed_precision is 'fp16', but there is no GPU: take bf16 or no.")
    return accelerator


def clip_loader(
    data: TrainingData,
    batch_size: int,
    accelerator: Accelerator,
    seed: int = 0,
    workers: int = 0,
    sampler: EpochSampler | None = None,
) -> DataLoader:
    """Batches of a data set, in the order of the sampler or of the data."""
    return DataLoader(
        cast(Dataset, data),
        batch_size,
        sampler=sampler,
        num_workers=_workers(data, workers),
        persistent_workers=_workers(data, workers) > 0,
        collate_fn=getattr(data, "collate", None),
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),
    )


def _workers(data: TrainingData, workers: int) -> int:
    """How many processes read a data set: cached features need none."""
    return 0 if isinstance(data, FeatureClips) else workers


def _schedule(optimizer: torch.optim.Optimizer, options: OptimisationConfig, updates: int, processes: int) -> Any:
    """The learning rates over all updates: a linear warm-up, then a cosine or constant rates."""
    # Accelerate steps the schedule once per process in each update.
    warmup, steps = round(options.warmup * updates) * processes, updates * processes
    if options.lr_schedule == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup)
    return get_cosine_schedule_with_warmup(optimizer, warmup, steps)


def parameter_groups(model: TGDFERForVideoClassification, options: OptimisationConfig) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW: each kind has its rate, and only matrices have weight decay.

    Args:
        model: what is trained.
        options: the rates of its kinds of parameters and the weight decay.
    """
    rates = {"lora": options.lora_lr, "prompts": options.prompts_lr, "new": options.new_lr}
    groups = []
    for name, parameters in model.parameter_groups().items():
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim >= 2) == decays]
            if chosen:
                decay = options.weight_decay if decays else 0.0
                groups.append({"params": chosen, "name": name, "lr": rates[name], "weight_decay": decay})
    return groups


def _datasets(
    config: TrainingConfig,
    accelerator: Accelerator,
    model: TGDFERForVideoClassification,
    processor: TGDFERProcessor,
    train_part: Part,
    validation_part: Part | None,
) -> tuple[Any, Any]:
    """The data to train on and the data to validate on: clips, or the cached features of clips."""
    names, seed, frames = train_part.clips.classes, config.run.seed, config.model.num_frames
    augment = augmentation(config.data.augmentation)
    model.to(accelerator.device)

    def dataset(part: Part | None, training: bool) -> TrainingData | None:
        if part is None:
            return None
        if not config.model.frozen_features:
            clips = part.clips.select(part.indices)
            return SampledClips(clips, names, processor.video_processor, frames, training, seed, augment)
        # Clips that are held out are looked at like the others, so that all folds share one computation.
        number = config.model.feature_views if part.clips is train_part.clips else 1
        views = Views(number, seed, augment, config.optimisation.batch_size, config.data.workers)
        features = frame_features(model, processor.video_processor, part.clips, views, accelerator)
        targets = [names.index(part.clips.labels[index]) for index in part.indices]
        return FeatureClips(features, part.indices, targets, training, seed)

    return dataset(train_part, True), dataset(validation_part, False)


def _warn_of_shared_people(data: DataConfig, train_part: Part) -> None:
    """Warns if people of the training split are in the test split as well."""
    if train_part.clips.people is None:
        return
    tested = people_of(data.dataset, data.test_split, data.dataset_config)
    if shared := tested & set(train_part.clips.people):
        logger.warning(
            "%d of the %d people of the split %r are in %r as well: what is measured there says little about faces"
            " that the model has not seen.",
            len(shared),
            len(tested),
            data.test_split,
            data.train_split,
        )


@contextmanager
def _progress_bar(shown: bool) -> Iterator[ProgressBar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=get_console(), transient=True, disable=not shown) as bar:
        yield bar
