"""The arguments of `tgdfer find`."""

import inspect

import pytest

from tgdfer.command_line import main
from tgdfer.processing.search_tgdfer import LIMIT, MIN_SCORE
from tgdfer.search_commands import find, split_words
from tgdfer.training.errors import UserError


def test_videos_come_first_and_then_phrases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talks").mkdir()
    words = ["talks", "a.mp4", "x/*.mkv", "https://a.b/c", "-", "raised brows", "eyes wide. mouth open"]
    assert split_words(words) == (words[:5], words[5:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["raised brows"], "'raised brows' is not a file or folder; name a video before the phrases"),
        (["a.mp4"], "There is no phrase to search for"),
        (["a.mp4", "smile", "b.mp4"], "'smile' is not a file, so it is a phrase, but 'b.mp4' comes after it"),
        (["a.mp4", " "], "is an empty phrase"),
    ],
)
def test_arguments_that_cannot_be_told_apart(words, message):
    with pytest.raises(UserError, match=message):
        split_words(words)


def test_defaults_are_those_of_the_pipeline():
    parameters = inspect.signature(find).parameters
    assert (parameters["top"].default, parameters["min_score"].default) == (LIMIT, MIN_SCORE)


def test_errors_are_sentences(capsys):
    assert main(["find", "a.mp4"]) == 2
    assert "There is no phrase" in capsys.readouterr().err
    assert main(["find", "a.mp4", "smile", "--every", "0"]) == 2
    assert "--every is 0, but must be between 1e-05 and 100000" in capsys.readouterr().err
