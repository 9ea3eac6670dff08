"""Clips of an evaluation that the model was trained on, whose results are not those on other clips."""

import logging
from collections.abc import Mapping
from typing import Any

from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.opening import name_in_dataset
from tgdfer.training.data.splits import load_parts
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)


def seen_facts(run: TrainingConfig, split: str, reading: Mapping[str, Any], clips: LabelledClips) -> dict[str, Any]:
    """Says whether a model was trained on clips of the data set of its run, and warns if it was.

    Clips are compared by their files, which takes time. They are not compared if their split is another one than that
    of the training, in the same fold and configuration of the data set.

    Args:
        run (`TrainingConfig`): Configuration of the run that trained the model.
        split (`str`): Name of the split of the clips.
        reading (`Mapping[str, Any]`): Options with which the clips were read, by the names in `ReadingOptions`.
        clips (`LabelledClips`): The clips.

    Returns:
        `seen_in_training` (True) and `num_seen_in_training`. Empty if the model was trained on none of the clips.
    """
    trained_on = _place(run.data.train_split, run.data.reading)
    place = _place(split, reading)
    if place[0] != trained_on[0] and place[1:] == trained_on[1:]:
        return {}
    try:
        # A published data set may have moved since the training.
        data = run.data.model_copy(update={"data_root": reading.get("data_root")})
        train = load_parts(data, run.run.seed)[0]
    except UserError as error:
        logger.warning("Whether the model was trained on these clips is not known. %s", error)
        return {}
    known = {train.clips.fingerprint_of(index) for index in train.indices}
    number = sum(clips.fingerprint_of(index) in known for index in range(len(clips)))
    if not number:
        return {}
    logger.warning(
        "The model was trained on %d of the %d clips of split %r, so the results say little about other clips:"
        " evaluate it on the test split of its own fold.",
        *(number, len(clips), split),
    )
    return {"seen_in_training": True, "num_seen_in_training": number}


def _place(split: str, reading: Mapping[str, Any]) -> tuple[str, int | None, str | None]:
    """Returns where clips are: the name of the split in the data set, the fold, and the configuration."""
    fold = (reading.get("fold") or 1) if reading.get("data_root") else None
    return name_in_dataset(split, reading.get("split_map")), fold, reading.get("dataset_config")
