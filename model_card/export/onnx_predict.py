"""Classifies facial expressions with an exported model. It needs only onnxruntime, numpy and av.

    pip install onnxruntime numpy av
    python onnx_predict.py clip.mp4
    python onnx_predict.py clip.mp4 --model model_quantized.onnx
    python onnx_predict.py clip.mp4 --descriptions emotions.json

Each video must be a short clip of one face, cropped as the model was trained, for example by `tgdfer faces`. The files
of the export must be in the folder of the model. `--descriptions` names a JSON file such as
`{"boredom": ["eyelids half closed, head resting on a hand"], "interest": ["brows raised, eyes on the speaker"]}`,
whose labels replace those of the model.
"""

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime

# Filters of Pillow, by their number in `resample`: radius, and weight at a distance of `x` pixels.
FILTERS = {2: (1.0, lambda x: np.maximum(1 - x, 0)), 3: (2.0, lambda x: np.where(x < 1, _near(x), _far(x)))}


def _near(x: np.ndarray) -> np.ndarray:
    return (1.5 * x - 2.5) * x * x + 1


def _far(x: np.ndarray) -> np.ndarray:
    return np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0)


class Classifier:
    """An exported model with its settings.

    Args:
        model (`Path`): File of the model. Its folder contains the other files of the export.
        threads (`int`, *optional*, defaults to 0): Number of threads. 0 uses all cores.
    """

    def __init__(self, model: Path, threads: int = 0):
        self.folder, self.threads = model.parent, threads
        self.config = self.read("config.json")
        self.processor = self.read("processor_config.json")
        self.session = self.open(model)
        if "logits" not in [output.name for output in self.session.get_outputs()]:
            sys.exit(f"error: {model} does not classify clips; name model.onnx or model_quantized.onnx with --model.")
        names = self.config["id2label"]
        self.labels = [names[index] for index in sorted(names, key=int)]
        self.temperature = self.config.get("temperature") or 1.0
        self.unsure_below = self.config.get("unsure_below")
        # The graph contains the trained classes. Other ones are given as inputs.
        self.classes: dict[str, np.ndarray] = {}
        # The text model that belongs to "model_quantized.onnx" is "text_model_quantized.onnx".
        self.text_model = model.with_name(f"text_{model.name}")

    def read(self, name: str) -> dict[str, Any]:
        """Reads a JSON file of the export."""
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            sys.exit(f"error: {path} cannot be read ({error}); keep the files of the export in one folder.")

    def open(self, path: Path) -> onnxruntime.InferenceSession:
        """Loads a graph."""
        if not path.is_file():
            sys.exit(f"error: There is no {path}; keep the files of the export in one folder, with their names.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # onnxruntime warns that the classes are inputs, which they have to be
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each reason
            reason = " ".join(str(error).split())
            sys.exit(f"error: {path} cannot be loaded ({reason}); copy it from the export again.")

    def classify(self, video: Path) -> dict[str, Any]:
        """Classifies a video.

        Returns:
            `dict`: `label`, which is "unsure" if the model is not sure; `probabilities` of all labels; `seconds` and
            `relevance` of each frame that the model has seen, for the most probable label.
        """
        settings = self.processor["video_processor"]
        frames, seconds = read_frames(video, settings["num_frames"], settings)
        inputs = {
            "pixel_values_videos": normalise(frames, settings)[None],
            "frame_mask": np.ones((1, len(frames)), bool),
            "timestamps": seconds[None].astype(np.float32),
        }
        logits, _, relevance = self.session.run(
            ["logits", "frame_logits", "frame_relevance"], {**inputs, **self.classes}
        )
        scores = self.probabilities(logits[0])
        best = int(scores.argmax())
        is_unsure = self.unsure_below is not None and scores[best] < self.unsure_below
        return {
            "label": "unsure" if is_unsure else self.labels[best],
            "probabilities": {label: float(score) for label, score in zip(self.labels, scores, strict=True)},
            "seconds": seconds.tolist(),
            "relevance": relevance[0, :, best].tolist(),
        }

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Converts logits (K,) to probabilities. Their sum is one, unless clips have several labels."""
        scaled = logits / self.temperature
        if self.config.get("problem_type") == "multi_label_classification":
            return np.exp(-np.logaddexp(0, -scaled))  # the sigmoid, without an overflow
        scores = np.exp(scaled - scaled.max())
        return scores / scores.sum()

    def set_classes(self, descriptions: dict[str, list[str]]) -> None:
        """Replaces the classes by those with the given descriptions. Probabilities are then not calibrated."""
        require_classes(descriptions)
        labels = sorted(descriptions)
        most = max(map(len, descriptions.values()))
        phrase = self.processor["context_phrase"]
        texts = [text for label in labels for text in [*descriptions[label], *[descriptions[label][0]] * most][:most]]
        ids = self.tokenize([f"{phrase} {text}".strip() for text in texts])
        trained = self.config["label2id"]
        known = self.processor.get("descriptions") or {}
        inputs = {
            "input_ids": np.array(ids, np.int64).reshape(len(labels), most, -1),
            "description_mask": np.array([np.arange(most) < len(descriptions[label]) for label in labels]),
            "class_index": np.array([int(trained.get(label, -1)) for label in labels], np.int64),
            "is_unchanged": np.array(
                [sorted(known.get(label, [])) == sorted(descriptions[label]) for label in labels]
            ),
        }
        session = self.open(self.text_model)
        names = [output.name for output in session.get_outputs()]
        self.classes = dict(zip(names, session.run(names, inputs), strict=True))
        self.labels, self.temperature, self.unsure_below = labels, 1.0, None

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Converts texts to tokens, padded on the right."""
        if self.processor.get("lowercase"):
            texts = [text.lower() for text in texts]
        content = self.read("tokenizer.json")
        if content["model"].get("end_of_word_suffix") == "</w>":
            encode = ClipTokenizer(content).encode
        else:  # not a tokenizer of CLIP
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            tokenizer.no_padding()
            encode = lambda text: tokenizer.encode(text).ids  # noqa: E731
        rows = [encode(text) for text in texts]
        tower = self.config["clip_config"]["text_config"]
        limit = tower["max_position_embeddings"]
        longest = max(map(len, rows))
        if longest > limit:
            sys.exit(f"error: A description has {longest} tokens, but the model accepts at most {limit}; shorten it.")
        length = limit if self.processor.get("text_padding") == "max_length" else longest
        return [row + [tower["pad_token_id"]] * (length - len(row)) for row in rows]


def require_classes(descriptions: Any) -> None:
    """Ends the script unless there are two labels or more, each with a list of descriptions."""
    if not isinstance(descriptions, dict) or len(descriptions) < 2:
        sys.exit('error: The descriptions need at least two labels, as in {"boredom": ["..."], "interest": ["..."]}.')
    for label, texts in descriptions.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one.strip() for one in texts):
            sys.exit(f"error: The descriptions of {label!r} are not a list of texts; write a list of at least one.")


