"""The report of the baselines."""

import json
import shutil

import pytest
from made_up_results import FAR, FakeDataset, row

from benchmarks.baselines.report import write_baselines_report
from benchmarks.harness.runner import run_rows


@pytest.mark.slow
def test_report_on_two_datasets(measured, tmp_path):
    path = tmp_path / "docs" / "baselines.md"
    figures = tmp_path / "figures" / "baselines.json"
    write_baselines_report(measured, path, figures)
    text = path.read_text()
    assert text.count("| TG-DFER, frozen | ") == 4 and "## Rendered faces" in text and "## Real faces" in text
    assert "](baselines.png)" in text and (path.parent / "baselines.png").stat().st_size > 10_000
    assert str(measured) not in text and str(tmp_path) not in text
    facts = json.loads(figures.read_text())
    assert set(facts) == {"rendered", "real"} and "predicted" not in figures.read_text()
    value, low, high = facts["real"]["differences"]["oracle"]["baseline"]["uar"]
    assert low <= value <= high
    assert f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in text
    assert str(measured) not in figures.read_text()
    # Single rows can be measured again later, on another machine.
    work = tmp_path / "work"
    shutil.copytree(measured / "results", work / "results")
    for kept in (work / "results" / "real").glob("*.json"):
        if kept.stem not in ("dataset", "tgdfer"):
            kept.unlink()
    write_baselines_report(work, path, figures)
    assert path.read_text() == text, "the published outcomes are precise enough"


def test_report_on_one_dataset_with_a_row_that_is_not_done(tmp_path):
    ran: list[str] = []
    run_rows(FakeDataset(), [row(ran, "frozen-mean"), row(ran, "tgdfer")], tmp_path, "", FAR)
    with pytest.raises(KeyboardInterrupt):
        run_rows(FakeDataset(), [row(ran, "oracle", fails_at="seed 1")], tmp_path, "", FAR)
    write_baselines_report(tmp_path, tmp_path / "report.md", tmp_path / "report.json")
    text = (tmp_path / "report.md").read_text()
    assert "## Fake clips" in text and text.count("## ") == 2
    assert "| frozen-mean | 100.0 ±0.0 | 100.0 ±0.0 |" in text and "Unfinished rows: oracle." in text
