"""The training loop: epochs of updates of a model."""

import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.balancing import balancing_inputs
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.data.batches import EpochSampler
from tgdfer.training.data.waiting import WaitingTimer
from tgdfer.training.errors import UserError
from tgdfer.training.features import FeatureDataset
from tgdfer.training.interruption import ignore_first_sigterm, kill_workers_at_exit
from tgdfer.training.objectives.registry import Objectives
from tgdfer.training.optimisation.averages import Averages
from tgdfer.training.optimisation.ema import WeightAverage
from tgdfer.training.optimisation.mixup import Mixup
from tgdfer.training.optimisation.sharding import prepare_sharding
from tgdfer.training.processes import PREFETCH, ignore_repeated_clips, on_cpu, process_state

logger = logging.getLogger(__name__)


class TrainingData(Protocol):
    """A map-style data set. Its batches are inputs of the network, with `labels`.

    If it has a method `collate`, this method turns a list of items into a batch. Otherwise `DataLoader` stacks them.
    """

    @property
    def targets(self) -> Sequence[int]:
        """Class of each item."""

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0, which determines order, augmentation and sampling."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:
        """Returns an item. With `class_balance="sampler"`, see `EpochSampler` for indices from the length on."""


class DivergedError(UserError):
    """The loss or a weight is not finite."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: start again with lower learning rates or full precision.")


class TrainingLoop:
    """Epochs of training.

    Args:
        model (`nn.Module`): Model that is called as `model(**batch)` and returns an output with a `loss`.
        data (`TrainingData`): Training data, such as clips or their cached features.
        groups (`list[dict[str, Any]]`): Parameter groups of AdamW, each with its learning rate.
        options (`OptimisationConfig`): Options of the updates.
        accelerator (`Accelerator`): Accelerator that prepares model, data and optimiser.
        seed (`int`, *optional*, defaults to 0): Seed of the order of the clips and of all dropout.
        workers (`int`, *optional*, defaults to 0): Number of processes that decode clips.
        several (`bool`, *optional*, defaults to `False`): Whether a clip may have several labels.
        objectives (`Objectives`, *optional*): Losses that are added to the loss of the model.

    Attributes:
        updates_per_epoch (`int`): Number of updates in an epoch.
        step (`int`): Number of updates so far, in all epochs.
        epoch (`int`): Index of the current epoch, from 0.
        batches (`int`): Number of batches of the current epoch that this process has finished.
        epoch_rates (`dict[str, float]`): Learning rates at the start of the current epoch, by group.
        rates (`dict[str, float]`): Learning rates of the last update, by group.
        gradient_norm (`Tensor`): Norm of the gradients of the last update, before they were clipped.
        averages (`Averages`): Mean loss of the epoch, and of the updates since the last row of the log.
        timer (`WaitingTimer`): Time of the current epoch that this process waited for data.
        after_update (`Callable[[], None]`): Is called after each update. It may save the state of the loop.
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
        several: bool = False,
        objectives: Objectives | None = None,
    ) -> None:
        self.options, self.accelerator, self.data = options, accelerator, data
        self.objectives = objectives
        if objectives is not None:
            accelerator.register_for_checkpointing(objectives.to(accelerator.device))
        # The random state must not depend on whether features were cached. Each process has different dropout.
        set_seed(seed, device_specific=True)
        self.step = self.epoch = self.batches = 0
        self.epoch_rates: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        self.gradient_norm = torch.zeros((), device=accelerator.device)
        self.averages = Averages(accelerator)
        self.timer = WaitingTimer(())
        self.after_update: Callable[[], None] = lambda: None
        self._is_resumed = False
        sampler = EpochSampler(data.targets, seed, options.class_balance == "sampler")
        self.loader = accelerator.prepare(clip_loader(data, options.batch_size, accelerator, seed, workers, sampler))
        self._rest: DataLoader | None = None  # Of an epoch that is continued.
        optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        self.updates_per_epoch = math.ceil(len(self.loader) / options.gradient_accumulation)
        updates = self.updates_per_epoch * options.epochs
        schedule = _lr_schedule(optimizer, options, updates, accelerator.num_processes)
        prepare_sharding(model, accelerator)
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        self.inputs = {
            name: values.to(accelerator.device) for name, values in balancing_inputs(data, options, several).items()
        }
        network: Any = model
        self.mixup = Mixup(options.mixup, network.config.num_labels) if options.mixup else None
        self.average = WeightAverage(model, options.ema) if options.ema else None
        if self.average is not None:
            accelerator.register_for_checkpointing(self.average)

    def train_epoch(self, epoch: int, track: Callable[[Any], Iterable[dict[str, Tensor]]] = iter) -> float:
        """Trains for one epoch. An epoch in whose middle the state was loaded is continued there.

        Args:
            epoch (`int`): Index of the epoch, from 0, which determines order and augmentation.
            track (`Callable[[Any], Iterable[dict[str, Tensor]]]`, *optional*, defaults to `iter`): Wraps the loader,
                for example to show a progress bar.

        Returns:
            The mean loss.

        Raises:
            DivergedError: If the loss is not finite.
        """
        self.model.train()
        self.data.set_epoch(epoch)
        self.loader.set_epoch(epoch)
        if self.objectives is not None:
            self.objectives.start_epoch(epoch)
        if not self.continues(epoch):
            self.epoch, self.batches, self.epoch_rates = epoch, 0, self.learning_rates
            self.averages.start_epoch()
        self._is_resumed = False
        self.timer = WaitingTimer(self._remaining_batches())
        for loaded in track(self.timer):
            # Mixtures with repeated clips count, and their repetitions do not.
            mixed = loaded if self.mixup is None else self.mixup(loaded)
            batch = ignore_repeated_clips(mixed, self.accelerator)
            with self.accelerator.accumulate(self.model):
                output = self.model(**batch, **self.inputs)
                if self.objectives is not None:
                    self._add_objectives(self.objectives, output, batch)
                self.accelerator.backward(output.loss * self._update_scale())
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
                    self.gradient_norm, self.rates = norm, self.learning_rates
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
                if self.average is not None and self.accelerator.sync_gradients:
                    self.average.update()
            self.averages.add(output, len(batch["labels"]))
            self.batches += 1
            if self.accelerator.sync_gradients:
                self.step += 1
                self.after_update()
        end_workers(self._rest)
        mean = self.averages.of_epoch(len(self.loader))
        if not math.isfinite(mean):
            raise DivergedError(f"The loss is {mean} in epoch {epoch + 1}")
        return mean

    def _update_scale(self) -> float:
        """Returns the factor of the loss of the current batch with which an update has the mean of its gradients.

        Accelerate divides each one by `gradient_accumulation`, but the last update of an epoch may have fewer batches.
        """
        accumulation, batches = self.options.gradient_accumulation, len(self.loader)
        left_over = batches % accumulation
        return accumulation / left_over if self.batches >= batches - left_over else 1.0

    def _add_objectives(self, objectives: Objectives, output: Any, batch: dict[str, Tensor]) -> None:
        """Adds objectives to the loss of an output, and as a term of their own to its terms."""
        added = objectives(output, batch)
        output.loss = output.loss + added
        output.loss_dict = {**output.loss_dict, "objectives": added.detach()}

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Context manager in which the model has its averaged weights, if they are averaged (`ema`)."""
        return nullcontext() if self.average is None else self.average.applied()

    @property
    def waiting(self) -> float:
        """Share of the time of the current epoch in which this process waited for data, 0 to 1."""
        return self.timer.share

    def continues(self, epoch: int) -> bool:
        """Returns whether the loaded state is in this epoch, so that `train_epoch` continues it."""
        return self._is_resumed and self.epoch == epoch

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of the loop as values for JSON. Every process must call this method."""
        position = {name: getattr(self, name) for name in ("step", "epoch", "batches", "epoch_rates")}
        return position | {"averages": self.averages.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a position. The states of model, optimiser and schedule are restored by Accelerate.

        Args:
            state (`dict[str, Any]`): What `state_dict` returned in a run with as many processes.
        """
        for name in ("step", "epoch", "batches", "epoch_rates"):
            setattr(self, name, state[name])
        self.averages.load_state_dict(state["averages"])
        self._is_resumed = True

    def _remaining_batches(self) -> Any:
        """Returns a loader of the batches of the epoch that are left. Skipped clips are not decoded."""
        if self.batches == len(self.loader):  # The run was stopped after the last batch, before the validation.
            return ()
        if not self.batches:
            return self.loader
        self._rest = rest = skip_first_batches(self.loader, self.batches)
        whole = self.loader.batch_sampler
        # From these, Accelerate computes how many clips are repeated to fill the last batches of the epoch.
        for name in ("batch_size", "num_processes", "split_batches"):
            if hasattr(whole, name):
                setattr(rest.batch_sampler, name, getattr(whole, name))
        return rest

    def end_workers(self) -> None:
        """Ends the worker processes that decode clips. They would otherwise stay as long as this process."""
        for loader in (self.loader, self._rest):
            end_workers(loader)

    @property
    def learning_rates(self) -> dict[str, float]:
        """The current learning rate of each parameter group, by its name, or by its number if it has none."""
        groups = self.optimizer.param_groups
        return {group.get("name", str(number)): group["lr"] for number, group in enumerate(groups)}


def start_accelerator(mixed_precision: str | None = None, gradient_accumulation: int = 1) -> Accelerator:
    """Creates an accelerator.

    Args:
        mixed_precision (`str`, *optional*): "no", "bf16" or "fp16". By default that of `accelerate launch`, otherwise
            "no".
        gradient_accumulation (`int`, *optional*, defaults to 1): Steps per update.

    Raises:
        UserError: If this machine does not support the precision.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if mixed_precision is not None and launched not in ("no", mixed_precision) and process_state().is_main_process:
        logger.warning("accelerate launch says mixed_precision %r, but this run has %r.", launched, mixed_precision)
    # Otherwise Accelerate would keep the precision of an earlier run in this process. The method is not public.
    getattr(AcceleratorState, "_reset_state", lambda: None)()
    try:
        accelerator = Accelerator(
            mixed_precision=mixed_precision, gradient_accumulation_steps=gradient_accumulation, cpu=on_cpu()
        )
    except ValueError as error:  # For example bf16 on an old GPU.
        requested = mixed_precision or launched
        raise UserError(f"mixed_precision is {requested!r}, but {str(error).rstrip('.')}.") from error
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would ignore it.
        raise UserError("mixed_precision is 'fp16', but there is no GPU: choose bf16 or no.")
    return accelerator


def clip_loader(
    data: TrainingData,
    batch_size: int,
    accelerator: Accelerator,
    seed: int = 0,
    workers: int = 0,
    sampler: EpochSampler | None = None,
) -> DataLoader:
    """Creates a loader of a data set, in the order of the sampler or of the data."""
    workers = loader_workers(data, workers)
    if workers:
        kill_workers_at_exit()
    return DataLoader(
        cast(Dataset, data),
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        collate_fn=getattr(data, "collate", None),
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),
        worker_init_fn=ignore_first_sigterm,
    )


