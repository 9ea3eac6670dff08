"""Options of a training run beyond the plain loop: that they do what they say, and resume exactly."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training import train as training
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained, start_model
from tgdfer.training.optimisation.ema import WeightAverage
from tgdfer.training.train import train

CLASSES = ["happiness", "neutral", "sadness"]


def rows(run):
    """The log without times, which no two runs share."""
    times = ("seconds", "waiting", "clips_per_second", "memory_gb")
    lines = (run / "log.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in times} for line in lines]


def weights(run, name="last"):
    return load_file(run / name / "model.safetensors")


def assert_same_weights(one, other):
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def interrupted_after_step(config, step, monkeypatch):
    """Trains until an update of the weights, as if the machine had stopped there."""
    after_update = training._Run._after_update

    def stop(self):
        after_update(self)
        if self.loop.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._Run, "_after_update", stop)
        train(config)


EVERYTHING = {"ema": 0.9, "mixup": 0.4, "gradient_checkpointing": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        EVERYTHING | {"lora_options": {"use_dora": True, "bias": "all"}, "mixed_precision": "bf16"},
        EVERYTHING
        | {"frozen_features": True, "unfreeze": ["text"], "freeze": ["relevance"], "gradient_accumulation": 2},
    ],
    ids=["dora", "frozen_features"],
)
def test_resumed_run_ends_as_if_never_interrupted(options, tmp_path, monkeypatch, changes):
    config = TrainingConfig.from_options(**options | {"epochs": 2, "checkpoint_every": 1} | changes)
    whole = train(config.with_options(output=str(tmp_path / "whole")))
    interrupted_after_step(config, 3 if config.optimisation.gradient_accumulation == 2 else 4, monkeypatch)
    run = train(config.with_options(resume=True))
    assert rows(run) == rows(whole)
    for name in ("best", "last"):
        assert_same_weights(weights(run, name), weights(whole, name))


@pytest.mark.slow
def test_checkpoint_within_the_validation_has_the_trained_weights(options, tmp_path, monkeypatch):
    """SIGTERM may arrive while the averaged weights are validated."""
    config = TrainingConfig.from_options(**options | {"epochs": 1, "ema": 0.9, "frozen_features": True})
    whole = train(config.with_options(output=str(tmp_path / "whole")))
    validate = training._Run._validate

    def terminated(self):
        self.sigterm.arrived = True
        return validate(self)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(training._Run, "_validate", terminated)
        train(config)
    run = train(config.with_options(resume=True))
    assert rows(run) == rows(whole)
    assert_same_weights(weights(run), weights(whole))


def test_averaged_weights_are_validated_and_saved(options, monkeypatch):
    """The average is computed again from the weights after each update."""
    seen, validated = [], []
    update, validate = WeightAverage.update, training._Run._validate

    def recorded_update(self):
        seen.append([weight.detach().clone() for weight in self._trained])
        update(self)

    def recorded_validate(self):
        trained = [parameter.detach().clone() for parameter in self.model.parameters() if parameter.requires_grad]
        validated.append(trained)
        return validate(self)

    monkeypatch.setattr(WeightAverage, "update", recorded_update)
    monkeypatch.setattr(training._Run, "_validate", recorded_validate)
    changes = {"frozen_features": True, "ema": 0.5, "new_lr": 5e-2, "gradient_accumulation": 2, "epochs": 2}
    config = TrainingConfig.from_options(**options | changes)
    run = train(config)
    assert len(seen) == 4  # 12 clips are three steps, and so two updates in each epoch
    mean = seen[0]
    for n, values in enumerate(seen[1:], 1):
        d = min(0.5, (1 + n) / (10 + n))
        mean = [d * old + (1 - d) * new for old, new in zip(mean, values, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(validated[-1], mean, strict=True))
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(seen[-1], mean, strict=True))
    model, _ = load_trained(run / "last")
    start, _ = start_model(config.model, CLASSES)
    trained = [name for name, parameter in start.named_parameters() if parameter.requires_grad]
    saved = dict(model.named_parameters())
    assert all(torch.equal(saved[name], value) for name, value in zip(trained, validated[-1], strict=True))


CURVE = [0.5, 0.7, 0.7, 0.6, 0.65, 0.9, 0.1, 0.1]


@pytest.mark.slow
@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (3, 5), (4, 8), (None, 8)])
def test_early_stopping_on_a_curve(options, monkeypatch, patience, epochs):
    curve = iter(CURVE)

    def validate(self):
        uar = next(curve)
        return {"validation_loss": 1.0, "war": uar, "uar": uar}

    monkeypatch.setattr(training._Run, "_validate", validate)
    changes = {"frozen_features": True, "epochs": 8, "early_stopping": patience}
    config = TrainingConfig.from_options(**options | changes)
    run = train(config)
    assert len(rows(run)) == epochs and (run / "last").is_dir()
    best = 1 + max(range(epochs), key=lambda epoch: CURVE[epoch])
    facts = json.loads((run / "training.json").read_text())
    assert facts["best_epoch"] == best and facts.get("stopped_after_epoch") == (epochs if epochs < 8 else None)
    if patience == 3:  # A run that has stopped stays so.
        shutil.rmtree(run / "last")
        train(config.with_options(resume=True))
        assert len(rows(run)) == epochs and (run / "last").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("frozen_features", [True, False], ids=["features", "pixels"])
def test_mixed_clips_are_learnt(options, tmp_path, folder_writer, frozen_features):
    still = {"instance_dropout": 0, "feature_dropout": 0, "label_smoothing": 0, "lora_layers": 1}
    changes = {"frozen_features": frozen_features, "feature_views": 1, "validation_fraction": 0, "mixup": 0.2}
    changes |= {"dataset": str(folder_writer(tmp_path / "few", people=2)), "model_options": still}
    changes |= {"epochs": 20 if frozen_features else 8, "batch_size": 6, "new_lr": 2e-2, "prompts_lr": 1e-2}
    losses = [row["loss"] for row in rows(train(TrainingConfig.from_options(**options | changes)))]
    assert min(losses[-3:]) < 0.85 * max(losses[:3])


def test_mixup_of_several_labels(options, tmp_path, folder_writer):
    folder = folder_writer(tmp_path / "clips", people=3)
    for split in ("train", "test"):
        metadata = folder / split / "metadata.jsonl"
        metadata.write_text(metadata.read_text().replace('"label": "happy"', '"label": "happy_neutral"'))
    changes = {"dataset": str(folder), "label_kind": "multiple", "mixup": 0.4, "epochs": 1, "frozen_features": True}
    changes |= {"validation_fraction": 0}
    assert rows(train(TrainingConfig.from_options(**options | changes)))[0]["loss"] > 0


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_weight(options, tmp_path, monkeypatch):
    """It is switched on in both towers, and the result is the same."""
    switched = []
    enable = TGDFERForVideoClassification.gradient_checkpointing_enable

    def recorded(self, *args, **kwargs):
        enable(self, *args, **kwargs)
        switched.append(
            {name.split(".")[2] for name, m in self.named_modules() if getattr(m, "gradient_checkpointing", 0)}
        )

    monkeypatch.setattr(TGDFERForVideoClassification, "gradient_checkpointing_enable", recorded)
    base = options | {"epochs": 1, "model_options": {"lora_layers": 1, "lora_text_layers": 1, "lora_dropout": 0.1}}
    plain = train(TrainingConfig.from_options(**base))
    changes = {"gradient_checkpointing": True, "output": str(tmp_path / "checkpointed")}
    other = train(TrainingConfig.from_options(**base | changes))
    assert len(switched) == 1 and {"vision_model", "text_model"} <= switched[0]
    one, two = weights(plain), weights(other)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_lora_options_reach_the_saved_models(options):
    fields = {"lora_options": {"r": 2, "use_rslora": True}, "epochs": 1}
    run = train(TrainingConfig.from_options(**options | fields))
    model, _ = load_trained(run / "best")
    assert model.config.lora_options == fields["lora_options"] and not model.has_lora
    adapter = load_file(run / "best" / "adapter" / "tgdfer_adapter.safetensors")
    assert {len(value) for name, value in adapter.items() if "lora_A" in name} == {2}
    assert json.loads((run / "training.json").read_text())["lora"]["options"] == fields["lora_options"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lora_options": {"use_dorra": True}}, "unknown field 'use_dorra'; did you mean 'use_dora'"),
        ({"lora_options": {"task_type": "x"}}, "`lora_options` cannot set 'task_type'"),
        ({"lora_text_options": {"r": 2}}, "`lora_text_layers` is 0"),
        ({"lora_options": {"r": 2}, "frozen_features": True}, "lora_options has fields, but frozen_features trains"),
        ({"model_options": {"lora_options": {"r": 2}}}, "unknown field 'lora_options'"),
        ({"early_stopping": 2, "validation_fraction": 0}, "early_stopping needs validation clips"),
        ({"freeze": ["relevanse"]}, "freeze has 'relevanse'.*did you mean 'relevance'"),
        ({"unfreeze": ["vision"], "frozen_features": True}, "weights of the vision tower, but frozen_features"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(options, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        train(TrainingConfig.from_options(**options | changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"ema": 1.0}, {"ema": 0}, {"early_stopping": 0}, {"mixup": -1.0}])
def test_values_out_of_range(options, changes):
    with pytest.raises(UserError, match=min(changes)):
        TrainingConfig.from_options(**options | changes)


def test_missing_compiler_is_one_sentence(options, tmp_path, monkeypatch):
    def no_compiler(*args, **kwargs):
        raise RuntimeError("No working C++ compiler found\nin the path")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(UserError, match=r"compiler found in the path\): install a C\+\+ compiler, such as g\+\+"):
        train(TrainingConfig.from_options(**options | {"torch_compile": True}))
    assert not (tmp_path / "run").exists()


def assert_compiled_run_is_the_same(options, folder):
    """Trains without and with `torch_compile`, without dropout and with few parts, which compile faster."""
    still = {"instance_dropout": 0, "feature_dropout": 0, "context": "none", "visual_prompts": False}
    base = options | {"epochs": 1, "frozen_features": True, "ema": 0.9, "model_options": still}
    one = weights(train(TrainingConfig.from_options(**base)))
    two = weights(
        train(TrainingConfig.from_options(**base | {"torch_compile": True, "output": str(folder / "second")}))
    )
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)


@pytest.mark.slow
def test_traced_network_learns_the_same(options, tmp_path, monkeypatch):
    """The network is traced as for a compiler, but not compiled, which takes long."""
    compile_, graphs = torch.compile, []

    def count_graphs(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend=count_graphs))
    monkeypatch.setattr(training, "require_compiler", lambda device: None)
    assert_compiled_run_is_the_same(options, tmp_path)
    assert graphs


@pytest.mark.slow  # the compiler takes minutes
@pytest.mark.timeout(3600)
def test_compiled_network_learns_the_same(options, tmp_path):
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch.compile needs a C++ compiler.")
    # Without a validation, there is one graph less. The test above traces that of the validation as well.
    assert_compiled_run_is_the_same(options | {"batch_size": 5, "validation_fraction": 0.0}, tmp_path)
