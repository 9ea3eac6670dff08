"""The benchmark as a user runs it: all rows on small clips, stopped and gone on with, and the report."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.baselines import __main__ as command
from benchmarks.baselines import rows as room
from benchmarks.baselines.report import ORDER, read_results, write_report
from benchmarks.baselines.rows import rows_of
from benchmarks.harness import lora, runner
from benchmarks.harness.comparison import CHANCE, RANDOM
from benchmarks.harness.ground import Settings, Truth, real_ground, rendered_ground
from benchmarks.harness.row import Row
from benchmarks.harness.runner import row_key, run_rows, runs_of
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces

SMALL = RenderedFaces(size=32, supersampling=1, frames=(8, 12))
FAR = time.monotonic() + 1e6
LABELS = ["happiness", "neutral", "sadness"]


@pytest.fixture(scope="module")
def settings(clip_folder, tmp_path_factory) -> Settings:
    words = tmp_path_factory.mktemp("words") / "descriptions.yaml"
    words.write_text(yaml.safe_dump({label: [f"shows {label}", "a face"] for label in EMOTIONS}))
    return Settings(
        model=str(clip_folder),
        descriptions=str(words),
        faces=SMALL,
        clips=5,
        test_clips=1,
        num_frames=4,
        views=2,
        lora_views=1,
        seeds=(0,),
        epochs=2,
        lora_epochs=1,
    )


@pytest.fixture(scope="module")
def measured(settings, clips_folder, tmp_path_factory):
    """All rows on rendered clips and on a folder."""
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        # Epochs of TG-DFER and rates of the others are many, and not what is tested here.
        patch.setattr(lora, "LORA_RATES", (1e-3, 1e-2))
        patch.setattr(room, "HEAD_RATES", (1e-3, 1e-2))
        patch.setattr(lora, "WARM", replace(lora.WARM, epochs=1))
        usual = type(real_ground(settings, clips_folder)).config
        patch.setattr("benchmarks.harness.ground.Ground.config", lambda *a, **o: usual(*a, **{"epochs": 1} | o))
        for ground in (rendered_ground(settings, work), real_ground(settings, clips_folder)):
            assert run_rows(ground, rows_of(ground), work, "the command", FAR)
    return work


def test_every_row_is_kept_with_what_it_rests_on(measured):
    grounds = read_results(measured)
    assert [results.name for results in grounds] == ["rendered", "real"]
    for results in grounds:
        assert list(results.rows) == [name for name in ORDER if name != "tgdfer-lora"] and not results.unfinished
        for state in results.rows.values():
            assert state["complete"]
            for run in runs_of(state).values():
                assert run["command"] == "the command" and "core" in run["machine"]
                assert run["seconds"] >= 0 and set(run["versions"]) >= {"torch", "transformers"} and "commit" in run
                if run["predicted"] != CHANCE:
                    assert len(run["predicted"]) == len(results.truth.labels)
                    assert set(run["predicted"]) <= set(results.truth.classes)
                if run["scores"] != RANDOM:
                    assert [len(s) for s in run["scores"]] == [len(i) for i in results.truth.intensity]
    assert not list((measured / "scratch").glob("*")), "runs of the training loop are removed"


def test_choices_are_kept_beside_the_figures(measured):
    rows = read_results(measured)[1].rows
    assert set(rows["lora-top"]["parts"]) == {"precision", "rate 0.001", "rate 0.01", *(f"fold {i}" for i in range(5))}
    assert rows["lora-mean"]["parts"]["fold 3"]["chosen"]["rate"] in (1e-3, 1e-2)
    assert rows["frozen-top"]["parts"]["seed 0"]["chosen"]["epochs"] in (1, 2)
    assert rows["frozen-mean"]["parts"]["seed 0"]["chosen"]["C"] > 0
    audit = rows["position"]["parts"]["once"]["audit"]
    assert rows["position"]["figures"]["frame_ap"][0] == audit["middle"]["frame_ap"]
    assert set(audit) == {"first", "last", "middle", "edges"}


def test_colours_that_tell_the_label_are_read(measured):
    """The clips of the folder are coloured at their apex: whoever is told the apex must find all labels."""
    rows = read_results(measured)[1].rows
    assert rows["oracle"]["figures"]["uar"][0] == 1
    assert rows["random"]["figures"]["uar"][0] == pytest.approx(1 / 3)
    assert rows["frozen-mean"]["figures"]["frame_ap"][0] > rows["random"]["figures"]["frame_ap"][0]


def test_truth_of_the_training_frames_is_read_by_the_oracle_alone(settings, clips_folder, monkeypatch, tmp_path):
    """Nothing of the rows that train on frozen features changes when the intensity of train is another."""
    keys = {}
    for swapped in (False, True):
        ground = real_ground(settings, clips_folder)
        clips = ground.train
        if swapped:
            other = [[1.0 - value for value in values] for values in clips.intensity]
            ground.__dict__["train"] = replace(clips, intensity=other)
        by_name = {row.name: row for row in rows_of(ground)}
        keys[swapped] = {
            name: by_name[name].run("seed 0", {}, tmp_path)["scores"]
            for name in ("frozen-mean", "frozen-top", "oracle")
        }
    assert keys[False]["frozen-mean"] == keys[True]["frozen-mean"]
    assert keys[False]["frozen-top"] == keys[True]["frozen-top"]
    assert keys[False]["oracle"] != keys[True]["oracle"]


# Resuming ------------------------------------------------------------------------------------------------------------


class FakeGround:
    """What the runner needs of a ground."""

    name, title = "fake", "fake clips"
    fingerprint, identity = "clips", "clips and weights"
    settings = Settings(num_frames=2)
    truth = Truth(LABELS, LABELS, ["a", "b", "a"], [[1.0, 0.0]] * 3)
    classes = LABELS

    def __init__(self, **changes):
        known = {"people": ["a", "b", "a"], "labels": LABELS, "classes": LABELS}
        self.train = self.test = type("Three", (), {**known, "__len__": lambda _: 3})()
        self.people = self.train.people
        self.__dict__.update(changes)


def row(ran: list[str], name="row", parts=("seed 0", "seed 1"), fails_at=None, **config) -> Row:
    def run(part, earlier, folder):
        if part == fails_at:
            raise KeyboardInterrupt
        ran.append(part)
        folder.mkdir(parents=True)
        return {"predicted": LABELS, "scores": [[1.0, 0.0]] * 3, "before": len(earlier)}

    return Row(name, name, parts, run, config)


def test_finished_parts_are_not_run_again(tmp_path):
    ran: list[str] = []
    assert run_rows(FakeGround(), [row(ran)], tmp_path, "", FAR)
    assert run_rows(FakeGround(), [row(ran)], tmp_path, "", FAR)
    assert ran == ["seed 0", "seed 1"]


@pytest.mark.parametrize(
    ("ground", "config"),
    [({"identity": "others"}, {}), ({}, {"rate": 1})],
    ids=["ground", "config"],
)
def test_row_is_run_again_when_what_decides_it_has_changed(tmp_path, ground, config):
    ran: list[str] = []
    run_rows(FakeGround(), [row(ran)], tmp_path, "", FAR)
    run_rows(FakeGround(**ground), [row(ran, **config)], tmp_path, "", FAR)
    assert ran == ["seed 0", "seed 1"] * 2
    assert row_key(FakeGround(), row([])) != row_key(FakeGround(**ground), row([], **config))


def test_interrupted_run_goes_on_and_leaves_no_half_written_file(tmp_path):
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_rows(FakeGround(), [row(ran, fails_at="seed 1")], tmp_path, "", FAR)
    folder = tmp_path / "results" / "fake"
    assert sorted(path.name for path in folder.iterdir()) == ["ground.json", "row.json"]
    half = json.loads((folder / "row.json").read_text())
    assert list(half["parts"]) == ["seed 0"] and not half["complete"]
    assert run_rows(FakeGround(), [row(ran)], tmp_path, "", FAR)
    whole = json.loads((folder / "row.json").read_text())
    assert ran == ["seed 0", "seed 1"] and whole["complete"]
    assert whole["parts"]["seed 1"]["before"] == 1, "a part is given what the earlier ones found"


def test_interrupted_write_leaves_the_file_before_it(tmp_path, monkeypatch):
    run_rows(FakeGround(), [row([], parts=("seed 0",))], tmp_path, "", FAR)
    path = tmp_path / "results" / "fake" / "row.json"
    before = path.read_text()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            run_rows(FakeGround(), [row([], parts=("seed 0",), rate=2)], tmp_path, "", FAR)
    assert path.read_text() == before


def test_no_part_is_begun_after_the_end(tmp_path, monkeypatch):
    ran: list[str] = []
    now = iter([0.0, 2.0])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(now))
    assert not run_rows(FakeGround(), [row(ran)], tmp_path, "", end=1.0)
    assert ran == ["seed 0"]


def test_rows_can_be_named_and_unknown_ones_are_refused(tmp_path):
    ran: list[str] = []
    rows = [row(ran, "one", ("seed 0",)), row(ran, "two", ("seed 1",)), replace(row(ran, "three"), by_default=False)]
    run_rows(FakeGround(), rows, tmp_path, "", FAR, only=["two"])
    assert ran == ["seed 1"]
    run_rows(FakeGround(), rows, tmp_path, "", FAR)
    assert ran == ["seed 1", "seed 0"]
    with pytest.raises(UserError, match="no row 'tow'; did you mean 'two'"):
        run_rows(FakeGround(), rows, tmp_path, "", FAR, only=["tow"])


def test_interrupted_training_goes_on_from_its_checkpoint(settings, clips_folder, tmp_path, monkeypatch):
    asked = []

    def interrupted(config):
        asked.append((config.run.resume, config.model.frozen_features, config.run.seed))
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "train", interrupted)
    ground = real_ground(settings, clips_folder)
    tgdfer = next(row for row in rows_of(ground) if row.name == "tgdfer")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_rows(ground, [tgdfer], tmp_path, "", FAR)
    assert asked == [(False, True, 0), (True, True, 0)]


def test_what_decides_tgdfer_is_in_its_key(settings, clips_folder, monkeypatch):
    ground = real_ground(settings, clips_folder)

    def key():
        return row_key(ground, next(row for row in rows_of(ground) if row.name == "tgdfer"))

    first, usual = key(), type(ground).config
    assert key() == first
    with monkeypatch.context() as patch:
        patch.setattr(room, "source_hash", lambda package: "other code")
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setattr(type(ground), "config", lambda *a, **o: usual(*a, **{"epochs": 1} | o))
        assert key() != first


def test_damaged_results_are_named(tmp_path):
    run_rows(FakeGround(), [row([])], tmp_path, "", FAR)
    path = tmp_path / "results" / "fake" / "row.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="row.json cannot be read .*remove it"):
        run_rows(FakeGround(), [row([])], tmp_path, "", FAR)


# Rendering -----------------------------------------------------------------------------------------------------------


def test_clips_are_rendered_once_and_again_when_their_numbers_change(settings, tmp_path):
    few = replace(settings, clips=1)
    folder = rendered_ground(few, tmp_path).folder
    video = min(folder.rglob("*.mp4"))
    before = video.stat().st_mtime_ns
    rendered_ground(few, tmp_path)
    assert video.stat().st_mtime_ns == before
    ground = rendered_ground(replace(few, test_clips=2), tmp_path)
    assert len(list((folder / "test").rglob("*.mp4"))) == 2 * len(EMOTIONS)
    assert set(ground.train.people).isdisjoint(ground.test.people)


def test_folder_of_something_else_is_not_touched(settings, tmp_path):
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="rendered holds something .*--work"):
        rendered_ground(settings, tmp_path)


# Report --------------------------------------------------------------------------------------------------------------


def test_report_on_two_grounds(measured, tmp_path):
    path = tmp_path / "docs" / "baselines.md"
    write_report(measured, path)
    text = path.read_text()
    assert text.count("| TG-DFER, frozen | ") == 4 and "## Rendered faces" in text and "## Real faces" in text
    assert "](baselines.png)" in text and (path.parent / "baselines.png").stat().st_size > 10_000
    assert str(measured) not in text and str(tmp_path) not in text
    facts = json.loads(path.with_suffix(".json").read_text())
    assert set(facts) == {"rendered", "real"} and "predicted" not in path.with_suffix(".json").read_text()
    oracle = facts["real"]["rows"]["oracle"]
    value, low, high = oracle["differences"]["baseline"]["uar"]
    assert low <= value <= high
    assert f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in text
    assert str(measured) not in path.with_suffix(".json").read_text()


def test_report_on_one_ground_with_a_row_that_is_not_done(tmp_path):
    ran: list[str] = []
    run_rows(FakeGround(), [row(ran, "frozen-mean"), row(ran, "tgdfer")], tmp_path, "", FAR)
    with pytest.raises(KeyboardInterrupt):
        run_rows(FakeGround(), [row(ran, "oracle", fails_at="seed 1")], tmp_path, "", FAR)
    write_report(tmp_path, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert "## Fake clips" in text and text.count("## ") == 2
    assert "| frozen-mean | 100.0 ±0.0 | 100.0 ±0.0 |" in text and "Not measured to the end: oracle." in text


def test_rows_of_another_ground_are_left_out(tmp_path):
    run_rows(FakeGround(), [row([], "frozen-mean"), row([], "tgdfer")], tmp_path, "", FAR)
    run_rows(FakeGround(identity="other"), [row([], "tgdfer")], tmp_path, "", FAR)
    assert list(read_results(tmp_path)[0].rows) == ["tgdfer"]


# Command line --------------------------------------------------------------------------------------------------------


def test_mistakes_are_one_sentence_and_code_2(tmp_path):
    answer = CliRunner().invoke(command.app, ["report", "--work", str(tmp_path), "--out", str(tmp_path / "out.md")])
    assert answer.exit_code == 2 and "no finished rows" in answer.output and "Traceback" not in answer.output
    assert not (tmp_path / "out.md").exists()


def test_command_is_kept_without_paths_and_time_runs_out_cleanly(tmp_path, monkeypatch, settings, clips_folder):
    asked = []
    monkeypatch.setattr(command, "rendered_ground", lambda settings, work: FakeGround())
    monkeypatch.setattr(command, "real_ground", lambda settings, folder: FakeGround(name=folder.name))
    monkeypatch.setattr(command, "rows_of", lambda ground: [])
    monkeypatch.setattr(command, "run_rows", lambda *a: asked.append(a) or len(asked) < 2)
    arguments = ["run", "--work", str(tmp_path), "--real", str(clips_folder), "--clips", "6", "--row", "oracle"]
    answer = CliRunner().invoke(command.app, [*arguments, "--model", settings.model, "--minutes", "1"])
    assert answer.exit_code == 0 and "the same command goes on" in answer.output
    assert [ground.name for ground, *_ in asked] == ["fake", "clips"]
    assert asked[0][3] == "python -m benchmarks.harness run --model clip --clips 6 --row oracle --real FOLDER"
    assert asked[0][5] == ["oracle"]
