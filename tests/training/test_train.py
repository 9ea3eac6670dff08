"""Training: what a run learns, keeps and refuses."""

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training import train as loop
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.optimisation import loop as optimisation
from tgdfer.training.train import train


def from_run(options, run):
    return TrainingConfig.from_options(**options | {"model": str(run)}).model


def rows(run):
    """The log without times, which no two runs share."""
    return [json.loads(line) | {"seconds": 0, "waiting": 0} for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run, name="last"):
    return load_file(run / name / "model.safetensors")


def interrupted_after(config, epochs, monkeypatch):
    """Trains until an epoch ends without being kept, as if the machine had stopped there."""
    keep, ended = loop._Run._save_epoch, []

    def keep_or_stop(self, row):
        ended.append(row)
        if len(ended) > epochs:
            raise KeyboardInterrupt
        keep(self, row)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "_save_epoch", keep_or_stop)
        train(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"frozen_features": True, "class_balance": "sampler"},
        {"gradient_accumulation": 3, "class_balance": "weights", "workers": 1, "mixed_precision": "bf16"},
    ],
    ids=["lora", "frozen", "accumulated"],
)
def test_resumed_run_ends_as_if_never_interrupted(options, tmp_path, monkeypatch, changes):
    config = TrainingConfig.from_options(**options | {"epochs": 3, "new_lr": 5e-3} | changes)
    whole = train(config.with_options(output=str(tmp_path / "whole")))
    interrupted_after(config, 1, monkeypatch)
    run = tmp_path / "run"
    assert not (run / "last").exists() and [row["epoch"] for row in rows(run)] == [1]
    train(config.with_options(resume=True))
    assert not multiprocessing.active_children(), "worker processes of a run end with it"
    assert rows(run) == rows(whole)
    for name in ("best", "last"):
        ours, theirs = weights(run, name), weights(whole, name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not list(run.glob("**/.*")) and len(list((run / "checkpoints").iterdir())) == 2


def test_run_interrupted_before_its_first_checkpoint_starts_again(options, tmp_path, monkeypatch):
    config = TrainingConfig.from_options(**options | {"epochs": 1})
    interrupted_after(config, 0, monkeypatch)
    train(config.with_options(resume=True))
    assert len(rows(tmp_path / "run")) == 1 and (tmp_path / "run" / "last").is_dir()


def test_overfits_nine_clips(options, tmp_path, folder_writer):
    still = {"instance_dropout": 0, "feature_dropout": 0, "long_range_dropout": 0, "label_smoothing": 0}
    config = TrainingConfig.from_options(
        **options
        | {"dataset": str(folder_writer(tmp_path / "few", people=3)), "validation_fraction": 0, "num_frames": 8}
        | {"frozen_features": True, "feature_views": 1, "batch_size": 9, "epochs": 20, "new_lr": 2e-2}
        | {"model_options": still}
    )
    run = train(config)
    losses = [row["loss"] for row in rows(run)]
    assert losses[-1] < 0.3 * losses[0]
    assert evaluate_model(run, EvaluationData(split="train"))["war"] == 1


def test_lora_trains_and_what_is_saved_is_plain(options):
    config = TrainingConfig.from_options(**options | {"lora_lr": 1e-2})
    model, _ = start_model(config.model, ["happiness", "neutral", "sadness"])
    base = {name: value.clone() for name, value in model.merged_copy().tgdfer.clip.state_dict().items()}
    run = train(config)
    saved = load_trained(run / "last")[0].tgdfer.clip.state_dict()
    changed = {name for name in base if not torch.equal(base[name], saved[name])}
    assert changed and all(".layers.1.self_attn." in name and "vision_model" in name for name in changed)
    assert not any("lora" in key for key in weights(run))


class Photographs(torch.utils.data.Dataset):
    """Grey and black photographs as clips of one frame."""

    def __init__(self, size):
        self.size, self.targets, self.epochs = size, [0, 1, 0, 1, 2], []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        pixels = torch.full((1, 3, self.size, self.size), float(self.targets[index]))
        return {"pixel_values_videos": pixels, "labels": torch.tensor(self.targets[index])}


@pytest.mark.parametrize("workers", [0, 1])
def test_loop_trains_on_any_data_set_of_items_that_can_be_stacked(options, workers):
    config = TrainingConfig.from_options(**options)
    model, _ = start_model(config.model, ["happiness", "neutral", "sadness"])
    data = Photographs(model.config.clip_config.vision_config.image_size)
    groups = optimisation.parameter_groups(model, config.optimisation)
    assert {group["name"] for group in groups} == {"lora", "prompts", "new"}
    training = optimisation.TrainingLoop(
        model, data, groups, config.optimisation, optimisation.start_accelerator(), seed=0, workers=workers
    )
    before = [parameter.detach().clone() for group in groups for parameter in group["params"]]
    assert training.train_epoch(0) > 0 and set(data.epochs) == {0}
    after = [parameter for group in groups for parameter in group["params"]]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert len(multiprocessing.active_children()) == workers
    training.end_workers()
    assert not multiprocessing.active_children()
    assert training.train_epoch(1) > 0, "a loop whose workers were ended can go on"
    training.end_workers()
    assert not multiprocessing.active_children()


def test_frozen_features_leave_clip_as_it_was(options):
    config = TrainingConfig.from_options(**options | {"frozen_features": True})
    base, _ = start_model(config.model, ["happiness", "neutral", "sadness"])
    trained = load_trained(train(config) / "last")[0]
    before, after = base.tgdfer.clip.state_dict(), trained.tgdfer.clip.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(base.bias, trained.bias)


def test_best_epoch_is_that_of_the_validation_people(options, monkeypatch):
    figures = iter([(0.5, 1.0), (0.8, 0.9), (0.8, 0.7), (0.8, 0.8), (0.6, 0.1)])

    def validate(self):
        uar, loss = next(figures)
        return {"validation_loss": loss, "war": uar, "uar": uar}

    monkeypatch.setattr(loop._Run, "_validate", validate)
    run = train(TrainingConfig.from_options(**options | {"epochs": 5, "frozen_features": True}))
    assert json.loads((run / "training.json").read_text())["best_epoch"] == 3
    assert not torch.equal(weights(run, "best")["bias"], weights(run)["bias"])


def test_facts_of_the_run(options):
    run = train(TrainingConfig.from_options(**options))
    facts = json.loads((run / "training.json").read_text())
    assert facts["num_clips"] == 12 and facts["validation"] == "by person" and facts["dataset"] == "clips"
    assert facts["base_model"] == Path(options["model"]).name and facts["trainable_parameters"] > 0
    assert [row["epoch"] for row in rows(run)] == [1, 2] and set(rows(run)[0]["lr"]) == {"lora", "prompts", "new"}
    assert "continued_from" not in facts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "run/best", "run/last"])
