"""Every block of code in the README runs as it is printed, in a folder like the one that the demo leaves."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tgdfer.command_line import main
from tgdfer.training.config import TrainingConfig
from tgdfer.training.rendered_faces import RenderedFaces, write_dataset
from tgdfer.training.train import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# These commands install the package, or are run by other tests.
ELSEWHERE = ("git clone REPOSITORY tgdfer", "cd tgdfer", "pip install .", "make demo", "make test")


@pytest.fixture(scope="module", autouse=True)
def _where_the_demo_ran(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a video, and with clips and a run in `runs/demo`. `test_demo.py` tests the demo itself."""
    folder = tmp_path_factory.mktemp("newcomer")
    demo = Path("runs/demo")
    # Training keeps a fifth of the clips of each label for the validation.
    number = {"train": 5, "test": 1}
    labels = ("happiness", "sadness", "surprise")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TGDFER_CACHE", str(folder / "cache"))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
        write_dataset("clips", clips=number, people=number, labels=labels, faces=RenderedFaces(frames=(16, 18)))
        options = {"frozen_features": True, "feature_views": 1, "epochs": 1}
        train(TrainingConfig.from_options(dataset="clips", output=str(demo), **options))
        clips = Path("clips").rename(demo / "rendered_faces")
        shutil.copy(clips / "test" / "surprise" / "0000.mp4", "my_video.mp4")
        yield


def test_all_blocks_are_of_a_kind_that_is_run() -> None:
    """Commands on data that is not here stand in blocks of plain text, indented under what they made."""
    assert {language for language, _ in BLOCKS} == {"python", "bash"}


def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"(\w+), \d+\.\d s.*", printed[0]) and printed[1].startswith(printed[0].partition(",")[0])
    assert names["segment"]["label"] in printed[-1]
    assert list(names["model"].config.label2id) == ["boredom", "joy"]


def test_commands() -> None:
    lines = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
    commands = [line.partition("  #")[0].strip() for line in lines]
    assert set(ELSEWHERE) <= set(commands)
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "tgdfer":
            paths = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in arguments]
            assert main([word for words in paths for word in words]) == 0, command
        else:
            assert command in ELSEWHERE
    assert len(list(Path().glob("timeline-*.png"))) > 1 and Path("frames.csv").is_file()
    assert Path("timeline.png").is_file() and Path("annotated.mp4").is_file()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
