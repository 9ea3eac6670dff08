"""The files with the weights of a saved model, and the hash that identifies them."""

import hashlib
from pathlib import Path

from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: str | Path) -> list[Path]:
    """Returns the files with the weights of a model: one, or the shards that their index names.

    Args:
        folder (`str` or `Path`): Folder of a model.

    Returns:
        `list[Path]`: The files, which exist. Empty if the folder has no weights.

    Raises:
        UserError: If a shard is missing, or the index cannot be read.
    """
    whole, index = Path(folder) / WEIGHTS, Path(folder) / INDEX
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UserError(f"{index} names no files of weights; save the model again with `save_pretrained`.")
    names = sorted(set(map(str, shards.values())))
    missing = [name for name in names if Path(name).name != name or not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)}, which {INDEX} names; save the model again with `save_pretrained`."
        )
    return [index.parent / name for name in names]


def weights_sha256(folder: str | Path) -> str | None:
    """Returns the hash of the weights of a model: of `model.safetensors`, or of the names and hashes of its shards.

    Args:
        folder (`str` or `Path`): Folder of a model. Without weights in it, as for a Hub id, the hash is None.

    Raises:
        UserError: If a shard is missing, or the index cannot be read.
    """
    hashes = {}
    for path in weight_files(folder):
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if not hashes or WEIGHTS in hashes:
        return hashes.get(WEIGHTS)
    return hashlib.sha256("".join(f"{name} {value}\n" for name, value in hashes.items()).encode()).hexdigest()