class ClipTokenizer:
    """The tokenizer of CLIP: byte-pair encoding of lower-case words.

    Args:
        content (`dict`): Contents of its `tokenizer.json`.
    """

    # Digits are between spaces already. `\w` would take others, such as "²", for letters.
    WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W_]+|(?:[^\s\w]|_)+")

    def __init__(self, content: dict[str, Any]):
        self.vocabulary = content["model"]["vocab"]
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in content["model"]["merges"]]
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self.start, self.end = (content["post_processor"][name][1] for name in ("cls", "sep"))
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self.symbols = {byte: chr(byte) for byte in printable}
        self.symbols |= {byte: chr(256 + number) for number, byte in enumerate(others)}

    def encode(self, text: str) -> list[int]:
        """Converts a text to tokens, with those of its start and end."""
        # Each character by itself, because `lower` gives a sigma another form at the end of a word.
        letters = [letter.lower() for letter in unicodedata.normalize("NFC", text)]
        spaced = [f" {letter} " if unicodedata.category(letter[0])[0] == "N" else letter for letter in letters]
        words = self.WORDS.findall("".join(spaced))
        return [self.start, *(token for word in words for token in self.encode_word(word)), self.end]

    def encode_word(self, word: str) -> Iterator[int]:
        """Yields the tokens of a word: merges the pair with the lowest rank until no pair is left."""
        symbols = [self.symbols[byte] for byte in word.encode()]
        symbols[-1] += "</w>"
        while len(symbols) > 1:
            pairs = zip(symbols[:-1], symbols[1:], strict=True)
            rank, at = min((self.ranks.get(pair, len(self.ranks)), number) for number, pair in enumerate(pairs))
            if rank == len(self.ranks):
                break
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        for symbol in symbols:
            yield self.vocabulary[symbol]


