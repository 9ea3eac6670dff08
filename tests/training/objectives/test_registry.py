"""Names and weights of objectives, their sum, and a training run with them."""

import json
from types import SimpleNamespace

import pytest
import torch

from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.objectives.intensity_aware import intensity_aware_loss
from tgdfer.training.objectives.registry import OBJECTIVES, Objectives, check_weights
from tgdfer.training.optimisation.loop import TrainingLoop
from tgdfer.training.train import train


def test_the_sum_is_weighted(make_model):
    objectives = Objectives({"ial": 0.5, "memory": 2.0}, make_model(), epochs=10)
    logits, labels = torch.randn(2, 3), torch.tensor([0, 1])
    output = SimpleNamespace(logits=logits, video_embeds=torch.randn(2, 16))
    objectives.start_epoch(0)
    assert objectives(output, {"labels": labels}).item() == pytest.approx(
        0.5 * intensity_aware_loss(logits, labels).item()
    ), "the memory has no weight at the start"


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"iai": 0.1}, "objectives has the unknown name 'iai'; did you mean 'ial'"),
        ({"ial": 0}, "objectives has ial=0, but the weight must be a number above 0"),
        ({"ial": "much"}, "ial=much, but the weight must be a number"),
        ({"ial": True}, "the weight must be a number"),
        ({"ial": float("inf")}, "the weight must be a number"),
    ],
)
def test_wrong_names_and_weights_are_refused(weights, sentence):
    with pytest.raises(UserError, match=sentence):
        check_weights(weights)


def options_of(clips_folder, clip_folder, descriptions_file, output):
    return {
        "dataset": str(clips_folder),
        "model": str(clip_folder),
        "descriptions": str(descriptions_file),
        "num_frames": 4,
        "epochs": 2,
        "output": str(output),
    }


@pytest.mark.slow
def test_a_run_trains_with_objectives(clips_folder, clip_folder, descriptions_file, tmp_path):
    options = options_of(clips_folder, clip_folder, descriptions_file, tmp_path / "run")
    weights = {"ial": 0.1, "memory": 1, "identity": 1.0}
    more = {"frozen_features": True, "model_options": {"residue_width": 4, "temporal_adapter": True}}
    run = train(TrainingConfig.from_options(**options, **more, objectives=weights))
    plain = train(TrainingConfig.from_options(**options | {"output": str(tmp_path / "plain")}, **more))
    losses = [json.loads((folder / "log.jsonl").read_text().splitlines()[0])["loss"] for folder in (run, plain)]
    assert losses[0] > losses[1] + 0.1
    assert json.loads((run / "best" / "config.json").read_text())["residue_width"] == 4


@pytest.mark.slow
def test_a_resumed_run_remembers_its_clips(clips_folder, clip_folder, descriptions_file, tmp_path, monkeypatch):
    """After one of three epochs. The memory has a weight from the second one on."""
    options = options_of(clips_folder, clip_folder, descriptions_file, tmp_path / "run") | {"epochs": 3}
    config = TrainingConfig.from_options(**options, frozen_features=True, objectives={"memory": 5.0})
    whole = train(config.with_options(output=str(tmp_path / "whole")))
    train_epoch = TrainingLoop.train_epoch

    def stop(loop, epoch, *rest):
        if epoch == 1:
            raise KeyboardInterrupt
        return train_epoch(loop, epoch, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingLoop, "train_epoch", stop)
        train(config)
    resumed = train(config.with_options(resume=True))
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (whole, resumed)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and len(losses[0]) == 3


def test_a_run_from_pixels_aligns_patches(clips_folder, clip_folder, descriptions_file, tmp_path):
    options = options_of(clips_folder, clip_folder, descriptions_file, tmp_path / "run")
    more = {"model_options": {"lora_layers": 1}, "objectives": {"transport": 0.1}}
    assert (train(TrainingConfig.from_options(**options | {"epochs": 1}, **more)) / "best").is_dir()


def test_nothing_is_written_before_the_objectives_are_checked(clips_folder, clip_folder, descriptions_file, tmp_path):
    options = options_of(clips_folder, clip_folder, descriptions_file, tmp_path / "run")
    for weights in ({"trasnport": 1.0}, {"identity": 1.0}):
        with pytest.raises(UserError, match="objective"):
            train(TrainingConfig.from_options(**options, frozen_features=True, objectives=weights))
    assert not (tmp_path / "run").exists()


def test_the_help_names_every_objective():
    from tgdfer.training.config import OPTIONS

    assert all(f"{name}=" in OPTIONS["objectives"].help for name in OBJECTIVES)
