"""Which files of a run are published as an adapter: a model without its CLIP, a few MB instead of hundreds."""

import json
import shlex
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open

from tgdfer.model_card.card import CardData
from tgdfer.model_card.hub.card_edits import Card, metadata_block
from tgdfer.model_card.hub.model_files import check_code, require_tokenizer, result_files
from tgdfer.model_card.hub.patience import one_line
from tgdfer.model_card.hub.record import Files
from tgdfer.model_card.run_files import model_folder, weights_facts
from tgdfer.modeling_tgdfer.checkpoints_tgdfer import ADAPTER_NAME, fingerprint, load_clip
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json
from tgdfer.training.models import load_trained
from tgdfer.weights import CLIP_TINY_FACES

# Values of the config that calibration writes after the adapter was saved.
CALIBRATION = ("temperature", "unsure_below", "description_references")
# Files of a processor.
PROCESSOR = (
    "*processor_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "descriptions.yaml",
    "LICENSE",
)
USE = """## How to use

This repository contains an adapter: LoRA, class prompts, temporal network and head, without the CLIP that the model
was trained from. It needs the package `tgdfer`, which also loads the CLIP.

```python
from tgdfer import TGDFERForVideoClassification, TGDFERProcessor

processor = TGDFERProcessor.from_pretrained({model})
model = TGDFERForVideoClassification.from_adapter({model}{base})
inputs = processor(videos=["clip.mp4"], return_tensors="pt")
{answer}
```

On the command line:

```bash
tgdfer predict clip.mp4 --model {shell_model}
```

"""
FINE_TUNE = """## How to fine-tune

```bash
tgdfer train --dataset clips --model {shell_model} --output runs/mine
```

"""


def adapter_files_to_publish(
    run: str | Path, repo_id: str, pictures: bool = True, license: str | None = None
) -> Files:
    """Lists the files of a commit of an adapter by their path in the repository.

    Args:
        run (`str` or `Path`): Folder of a run or of a model, or folder that `save_adapter` and the `save_pretrained`
            of a processor have written.
        repo_id (`str`): Repository as "user/name".
        pictures (`bool`, *optional*, defaults to `True`): Whether to include the pictures of the run.
        license (`str`, *optional*): Licence of the weights, as the Hub names it.

    Returns:
        `dict[str, Path | bytes]`: Path or contents of each file.

    Raises:
        UserError: If there is no adapter, or its CLIP is not public.
    """
    run, folder = Path(run), model_folder(run)
    config, weights, facts = read_adapter(folder)
    require_public_base(folder, config)
    require_tokenizer(folder)
    code = check_code(folder, ("processor_config.json",))
    # The code of the network is part of the package. That of the processor loads without it.
    files: Files = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.name in code or any(fnmatch(path.name, pattern) for pattern in PROCESSOR)
    }
    data = replace(CardData.from_run(run, repo_id, pictures, license), weights=facts, is_adapter=True)
    files |= {"config.json": (json.dumps(config, indent=2) + "\n").encode(), ADAPTER_NAME: weights}
    files |= {"README.md": adapter_card(data, config).encode(), **result_files(run, data, pictures)}
    return dict(sorted(files.items()))


def read_adapter(folder: Path) -> tuple[dict[str, Any], Path | bytes, dict[str, Any]]:
    """Returns the config and the weights of an adapter, and `weights_facts` about these.

    Args:
        folder (`Path`): Folder of an adapter, or of a model with the adapter that its training has saved. Otherwise
            the model has no LoRA, or none that can be separated from its CLIP.

    Raises:
        UserError: If there is no adapter, or its file is damaged.
    """
    model = read_json(folder / "config.json")
    saved = folder if (folder / ADAPTER_NAME).is_file() else folder / "adapter"
    if (saved / ADAPTER_NAME).is_file():
        config = read_json(saved / "config.json")
        if saved != folder:
            config |= {key: model[key] for key in CALIBRATION if key in model}
        try:
            with safe_open(saved / ADAPTER_NAME, framework="np") as file:
                list(file.keys())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{saved / ADAPTER_NAME} is damaged ({one_line(error)}); save it again.") from error
        return config, saved / ADAPTER_NAME, weights_facts([saved / ADAPTER_NAME])
    network, _ = load_trained(folder)
    with TemporaryDirectory() as temporary:
        try:
            network.save_adapter(temporary)
        except ValueError as error:
            raise UserError(
                f"{folder} has no adapter, and LoRA was merged into its weights; train the model again, save the"
                " adapter with `model.save_adapter(folder)` before merging, or publish without --adapter."
            ) from error
        weights = Path(temporary) / ADAPTER_NAME
        return read_json(weights.with_name("config.json")), weights.read_bytes(), weights_facts([weights])


def require_public_base(folder: Path, config: dict[str, Any]) -> None:
    """Checks that others can load the CLIP of an adapter.

    Raises:
        UserError: If the CLIP is neither on the Hub nor in this package.
    """
    if config.get("clip_name"):
        return
    clip, _ = load_clip(CLIP_TINY_FACES, None)
    if fingerprint(clip) != config.get("clip_sha256"):
        raise UserError(
            f"The adapter in {folder} belongs to a local CLIP, which others cannot load; publish the whole model"
            " without --adapter."
        )


def require_base_on_hub(run: str | Path) -> None:
    """Checks that a Space can load the CLIP of an adapter. A Space does not contain the weights of this package.

    Args:
        run (`str` or `Path`): As in `adapter_files_to_publish`.

    Raises:
        UserError: If the CLIP is not on the Hub.
    """
    folder = model_folder(Path(run))
    if not read_json(folder / "config.json").get("clip_name"):
        raise UserError(
            f"A Space cannot load an adapter of {folder}, because its CLIP is not on the Hub; publish the whole model"
            " without --adapter, or leave out --space."
        )


def adapter_card(data: CardData, config: dict[str, Any]) -> str:
    """Writes the card of an adapter: that of its model with another way to load it."""
    card = Card.parse(str(data.card()))
    base = "" if config.get("clip_name") else ", clip=tgdfer.clip_tiny_faces()"
    values = {"model": json.dumps(data.model_id), "shell_model": shlex.quote(data.model_id), "base": base}
    values["answer"] = "print(model.config.id2label[model(**inputs).logits[0].argmax().item()])"
    if data.has_several_labels:
        values["answer"] = (
            "for label, logit in zip(model.config.class_names, model(**inputs).logits[0], strict=True):\n"
        )
        values["answer"] += "    print(label, logit.sigmoid().item())"
    use = USE.replace("from tgdfer import", "import tgdfer\nfrom tgdfer import", 1) if base else USE
    for heading, text in {"How to use": use, "How to fine-tune": FINE_TUNE}.items():
        card.sections[heading] = text.format(**values)
    card.metadata["library_name"] = "tgdfer"
    card.metadata.pop("widget", None)
    if card.metadata.get("base_model"):
        card.metadata["base_model_relation"] = "adapter"
    card.header = metadata_block(card.metadata) + "\n"
    return card.text()
