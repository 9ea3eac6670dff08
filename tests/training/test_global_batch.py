"""A batch that several processes share: its losses, its gradients, and the clips that are in it."""

import json
from pathlib import Path

import datasets
import global_batch
import pytest
import torch
from launching import run_two
from safetensors.torch import load_file, save_file

from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, bag_loss, mean_of_clips, of_all_processes
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.models import start_model
from tgdfer.training.processes import ignore_repeated_clips

# Dropout is off, and every term of the loss is on.
STEADY = {"instance_dropout": 0.0, "feature_dropout": 0.0, "long_range_dropout": 0.0, "lora_layers": 1}
TERMS = {"alignment_weight": 0.3, "separation_weight": 0.2, "smoothness_weight": 0.3, "instance_weight": 0.4}


def outcomes(server, name, folder, processes):
    """What each process has found."""
    if processes == 1:
        global_batch.outcome(name, folder)
    else:
        run_two(server, global_batch.__file__, name, folder)
    paths = [folder / f"rank-{rank}-of-{processes}.json" for rank in range(processes)]
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradients_of_the_whole_batch(options, tmp_path, forked_python):
    config = TrainingConfig.from_options(**options | {"model_options": STEADY | TERMS, "frozen_features": True})
    model, _ = start_model(config.model, ["happiness", "neutral", "sadness"])
    model.save_pretrained(tmp_path / "model")
    generator = torch.Generator().manual_seed(0)
    votes = torch.rand(6, 3, generator=generator).softmax(-1)
    votes[4] = IGNORED
    labels = {
        "even": torch.tensor([0, 1, 2, 0, 1, 1]),
        # The second process has a single labelled clip, or none.
        "uneven": torch.tensor([0, 1, 1, IGNORED, IGNORED, 2]),
        "one_sided": torch.tensor([0, 1, 2, IGNORED, IGNORED, IGNORED]),
        "none": torch.full((6,), IGNORED),
        "votes": votes,
    }
    for name, values in labels.items():
        batch = {
            "frame_features": torch.randn(6, 4, 16, generator=generator),
            "frame_mask": torch.rand(6, 4, generator=generator) > 0.2,
            "labels": values,
            "class_weights": torch.tensor([0.5, 1.0, 3.0]),
        }
        batch["frame_mask"][:, 0] = True
        save_file(batch, tmp_path / f"batch-{name}.safetensors")
    (alone,), together = (outcomes(forked_python, "gradients", tmp_path, number) for number in (1, 2))
    assert alone.keys() == {f"batch-{name}" for name in labels}
    for name, loss in alone.items():
        assert together[0][name] == together[1][name] == pytest.approx(loss, abs=1e-5)
        ours, theirs = (load_file(tmp_path / f"gradients-{number}-{name}.safetensors") for number in (1, 2))
        assert ours.keys() == theirs.keys() and len(ours) > 5
        for parameter, gradient in ours.items():
            assert torch.allclose(gradient, theirs[parameter], atol=1e-5, rtol=1e-4), (name, parameter)
    assert alone["batch-none"] == pytest.approx(TERMS["separation_weight"], abs=0.2), "only the texts count"


@pytest.mark.slow
def test_two_processes_have_the_objectives_of_the_whole_batch_and_remember_all_of_it(options, tmp_path, forked_python):
    """In each step, the second process has fewer clips that count. Checkpoints have the memory of the first one."""
    more = {"model_options": STEADY | {"residue_width": 4}}
    (tmp_path / "options.json").write_text(json.dumps(options | more))
    generator = torch.Generator().manual_seed(0)
    for step, labels in ((1, [0, 1, 2, 0, 1, 0, IGNORED, IGNORED]), (2, [0, 1, 2, 0, 1, IGNORED, IGNORED, IGNORED])):
        batch = {
            "pixel_values_videos": torch.randn(8, 3, 3, 32, 32, generator=generator),
            "frame_mask": torch.tensor([[True, True, True]] * 7 + [[True, False, False]]),
            "labels": torch.tensor(labels),
        }
        save_file(batch, tmp_path / f"step-{step}.safetensors")
    (alone,), together = (outcomes(forked_python, "objectives", tmp_path, number) for number in (1, 2))
    for step, terms in alone.items():
        assert together[0][step] == pytest.approx(terms, abs=1e-4), step
    assert all(term > 0 for term in alone["step-2"]), "the memory has neighbours"
    ours, theirs = (load_file(tmp_path / f"gradients-{number}.safetensors") for number in (1, 2))
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], atol=1e-4, rtol=1e-3), name
    memories = [load_file(tmp_path / f"memories-{name}.safetensors") for name in ("0-of-1", "0-of-2", "1-of-2")]
    for name, values in memories[0].items():
        assert torch.allclose(values, memories[1][name], atol=1e-4), name
        assert torch.equal(memories[1][name], memories[2][name]), name


