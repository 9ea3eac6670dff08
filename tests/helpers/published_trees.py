"""Small trees of the same shape as published data sets: frame folders, videos and lists."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from small_clips import write_clip

DFEW_NAMES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")


def write_frames(folder: Path, seed: int = 0, frames: int = 3, side: int = 32, suffix: str = ".jpg") -> Path:
    """A folder of pictures that differ with the seed."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    base = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((side, side))
    for number in range(1, frames + 1):
        picture = np.roll(np.asarray(base), number, axis=1)
        Image.fromarray(picture).save(folder / f"{number}{suffix}", **({"quality": 95} if suffix == ".jpg" else {}))
    return folder


def dfew_labels(clips: int) -> list[int]:
    """Labels 1 to 7 of the clips 1, 2, ..., in turn."""
    return [number % 7 + 1 for number in range(clips)]


def write_dfew(
    root: Path,
    clips: int = 35,
    unlisted: int = 2,
    first_label: int = 1,
    names: str = "{number}",
    frames: int = 3,
    folder: str = "Clip/clip_224x224",
) -> Path:
    """DFEW with five folds. Names in the lists are not padded, as in some of the published ones.

    Args:
        root: Folder to write.
        clips: Listed clips. Every seventh has the same label, and every fifth is tested in the same fold.
        unlisted: Clips that no list names.
        first_label: 1 as in the official lists, 0 as in those that are passed on.
        names: Name of a clip in the lists, from its `number`.
        frames: Frames of each clip.
        folder: Folder of the clips.
    """
    for number in range(1, clips + unlisted + 1):
        write_frames(root / folder / f"{number:05d}", number, frames)
    labels = dfew_labels(clips)
    for fold in range(1, 6):
        for split in ("train", "test"):
            chosen = [n for n in range(1, clips + 1) if (((n - 1) // 7) % 5 + 1 == fold) == (split == "test")]
            lines = [f"{names.format(number=n)},{labels[n - 1] - 1 + first_label}" for n in chosen]
            write_lines(dfew_list(root, fold, split), ["video_name,label", *lines])
    return root


def dfew_list(root: Path, fold: int, split: str) -> Path:
    return root / "EmoLabel_DataSplit" / f"{split}(single-labeled)" / f"set_{fold}.csv"


def write_lines(
    path: Path, lines: Sequence[str], ending: str = "\n", encoding: str = "utf-8", last: bool = True
) -> Path:
    """Writes lines, by default with an ending after the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((ending.join(lines) + (ending if last else "")).encode(encoding))
    return path


def write_ferv39k(root: Path, third_column: bool = False) -> Path:
    """FERV39k with two scenes. The numbers of clips are unique only in a scene and emotion."""
    rows = {"train": [], "test": []}
    seed = 0
    for scene in ("Action", "Crisis"):
        for word in ("Angry", "Happy", "Sad"):
            for number in range(1, 4):
                seed += 1
                path = f"{scene}/{word}/{number:04d}"
                write_frames(root / "2_ClipsforFaceCrop" / path, seed)
                middle = " 3" if third_column else ""
                rows["test" if number == 3 else "train"].append(f"{path}{middle} {word}")
    for split, lines in rows.items():
        write_lines(root / "4_setups" / "All_scenes" / f"{split}_All.csv", lines)
    return root


MAFW_NAMES = (
    *("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    *("contempt", "anxiety", "helplessness", "disappointment"),
)


def write_mafw(root: Path, clips: int = 33, captions: bool = False, videos: bool = False) -> Path:
    """MAFW with 11 single labels. The lists have no final newline, or captions in Chinese."""
    for number in range(1, clips + 1):
        if videos:
            write_clip(root / "data" / "clips" / f"{number:05d}.mp4", num_frames=2, seed=number)
        else:
            write_frames(root / "data" / "faces" / f"{number:05d}", number, 2, suffix=".png")
    kind = "with_caption" if captions else "no_caption"
    for fold in range(1, 6):
        for split in ("train", "test"):
            chosen = [n for n in range(1, clips + 1) if (n % 5 + 1 == fold) == (split == "test")]
            mark = "\t" if captions else " "
            lines = [f"{n:05d}.mp4{mark}{MAFW_NAMES[n % 11]}" for n in chosen]
            lines = [f'{line}\t他皱起了眉头\tHe says, "a frown", and 1, 2' if captions else line for line in lines]
            path = root / "Train_Test_Set" / "single" / kind / f"set_{fold}" / f"{split}.txt"
            options = {"ending": "\r\n", "encoding": "gb18030"} if captions else {"last": False}
            write_lines(path, lines, **options)
    return root


def write_afew(root: Path) -> Path:
    """AFEW, whose words differ between the splits, and whose clips have the same names in both."""
    seed = 0
    for split, words in {"train": ("Angry", "Happy"), "validation": ("Anger", "Happiness")}.items():
        for word in words:
            for number in range(2):
                seed += 1
                write_frames(root / split / word / f"00{number}", seed, 2)
    return root


def write_crema_d(root: Path, actors: Sequence[int] = (1001, 1019, 1037, 1055, 1073, 1091)) -> Path:
    """CREMA-D, with a file of another name, and one that is hidden."""
    for actor in actors:
        for emotion in ("ANG", "HAP"):
            write_clip(root / "VideoFlash" / f"{actor}_DFA_{emotion}_XX.mp4", num_frames=2, seed=actor)
    write_clip(root / "VideoFlash" / "trailer.mp4", num_frames=2)
    write_clip(root / "VideoFlash" / "._1001_DFA_ANG_XX.mp4", num_frames=2)
    return root


def write_ravdess(root: Path, actors: Sequence[int] = (1, 5, 24)) -> Path:
    """RAVDESS: each recording with and without sound, a song, and sound alone."""
    for actor in actors:
        for emotion in ("02", "05"):
            for modality in ("01", "02"):
                name = f"{modality}-01-{emotion}-01-01-01-{actor:02d}.mp4"
                write_clip(root / f"Actor_{actor:02d}" / name, num_frames=2, seed=actor)
        write_clip(root / f"Actor_{actor:02d}" / f"02-02-05-01-01-01-{actor:02d}.mp4", num_frames=2)
    (root / "Actor_01" / "03-01-05-01-01-01-01.wav").write_bytes(b"sound")
    return root
