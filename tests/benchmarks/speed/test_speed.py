"""The speed benchmark on a network of toy size: every part, stopped and gone on with, and the report."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.speed import processes
from benchmarks.speed.networks import TRAINING_MODES, Sizes, Step
from benchmarks.speed.parts import measure, parts_of
from benchmarks.speed.processes import measure_parts
from benchmarks.speed.report import write_speed_report

pytestmark = pytest.mark.slow

SMALL = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 5, "num_attention_heads": 2}
TOKENS = {"vocab_size": 100, "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
CLIP = {
    "projection_dim": 16,
    "text_config": {**SMALL, **TOKENS, "num_hidden_layers": 1},
    "vision_config": {**SMALL, "image_size": 32, "patch_size": 16},
}


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    return Sizes(
        clip=CLIP,
        frames=(2,),
        train_frames=4,
        batches=(2,),
        epoch_clips=6,
        epoch_batch=4,
        growth={"frames": (8, 16), "classes": (7, 9), "descriptions": (1, 2)},
        repetitions=2,
        threads=torch.get_num_threads(),
    )


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measures where the test runs, not in a process for each part; gives the parts that were measured.

    The memory of a step is given: this process has had more at its height, so that a step here seems to need none.
    """
    measured = []

    def here(sizes, arguments):
        measured.append(arguments["kind"])
        part = json.loads(json.dumps(measure(sizes, **arguments)))
        if arguments["kind"] == "training-memory":
            part["peak"] = 2.0 if arguments["way"] == "vision" else 1.0
        return part

    monkeypatch.setattr(processes, "_measure_in_process", here)
    return measured


def test_every_part_is_measured_once_and_reported(sizes, in_this_process, tmp_path) -> None:
    names = list(parts_of(sizes))
    assert len(names) == len(set(names)) == 1 + 2 * 6 + 2 + 2 * 7
    measured = measure_parts(sizes, tmp_path / "work", ["cpu"])
    assert list(measured["cpu"]) == names and len(in_this_process) == len(names)
    for part in measured["cpu"].values():
        rounds = 8 if part["part"]["kind"] == "growth" else 2
        assert all(len(times) == rounds and min(times) > 0 for times in part.get("seconds", {}).values())
        assert ("peak" in part) == part["part"]["kind"].endswith("memory") != ("seconds" in part)

    (tmp_path / "work" / f"cpu-{names[3]}.json").unlink()  # as if the run had been stopped before it
    assert measure_parts(sizes, tmp_path / "work", ["cpu"])["cpu"].keys() == measured["cpu"].keys()
    assert len(in_this_process) == len(names) + 1

    write_speed_report(sizes, measured, tmp_path / "performance.md", tmp_path / "performance.json")
    text = (tmp_path / "performance.md").read_text("utf-8")
    assert (tmp_path / "performance.png").stat().st_size > 10_000
    assert "| 2 | LoRA on the last four vision blocks |" in text and " | 1 | 0.50 |" in text
    assert all(len(line) <= 119 for line in text.splitlines() if not line.startswith("|"))
    assert "not measured yet" not in text
    figures = json.loads((tmp_path / "performance.json").read_text("utf-8"))["cpu"]["figures"]
    seconds = measured["cpu"]["inference-2x2"]["seconds"]
    rounds = sorted(over / under for over, under in zip(seconds["network"], seconds["tower"], strict=True))
    assert figures["inference-2x2"]["over_tower"] == pytest.approx([sum(rounds) / 2, rounds[0], rounds[1]])

    (tmp_path / "work" / "cpu-training-all-2.json").unlink()
    early = measure_parts(sizes, tmp_path / "work", ["cpu"], end=0.0)
    assert measured["cpu"].keys() - early["cpu"].keys() == {"training-all-2"}
    write_speed_report(sizes, early, tmp_path / "early.md", tmp_path / "early.json")
    early_text = (tmp_path / "early.md").read_text("utf-8")
    assert (
        "- Two clips per step: some training modes are not measured yet." in early_text
        and "| 2 | both towers whole" not in early_text
    )


def test_a_part_is_measured_again_where_its_sizes_have_changed(sizes, in_this_process, tmp_path) -> None:
    one = {"inference-2x2": parts_of(sizes)["inference-2x2"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "parts_of", lambda sizes: one)
        measure_parts(sizes, tmp_path, ["cpu"])
        measure_parts(sizes, tmp_path, ["cpu"])
        measure_parts(replace(sizes, repetitions=1), tmp_path, ["cpu"])
    assert in_this_process == ["inference", "inference"]


def test_ways_train_what_they_say(sizes) -> None:
    cpu = torch.device("cpu")
    trained = {}
    for name, mode in TRAINING_MODES.items():
        step = Step(sizes, cpu, mode)
        trained[name] = {key for key, parameter in step.model.named_parameters() if parameter.requires_grad}
        assert (step.model.tgdfer.text_guidance.prompt_ids.shape[-1] == 40) == (not mode.trim_prompts)
    vision = {key for key in trained["vision"] if ".clip." in key}
    assert vision and all("vision_model" in key for key in vision)
    assert {key.split(".layers.")[1][0] for key in trained["lora"] if "lora_" in key} == {"1", "2", "3", "4"}
    assert trained["context"] - trained["lora"] == {"tgdfer.text_guidance.context.weight"}
    assert trained["context-uncut"] == trained["context"]
    assert any("text_model" in key for key in trained["all"] - trained["vision"])


def test_memory_is_that_of_the_process_of_a_part(sizes) -> None:
    heavy = torch.ones(2**24)  # 64 MiB that no other process has
    wide = {**CLIP, "vision_config": {**CLIP["vision_config"], "hidden_size": 512, "intermediate_size": 2048}}
    arguments = {"device": "cpu", "kind": "training-memory", "way": "vision", "batch": 1}
    measured = processes._measure_in_process(replace(sizes, clip=wide, repetitions=1), arguments)
    weights = 5 * 12 * 512**2 * 4 / 2**20  # of the blocks; with gradients and AdamW's two moments four times as much
    assert 4 * weights < measured["peak"] < 6 * weights
    assert heavy.sum() == 2**24
