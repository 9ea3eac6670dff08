"""Whether explanations are true, and answers rest on their frames: what measures it, by hand and for real."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from benchmarks.baselines import __main__ as command
from benchmarks.explanation import rows as room
from benchmarks.explanation.faithfulness import faithfulness
from benchmarks.explanation.named_units import NAMED_UNITS, NOT_RENDERED, rendered_units
from benchmarks.explanation.report import write_explanation_report
from benchmarks.explanation.rows import (
    ACTIVE,
    explained,
    explanation_rows,
    moved_units,
    shuffled,
    truth_of_frames,
    truth_of_words,
)
from benchmarks.harness.ground import Ground, Settings, rendered_ground
from benchmarks.harness.runner import run_rows
from recipes.clip_tiny_faces.captions import FACE
from tgdfer.modeling_tgdfer.configuration_tgdfer import BASIC_EMOTIONS
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.processing.explanation_tgdfer import Description, Explanation, Span
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import ACTION_UNITS, EMOTIONS, INDEX, PROTOTYPES, RenderedFaces

# Named units ---------------------------------------------------------------------------------------------------------


def test_every_description_of_what_a_face_does_has_its_units():
    for label, texts in built_in_descriptions(NAMED_UNITS).items():
        *faces, _situation = texts
        assert list(NAMED_UNITS[label]) == faces, label
        for text, units in NAMED_UNITS[label].items():
            assert set(units) <= {*ACTION_UNITS, *NOT_RENDERED}, text
            assert list(units) == sorted(set(units)) and (units or label == "neutral"), text
    assert not set(ACTION_UNITS) & set(NOT_RENDERED)


def test_named_units_agree_with_the_captions():
    """A phrase that captions use of one action unit, or of several, must name it, or one of them, here too."""
    checked = 0
    for words in NAMED_UNITS.values():
        for text, units in words.items():
            used = {p: needs for needs, phrases in FACE.items() for p in phrases if p in text and " " in p}
            for phrase, needs in used.items():
                present = {need for need in needs if not need.startswith("no ")}
                # Eyes narrowed by the cheeks are not narrowed by their lids.
                part_of_another = any(phrase in other for other in used if other != phrase)
                if present and not part_of_another:
                    assert present & set(units), (text, phrase)
                    checked += 1
    assert checked > 20


def test_named_units_are_of_the_prototypes():
    for label in set(BASIC_EMOTIONS) - {"neutral"}:
        shown = {unit for variant in PROTOTYPES[label] for unit in variant}
        for text in NAMED_UNITS[label]:
            assert rendered_units(text) and shown & set(rendered_units(text)), text


def test_units_that_are_not_rendered_and_words_that_are_not_built_in():
    assert rendered_units("upper lids drooping, eyes wet and cast down, dull gaze") == ("AU43",)
    assert rendered_units("a sad person grieving over a loss or a farewell, head bowed") == ()


# Truth by hand -------------------------------------------------------------------------------------------------------

BROWS, JAW, GASP = (list(NAMED_UNITS["surprise"])[index] for index in (0, 2, 3))
SMILE, CHEEKS = list(NAMED_UNITS["happiness"])[:2]
STARTLED, CALM = "startled", list(NAMED_UNITS["neutral"])[3]
WORDS = {"surprise": [BROWS, JAW, STARTLED], "happiness": [SMILE, CHEEKS], "neutral": [CALM]}


def explanation(label: str, texts: list[str], spans=((0, 0),), gains=(1.0,) * 3) -> Explanation:
    """Whose descriptions fit best in this order."""
    ranked = [Description(text, 1 / (1 + place), gains[place]) for place, text in enumerate(texts)]
    return Explanation(label, 0.9, [Span(*span, None, None, 0.5) for span in spans], ranked)


def active(*frames: set[str]) -> np.ndarray:
    return np.array([[unit in shown for unit in ACTION_UNITS] for shown in frames])


def test_truth_of_words_by_hand():
    """Of the brows' two units both are active in one frame of two, of the jaw's two one in one."""
    shown = active({"AU01", "AU02", "AU25"}, set())
    found = truth_of_words([explanation("surprise", [STARTLED, JAW, BROWS], gains=(1.0, 0.1, 0.2))], [shown], WORDS)
    assert found == {
        "explained": 0.25,  # the jaw; who is startled names no unit
        "cosine": 0.25,
        "gain": 0.5,
        "same_class": 0.375,
        "any_class": 0.1875,  # and nobody smiles
        "best": 0.5,
        "clips": 1,
    }
    fading = explanation("surprise", [JAW, BROWS], gains=(-0.1, 0.2))
    found = truth_of_words([fading, explanation("neutral", [CALM])], [shown, shown], WORDS)
    assert (found["explained"], found["cosine"], found["clips"]) == (0.5, 0.25, 1)
    found = truth_of_words([explanation("happiness", [SMILE, CHEEKS])], [active({"AU12"})], WORDS)
    assert found["explained"] == 0.5 and found["any_class"] == 0.125, "half of the smile is AU12"
    assert truth_of_words([explanation("neutral", [CALM])], [shown], WORDS) == {"clips": 0}


def test_where_nothing_stands_out_there_is_no_choice_and_a_whole_clip_has_one():
    shown = active({"AU01", "AU02"})
    for gains, expected in (((0.0, -0.1), 0.5), ((None, None), 1.0)):
        found = truth_of_words([explanation("surprise", [BROWS, JAW], gains=gains)], [shown], WORDS)
        assert (found["explained"], found["same_class"], found["best"]) == (expected, 0.5, 1.0)


def test_truth_of_frames_by_hand():
    spans = [(0, 1), (3, 3)]
    found = truth_of_frames(
        [explanation(label, [], spans) for label in ("fear", "fear", "neutral", "anger")],
        ["fear", "anger", "neutral", "anger"],
        [[1.0, 0.4, 0.6, 0.9, 0.0], [1.0] * 5, [0.0] * 5, [0.0] * 5],  # mistaken, neutral, never shown
    )
    assert found == {"right": pytest.approx(2 / 3), "found": pytest.approx(2 / 3), "chance": 0.6, "clips": 1}


def test_shuffled_descriptions_are_those_of_others():
    words = built_in_descriptions()
    words["fear"] = words["fear"][:4]
    mixed = shuffled(words, seed=3)
    assert mixed["neutral"] == words["neutral"]
    assert {label: len(texts) for label, texts in mixed.items()} == {
        label: len(texts) for label, texts in words.items()
    }
    for label in set(words) - {"neutral"}:
        assert not set(mixed[label]) & set(words[label])
    assert sorted(sum(mixed.values(), [])) == sorted(sum(words.values(), []))
    assert shuffled(words, seed=3) == mixed != shuffled(words, seed=4)


# Faithfulness --------------------------------------------------------------------------------------------------------


def by_the_mean(scored):
    """A head whose logits are the mean of the frames; frames are scored by `scored(frames)`."""

    def answer(frames, mask, timestamps):
        weight = mask.unsqueeze(-1) / mask.sum(1).view(-1, 1, 1)
        return (frames * weight).sum(1), scored(frames).masked_fill(~mask.unsqueeze(-1), -torch.inf)

    return answer


def clips() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two clips of eight frames, of which two speak for the first or the second class, and four masked ones."""
    frames = torch.zeros(2, 12, 2)
    frames[0, [1, 6], 0] = frames[1, [4, 5], 1] = 8.0
    frames[:, 8:] = 100.0
    mask = torch.arange(12).expand(2, 12) < 8
    return frames, mask, torch.zeros(2, 12)


