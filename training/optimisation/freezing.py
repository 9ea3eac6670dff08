"""Which parameters of a network are trained: its parts, `freeze` and `unfreeze`, and a table of the result."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from rich import get_console
from rich.table import Table
from torch import nn

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.errors import UserError, did_you_mean

# The parts of a network in the order of the table, with their names there.
PARTS = {
    "vision": "vision tower",
    "text": "text tower",
    "lora": "LoRA",
    "context": "context and weights of descriptions",
    "residue": "residue",
    "temporal_adapter": "temporal adapter",
    "short_term": "short-term grain",
    "long_range": "long-range grain",
    "relevance": "relevance",
    "visual_prompts": "visual prompts",
    "head": "scale and biases of classes",
}
# Parameters of CLIP that TG-DFER does not use, so they have no gradient.
_UNUSED = ("logit_scale", "logit_bias")


def part_of(name: str, lora_biases: Sequence[str] | set[str] = ()) -> str | None:
    """Returns the part that a parameter belongs to. None if the network does not use it.

    Args:
        name (`str`): Name of the parameter in a `TGDFERForVideoClassification`.
        lora_biases (`Sequence[str]`, *optional*): Names in CLIP of the biases that belong to LoRA.
    """
    inside = name.removeprefix("tgdfer.")
    if inside.startswith("clip."):
        inside = inside.removeprefix("clip.")
        if inside in _UNUSED:
            return None
        if "lora_" in inside or inside in lora_biases:
            return "lora"
        return "vision" if inside.startswith("vis") else "text"
    first = inside.split(".")[0]
    return {"text_guidance": "context", "log_scale": "head", "bias": "head"}.get(first, first)


def choose_trainable(
    model: TGDFERForVideoClassification, freeze: Sequence[str], unfreeze: Sequence[str], frozen_features: bool = False
) -> None:
    """Freezes and unfreezes parameters. What is both frozen and unfrozen is frozen.

    Args:
        model (`TGDFERForVideoClassification`): Network whose CLIP is frozen, except for LoRA.
        freeze (`Sequence[str]`): Parts (`PARTS`), or patterns of names of parameters such as "*.layer_norm*".
        unfreeze (`Sequence[str]`): The same.
        frozen_features (`bool`, *optional*, defaults to `False`): Whether the outputs of the vision tower are computed
            only once.

    Raises:
        UserError: If a name matches no parameter, the vision tower would have to be frozen, or nothing is left to
            train.
    """
    for option, names in (("unfreeze", unfreeze), ("freeze", freeze)):
        for name in names:
            chosen = _matching(model, name)
            if not chosen and name in PARTS:
                raise UserError(f"{option} has {name!r}, but the network has no {PARTS[name]}: leave it out.")
            if not chosen:
                raise UserError(
                    f"{option} has {name!r}, but no part and no parameter of the network has this name"
                    f"{did_you_mean(name, PARTS)}"
                )
            if option == "unfreeze" and frozen_features and "vision" in chosen.values():
                raise UserError(
                    f"unfreeze has {name!r}, which trains weights of the vision tower, but frozen_features computes"
                    " the outputs of this tower only once: leave out one of them."
                )
            for parameter in chosen:
                parameter.requires_grad_(option == "unfreeze")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("freeze leaves no parameter to train: freeze fewer parts.")


def _matching(model: TGDFERForVideoClassification, wanted: str) -> dict[nn.Parameter, str]:
    """Returns the parameters that a part or a pattern stands for, with their parts."""
    found: dict[nn.Parameter, str] = {}
    biases = model.lora_biases
    for name, parameter in model.named_parameters():
        part = part_of(name, biases)
        # Layers with LoRA contain the original layer, whose name users do not know.
        names = {name, name.replace(".base_layer", "")}
        names |= {known.removeprefix("tgdfer.") for known in names}
        is_wanted = part == wanted if wanted in PARTS else any(fnmatchcase(known, wanted) for known in names)
        if part is not None and is_wanted:
            found[parameter] = part
    return found


def parameter_counts(model: TGDFERForVideoClassification) -> dict[str, tuple[int, int]]:
    """Returns the number of parameters of each part, and how many of them are trained."""
    counts = dict.fromkeys(PARTS, (0, 0))
    biases = model.lora_biases
    for name, parameter in model.named_parameters():
        if (part := part_of(name, biases)) is not None:
            total, trained = counts[part]
            size = parameter.numel()
            counts[part] = (total + size, trained + size * parameter.requires_grad)
    return {part: count for part, count in counts.items() if count[0]}


def print_parameters(model: TGDFERForVideoClassification, groups: Sequence[Mapping[str, Any]]) -> None:
    """Prints a table of the parameters: their number in each part, how many are trained, and the learning rate.

    Args:
        model (`TGDFERForVideoClassification`): The network.
        groups (`Sequence[Mapping[str, Any]]`): Parameter groups, as returned by `parameter_groups`.
    """
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    biases = model.lora_biases
    of_part: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name, biases)
        if part is not None and id(parameter) in rates:
            of_part[part] = rates[id(parameter)]
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("Part")
    table.add_column("Name in options")
    for heading in ("Parameters", "Trained", "Learning rate"):
        table.add_column(heading, justify="right")
    for part, (total, trained) in parameter_counts(model).items():
        shown = "frozen" if not trained else "all" if trained == total else f"{trained:,}"
        rate = f"{of_part[part]:g}" if part in of_part else ""
        table.add_row(PARTS[part], part, f"{total:,}", shown, rate, style="" if trained else "dim")
    get_console().print(table)
