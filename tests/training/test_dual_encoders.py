"""Training, evaluation and prediction from backbones other than a plain CLIP."""

from pathlib import Path

import pytest
import torch
from small_backbones import save_resnet, save_siglip
from transformers import Siglip2Config

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.features import Views, frame_activations, frame_features
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.predict import predict
from tgdfer.training.train import train

KINDS = ("resnet", "siglip")
LABELS = ["happiness", "neutral", "sadness"]


@pytest.fixture(scope="session")
def backbones(tmp_path_factory, clip_folder) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    return {"resnet": save_resnet(folder / "resnet", clip_folder), "siglip": save_siglip(folder / "siglip")}


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True], ids=["lora", "frozen"])
@pytest.mark.parametrize("kind", KINDS)
def test_train_evaluate_predict_explain(kind, frozen, options, backbones, clips_folder):
    config = TrainingConfig.from_options(
        **options | {"model": str(backbones[kind]), "frozen_features": frozen, "lora_lr": 1e-2}
    )
    start, _ = start_model(config.model, LABELS)
    base = {name: value.clone() for name, value in start.merged_copy().tgdfer.clip.state_dict().items()}
    run = train(config)
    assert evaluate_model(run, EvaluationData())["num_clips"] == 15
    trained = load_trained(run / "last")[0].tgdfer.clip.state_dict()
    changed = {name for name in base if not torch.equal(base[name], trained[name])}
    last = {"resnet": "vision_model.timm_model.layer4.", "siglip": "vision_model.encoder.layers.1.self_attn."}[kind]
    assert bool(changed) != frozen and all(name.startswith(last) for name in changed)
    assert not any("running" in name for name in changed)
    video = str(next(clips_folder.glob("test/happy/*.mp4")))
    assert predict([video], run)[video]["people"][0]["label"] in (*LABELS, "unsure")
    model = TGDFERForVideoClassification.from_pretrained(run / "best").eval()
    processor = TGDFERProcessor.from_pretrained(run / "best")
    clip = processor(videos=video, return_tensors="pt")
    with torch.no_grad():
        explanation = processor.post_process_explanation(
            model(**clip), clip["timestamps"], clip["frame_mask"], config=model.config
        )[0]
    assert explanation.label in (*LABELS, "unsure") and str(explanation)


@pytest.mark.parametrize("kind", KINDS)
def test_cached_features_and_inputs_of_a_block(kind, options, backbones, clips_folder):
    config = TrainingConfig.from_options(**options | {"model": str(backbones[kind]), "frozen_features": True})
    model, processor = start_model(config.model, LABELS)
    clips = load_clips(str(clips_folder), "train").select(range(3))
    given = (model, processor.video_processor, clips)
    assert frame_features(*given, Views()).features.shape == (1, 3, 4, 24)
    last = {"resnet": (4, (12, 2, 2)), "siglip": (1, (4, 24))}[kind]
    assert frame_activations(*given, last[0]).features.shape == (1, 3, 4, *last[1])


def test_flexible_resolution_is_one_sentence(options, tmp_path):
    Siglip2Config().save_pretrained(tmp_path / "naflex")
    config = TrainingConfig.from_options(**options | {"model": str(tmp_path / "naflex")})
    with pytest.raises(UserError, match="start from one of fixed resolution, such as google/siglip2"):
        start_model(config.model, LABELS)