def test_run_goes_on_from_another_and_says_so(options, tmp_path, name):
    first = json.loads((train(TrainingConfig.from_options(**options | {"epochs": 1})) / "training.json").read_text())
    changes = {"model": str(tmp_path / name), "output": str(tmp_path / "second"), "epochs": 1, "seed": 1}
    second = json.loads((train(TrainingConfig.from_options(**options | changes)) / "training.json").read_text())
    assert second["base_model"] == Path(options["model"]).name and second["seed"] == 1
    assert second["continued_from"] == first


def test_facts_of_something_else_are_not_taken_for_those_of_the_model(options, tmp_path, monkeypatch, clip_folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").symlink_to(clip_folder)
    (tmp_path / "training.json").write_text('{"base_model": "another"}')
    run = train(TrainingConfig.from_options(**options | {"model": "clip", "epochs": 1}))
    assert json.loads((run / "training.json").read_text())["base_model"] == "clip"


def test_damaged_facts_of_an_earlier_run_are_named(options, tmp_path):
    run = train(TrainingConfig.from_options(**options | {"epochs": 1}))
    (run / "training.json").write_text('{"base_model": ')
    with pytest.raises(UserError, match=r"run/training.json cannot be read"):
        train(TrainingConfig.from_options(**options | {"model": str(run), "output": str(tmp_path / "second")}))
    assert not (tmp_path / "second").exists()


@pytest.mark.slow
def test_new_labels_on_a_trained_model(options, tmp_path, folder_writer):
    run = train(TrainingConfig.from_options(**options))
    folder = folder_writer(tmp_path / "more", people=2)
    for split in ("train", "test"):
        metadata = folder / split / "metadata.jsonl"
        metadata.write_text(metadata.read_text().replace('"label": "happy"', '"label": "amused"'))
    words = tmp_path / "words.yaml"
    words.write_text("amused: [a smirk, one corner up]\n")
    config = TrainingConfig.from_options(
        **options
        | {"dataset": str(folder), "model": str(run / "best"), "descriptions": str(words)}
        | {"output": str(tmp_path / "second"), "validation_fraction": 0.5}
    )
    model, processor = load_trained(train(config) / "last")
    assert list(model.config.id2label.values()) == ["amused", "neutral", "sadness"]
    assert processor.descriptions == {
        "amused": ["a smirk", "one corner up"],
        "neutral": ["at rest", "still"],
        "sadness": ["a frown", "tears"],
    }
    with pytest.raises(UserError, match="There is no description of 'amused'"):
        train(config.with_options(descriptions=None, output=str(tmp_path / "third")))
    assert not (tmp_path / "third").exists()


def test_classes_follow_the_data_where_only_the_words_do_already(options):
    """A model whose processor names other classes than its head, as one that was saved apart from it."""
    run = train(TrainingConfig.from_options(**options | {"epochs": 1}))
    processor = TGDFERProcessor.from_pretrained(run / "best")
    words = processor.descriptions
    processor.descriptions = {name: words[name] for name in ("happiness", "neutral")}
    processor.save_pretrained(run / "best")
    model, _ = start_model(
        TrainingConfig.from_options(**options | {"model": str(run)}).model, ["happiness", "neutral"]
    )
    assert list(model.config.id2label.values()) == ["happiness", "neutral"]
    assert model.bias.shape == (2,)


def test_training_goes_on_in_full_precision(options):
    run = train(TrainingConfig.from_options(**options | {"epochs": 1}))
    load_trained(run)[0].to(torch.bfloat16).save_pretrained(run / "best")
    assert load_trained(run)[0].dtype == torch.bfloat16
    assert (
        start_model(
            TrainingConfig.from_options(**options | {"model": str(run)}).model, ["happiness", "neutral", "sadness"]
        )[0].dtype
        == torch.float32
    )


def test_pickled_weights_are_not_read(options):
    run = train(TrainingConfig.from_options(**options | {"epochs": 1}))
    torch.save(load_file(run / "best" / "model.safetensors"), run / "best" / "pytorch_model.bin")
    (run / "best" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="Cannot read the model"):
        load_trained(run)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "nobody/nothing"}, "Cannot read the model 'nobody/nothing'"),
        ({"model_options": {"lora_layer": 1}}, "unknown field 'lora_layer'; did you mean 'lora_layers'"),
        ({"model_options": {"lora_layers": 9}}, "`lora_layers` is 9, but"),
        ({"model_options": {"mil_pooling": "sum"}}, "mil_pooling"),
        ({"resume": True}, "no run to resume"),
        ({"train_split": "dev"}, "no split 'dev'"),
        ({"fold": 4, "validation_fraction": 0.1}, "Too few people"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(options, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        train(TrainingConfig.from_options(**options | changes))
    assert not (tmp_path / "run").exists()


def test_checkpoint_of_another_architecture(options, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="bert is a checkpoint of bert: name a CLIP"):
        train(TrainingConfig.from_options(**options | {"model": str(tmp_path / "bert")}))


@pytest.mark.slow
def test_run_is_neither_overwritten_nor_continued_as_another(options):
    config = TrainingConfig.from_options(**options | {"epochs": 1})
    run = train(config)
    before = (run / "log.jsonl").read_bytes()
    with pytest.raises(UserError, match="is not empty: continue its run with --resume"):
        train(config)
    with pytest.raises(UserError, match="seed is 1, but the run in .* has 0"):
        train(config.with_options(seed=1, resume=True))
    train(config.with_options(resume=True))
    assert (run / "log.jsonl").read_bytes() == before


def _truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", _truncate),
        ("model.safetensors", lambda file: file.write_bytes(b"")),
        ("optimizer.bin", _truncate),
        ("scheduler.bin", lambda file: file.write_bytes(b"")),
        ("progression.json", _truncate),
        ("progression.json", lambda file: file.write_text('{"epoch": 1}')),
        ("progression.json", lambda file: file.unlink()),
    ],
)
def test_damaged_checkpoint_is_one_sentence(interrupted, tmp_path, name, damage):
    config, kept = interrupted
    run = tmp_path / "run"
    shutil.copytree(kept, run)
    damage(run / "checkpoints" / "step-00000001" / name)
    with pytest.raises(
        UserError, match=r"The checkpoint .*step-00000001 cannot be read \(.*\): remove .* and train again"
    ):
        train(config.with_options(output=str(run), resume=True))


