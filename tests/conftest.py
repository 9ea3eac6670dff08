"""Fixtures of all rooms: nothing here reaches the network, and Hub code fails at once instead of waiting for it."""

import gc
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The process that hands out the tests to the others runs none: libraries are imported where they are used.
if TYPE_CHECKING:
    from rendered_recordings import RenderedRecording

# Until all tests are collected, memory is only taken.
gc.disable()

# Nothing is read from the home of whoever runs the tests, such as a face detector in the cache of the Hub. The folder
# lasts as long as the process that hands out the tests. All other processes inherit it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    for variable in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        del os.environ[variable]
    _HOME = tempfile.TemporaryDirectory(prefix="tgdfer-tests-", ignore_cleanup_errors=True)
    os.environ |= {"HF_HOME": _HOME.name, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A shell has what runs in the background ignore Ctrl-C, and processes that tests start would ignore it as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from looking through the imported libraries, which takes a second each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _no_progress_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A random CLIP of 32-pixel pictures whose tokenizer spells every word byte by byte."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("tiny") / "clip"
    alphabet = sorted(ByteLevel.alphabet())
    symbols = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    bos, eos = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    CLIPTokenizer(vocab=vocab, merges=[], model_max_length=160).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size, image_mean=mean, image_std=std).save_pretrained(
        folder
    )
    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **small,
            "vocab_size": len(vocab),
            "max_position_embeddings": 160,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": eos,
        },
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory):
    """Keeps cached features and data sets out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TGDFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def forked_python():
    """Starts processes in which the package and its libraries are imported already, where that is not the subject."""
    from forked_python import ForkServer

    with ForkServer("tgdfer.command_line", "tgdfer.training.evaluate", "tgdfer.training.face_crops") as server:
        yield server


@pytest.fixture(scope="session")
def clip_writer():
    from small_clips import write_clip

    return write_clip


@pytest.fixture(scope="session")
def folder_writer():
    from small_clips import write_folder

    return write_folder


@pytest.fixture(scope="session")
def rendered_recording(tmp_path_factory):
    """Gives a recording of `rendered_recordings.RECORDINGS` by its name; each is rendered once."""
    from rendered_recordings import RECORDINGS, write_recording

    folder, made = tmp_path_factory.mktemp("recordings"), {}

    def get(name: str) -> "RenderedRecording":
        if name not in made:
            made[name] = write_recording(folder / f"{name.replace(' ', '_')}.mp4", RECORDINGS[name])
        return made[name]

    return get


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory, folder_writer) -> Path:
    """Train and test split of three labels and five people each, with people and the intensity of every frame."""
    return folder_writer(tmp_path_factory.mktemp("data") / "clips")


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
