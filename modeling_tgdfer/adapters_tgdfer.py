"""Adapters: all of a model that is not its base CLIP, in one small file beside `config.json`.

Not peft's own adapter folder: it would lose bare parameters, and send `AutoModel` to CLIP's config. An adapter fits
one CLIP only, so a fingerprint of that CLIP's weights goes with it, wherever they are loaded from.
"""

import copy
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPModel
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, extract_commit_hash

from .configuration_tgdfer import TGDFERConfig

ADAPTER_NAME = "tgdfer_adapter.safetensors"


def locate(name_or_folder: str | os.PathLike, file: str, revision: str | None, **options: Any) -> tuple[str, str]:
    """Path of a file of a Hub repository or of a folder, and the commit it is of (of a folder, `revision`).

    Raises:
        OSError: There is none.
    """
    path = cached_file(str(name_or_folder), file, revision=revision, **options)
    return path, extract_commit_hash(path, None) or revision


def load_clip(name_or_folder: str | os.PathLike, revision: str | None, **options: Any) -> tuple[CLIPModel, str]:
    """A CLIP in fp32, whatever its checkpoint (small updates vanish in half precision), and the commit it is of.

    Raises:
        ValueError: The checkpoint is not one of a CLIP, or lacks weights.
        OSError: There is none.
    """
    path, commit = locate(name_or_folder, CONFIG_NAME, revision, **options)
    kind = TGDFERConfig.get_config_dict(os.path.dirname(path))[0].get("model_type")
    if kind != "clip":
        raise ValueError(
            f"{name_or_folder} is a checkpoint of {kind or 'another program'}: give the Hub id or folder of a CLIP, "
            "such as openai/clip-vit-base-patch16."
        )
    loaded: Any = CLIPModel.from_pretrained(
        name_or_folder, revision=commit, dtype=torch.float32, output_loading_info=True, **options
    )
    clip, report = loaded
    if report["missing_keys"]:
        raise ValueError(f"{name_or_folder} lacks weights of its CLIP, such as {min(report['missing_keys'])}.")
    if os.path.isdir(name_or_folder):
        clip.config._name_or_path = ""  # a path of this machine is nobody else's business
    return clip, commit


def _base_weights(clip: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights of a CLIP under their plain names, without its LoRA, if attached."""
    for name, weight in clip.state_dict().items():
        if "lora_" not in name:
            yield name.replace(".base_layer.", "."), weight


def fingerprint(clip: nn.Module) -> str:
    """SHA-256 of all weights of a CLIP in fp32; LoRA, while it is not merged, does not change it."""
    digest = hashlib.sha256()
    for name, weight in sorted(_base_weights(clip)):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.float().cpu().flatten().numpy().data)
    return digest.hexdigest()


def adapter_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """All of a model that is not its base CLIP: LoRA, class prompts, context, temporal network and head."""
    prefix = f"{model.base_model_prefix}.clip."
    return {
        name: weight for name, weight in model.state_dict().items() if "lora_" in name or not name.startswith(prefix)
    }


def write_adapter(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Writes the adapter of a model and its config; a folder whose writing is cut off holds no adapter.

    Raises:
        ValueError: The CLIP of the model is not its base any more, or the folder holds a whole model.
    """
    config: Any = copy.deepcopy(model.config)
    clip: Any = model.base_model.clip
    if fingerprint(clip) != config.clip_sha256:
        raise ValueError(
            "The CLIP of this model is not the one it started from (LoRA was merged into it, or its weights or their "
            "dtype were changed), so an adapter would not fit: save the whole model with `save_pretrained`."
        )
    folder = Path(folder)
    if (folder / SAFE_WEIGHTS_NAME).exists():
        raise ValueError(f"{folder} holds a whole model; save the adapter in a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("auto_map", "custom_pipelines"):  # name code that is saved with whole models only
        if hasattr(config, name):
            delattr(config, name)
    config.architectures = [type(model).__name__]
    weights = {name: weight.contiguous() for name, weight in adapter_state(model).items()}
    with TemporaryDirectory(dir=folder) as drafts:
        config.to_json_file(Path(drafts, CONFIG_NAME))
        save_file(weights, Path(drafts, ADAPTER_NAME), metadata={"format": "pt"})
        (folder / ADAPTER_NAME).unlink(missing_ok=True)  # an older one must not stand beside the new config
        for name in (CONFIG_NAME, ADAPTER_NAME):
            Path(drafts, name).replace(folder / name)


def read_adapter(path: str) -> dict[str, Tensor]:
    """Weights of an adapter.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); save or download the adapter again.") from error


def load_base(config: TGDFERConfig, clip: str | os.PathLike | None, **options: Any) -> CLIPModel:
    """The CLIP that an adapter belongs to, from where its config says or from `clip`.

    Raises:
        ValueError: The config names none and `clip` is not given, or the weights are not those of the base.
    """
    base = config.clip_name or "a CLIP in a folder"
    base += f" at revision {config.clip_revision}" if config.clip_revision else ""
    if clip is None and config.clip_name is None:
        raise ValueError(f"This adapter belongs to {base}, so its config cannot say where that is: give it as `clip`.")
    if clip is None:
        model, _ = load_clip(config.clip_name, config.clip_revision, **options)
    else:
        model, _ = load_clip(clip, None, **options)
    if fingerprint(model) != config.clip_sha256:
        raise ValueError(
            f"The weights of {clip or base} are not those that this adapter was trained with, of {base} (SHA-256 "
            f"{str(config.clip_sha256)[:12]}..): give that CLIP as `clip`."
        )
    return model