def test_frames_that_decide_are_missed_and_do_alone():
    found = faithfulness(by_the_mean(lambda frames: frames), *clips(), draws=200)
    chance = lambda logit: float(torch.tensor([logit, 0.0]).softmax(0)[0])  # noqa: E731
    assert found["all"] == pytest.approx(chance(2.0))
    assert found["without_top"] == pytest.approx(0.5 / chance(2.0))
    assert found["top_alone"] == pytest.approx(chance(8.0) / chance(2.0))
    # Of two random frames none decides in 15 of 28 draws, one in 12, both in one.
    odds = np.array([15, 12, 1]) / 28
    alone = odds @ [chance(0.0), chance(4.0), chance(8.0)] / chance(2.0)
    without = odds @ [chance(16 / 6), chance(8 / 6), chance(0.0)] / chance(2.0)
    assert found["random_alone"] == pytest.approx(alone, abs=0.03)
    assert found["without_random"] == pytest.approx(without, abs=0.03)


def test_scores_that_point_elsewhere_are_found_out():
    found = faithfulness(by_the_mean(lambda frames: -frames), *clips())
    assert found["without_top"] > 1 > found["top_alone"]
    assert found["without_top"] > found["without_random"]


def test_clip_of_one_frame_keeps_it():
    frames, mask = torch.tensor([[[3.0, 0.0]]]), torch.ones(1, 1, dtype=torch.bool)
    found = faithfulness(by_the_mean(lambda frames: frames), frames, mask, torch.zeros(1, 1))
    assert {value for name, value in found.items() if name != "all"} == {1.0}


# For real ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ground(clip_folder, tmp_path_factory) -> Ground:
    """Small rendered clips, and two built-in descriptions a label, the second a situation."""
    words = tmp_path_factory.mktemp("words") / "descriptions.yaml"
    words.write_text(yaml.safe_dump({label: [t[0], t[-1]] for label, t in built_in_descriptions().items()}))
    faces = RenderedFaces(size=32, supersampling=1, frames=(8, 12))
    settings = Settings(str(clip_folder), str(words), faces, 5, 1, num_frames=4, views=1, seeds=(0,), epochs=1)
    return rendered_ground(settings, tmp_path_factory.mktemp("work"))