@pytest.mark.slow
def test_two_processes_see_the_clips_of_one_in_the_same_steps_and_learn_as_it_does(options, tmp_path, forked_python):
    """Twelve clips in steps of eight: in the last step, four clips are repeated, and do not count.

    The two processes stream the data set, and each has a worker that decodes clips. Nothing is lost or read twice.
    """
    clips = load_clips(options["dataset"], "train")
    contents = [Path(clips.video(index)).read_bytes() for index in range(len(clips))]
    rows = {"clip": contents, "label": clips.labels, "person": clips.people}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "clips.parquet")
    options |= {"dataset": str(tmp_path / "clips.parquet"), "video_column": "clip"}
    options |= {"model_options": STEADY | TERMS, "lora_lr": 1e-2, "epochs": 2}
    steps, logs = {}, {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        own = options | {"batch_size": 8 // processes, "output": str(folder / "run")}
        own |= {"workers": processes - 1, "streaming": processes > 1}
        (folder / "options.json").write_text(json.dumps(own))
        steps[processes] = [one["steps"] for one in outcomes(forked_python, "order", folder, processes)]
        logs[processes] = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert [len(step["clips"]) for step in steps[1][0]] == [8, 4, 8, 4]
    for alone, first, second in zip(steps[1][0], *steps[2], strict=True):
        clips, labels = first["clips"] + second["clips"], first["labels"] + second["labels"]
        seen = len(alone["clips"])
        assert clips[:seen] == alone["clips"] and labels[:seen] == alone["labels"]
        assert labels[seen:] == [IGNORED] * (8 - seen), "repeated clips have no label"
    for epoch in (slice(0, 2), slice(2, 4)):
        steps_of_epoch = [step for process in steps[2] for step in process[epoch]]
        counted = [
            clip
            for step in steps_of_epoch
            for clip, label in zip(step["clips"], step["labels"], strict=True)
            if label != IGNORED
        ]
        assert sorted(counted) == list(range(12)), "every clip once"
    for ours, theirs in zip(logs[1], logs[2], strict=True):
        for name in ("loss", "validation_loss", "war", "uar"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4), name


class _Accelerator:
    def __init__(self, rank, remainder, is_end=True, processes=2):
        self.num_processes, self.process_index = processes, rank
        self.gradient_state = type("State", (), {"end_of_dataloader": is_end, "remainder": remainder})()


@pytest.mark.parametrize(
    ("rank", "remainder", "is_end", "labelled"),
    [(0, 6, True, 4), (1, 6, True, 2), (0, 3, True, 3), (1, 3, True, 0), (1, 0, True, 4), (1, 3, False, 4)],
)
def test_repeated_clips_lose_their_labels_at_the_end_of_an_epoch(rank, remainder, is_end, labelled):
    for labels in (torch.tensor([0, 1, 2, 1]), torch.rand(4, 3)):
        batch = ignore_repeated_clips({"labels": labels}, _Accelerator(rank, remainder, is_end))
        kept = (batch["labels"] != IGNORED).view(4, -1).all(1)
        assert kept.tolist() == [place < labelled for place in range(4)]


def test_one_process_communicates_nothing(monkeypatch):
    for name in ("all_gather", "all_reduce"):
        monkeypatch.setattr(f"torch.distributed.{name}", None)
    values = torch.rand(3, 2, requires_grad=True)
    assert of_all_processes(values, 1) is values
    assert mean_of_clips(torch.tensor(6.0), torch.tensor(4), 1) == 1.5
    assert mean_of_clips(torch.tensor(0.0), torch.tensor(0), 1) == 0
    assert bag_loss(values, torch.tensor([0, 1, IGNORED]), None, 0.0).requires_grad
    short = {"labels": torch.tensor([0, 1])}
    assert ignore_repeated_clips(short, _Accelerator(0, 2, processes=1)) is short
