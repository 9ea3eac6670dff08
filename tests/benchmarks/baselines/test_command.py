"""The command of the baselines."""

from made_up_results import FakeDataset
from typer.testing import CliRunner

from benchmarks.baselines import __main__ as command


def test_mistakes_are_one_sentence_and_code_2(tmp_path):
    answer = CliRunner().invoke(command.app, ["report", "--work", str(tmp_path), "--out", str(tmp_path / "out.md")])
    assert answer.exit_code == 2 and "no finished rows" in answer.output and "Traceback" not in answer.output
    assert not (tmp_path / "out.md").exists()


def test_command_is_kept_without_paths_and_time_runs_out_cleanly(tmp_path, monkeypatch, settings, clips_folder):
    asked = []
    monkeypatch.setattr(command, "rendered_dataset", lambda settings, work: FakeDataset())
    monkeypatch.setattr(command, "real_dataset", lambda settings, folder: FakeDataset(name=folder.name))
    monkeypatch.setattr(command, "rows_of", lambda dataset: [])
    monkeypatch.setattr(command, "run_rows", lambda *a: asked.append(a) or len(asked) < 2)
    arguments = ["run", "--work", str(tmp_path), "--real", str(clips_folder), "--clips", "6", "--row", "oracle"]
    answer = CliRunner().invoke(command.app, [*arguments, "--model", settings.model, "--minutes", "1"])
    assert answer.exit_code == 0 and "Run the same command again" in answer.output
    assert [dataset.name for dataset, *_ in asked] == ["fake", "clips"]
    assert asked[0][3] == "python -m benchmarks.baselines run --model clip --clips 6 --row oracle --real FOLDER"
    assert asked[0][5] == ["oracle"]