@pytest.fixture(scope="module")
def interrupted(clips_folder, clip_folder, descriptions_file, tmp_path_factory):
    """The config and the folder of a run that was stopped after the first of its two epochs."""
    config = TrainingConfig.from_options(
        dataset=str(clips_folder),
        model=str(clip_folder),
        descriptions=str(descriptions_file),
        output=str(tmp_path_factory.mktemp("interrupted") / "run"),
        num_frames=4,
        epochs=2,
        model_options={"lora_layers": 1},
    )
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(config, 1, patch)
    return config, Path(config.run.output)


@pytest.mark.slow
def test_clips_that_changed_are_not_trained_on_further(options, tmp_path, folder_writer, monkeypatch):
    folder = folder_writer(tmp_path / "clips")
    config = TrainingConfig.from_options(**options | {"dataset": str(folder)})
    interrupted_after(config, 1, monkeypatch)
    clip = next((folder / "train").glob("*/*.mp4"))
    contents = clip.read_bytes()
    clip.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises(UserError, match="The clips have changed since the run in .* started"):
        train(config.with_options(resume=True))
    clip.write_bytes(contents)  # A copy, which has another modification time.
    metadata = folder / "train" / "metadata.jsonl"
    rows = metadata.read_text()
    metadata.write_text(rows.replace('"label": "happy"', '"label": "neutral"', 1))
    with pytest.raises(UserError, match="The clips have changed"):
        train(config.with_options(resume=True))
    metadata.write_text(rows)
    assert len((train(config.with_options(resume=True)) / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_people_in_training_and_test_are_counted(options, tmp_path, folder_writer, caplog):
    folder = folder_writer(tmp_path / "clips")
    train(TrainingConfig.from_options(**options | {"dataset": str(folder), "epochs": 1}))
    assert "as well" not in caplog.text
    metadata = folder / "test" / "metadata.jsonl"
    lines = metadata.read_text().replace("test-0", "train-0").replace("test-1", "train-1")
    # Nothing else of the test split is looked at: its labels mean nothing here.
    metadata.write_text(lines.replace('"label": "happy"', '"label": "unheard of"'))
    run = train(
        TrainingConfig.from_options(
            **options | {"dataset": str(folder), "epochs": 1, "output": str(tmp_path / "second")}
        )
    )
    assert json.loads((run / "training.json").read_text())["shared_people"] == {"test": {"train": 2}}
    assert "2 of the 5 people of the split 'test' are also in 'train'" in caplog.text


def test_diverging_loss_says_so_and_keeps_no_model(options, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "start_model", lambda *args: _broken(start_model(*args)))
    with pytest.raises(UserError, match="loss is nan in epoch 1"):
        train(TrainingConfig.from_options(**options))
    assert not (tmp_path / "run" / "best").exists()


def _broken(start):
    start[0].bias.data.fill_(torch.nan)
    return start


def test_broken_clip_is_named_before_anything_is_written(options, tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips")
    path = next(folder.glob("train/*/*_2.mp4"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=path.name):
        train(TrainingConfig.from_options(**options | {"dataset": str(folder), "strict": True}))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_left_out_files_of_every_split_are_listed(options, tmp_path, folder_writer, clip_writer):
    splits = ("train", "validation", "test")
    folder = folder_writer(tmp_path / "clips", people=2, splits=splits)
    for split in splits:
        clip_writer(folder / split / "happy" / f"unlisted_{split}.mp4")
    run = train(TrainingConfig.from_options(**options | {"dataset": str(folder), "epochs": 1}))
    evaluate_model(run)
    assert {path.name: path.read_text() for path in run.glob("left_out*")} == {
        f"left_out_{split}.txt": f"happy/unlisted_{split}.mp4: no metadata file lists it\n" for split in splits
    }
    assert len(load_clips(str(folder), "train")) == 6
