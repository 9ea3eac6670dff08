"""A small tree of clips without faults, and ten faults that are planted in it."""

import io
import json
import shutil
from pathlib import Path

import av
import numpy as np

FRAMES, SIDE = 16, 96
# Kind of the finding, and a text in it, for each planted fault.
FAULTS = {
    "a clip of the metadata is missing": ("missing", "gone.mp4"),
    "a clip is not in the metadata": ("extra", "unlisted.mp4"),
    "a clip has a suffix that is not read": ("extra", "phone.webm"),
    "a clip is empty": ("unreadable", "empty.mp4"),
    "a clip is no video": ("unreadable", "text.mp4"),
    "a clip has other frames than listed": ("frame count", "anger_0.mp4: 16 frames, listed are 20"),
    "a clip is in both splits": ("same video", "test/happiness/copy.mp4"),
    "a clip is in both splits, encoded again": ("re-encoded", "test/anger/encoded_again.mp4"),
    "a person is in both splits": ("person", "train-1"),
    "a class cannot be trained": ("class", "fear"),
}


def write_picture_clip(path: Path, seed: int, frames: int = FRAMES) -> Path:
    """A clip of patches that move, which differ with the seed."""
    rng = np.random.default_rng(seed)
    base = av.VideoFrame.from_ndarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), "rgb24")
    picture = base.reformat(SIDE, SIDE).to_ndarray(format="rgb24")
    pictures = [np.roll(picture, 2 * number, axis=1) for number in range(frames)]
    return _encode(path, pictures, {"crf": "12"})


def encode_again(source: Path, path: Path) -> Path:
    """Encodes a clip again, with half the width and height and a lower quality."""
    with av.open(str(source)) as container:
        frames = []
        for frame in container.decode(video=0):
            width, height = (max(16, side // 4 * 2) for side in (frame.width, frame.height))
            frames.append(frame.reformat(width, height).to_ndarray(format="rgb24"))
    return _encode(path, frames, {"crf": "34"})


def write_good_tree(folder: Path, people: int = 4) -> Path:
    """A videofolder with two classes and two splits, in which nothing is wrong."""
    seed = 0
    for split in ("train", "test"):
        rows = []
        for label in ("anger", "happiness"):
            for person in range(people):
                seed += 1
                name = f"{label}/{label}_{person}.mp4"
                write_picture_clip(folder / split / name, seed)
                row = {"file_name": name, "label": label, "person": f"{split}-{person}", "num_frames": FRAMES}
                rows.append(row)
        write_rows(folder, split, rows)
    return folder


def plant_faults(folder: Path) -> None:
    """Plants the faults of `FAULTS` in a good tree."""
    rows = {split: _rows(folder, split) for split in ("train", "test")}
    train = folder / "train"

    def add(split: str, name: str, label: str, person: str) -> Path:
        rows[split].append({"file_name": name, "label": label, "person": person, "num_frames": None})
        return folder / split / name

    add("train", "happiness/gone.mp4", "happiness", "train-5")
    write_picture_clip(train / "anger" / "unlisted.mp4", 100)
    write_picture_clip(train / "anger" / "phone.mp4", 101).rename(train / "anger" / "phone.webm")
    add("train", "happiness/empty.mp4", "happiness", "train-6").touch()
    add("train", "happiness/text.mp4", "happiness", "train-7").write_text("This is no video.")
    next(row for row in rows["train"] if row["file_name"] == "anger/anger_0.mp4")["num_frames"] = 20
    shutil.copy(train / "happiness/happiness_0.mp4", add("test", "happiness/copy.mp4", "happiness", "test-5"))
    encode_again(train / "anger/anger_1.mp4", add("test", "anger/encoded_again.mp4", "anger", "test-6"))
    next(row for row in rows["test"] if row["file_name"] == "anger/anger_2.mp4")["person"] = "train-1"
    write_picture_clip(add("test", "fear/fear_0.mp4", "fear", "test-7"), 102)
    for split, of_split in rows.items():
        write_rows(folder, split, of_split)


def write_rows(folder: Path, split: str, rows: list[dict]) -> None:
    (folder / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text().splitlines()]


def _encode(path: Path, pictures: list[np.ndarray], options: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, width=pictures[0].shape[1], height=pictures[0].shape[0])
        stream.pix_fmt = "yuv420p"
        stream.options = {name: str(value) for name, value in options.items()}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    path.write_bytes(buffer.getvalue())
    return path
