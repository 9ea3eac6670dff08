"""The demo: from nothing to a model that is trained, measured, used on videos and packed for the Hub.

It goes through the same doors as a user: every stage is a call that a command of `tgdfer` makes as well. A stage that
is done is not done again, so an interrupted demo goes on where it stopped.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import get_console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.rule import Rule

from tgdfer.model_card.card import write_card
from tgdfer.model_card.publish import publish
from tgdfer.training.config import TrainingConfig
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import evaluate_model, print_metrics
from tgdfer.training.files import require_writable, write_text
from tgdfer.training.outputs import PredictionFiles, print_results
from tgdfer.training.predict import predict
from tgdfer.training.rendered_faces import write_dataset
from tgdfer.training.train import train

# Three emotions that look different, of people who are in no training clip.
SHOWN = ("happiness", "surprise", "sadness")


@dataclass(frozen=True)
class Demo:
    """Size of the demo.

    Attributes:
        output: folder that everything is written to.
        clips: training clips of each emotion, at least 2; half as many are rendered to test on.
        epochs: epochs on frozen features.
        lora_epochs: epochs end to end, with LoRA.
        seed: decides the faces and the training.
    """

    output: Path = Path("runs/demo")
    clips: int = 40
    epochs: int = 10
    lora_epochs: int = 2
    seed: int = 0

    @property
    def data(self) -> Path:
        return self.output / "rendered_faces"

    def run(self) -> None:
        """Runs all stages that are not done yet.

        Raises:
            UserError: the folder holds something else, or a demo of another size.
        """
        start = time.perf_counter()
        self._claim_folder()
        with _stage(1, "Render faces, with the truth about every frame"):
            self._render()
        with _stage(2, "Train on frozen CLIP features"):
            self._train_frozen()
        with _stage(3, "Train end to end, with LoRA"):
            self._train_lora()
        with _stage(4, "Evaluate on people who are in no training clip, beside a baseline"):
            print_metrics(evaluate_model(self.output, batch_size=8, baseline=True))
        with _stage(5, "Read videos"):
            videos = self._predict()
        with _stage(6, "Pack for the Hub (a dry run)"):
            write_card(self.output)
            publish(self.output, "your-name/tgdfer-demo", dry_run=True)
        self._say_where(videos, time.perf_counter() - start)

    def _claim_folder(self) -> None:
        if self.clips < 2:
            raise UserError(f"clips is {self.clips}, but must be at least 2: one to train on and one to validate on.")
        note = self.output / "demo.json"
        require_writable(note)
        size = {**asdict(self), "output": None}
        if not note.is_file():
            if self.output.is_dir() and any(self.output.iterdir()):
                raise UserError(f"{self.output} is not empty and holds no demo: name another --output.")
            self.output.mkdir(parents=True, exist_ok=True)
            write_text(note, json.dumps(size) + "\n")
        elif json.loads(note.read_text(encoding="utf-8")) != size:
            raise UserError(f"{self.output} holds a demo of another size: remove it or name another --output.")

    def _render(self) -> None:
        if self.data.is_dir():
            get_console().print(f"{self.data} is rendered already.", markup=False)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=get_console(), transient=True) as progress:
            task = progress.add_task("Rendering clips", total=None)
            write_dataset(
                self.data,
                clips={"train": self.clips, "test": max(1, self.clips // 2)},
                people={"train": max(10, self.clips), "test": max(4, self.clips // 2)},
                seed=self.seed,
                workers=min(os.cpu_count() or 1, 8),
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )

    def _train_frozen(self) -> None:
        if (self.output / "best").is_dir():
            return
        train(self._config(self.output / "frozen", frozen_features=True, epochs=self.epochs))

    def _train_lora(self) -> None:
        """Trains on from the frozen model; when all is done, the run becomes the folder of the demo itself."""
        run, done = self.output / "lora", self.output / "lora_done"
        if not done.is_dir():
            if (self.output / "best").is_dir():
                return
            train(
                self._config(
                    run,
                    model=str(self.output / "frozen" / "best"),
                    epochs=self.lora_epochs,
                    batch_size=8,
                    new_lr=1e-4,
                    prompts_lr=1e-4,
                    model_options={"lora_layers": 2},
                )
            )
            os.replace(run, done)
        # Under its new name the run is whole; whatever of it is here still is moved, however often that is cut off.
        for path in sorted(done.iterdir()):
            os.replace(path, self.output / path.name)
        done.rmdir()

    def _config(self, run: Path, **options: Any) -> TrainingConfig:
        """What both trainings share, and goes for the baseline as well."""
        return TrainingConfig.from_options(
            dataset=str(self.data),
            output=str(run),
            feature_views=2,
            # Of each emotion somebody must be left to train on.
            validation_fraction=max(0.2, 1 / self.clips),
            seed=self.seed,
            resume=(run / "config.yaml").is_file(),
            **options,
        )

    def _predict(self) -> list[str]:
        videos = [str(min((self.data / "test" / emotion).glob("*.mp4"))) for emotion in SHOWN]
        files = PredictionFiles(
            csv=self.output / "timelines.csv",
            json=self.output / "timelines.json",
            plot=self.output / "figures" / "timeline.png",
        )
        timelines = predict(videos, self.output, files)
        print_results(timelines)
        return videos

    def _say_where(self, videos: list[str], seconds: float) -> None:
        out, best = escape(str(self.output)), escape(str(self.output / "best"))
        metrics, figures = escape(str(self.output / "metrics.json")), escape(str(self.output / "figures"))
        get_console().print(
            Panel(
                f"[bold]{best}[/]  the model and its card (README.md), as they go to the Hub\n"
                f"[bold]{metrics}[/]  what was measured; [bold]predictions.csv[/], clip by clip\n"
                f"[bold]{figures}[/]  confusion matrix and timelines: look at them\n"
                f"[bold]{escape(str(self.data))}[/]  the clips, with the truth about every frame\n\n"
                "Try next:\n"
                f"  tgdfer predict {escape(videos[0])} --model {out} --plot timeline.png\n"
                f"  tgdfer train --dataset YOUR_CLIPS --model {best} --output runs/mine\n"
                f"  tgdfer push {out} your-name/your-model --dry-run",
                title=f"The demo took {seconds / 60:.1f} minutes{_peak_memory()}",
                title_align="left",
            ),
            highlight=False,
        )


def _peak_memory() -> str:
    """The most memory that this process has held, and the largest of those it started; nothing on Windows."""
    try:
        import resource
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (
        resource.getrusage(who).ru_maxrss * unit / 1e9 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return f" and {own:.1f} GB of memory" + (f", {child:.1f} GB in a process beside it" if child else "")


@contextmanager
def _stage(number: int, title: str) -> Iterator[None]:
    get_console().print(Rule(f"{number} of 6  {title}", align="left"))
    yield
