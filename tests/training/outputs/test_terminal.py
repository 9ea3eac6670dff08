"""What is printed about predictions."""

import io
from typing import Any

import pytest
from made_up_predictions import of_frames, person, prediction, segment, two_people
from rich.console import Console

from tgdfer.training.outputs import print_results


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch):
    """Prints results, and gives the lines."""

    def run(results: dict[str, Any], width: int = 160) -> list[str]:
        said = io.StringIO()
        console = Console(file=said, width=width, color_system=None)
        monkeypatch.setattr("tgdfer.training.outputs.terminal.get_console", lambda: console)
        print_results(results)
        return said.getvalue().splitlines()

    return run


def cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def test_a_line_for_each_segment(printed) -> None:
    lines = printed({"talk.mp4": two_people()})
    assert cells(lines) == [
        ["talk.mp4", "1", "0:00.0", "0:01.8", "happiness", "83%", "a sign of happiness"],
        ["", "", "0:01.8", "0:04.1", "neutral", "83%", "a sign of neutral"],
        ["", "", "0:06.0", "0:09.2", "sadness", "83%", "a sign of sadness"],
        ["", "2", "0:04.1", "0:05.0", "unsure (happiness or sadness)", "45%"]
        + ["happiness, 4.1 s to 5.0 s: a sign of happiness"],
        ["", "", "0:05.0", "0:12.4", "happiness", "83%", "a sign of happiness"],
    ]
    assert lines[-3:] == [
        "talk.mp4, person 1: several expressions: happiness, then sadness.",
        "talk.mp4, person 2: The face is small: less than 32 pixels wide in 80 % of its frames.",
        "Faces were found by YuNet.",
    ]


def test_long_lists_are_summed_up(printed) -> None:
    many = [segment("happiness" if i % 2 else "neutral", float(i), i + 1 + 0.5 * (i % 2 == 0)) for i in range(20)]
    lines = printed({"long.mp4": prediction(person(1, many))})
    assert cells(lines) == [
        ["long.mp4", "1", "0:00.0", "0:20.0", "happiness", "87%"]
        + ["20 segments: neutral 60% of the time, happiness 40%"],
    ]
    lines = printed({f"{i}.mp4": two_people() for i in range(30)})
    assert len(cells(lines)) == 60 and lines[-2] == "40 more remarks are in the JSON (--json)."


def test_without_faces(printed) -> None:
    lines = printed({"frames": of_frames()})
    assert cells(lines) == [["frames", "0:00.0", "0:00.1", "happiness", "83%", "a sign of happiness"]]
    assert "not calibrated" in lines[-1] and "person" not in lines[1]


def test_missing_faces_are_told_of_one_person(printed) -> None:
    one = person(1, [segment("happiness", 0.0, 2.0)], without_face=[2.0, 2.5])
    assert sum(box is not None for box in one["boxes"]) == 3
    lines = printed({"a.mp4": prediction(one)})
    assert "a.mp4, person 1: no face in 22 of 25 sampled frames." in lines, "other shots are frames as well"


def test_names_with_brackets_are_printed_as_they_are(printed) -> None:
    """What rich reads as markup: an end without a beginning, and a style."""
    names = ["[/a].mp4", "[red]/a].mp4"]
    odd = prediction(person(1, [segment("[/joy]", 0.0, 2.0), segment("[bold]", 2.0, 4.0)]))
    lines = printed(dict.fromkeys(names, odd))
    assert [row[0] for row in cells(lines)][::2] == names
    assert [row[4] for row in cells(lines)] == ["[/joy]", "[bold]"] * 2
    assert f"{names[1]}, person 1: several expressions: [/joy], then [bold]." in lines


def test_nothing_is_printed_of_nothing(printed) -> None:
    assert printed({}) == []


def test_a_warning_about_the_whole_video_names_no_person(printed) -> None:
    result = two_people()
    for one in result["people"]:
        one["warnings"] = ["The frames have no timestamps: 25 frames per second are assumed."]
    assert "a.mp4: The frames have no timestamps: 25 frames per second are assumed." in printed({"a.mp4": result})


def test_a_warning_about_several_people_is_one_line(printed) -> None:
    result = two_people()
    for one, share in zip(result["people"], (100, 60), strict=True):
        one["warnings"] = [f"The face is small: narrow in {share}% of its frames."]
    result["people"][1]["warnings"].append("The face is dark: night in 70% of its frames.")
    numbers = [one["person"] for one in result["people"]]
    lines = printed({"a.mp4": result})
    low, high = sorted(numbers)
    assert f"a.mp4, persons {low} and {high}: The face is small: narrow for most of the time." in lines
    assert f"a.mp4, person {numbers[1]}: The face is dark: night in 70% of its frames." in lines


def test_the_table_names_one_description(printed) -> None:
    result = two_people()
    result["people"][0]["segments"][0]["sentence"] = "joy, 0.0 s to 1.0 s: brows, raised; a mouth that is open"
    lines = printed({"a.mp4": result})
    assert any("brows, raised" in line for line in lines) and not any("a mouth that is open" in line for line in lines)