def end_workers(loader: DataLoader | None) -> None:
    """Ends the worker processes that a loader of `clip_loader` keeps between epochs.

    `DataLoader` ends them as well when Python deletes it. If it is part of a reference cycle, their queues may be
    deleted first. Then they are only sent SIGTERM, which `ignore_first_sigterm` ignores, and stay.

    Args:
        loader (`DataLoader`, *optional*): The loader, which may be prepared by Accelerate. None is ignored.
    """
    base: Any = getattr(loader, "base_dataloader", loader)
    iterator = getattr(base, "_iterator", None)
    if iterator is None:
        return
    base._iterator = None  # If the loader is read again, it starts new workers.
    # These names are not public in torch.
    getattr(iterator, "_shutdown_workers", lambda: None)()
    for worker in getattr(iterator, "_workers", ()):  # A worker may still decode a long video.
        if worker.is_alive():
            worker.kill()


def loader_workers(data: TrainingData, workers: int) -> int:
    """Returns the number of worker processes for a data set. Cached features need none."""
    return 0 if isinstance(data, FeatureDataset) else workers


def _lr_schedule(optimizer: torch.optim.Optimizer, options: OptimisationConfig, updates: int, processes: int) -> Any:
    """Creates the learning rate schedule: a linear warm-up, then a cosine or constant rates."""
    # In each update, Accelerate steps the schedule once per process.
    warmup, steps = round(options.warmup * updates) * processes, updates * processes
    if options.lr_schedule == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup)
    return get_cosine_schedule_with_warmup(optimizer, warmup, steps)


def parameter_groups(model: TGDFERForVideoClassification, options: OptimisationConfig) -> list[dict[str, Any]]:
    """Groups the trainable parameters for AdamW. Each group has its learning rate. Only matrices have weight decay.

    Args:
        model (`TGDFERForVideoClassification`): Model to train.
        options (`OptimisationConfig`): Learning rates of the groups, and the weight decay.
    """
    rates = {"lora": options.lora_lr, "prompts": options.prompts_lr, "new": options.new_lr, "clip": options.clip_lr}
    groups = []
    for name, parameters in model.parameter_groups().items():
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim >= 2) == decays]
            if chosen:
                decay = options.weight_decay if decays else 0.0
                groups.append({"params": chosen, "name": name, "lr": rates[name], "weight_decay": decay})
    return groups
