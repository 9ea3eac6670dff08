"""What a card says about a training: data, options, LoRA, time, versions, hardware and energy."""

from typing import Any

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
    "class_balance",
    "augmentation",
    "objectives",
)


def training_facts(stage: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Returns facts about a training by name. What was not recorded is missing.

    Args:
        stage (`dict[str, Any]`): Contents of `training.json`.
        config (`dict[str, Any]`): Options of the training. Empty if they are not known.
    """
    hardware, versions = stage.get("hardware") or {}, stage.get("versions") or {}
    options = [code(f"{key}: {config[key]}") for key in OPTIONS if config.get(key) not in (None, False, "none", {})]
    start = stage.get("base_model") and code(stage["base_model"])
    precision = hardware.get("mixed_precision")
    facts = {
        "Initial model": "the model of the previous stage" if stage.get("continued_from") else start,
        "Data": describe_data(stage),
        "Clips": stage.get("num_clips"),
        "Held out for validation": stage.get("validation"),
        "Epochs": stage.get("epochs"),
        "Best epoch": stage.get("best_epoch"),
        "Trainable parameters": stage.get("trainable_parameters") and f"{stage['trainable_parameters']:,}",
        "LoRA": describe_lora(stage),
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


def describe_data(stage: dict[str, Any]) -> Markdown | None:
    """Describes the training data: the data set, or the number of clips of each of its sources."""
    if not stage.get("sources"):
        if not stage.get("dataset"):
            return None
        revision = f" at revision {code(stage['dataset_revision'])}" if stage.get("dataset_revision") else ""
        return Markdown(f"{code(stage['dataset'])}{revision}, split {code(stage.get('split', 'train'))}")
    numbers = [(source["name"], source.get("num_clips")) for source in stage["sources"]]
    return join([name if number is None else f"{name}, {number:,} clips" for name, number in numbers], "; ")


def describe_lora(stage: dict[str, Any]) -> str | None:
    """Describes the LoRA of a training. None if it was not recorded."""
    lora = stage.get("lora")
    if lora is None:
        return None
    if not lora:
        return "none, CLIP was frozen"
    towers = {"vision": lora.get("layers"), "text": lora.get("text_layers")}
    blocks = " and ".join(
        f"the last {f'{count} blocks' if count > 1 else 'block'} of the {tower} tower"
        for tower, count in towers.items()
        if count
    )
    return (
        f"rank {lora['rank']}, alpha {lora['alpha']}, dropout {lora['dropout']} in {blocks}; merged into the weights"
    )


def describe_sources(stage: dict[str, Any]) -> list[Markdown]:
    """Returns the terms and the citation of each source of the training data, if they are given."""
    sources = [
        (source["name"], [one_line(source[key]).rstrip(".") for key in ("terms", "citation") if source.get(key)])
        for source in stage.get("sources") or []
    ]
    return [Markdown(f"{escape(name)}: {join(texts, '. ')}.") for name, texts in sources if texts]
