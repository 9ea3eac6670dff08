"""Small data sets of encoded clips whose colour tells the label, and a tiny random CLIP."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

SIDE = 32
FRAMES = 8
APEX = slice(2, 5)
COLOURS = {"happy": (220, 60, 60), "Sadness": (60, 60, 220), "neutral": (128, 128, 128)}


def write_clip(path: Path, colour=(128, 128, 128), num_frames: int = FRAMES, seed: int = 0) -> Path:
    """Grey noise that takes on the colour at the apex."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=SIDE, height=SIDE, pix_fmt="yuv420p")
        for index in range(num_frames):
            shown = colour if APEX.start <= index < APEX.stop else (128, 128, 128)
            picture = np.clip(rng.normal(shown, 15, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def write_folder(folder: Path, people: int = 5, metadata: bool = True, splits=("train", "test")) -> Path:
    """A videofolder with a clip of every person in every label; nobody is in two splits."""
    for number, split in enumerate(splits):
        rows = []
        for label, colour in COLOURS.items():
            for person in range(people):
                name = f"{label}/{label}_{person}.mp4"
                write_clip(folder / split / name, colour, seed=100 * number + person)
                intensity = [float(label != "neutral" and APEX.start <= i < APEX.stop) for i in range(FRAMES)]
                who = f"{split}-{person}"
                rows.append({"file_name": name, "label": label, "person": who, "intensity": intensity})
        if metadata:
            (folder / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory):
    """Keeps cached features and data sets out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TGDFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def clip_writer():
    return write_clip


@pytest.fixture(scope="session")
def folder_writer():
    return write_folder


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory) -> Path:
    """Train and test split of three labels and five people each, with people and the intensity of every frame."""
    return write_folder(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A random CLIP of 32-pixel pictures whose tokenizer spells every word byte by byte."""
    folder = tmp_path_factory.mktemp("tiny") / "clip"
    alphabet = sorted(ByteLevel.alphabet())
    symbols = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), "<|startoftext|>", "<|endoftext|>"]
    bos, eos = len(symbols) - 2, len(symbols) - 1
    CLIPTokenizer(
        vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[], model_max_length=160
    ).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(symbols), "max_position_embeddings": 160, "bos_token_id": bos, "eos_token_id": eos}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**tower, **text, "pad_token_id": eos},
        vision_config={**tower, "image_size": SIDE, "patch_size": 16},
        projection_dim=32,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def descriptions_file(tmp_path_factory) -> Path:
    """Two short descriptions a label, so that the text tower has little to read."""
    path = tmp_path_factory.mktemp("words") / "descriptions.yaml"
    path.write_text("happy: [a smile, cheeks up]\nsad: [a frown, tears]\nneutral: [at rest, still]\n")
    return path


@pytest.fixture
def options(clips_folder, clip_folder, descriptions_file, tmp_path) -> dict:
    """Fields of a `TrainingConfig` that trains in a second."""
    return {
        "dataset": str(clips_folder),
        "model": str(clip_folder),
        "descriptions": str(descriptions_file),
        "output": str(tmp_path / "run"),
        "num_frames": 4,
        "batch_size": 4,
        "epochs": 2,
        "model_options": {"lora_layers": 1},
    }
