"""Comparisons of two evaluations, on result files that are made up by hand."""

import json

import pytest

from tgdfer.command_line import main
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.evaluation.compare import compare_results

HEAD = "file,label,predicted,score,person,frame_ap,pointing\n"


def write(folder, right, people=None, order=None, **facts):
    """Writes the results of a model that is right in some of the clips, which are happy and sad in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, is_right in enumerate(right):
        label, other = ("happiness", "sadness")[:: 1 if number % 2 else -1]
        person = people[number] if people else ""
        rows.append(f"c/{number}.mp4,{label},{label if is_right else other},0.8,{person},,\n")
    (folder / "predictions.csv").write_text(HEAD + "".join(rows[row] for row in order or range(len(rows))))
    (folder / "metrics.json").write_text(json.dumps({"dataset": "clips", "split": "test"} | facts))
    return folder


def test_difference_and_its_interval_over_people(tmp_path):
    """Of 40 people with two clips each, model A is right for 30 and B for 20 of the same people."""
    people = [f"p{number // 2}" for number in range(80)]
    first = write(tmp_path / "a", [number < 60 for number in range(80)], people)
    second = write(tmp_path / "b", [number < 40 for number in range(80)], people)
    found = compare_results(first, second)
    assert (found["over"], found["units"], found["num_clips"]) == ("people", 40, 80)
    assert found["war"]["first"] == 0.75 and found["war"]["difference"] == 0.25
    low, high = found["war"]["interval"]
    # The share of ten people of 40 is binomial, because people are drawn and both models use the same draws.
    assert high - low == pytest.approx(2 * 1.96 * (0.25 * 0.75 / 40) ** 0.5, rel=0.12)
    assert found["num_right"] == {"both": 40, "only_first": 20, "only_second": 0, "neither": 20}
    assert found["frame_ap"] is None and set(found["recall"]) == {"happiness", "sadness"}
    assert found["ece"]["first"] == pytest.approx(0.05) and found["ece"]["second"] == pytest.approx(0.3)


def test_clips_are_matched_by_name(tmp_path):
    right = [True, False, True, True]
    first = write(tmp_path / "a", right)
    second = write(tmp_path / "b", right, order=[2, 0, 3, 1])
    found = compare_results(first / "metrics.json", second / "predictions.csv")
    assert found["war"]["interval"] == [0, 0] and found["num_right"]["both"] == 3 and found["over"] == "clips"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"split": "dev"}, "a was measured on the split 'test', but .*b on 'dev': evaluate both models on the same"),
        ({"dataset": "others"}, "on the data set 'clips', but .*b on 'others'"),
        ({"right": [True] * 3}, "a has a clip that .*b lacks, such as c/3.mp4"),
        ({"right": [True] * 6}, "b has 2 clips that .*a lacks, such as c/4.mp4"),
        ({"people": list("wxyz")}, "Only one of .*a and .*b says who is in a clip"),
    ],
)
def test_other_clips_are_named(tmp_path, change, sentence):
    first = write(tmp_path / "a", [True] * 4)
    second = write(tmp_path / "b", **{"right": [False] * 4} | change)
    with pytest.raises(UserError, match=sentence):
        compare_results(first, second)


def test_other_labels_and_other_people_are_named(tmp_path):
    first = write(tmp_path / "a", [True] * 4, people=list("wxyz"))
    second = write(tmp_path / "b", [True] * 4, people=list("wxyy"))
    with pytest.raises(UserError, match=r"c/3.mp4 has the person z in .*a, but y in .*b"):
        compare_results(first, second)
    table = first / "predictions.csv"
    table.write_text(table.read_text().replace("0.mp4,sadness", "0.mp4,fear"))
    with pytest.raises(UserError, match=r"c/0.mp4 has the label fear in .*a, but sadness in .*b"):
        compare_results(first, second)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, "has no predictions.csv, which `tgdfer evaluate` writes"),
        (HEAD, "has no rows: evaluate the model again"),
        ("file,label,predicted,score,person\nx,a,b,0.5,\n", "has no column 'frame_ap'"),
        (HEAD + "x,a,b,half,,,\n", "is damaged"),
        (HEAD + "x,a\n", "is damaged"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, table, sentence):
    first, second = write(tmp_path / "a", [True] * 4), write(tmp_path / "b", [True] * 4)
    if table is None:
        (second / "predictions.csv").unlink()
    else:
        (second / "predictions.csv").write_text(table)
    with pytest.raises(UserError, match=sentence):
        compare_results(first, second)


def test_command_compares_what_evaluate_wrote(
    random_model, clip_folder, clips_folder, descriptions_file, tmp_path, capsys
):
    data = EvaluationData(str(clips_folder))
    one = evaluate_model(random_model, data, output=tmp_path / "a", errors=0)
    other = evaluate_model(clip_folder, data, output=tmp_path / "b", descriptions=descriptions_file, errors=0)
    output = tmp_path / "new" / "comparison.json"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    for name in ("uar", "war", "frame_ap", "pointing"):
        assert found[name]["difference"] == pytest.approx(one[name] - other[name], abs=1e-4)
        assert found[name]["interval"][0] <= found[name]["difference"] <= found[name]["interval"][1]
    printed = capsys.readouterr().out
    assert "UAR (mean recall)" in printed and "Only A is right in" in printed and "over 5 people" in printed
    assert main(["compare", str(tmp_path / "a"), str(tmp_path)]) == 2
    assert "has no metrics.json" in capsys.readouterr().err
