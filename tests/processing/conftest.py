"""Clips whose frames carry their own number, and a tiny random CLIP."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

HEIGHT, WIDTH = 64, 96


def numbered_picture(number: int) -> np.ndarray:
    """(64, 96, 3) picture of eight upright bars: the bits of its number."""
    bits = [255 * ((number >> bit) & 1) for bit in range(8)]
    return np.broadcast_to(np.repeat(bits, WIDTH // 8)[None, :, None], (HEIGHT, WIDTH, 3)).astype(np.uint8)


def number_of(frame: torch.Tensor) -> int:
    """Number of a frame (3, 64, 96), read back from its bars."""
    bars = frame.float().mean((0, 1)).reshape(8, -1)[:, 3:-3].mean(1)
    return sum(int(bar > 127) << bit for bit, bar in enumerate(bars))


def write_video(
    path: Path, codec="libx264", num_frames=40, fps=25, pix_fmt="yuv420p", times=None, options=None, tags=None
) -> Path:
    """Writes numbered frames, at `fps` or at `times` in milliseconds."""
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames if times is None else len(times)):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def video_writer():
    return write_video


@pytest.fixture(scope="session")
def numbers():
    return lambda frames: [number_of(frame) for frame in frames]


@pytest.fixture(scope="session")
def picture():
    return numbered_picture


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """One good clip: 40 frames, 25 a second."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A random CLIP of 32-pixel pictures whose tokenizer spells every word byte by byte."""
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
