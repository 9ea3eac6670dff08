"""The training loop: from a configuration to the folder of a finished run."""

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn import functional as F
from transformers import get_cosine_schedule_with_warmup

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import (
    Clips,
    EpochSampler,
    Part,
    augmentation,
    load_parts,
    people_of,
    require_readable,
    write_left_out,
)
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import require_known
from tgdfer.training.features import FeatureClips, frame_features
from tgdfer.training.files import read_json, read_yaml, require_writable, write_text
from tgdfer.training.metrics import recognition_figures
from tgdfer.training.models import model_source, start_model

logger = logging.getLogger(__name__)

# What may differ between a run and its continuation.
_MAY_CHANGE = {"resume", "workers", "output", "face_model"}


def train(config: TrainingConfig) -> Path:
    """Trains a model and keeps everything in the folder `config.output`.

    The folder holds `config.yaml` (as resolved), `log.jsonl` (a line an epoch), `training.json` (the facts of the
    run), `data.sha256` (hash of its clips), `checkpoints/` (the last one, for `resume`), `best/` and `last/` (models
    with their processors, LoRA merged). Each appears under its name only when it is whole.

    Returns:
        The folder of the run.

    Raises:
        UserError: if something that the config names cannot be used; nothing is written then. Or if the loss diverges.
        VideoDecodeError: if a clip turns out to be damaged while it is read.
    """
    run = Path(config.output)
    accelerator = _accelerator(config)
    _require_new_or_same(run, config)
    train_part, validation_part, held_out_by = load_parts(config)
    earlier = _earlier_run(config.model)
    _warn_of_shared_people(config, train_part)
    classes = train_part.clips.classes
    if validation_part is not None:
        require_known(validation_part.clips, classes, "validation")
    fingerprint = _fingerprint(run, train_part, validation_part)
    set_seed(config.seed)
    model, processor = start_model(config, classes)
    for clips in {id(part.clips): part.clips for part in (train_part, validation_part) if part}.values():
        require_readable(clips, processor.video_processor)
    accelerator.wait_for_everyone()  # a slower process must not find a folder that is no longer empty
    if accelerator.is_main_process:
        run.mkdir(parents=True, exist_ok=True)
        replace(config, resume=False).save(run / "config.yaml")
        write_text(run / "data.sha256", fingerprint + "\n")
        write_left_out(run, config.train_split, train_part.clips)
        if validation_part is not None and validation_part.clips is not train_part.clips:
            write_left_out(run, config.validation_split or "validation", validation_part.clips)
    facts = {
        "dataset": Path(config.dataset).resolve().name if Path(config.dataset).is_dir() else config.dataset,
        "split": config.train_split,
        "num_clips": len(train_part.indices),
        "validation": held_out_by,
        "epochs": config.epochs,
        "seed": config.seed,
        "base_model": (earlier or {}).get("base_model", config.model),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        **({"continued_from": earlier} if earlier else {}),
    }
    data = _datasets(config, accelerator, model, processor, train_part, validation_part)
    _Loop(config, accelerator, model, processor, *data, facts=facts).run()
    return run


