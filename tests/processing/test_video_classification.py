"""`pipeline("video-classification")` of transformers: lists, generators and data sets, in batches."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoVideoProcessor, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

WORDS = {"anger": ["brows low"], "joy": ["a smile", "cheeks up"]}


@pytest.fixture(scope="module")
def folder(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    processor = TGDFERProcessor.from_clip(str(clip_folder), WORDS, num_frames=4)
    TGDFERForVideoClassification.from_clip(clip_folder, processor.class_prompts(), num_frames=4).save_pretrained(
        folder
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, video_writer) -> list[str]:
    """Clips of two, forty and seven frames."""
    folder = tmp_path_factory.mktemp("clips")
    return [str(video_writer(folder / f"{count}.mp4", num_frames=count)) for count in (2, 40, 7, 40, 5)]


@pytest.mark.parametrize("kind", ["list", "generator", "dataset"])
def test_batches(folder: Path, clips: list[str], kind: str) -> None:
    classify = pipeline("video-classification", model=str(folder))
    expected = [classify(clip) for clip in clips]
    given = {
        "list": clips,
        "generator": (clip for clip in clips),
        "dataset": KeyDataset([{"video": clip} for clip in clips], "video"),
    }[kind]
    seen = []
    classify.model.register_forward_hook(lambda *inputs: seen.append(len(inputs[2].logits)))
    found = list(classify(given, batch_size=4))
    assert seen == [4, 1]
    for one, other in zip(found, expected, strict=True):
        assert [row["label"] for row in one] == [row["label"] for row in other]
        assert [row["score"] for row in one] == pytest.approx([row["score"] for row in other], abs=1e-4)


def test_pictures(folder: Path, clips: list[str]) -> None:
    classify = pipeline("video-classification", model=str(folder))
    arrays = TGDFERVideoProcessor().read_clip(clips[0])[0].permute(0, 2, 3, 1).numpy()
    found = classify([Image.fromarray(array) for array in arrays])
    assert found == [classify(array[None]) for array in arrays] and len(found) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_short_clip_in_half_precision(folder: Path, clips: list[str], dtype: torch.dtype) -> None:
    """Its padding is masked, and makes no answer NaN."""
    (exact, rounded) = (
        {
            row["label"]: row["score"]
            for row in pipeline("video-classification", model=str(folder), dtype=one)(clips[-1])
        }
        for one in (torch.float32, dtype)
    )
    assert rounded == pytest.approx(exact, abs=2e-2)


def test_a_folder_has_processors_of_videos_and_of_images(folder: Path) -> None:
    videos, images = AutoVideoProcessor.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    assert type(videos) is TGDFERVideoProcessor and type(AutoProcessor.from_pretrained(folder)) is TGDFERProcessor
    picture = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    seen = videos([picture[None]], num_frames=1, return_tensors="pt")["pixel_values_videos"][0]
    torch.testing.assert_close(images(picture, return_tensors="pt")["pixel_values"], seen, atol=1e-5, rtol=1e-5)
