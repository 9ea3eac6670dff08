"""Running a training again from its record, and comparing the two runs."""

from pathlib import Path

from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.revisions import HubName
from tgdfer.training.runs.record import read_record
from tgdfer.training.runs.reproduction import Comparison, compare_runs
from tgdfer.training.train import train


def reproduce(run: str | Path, output: str | Path) -> list[Comparison]:
    """Trains again with the configuration in `RUN/run.json`, and compares the results.

    On a CPU, the same code with the same libraries on the same clips gives identical results. On a GPU, small
    differences are normal. A repetition that was interrupted is continued.

    Args:
        run (`str` or `Path`): Folder of a finished run.
        output (`str` or `Path`): Folder of the repetition.

    Returns:
        Comparisons of the conditions and the results of both runs.

    Raises:
        UserError: If the run is not finished, cannot be read, or cannot be trained again.
    """
    run, output = Path(run), Path(output)
    config = recorded_config(run).with_options(output=str(output), resume=(output / "config.yaml").is_file())
    if output.resolve() == run.resolve():
        raise UserError(f"{output} is the run itself: name another folder with --output.")
    if not (run / "last").is_dir():
        raise UserError(f"The run in {run} is not finished: continue it with --resume, and then reproduce it.")
    train(config)
    return compare_runs(run, output)


def recorded_config(run: Path) -> TrainingConfig:
    """Reads the configuration in the record of a run.

    A data set and a model from the Hub are pinned to the commits that the run used, because their branches may move.

    Raises:
        UserError: If there is no run, or its record cannot be read.
    """
    if not run.is_dir():
        raise UserError(f"There is no run in {run}: name the folder of a run.")
    record = read_record(run)
    options, data, base = dict(record["configuration"]), record["data"], record["base_model"]
    dataset, model = HubName.parse(options["dataset"]), HubName.parse(options["model"])
    if data["revision"] and data["name"] == dataset.name:
        options["dataset"] = f"{dataset.name}@{data['revision']}"
    # If the run continues another one, the base model is that of the first run.
    if base["revision"] and base["name"] == model.name:
        options |= {"model": model.name, "revision": base["revision"]}
    return TrainingConfig.from_options(**options)