@dataclass
class _Progression:
    """How far a run has come; saved with every checkpoint.

    Attributes:
        history: a row for each finished epoch, as in `log.jsonl`.
        best_epoch: the epoch, from 1, of `RUN/best`; 0 before there is one.
        best: its validation UAR and, negated, its validation loss.
        seconds: time spent so far.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[float] = field(default_factory=list)
    seconds: float = 0.0


class _Loop:
    """Epochs of training and validation, and what is kept of them."""

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: TGDFERForVideoClassification,
        processor: TGDFERProcessor,
        train_data: Clips | FeatureClips,
        validation_data: Clips | FeatureClips | None,
        facts: dict[str, Any],
    ) -> None:
        self.config, self.accelerator, self.processor, self.facts = config, accelerator, processor, facts
        self.run_folder = Path(config.output)
        self.names = [name for _, name in sorted(model.config.id2label.items())]
        self.progression = _Progression()
        # Features do not depend on what was random before; the loop must not either.
        set_seed(config.seed)
        self.train_data = train_data
        self.train_loader = accelerator.prepare(self._loader(train_data, training=True))
        self.validation_loader = None
        if validation_data is not None:
            self.validation_loader = accelerator.prepare(self._loader(validation_data, training=False))
        updates = math.ceil(len(self.train_loader) / config.gradient_accumulation) * config.epochs
        optimizer = torch.optim.AdamW(_parameter_groups(model, config))
        # Accelerate steps the schedule once a process.
        steps = updates * accelerator.num_processes
        schedule = get_cosine_schedule_with_warmup(optimizer, round(config.warmup * steps), steps)
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        self.class_weights = None
        if config.class_balance == "weights":
            counts = torch.bincount(torch.tensor(train_data.targets), minlength=len(self.names))
            self.class_weights = (counts.sum() / (len(counts) * counts)).to(accelerator.device)

    def run(self) -> None:
        """Trains from where the run stands to its end."""
        if self.config.resume:
            self._load_checkpoint()
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=get_console(),
            transient=True,
            disable=not self.accelerator.is_main_process,
        ) as self.progress:
            if self.accelerator.is_main_process:
                self.progress.console.print(_table_row("epoch", "loss", "val. loss", "WAR", "UAR", "seconds"))
            for epoch in range(len(self.progression.history), self.config.epochs):
                start = time.perf_counter()
                rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
                row = {"epoch": epoch + 1, "loss": self._train_epoch(epoch), "lr": rates, **self._validate()}
                row["seconds"] = round(time.perf_counter() - start, 3)
                self._keep(row)
        self._save_model("last")

    def _train_epoch(self, epoch: int) -> float:
        """Mean loss of one pass over the training clips."""
        self.model.train()
        self.train_data.set_epoch(epoch)
        self.train_loader.set_epoch(epoch)
        total = torch.zeros((), device=self.accelerator.device)
        for batch in self._track(self.train_loader, f"Epoch {epoch + 1} of {self.config.epochs}"):
            with self.accelerator.accumulate(self.model):
                loss = self.model(**batch, class_weights=self.class_weights).loss
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            total += loss.detach()
        mean = float(self.accelerator.reduce(total, "mean")) / len(self.train_loader)
        if not math.isfinite(mean):
            raise UserError(
                f"The loss is {mean} in epoch {epoch + 1}: start again with lower learning rates or in full precision."
            )
        return mean

    def _validate(self) -> dict[str, float | None]:
        """Loss, WAR and UAR of the validation clips, each None without any."""
        if self.validation_loader is None:
            return {"validation_loss": None, "war": None, "uar": None}
        self.model.eval()
        logits, labels = [], []
        for batch in self._track(self.validation_loader, "Validation"):
            for known in ("intensity", "activity"):  # for evaluation alone, never to choose by
                batch.pop(known, None)
            truth = batch.pop("labels")
            with torch.inference_mode():
                gathered = self.accelerator.gather_for_metrics((self.model(**batch).logits.float(), truth))
            logits.append(gathered[0].cpu())
            labels.append(gathered[1].cpu())
        scores, truth = torch.cat(logits), torch.cat(labels)
        figures = recognition_figures(
            predictions=[self.names[index] for index in scores.argmax(-1).tolist()],
            references=[self.names[index] for index in truth.tolist()],
            labels=self.names,
        )
        loss = float(F.cross_entropy(scores, truth))
        return {"validation_loss": loss, "war": figures["war"], "uar": figures["uar"]}

    def _keep(self, row: dict[str, Any]) -> None:
        """Ends an epoch: the best model first, then the checkpoint, so that an epoch cut off here is repeated."""
        state = self.progression
        state.history.append(row)
        state.seconds += row["seconds"]
        # With few people held out, epochs often tie in UAR: the lower loss decides. With none, the last is best.
        figures = [0.0, 0.0] if row["uar"] is None else [row["uar"], -row["validation_loss"]]
        if row["uar"] is None or figures > state.best:
            state.best, state.best_epoch = figures, row["epoch"]
            self._save_model("best")
        self._save_checkpoint()
        if self.accelerator.is_main_process:
            write_text(self.run_folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in state.history))
            facts = {**self.facts, "best_epoch": state.best_epoch, "seconds": round(state.seconds, 1)}
            write_text(self.run_folder / "training.json", json.dumps(facts, indent=2) + "\n")
            figures = [row[name] for name in ("loss", "validation_loss", "war", "uar")]
            style = "bold" if row["epoch"] == state.best_epoch else ""
            self.progress.console.print(_table_row(row["epoch"], *figures, row["seconds"]), style=style)

    def _save_model(self, name: str) -> None:
        """Writes model and processor to `RUN/name`, which holds either the old ones or the new ones whole."""
        if self.accelerator.is_main_process:
            temporary = self.run_folder / f".{name}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            self.accelerator.unwrap_model(self.model).save_pretrained(temporary)
            self.processor.save_pretrained(temporary)
            _replace_folder(temporary, self.run_folder / name)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self) -> None:
        """Keeps the state of the run after an epoch, in place of the epoch before."""
        folder = self.run_folder / "checkpoints"
        temporary = folder / ".tmp"
        if self.accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(temporary))
        if self.accelerator.is_main_process:
            write_text(temporary / "progression.json", json.dumps(asdict(self.progression)))
            name = f"epoch-{len(self.progression.history):04d}"
            _replace_folder(temporary, folder / name)
            for older in folder.glob("epoch-*"):
                if older.name != name:
                    shutil.rmtree(older)
        self.accelerator.wait_for_everyone()

    def _load_checkpoint(self) -> None:
        """Goes back to the last checkpoint; to the start if the run was interrupted before the first."""
        checkpoints = sorted((self.run_folder / "checkpoints").glob("epoch-*"))
        if not checkpoints:
            logger.warning("%s has no checkpoint yet: training starts from the beginning.", self.run_folder)
            return
        try:
            saved = json.loads((checkpoints[-1] / "progression.json").read_text(encoding="utf-8"))
            self.accelerator.load_state(str(checkpoints[-1]))
            self.progression = _Progression(**saved)
        except Exception as error:  # damaged bytes make the libraries that read them raise anything
            raise UserError(
                f"The checkpoint {checkpoints[-1]} cannot be read: remove {self.run_folder} and train again."
            ) from error

    def _loader(self, data: Clips | FeatureClips, training: bool) -> torch.utils.data.DataLoader:
        config = self.config
        balanced = config.class_balance == "sampler"
        return torch.utils.data.DataLoader(
            data,
            config.batch_size,
            sampler=EpochSampler(data.targets, config.seed, balanced) if training else None,
            # Cached features need no processes to read them.
            num_workers=config.workers if isinstance(data, Clips) else 0,
            collate_fn=data.collate if isinstance(data, Clips) else None,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator().manual_seed(config.seed),
        )

    def _track(self, loader: Any, description: str) -> Iterable[dict[str, torch.Tensor]]:
        task = self.progress.add_task(description, total=len(loader))
        yield from self.progress.track(loader, task_id=task)
        self.progress.remove_task(task)


def _datasets(
    config: TrainingConfig,
    accelerator: Accelerator,
    model: TGDFERForVideoClassification,
    processor: TGDFERProcessor,
    train_part: Part,
    validation_part: Part | None,
) -> tuple[Any, Any]:
    """The data to train on and the data to validate on: clips, or the cached features of clips."""
    names = train_part.clips.classes
    augment = augmentation(config.augmentation)
    model.to(accelerator.device)

    def look_at(part: Part | None, training: bool) -> Clips | FeatureClips | None:
        if part is None:
            return None
        if not config.frozen_features:
            clips = part.clips.select(part.indices)
            return Clips(clips, names, processor.video_processor, config.num_frames, training, config.seed, augment)
        # Clips that are held out of train are looked at like the others, so that all folds share one computation.
        views = config.feature_views if part.clips is train_part.clips else 1
        with accelerator.main_process_first():
            looking = (views, config.seed, config.batch_size, config.workers, augment)
            features = frame_features(model, processor.video_processor, part.clips, *looking)
        targets = [names.index(part.clips.labels[index]) for index in part.indices]
        return FeatureClips(features, part.indices, targets, training, config.seed)

    return look_at(train_part, True), look_at(validation_part, False)


def _parameter_groups(model: TGDFERForVideoClassification, config: TrainingConfig) -> list[dict[str, Any]]:
    """Groups for AdamW: each kind of parameter with its rate, and only matrices with weight decay."""
    rates = {"lora": config.lora_lr, "prompts": config.prompts_lr, "new": config.new_lr}
    groups = []
    for name, parameters in model.parameter_groups().items():
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim >= 2) == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "name": name, "lr": rates[name], "weight_decay": decay})
    return groups


def _accelerator(config: TrainingConfig) -> Accelerator:
    # Another run of this process may have had another precision, which Accelerate keeps for all that follow.
    AcceleratorState._reset_state()
    try:
        return Accelerator(
            mixed_precision=config.mixed_precision, gradient_accumulation_steps=config.gradient_accumulation
        )
    except ValueError as error:  # such as fp16 without a GPU
        raise UserError(f"mixed_precision is {config.mixed_precision!r}, but {str(error).rstrip('.')}.") from error


def _require_new_or_same(run: Path, config: TrainingConfig) -> None:
    """Checks that the output folder is empty, or to be resumed holds a run of the same config."""
    require_writable(run / "config.yaml")
    if not config.resume:
        if run.is_dir() and any(run.iterdir()):
            raise UserError(f"{run} is not empty: continue its run with --resume, or name another --output.")
        return
    if not (run / "config.yaml").is_file():
        raise UserError(f"There is no run to resume in {run}: name its folder with --output, or leave out --resume.")
    before, now = asdict(TrainingConfig.from_dict(read_yaml(run / "config.yaml"))), asdict(config)
    for name in before:
        if name not in _MAY_CHANGE and before[name] != now[name]:
            raise UserError(
                f"{name} is {now[name]!r}, but the run in {run} has {before[name]!r}: resume it as it was, or start"
                " another with --output."
            )


def _fingerprint(run: Path, *parts: Part | None) -> str:
    """Hash of all clips of a run, which are those that it began with if it is resumed."""
    hashes = [f"{part.clips.fingerprint()} {part.clips.labels} {part.indices}" for part in parts if part]
    fingerprint = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    before = run / "data.sha256"
    if before.is_file() and before.read_text(encoding="utf-8").strip() != fingerprint:
        raise UserError(
            f"The clips have changed since the run in {run} began: restore them, or start another run with --output."
        )
    return fingerprint


def _warn_of_shared_people(config: TrainingConfig, train_part: Part) -> None:
    if train_part.clips.people is None:
        return
    tested = people_of(config.dataset, config.test_split, config.dataset_config)
    if shared := tested & set(train_part.clips.people):
        logger.warning(
            "%d of the %d people of the split %r are in %r as well: what is measured there says little about faces"
            " that the model has not seen.",
            len(shared),
            len(tested),
            config.test_split,
            config.train_split,
        )


def _earlier_run(name: str) -> dict[str, Any] | None:
    """The facts of the run whose `best` or `last` a model is; None of any other model.

    Raises:
        UserError: if they cannot be read.
    """
    folder = Path(model_source(name))
    if not (folder.name in ("best", "last") and (folder / "config.json").is_file()):
        return None  # such as a Hub id: a `training.json` in this folder is of something else
    facts = folder.parent / "training.json"
    return read_json(facts) if facts.is_file() else None


def _replace_folder(new: Path, old: Path) -> None:
    """Puts a folder in the place of another, if there is one."""
    stale = old.with_name(f".{old.name}.old")
    shutil.rmtree(stale, ignore_errors=True)
    if old.exists():
        os.replace(old, stale)
    os.replace(new, old)
    shutil.rmtree(stale, ignore_errors=True)


def _table_row(*cells: Any) -> str:
    """A line of the table of epochs, which grows as they end."""
    texts = ["-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "".join(text.rjust(10) for text in texts)