def test_moved_units_are_those_of_the_frames_that_are_looked_at(ground):
    rows = (ground.folder / "test" / "metadata.jsonl").read_text().splitlines()
    found = dict(zip(ground.test.files, moved_units(ground), strict=True))
    for row in map(json.loads, rows):
        moved, length = found[f"test/{row['file_name']}"], len(row["intensity"])
        places = [int((2 * part + 1) * length / 8) for part in range(4)]  # middles of quarters
        for unit in ("AU12", "AU25"):
            expected = [row["action_units"][unit][place] >= ACTIVE for place in places]
            assert moved[:, INDEX[unit]].tolist() == expected


@pytest.fixture(scope="module")
def work(ground, tmp_path_factory):
    """The folder of all rows, run to their end."""
    folder = tmp_path_factory.mktemp("explained")
    usual = Ground.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "HEAD_RATES", (1e-3,))
        patch.setattr(Ground, "config", lambda *a, **o: usual(*a, **{"epochs": 1} | o))
        assert run_rows(ground, explanation_rows(ground), folder, "the command", time.monotonic() + 1e6)
        patch.setattr(room, "train", lambda config: pytest.fail("what is done is run again"))
        assert run_rows(ground, explanation_rows(ground), folder, "the command", time.monotonic() + 1e6)
    return folder


def test_report_says_what_was_measured(work, tmp_path):
    path = tmp_path / "docs" / "explanation.md"
    write_explanation_report(work, path)
    text, facts = path.read_text(), json.loads(path.with_suffix(".json").read_text())
    assert list(facts["rows"]) == ["tgdfer", "class-words", "linear-mean", "linear-top", "shuffled"]
    for name, row in facts["rows"].items():
        figures = row["figures"]
        faithful = figures["faithful"]
        assert set(faithful) == {"all", "without_top", "without_random", "top_alone", "random_alone"}
        assert 0 < faithful["all"][0] <= 1 and faithful["without_top"][0] > 0
        assert bool(figures["words"]) == bool(figures["frames"]) == (not name.startswith("linear"))
        cells = [f"{100 * figures['figures']['uar'][0]:.1f}", f"{100 * faithful['all'][0]:.1f}"]
        shown = [*cells, *(f"{faithful[kind][0]:.2f}" for kind in list(faithful)[1:])]
        assert f"| {row['title']} | {' | '.join(shown)} |" in text
    for label in EMOTIONS:
        assert f"\n- {label}: *" in text
    for secret in (str(work), str(tmp_path)):
        assert secret not in text and secret not in path.with_suffix(".json").read_text()
    assert "`the command`" in text and "sentences" not in path.with_suffix(".json").read_text()


def test_class_words_answer_by_themselves_and_are_explained_by_descriptions(ground):
    model, processor = start_model(ground.config(frozen_features=True).model, ground.classes)
    words, processor.descriptions = processor.descriptions, {label: [label] for label in ground.classes}
    model.set_classes(processor.class_prompts())
    with torch.no_grad():
        model.log_scale.fill_(6.0)  # loud, so that some frames stand out
        seen = ground.features("test")
        answer = model(frame_features=seen.features[0].float(), timestamps=seen.timestamps[0]).logits.argmax(-1)
    run = explained(ground, model, processor, words)
    assert run["predicted"] == [ground.classes[index] for index in answer.tolist()]
    named = [
        (label, text)
        for label, sentence in zip(run["predicted"], run["sentences"], strict=True)
        for text in sentence.partition(": ")[2].split("; ")
        if text
    ]
    assert named and all(text in words[label] for label, text in named)


def test_other_measures_or_words_are_other_rows(ground):
    def keys(ground):
        return {row.name: row.config for row in explanation_rows(ground)}

    first = keys(ground)
    assert len({json.dumps(config, sort_keys=True) for config in first.values()}) == 5
    other = keys(replace(ground, settings=replace(ground.settings, seeds=(1,))))
    assert first["shuffled"]["words"] != other["shuffled"]["words"]


def test_command_writes_the_report_when_all_is_done(ground, work, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(command, "rendered_ground", lambda settings, folder: ground)
    monkeypatch.setattr(command, "run_rows", lambda *a: asked.append(a) or len(asked) > 1)
    (tmp_path / "explanation").symlink_to(work)
    arguments = ["explain", "--work", str(tmp_path), "--out", str(tmp_path / "out.md"), "--clips", "6"]
    answer = CliRunner().invoke(command.app, [*arguments, "--minutes", "1"])
    assert answer.exit_code == 0 and "the same command goes on" in answer.output
    assert not (tmp_path / "out.md").exists()
    answer = CliRunner().invoke(command.app, arguments)
    assert answer.exit_code == 0 and "out.md is written" in answer.output.replace("\n", "")
    assert (tmp_path / "out.md").read_text().startswith("# Are the explanations true?")
    assert asked[0][2] == tmp_path / "explanation", "not among the baselines"
    assert asked[0][3] == "python -m benchmarks.harness explain --clips 6"
