"""Training and testing a model on each fold of a data set, and the table of their results."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich import get_console
from rich.rule import Rule

from tgdfer.training.config import DataConfig, TrainingConfig
from tgdfer.training.data.opening import open_dataset, split_facts
from tgdfer.training.data.published import PUBLISHED
from tgdfer.training.data.splits import require_no_fold, validation_split_of
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import evaluate_model
from tgdfer.training.evaluation.fold_tables import FoldResult, FoldTables, print_fold_tables, write_fold_tables
from tgdfer.training.files import read_json, read_yaml, require_writable
from tgdfer.training.processes import from_main_process, process_state
from tgdfer.training.runs.run_folder import read_run_config, require_same_options
from tgdfer.training.saved_weights import weights_sha256
from tgdfer.training.train import train

# The configuration of all folds, in their folder.
SAVED = "folds.yaml"
_LAST = "last_epoch"
_METRICS = "metrics.json"


def train_folds(config: TrainingConfig, folds: str) -> FoldTables:
    """Trains a model on each fold, tests its last and its best epoch on the test clips of the fold, and writes tables.

    Fold N is an ordinary run in the folder `fold_N` of the output. It contains the test results of the best epoch, and
    those of the last epoch in `fold_N/last_epoch`. `folds.json`, `folds.csv`, `folds.md` and `confusion_matrix.png`
    are about all complete folds in the output, which may have been trained by several commands.

    With `config.run.resume`, complete folds are skipped, and an interrupted one is continued. If `tgdfer evaluate` has
    replaced the test results of a fold, it is tested again.

    Args:
        config (`TrainingConfig`): The configuration of all folds. `fold` is None.
        folds (`str`): "all", or numbers such as "1,3", as in `fold`.

    Returns:
        The results of all complete folds.

    Raises:
        UserError: If there is no such fold or no test split, the output contains other runs, or as in `train`.
    """
    output, numbers = Path(config.run.output), chosen_folds(config.data, folds)
    _require_usable(config, output, numbers)
    state = process_state()
    state.wait_for_everyone()  # Otherwise a slower process would find folders that are no longer empty.
    if state.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        config.with_options(resume=False).with_absolute_paths().save(output / SAVED)
    for place, number in enumerate(numbers):
        folder = fold_folder(output, number)
        if from_main_process(is_complete(folder)):
            _announce(f"Fold {number} is complete", place, numbers)
            continue
        _announce(f"Fold {number}", place, numbers)
        if not from_main_process(_is_trained(folder)):
            # A fold without a checkpoint starts from the beginning, without a warning.
            resume = from_main_process((folder / "config.yaml").is_file())
            train(config.with_options(fold=number, output=str(folder), resume=resume))
        _test(folder, config.data.workers)
        state.wait_for_everyone()
    tables = read_fold_tables(output, config.data)
    if state.is_main_process:
        write_fold_tables(output, tables)
        print_fold_tables(tables)
    return tables


def chosen_folds(data: DataConfig, folds: str) -> list[int]:
    """Returns the numbers of the chosen folds, in ascending order.

    Args:
        data (`DataConfig`): The data set. Folds of a published one have numbers from 1, and others from 0.
        folds (`str`): "all", or numbers such as "1,3".

    Raises:
        UserError: If there is no such fold.
    """
    if data.fold is not None:
        raise UserError(f"fold is {data.fold}, but `folds` chooses the folds: leave one of them out.")
    if data.label_kind == "multiple":
        raise UserError("`folds` compares UAR and WAR, which clips with several labels do not have: use --fold.")
    known = all_folds(data)
    if not known:
        raise UserError(
            "validation_fraction is 0, so no clips are held out and there are no folds: leave out `folds`, or hold out"
            " a fraction."
        )
    if folds == "all":
        return known
    try:
        numbers = sorted({int(number) for number in folds.split(",")})
    except ValueError:
        raise UserError(f"folds is {folds!r}, but must be all, or numbers such as 1,3.") from None
    if unknown := [number for number in numbers if number not in known]:
        raise UserError(f"folds names fold {unknown[0]}, but the folds are {known[0]} to {known[-1]}.")
    return numbers


def all_folds(data: DataConfig) -> list[int]:
    """Returns the numbers of all folds of a data set."""
    if data.is_published:
        return list(range(1, PUBLISHED[data.dataset].folds + 1)) if data.dataset in PUBLISHED else [1]
    return list(range(data.num_folds))


def fold_folder(output: Path, number: int) -> Path:
    """Returns the folder of the run of a fold."""
    return output / f"fold_{number}"


def is_complete(folder: Path) -> bool:
    """Returns whether a fold is trained, and its models are tested on its test clips."""
    return _is_trained(folder) and all(_is_tested(folder, which) for which in _results(folder))


def _is_trained(folder: Path) -> bool:
    """Returns whether the training is finished, and its best model calibrated."""
    if not (folder / "last" / "config.json").is_file():  # It is written after the last epoch.
        return False
    facts = read_json(folder / "training.json")
    return facts["validation"] is None or "calibration" in facts


def _results(folder: Path) -> dict[str, Path]:
    """Returns the models that are tested, with the folders of their results. The best one is tested last."""
    has_validation = read_json(folder / "training.json")["validation"] is not None
    return {**({"last": folder / _LAST} if has_validation else {}), "best": folder}


def _is_tested(folder: Path, which: str) -> bool:
    """Returns whether the results of a model are those of its test split, and not of something evaluated by hand."""
    path = _results(folder)[which] / _METRICS
    if not path.is_file():
        return False
    data, facts, metrics = read_run_config(folder).data, read_json(folder / "training.json"), read_json(path)
    wanted = {
        **{"dataset": facts["dataset"], "fold": facts.get("fold")},
        **{"split_in_dataset": None, **split_facts(data.test_split, data.split_map), "views": None},
        **{"model": which, "weights_sha256": weights_sha256(folder / which)},
    }
    return all(metrics.get(name) == value for name, value in wanted.items())


def folds_interruption_message(config: TrainingConfig, folds: str) -> str:
    """Returns a message that says how many folds are complete, and how to continue."""
    output = Path(config.run.output)
    if not (output / SAVED).is_file():
        return "Interrupted before the first fold: nothing was written. Start again with the same command."
    numbers = chosen_folds(config.data, folds)
    complete = sum(is_complete(fold_folder(output, number)) for number in numbers)
    return (
        f"Interrupted: {complete} of {len(numbers)} folds are complete in {output}. Continue with: tgdfer train"
        f" --resume --folds {folds} --output {shlex.quote(str(config.run.output))}"
    )


def read_fold_tables(output: Path, data: DataConfig) -> FoldTables:
    """Reads the results of all complete folds in a folder.

    Args:
        output (`Path`): Folder of the folds.
        data (`DataConfig`): The data set.
    """
    last, best, facts = [], [], []
    for number in all_folds(data):
        folder = fold_folder(output, number)
        if not is_complete(folder):
            continue
        run = read_json(folder / "training.json")
        facts.append(run)
        metrics = read_json(folder / _METRICS)
        epochs = len((folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
        if run["validation"] is None:  # The last epoch counts as the best one.
            last.append(FoldResult.from_metrics(number, epochs, metrics))
            continue
        last.append(FoldResult.from_metrics(number, epochs, read_json(folder / _LAST / _METRICS)))
        best.append(FoldResult.from_metrics(number, run["best_epoch"], metrics))
    found = sorted({name for result in last for name in result.recall})
    published = PUBLISHED[data.dataset].classes if data.is_published and data.dataset in PUBLISHED else ()
    return FoldTables(
        dataset=facts[0]["dataset"],
        num_folds=len(all_folds(data)),
        classes=[name for name in dict.fromkeys((*published, *found)) if name in found],
        validation=facts[0]["validation"],
        last=last,
        best=best,
        seconds=sum(run["seconds"] for run in facts),
    )


def _test(folder: Path, workers: int | None) -> None:
    """Tests the models of a fold that are not tested yet."""
    for which, results in from_main_process(_results(folder)).items():
        if from_main_process(_is_tested(folder, which)):
            continue
        if which == "last":
            evaluate_model(folder, which="last", output=results, errors=0, workers=workers)
        else:
            evaluate_model(folder, workers=workers)


def _require_usable(config: TrainingConfig, output: Path, numbers: Sequence[int]) -> None:
    """Checks before the first fold that the output has no other runs, and that there are clips for testing."""
    require_writable(output / SAVED)
    data = config.data
    if not data.is_published and (split := validation_split_of(data)) is not None:
        require_no_fold(data.model_copy(update={"fold": numbers[0]}), split)
    if (output / "config.yaml").is_file():
        raise UserError(f"{output} is the folder of a single run: choose another --output for the folds.")
    if (output / SAVED).is_file():
        require_same_options(output, TrainingConfig.from_options(**read_yaml(output / SAVED)), config)
    if not config.run.resume:
        for folder in (fold_folder(output, number) for number in numbers):
            if folder.is_dir() and any(folder.iterdir()):
                raise UserError(f"{folder} is not empty: continue with --resume, or choose another --output.")
    if not data.is_published and data.test_split not in (splits := open_dataset(data.dataset, **data.reading)):
        raise UserError(
            f"{data.dataset} has no split {data.test_split!r} on which the folds are tested: its splits are"
            f" {', '.join(map(repr, splits))}. Name another --test-split."
        )


def _announce(text: str, place: int, numbers: Sequence[int]) -> None:
    """Prints a rule with the name of a fold, and how many there are."""
    if process_state().is_main_process:
        get_console().print(Rule(f"{text} ({place + 1} of {len(numbers)})", align="left"))