def read_frames(video: Path, count: int, settings: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the middle frame of each of `count` equal parts of a video, resized and cropped.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Images (T, H, W, 3), uint8, and their times (T,) in seconds.
    """
    with av.open(str(video)) as container:
        seconds = [frame.time for frame in container.decode(video=0)]
    if not seconds:
        raise ValueError("it has no frame")
    times = np.array([i / 25 if time is None else time for i, time in enumerate(seconds)])
    chosen = set(sample(times, count).tolist())
    frames = []
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in chosen:
                image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                frames.append(fit(image, settings))
    return np.stack(frames), times[sorted(chosen)] - times[0]


def sample(times: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices of `count` frames, evenly spaced by number, or by time if the frame rate varies."""
    total, steps = len(times), np.arange(count)
    if total <= count:
        return np.arange(total)
    even = np.linspace(times[0], times[-1], total)
    if np.abs(times - even).max() < 0.5 * (even[1] - even[0]):
        indices = ((steps + 0.5) * total / count).astype(int)
    else:
        length = (times[-1] - times[0]) * total / (total - 1)
        indices = np.searchsorted(times, times[0] + (steps + 0.5) * length / count, side="right") - 1
    indices = np.maximum.accumulate(indices - steps) + steps
    return np.minimum(indices, total - count + steps)


def fit(image: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Resizes and crops an image (H, W, 3) as the model expects it."""
    height, width = image.shape[:2]
    if settings["do_resize"]:
        size = settings["size"]
        if shortest := size.get("shortest_edge"):
            short = min(height, width)
            height, width = (int(shortest * side / short) for side in (height, width))
        else:
            height, width = size["height"], size["width"]
        image = resize(resize(image, width, 1, settings["resample"]), height, 0, settings["resample"])
    if settings["do_center_crop"]:
        crop = settings["crop_size"]["height"], settings["crop_size"]["width"]
        missing = [max(wanted - length, 0) for wanted, length in zip(crop, image.shape[:2], strict=True)]
        image = np.pad(image, [*((length // 2, length - length // 2) for length in missing), (0, 0)])
        top, left = ((length - wanted) // 2 for wanted, length in zip(crop, image.shape[:2], strict=True))
        image = image[top : top + crop[0], left : left + crop[1]]
    return image


def resize(image: np.ndarray, size: int, axis: int, resample: int) -> np.ndarray:
    """Resizes one axis of an image as Pillow does, in 8 bits."""
    if image.shape[axis] == size:
        return image
    if resample not in FILTERS:
        sys.exit(f"error: `resample` is {resample}, but this script knows only 2 (bilinear) and 3 (bicubic).")
    result = np.moveaxis(np.tensordot(weights(image.shape[axis], size, resample), image, (1, axis)), 0, axis)
    return np.clip(np.floor(result + 0.5), 0, 255).astype(np.uint8)


@lru_cache
def weights(before: int, after: int, resample: int) -> np.ndarray:
    """Computes the weights (after, before) of the old pixels in the new pixels."""
    radius, weight = FILTERS[resample]
    ratio = before / after
    scale = max(ratio, 1.0)  # averages all pixels when an image gets smaller
    centres = (np.arange(after) + 0.5) * ratio
    first = np.maximum((centres - radius * scale + 0.5).astype(int), 0)
    last = np.minimum((centres + radius * scale + 0.5).astype(int), before)
    pixels = np.arange(before)
    values = weight(np.abs(pixels + 0.5 - centres[:, None]) / scale)
    values = np.where((pixels >= first[:, None]) & (pixels < last[:, None]), values, 0.0)
    return values / values.sum(1, keepdims=True)


def normalise(frames: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Scales images (T, H, W, 3) to the range of the model: (T, 3, H, W), float32."""
    pixels = frames.astype(np.float32)
    if settings["do_rescale"]:
        pixels *= np.float32(settings["rescale_factor"])
    if settings["do_normalize"]:
        pixels = (pixels - np.float32(settings["image_mean"])) / np.float32(settings["image_std"])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the label of each video. The exit code is 3 if some of them cannot be read."""
    parser = argparse.ArgumentParser(description="Classify facial expressions with an exported model.")
    parser.add_argument("videos", nargs="+", type=Path, help="clips of one cropped face")
    default = Path(__file__).with_name("model.onnx")
    parser.add_argument("--model", type=Path, default=default, help="file of the model (default: model.onnx)")
    parser.add_argument("--descriptions", type=Path, help="JSON file with other labels and their descriptions")
    parser.add_argument("--threads", type=int, default=0, help="number of threads (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per video")
    given = parser.parse_args(arguments)
    model = (
        given.model if given.model.is_file() or given.model.parent != Path() else default.with_name(given.model.name)
    )
    if not model.is_file():
        sys.exit(f"error: There is no model {given.model}; name an exported file with --model.")
    classifier = Classifier(model, given.threads)
    if given.descriptions:
        try:
            classifier.set_classes(json.loads(given.descriptions.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
            sys.exit(f"error: {given.descriptions} cannot be used ({error}); it must be a JSON file of descriptions.")
    failed = False
    for video in given.videos:
        try:
            found = classifier.classify(video)
        except (OSError, ValueError, IndexError) as error:  # errors of FFmpeg are among them
            print(f"error: {video} cannot be read ({error}).", file=sys.stderr)
            failed = True
            continue
        if given.json:
            print(json.dumps({"file": str(video), **found}))
            continue
        ranked = sorted(found["probabilities"].items(), key=lambda item: -item[1])
        best = found["seconds"][int(np.argmax(found["relevance"]))]
        scores = ", ".join(f"{label} {score:.0%}" for label, score in ranked[:3])
        print(f"{video}: {found['label']} ({scores}; most relevant frame at {best:.2f} s)")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
