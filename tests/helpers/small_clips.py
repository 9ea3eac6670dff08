"""Small data sets of encoded clips whose colour tells the label."""

import json
from pathlib import Path

import av
import numpy as np

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
