"""What a card says about a training: data, options, LoRA, time, versions, hardware and energy."""

from typing import Any

from tgdfer.model_card.data_facts import NOT_RECORDED, split_name
from tgdfer.model_card.markdown import Markdown, code, escape, join, one_line

# Most important options of a run. training_config.yaml contains all options.
OPTIONS = (
    "num_frames",
    "frozen_features",
    "batch_size",
    "gradient_accumulation",
    "lora_lr",
    "prompts_lr",
    "new_lr",
    "lr_schedule",
    "warmup",
    "weight_decay",
    "clip_lr",
    "freeze",
    "unfreeze",
    "class_balance",
    "augmentation",
    "mixup",
    "ema",
    "early_stopping",
    "objectives",
)
# Names of `shared_people`.
_PLACES = {
    "photographs": "the photographs, if their names mean the same people",
    "train": "the training split",
    "validation": "the validation split",
}


def training_facts(stage: dict[str, Any], config: dict[str, Any], has_merged_lora: bool = True) -> dict[str, Any]:
    """Returns facts about a training by name. What was not recorded is missing.

    Args:
        stage (`dict[str, Any]`): Contents of `training.json`.
        config (`dict[str, Any]`): Options of the training. Empty if they are not known.
        has_merged_lora (`bool`, *optional*, defaults to `True`): Whether LoRA, if any, was merged into the weights.
    """
    hardware, versions = stage.get("hardware") or {}, stage.get("versions") or {}
    options = [code(f"{key}: {config[key]}") for key in OPTIONS if _is_set(key, config)]
    start = stage.get("base_model") and code(stage["base_model"])
    precision = hardware.get("mixed_precision")
    facts = {
        "Initial model": "the model of the previous stage" if stage.get("continued_from") else start,
        "Data": describe_data(stage),
        "Clips": stage.get("num_clips"),
        "Held out for validation": _with_shared_people(stage, "validation", stage.get("validation")),
        "Test split": _with_shared_people(stage, "test"),
        "Epochs": _describe_epochs(stage),
        "Best epoch": stage.get("best_epoch"),
        "Trainable parameters": stage.get("trainable_parameters") and f"{stage['trainable_parameters']:,}",
        "LoRA": describe_lora(stage, has_merged_lora),
        "Seed": stage.get("seed"),
        "Time": stage.get("seconds") and f"{stage['seconds']:.0f} s",
        "Hardware": hardware.get("device") and f"{hardware.get('processes', 1)} x {hardware['device']}",
        "Precision": precision and ("fp32" if precision == "no" else f"{precision} (mixed)"),
        "Measured energy of the GPUs": stage.get("energy_kwh") and f"{stage['energy_kwh']:.3g} kWh",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()) or None,
        "Options": join(options) if options else None,
        "Command": stage.get("command") and code(stage["command"]),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _is_set(name: str, config: dict[str, Any]) -> bool:
    """Whether an option was used. A learning rate of CLIP counts only if its weights were trained."""
    if name == "clip_lr" and not config.get("unfreeze"):
        return False
    return config.get(name) not in (None, False, "none", [])


def _with_shared_people(stage: dict[str, Any], split: str, text: str | None = None) -> str | None:
    """Adds to a text how many people of a split are also in others. None if there are neither."""
    counts = (stage.get("shared_people") or {}).get(split) or {}
    shared = [f"{number} of its people are also in {_PLACES.get(name, name)}" for name, number in counts.items()]
    return "; ".join([text, *shared] if text else shared) or None


def _describe_epochs(stage: dict[str, Any]) -> Any:
    """Returns the number of epochs, and after which of them a training stopped early."""
    stopped = stage.get("stopped_after_epoch")
    return f"{stopped} of {stage.get('epochs')}, stopped early" if stopped else stage.get("epochs")


def describe_data(stage: dict[str, Any]) -> Markdown | None:
    """Describes the training data: the data set, or the number of clips of each of its sources."""
    if not stage.get("sources"):
        if not stage.get("dataset"):
            return None
        revision = f" at revision {code(stage['dataset_revision'])}" if stage.get("dataset_revision") else ""
        return Markdown(f"{code(stage['dataset'])}{revision}, split {split_name({'split': 'train'} | stage)}")
    numbers = [(source.get("name") or NOT_RECORDED, source.get("num_clips")) for source in stage["sources"]]
    return join([name if number is None else f"{name}, {number:,} clips" for name, number in numbers], "; ")


def describe_lora(stage: dict[str, Any], is_merged: bool = True) -> str | None:
    """Describes the LoRA of a training, and whether it was merged. None if it was not recorded."""
    lora = stage.get("lora")
    if lora is None:
        return None
    if not lora:
        return "none, CLIP was frozen"
    places, fields = [], []
    for tower, layers, own in (("vision", "layers", "options"), ("text", "text_layers", "text_options")):
        options = lora.get(own) if isinstance(lora.get(own), dict) else {}
        count = lora.get(layers)
        if count and not options.keys() & {"target_modules", "layers_to_transform"}:
            places.append(f"the last {f'{count} blocks' if count > 1 else 'block'} of the {tower} tower")
        if options:
            fields.append(f"{tower} tower: {', '.join(f'{name} {value}' for name, value in options.items())}")
    start = ", ".join(f"{name} {lora[name]}" for name in ("rank", "alpha", "dropout") if lora.get(name) is not None)
    where = f"in {' and '.join(places)}" if places else ""
    parts = [" ".join(filter(None, [start, where])), *fields, "merged into the weights" if is_merged else ""]
    return "; ".join(filter(None, parts)) or "used"


def describe_sources(stage: dict[str, Any]) -> list[Markdown]:
    """Returns the terms and the citation of each source of the training data, if they are given."""
    sources = [
        (
            source.get("name") or NOT_RECORDED,
            [one_line(source[key]).rstrip(".") for key in ("terms", "citation") if source.get(key)],
        )
        for source in stage.get("sources") or []
    ]
    return [Markdown(f"{escape(name)}: {join(texts, '. ')}.") for name, texts in sources if texts]
