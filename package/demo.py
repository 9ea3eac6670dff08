"""The demo: render a data set, train and evaluate a model, predict videos, and prepare the model for the Hub.

Each stage makes the same call as a command of `tgdfer`. Finished stages are skipped, so an interrupted demo resumes.
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
from tgdfer.training.evaluate import evaluate_model
from tgdfer.training.evaluation.tables import print_metrics
from tgdfer.training.files import require_writable, write_text
from tgdfer.training.outputs import PredictionFiles, print_results
from tgdfer.training.predict import predict
from tgdfer.training.rendered_faces import write_dataset
from tgdfer.training.train import train

# Three emotions that look different. Their videos are from the test split, so the model has not seen these people.
SHOWN = ("happiness", "surprise", "sadness")


@dataclass(frozen=True)
class Demo:
    """The demo and its settings.

    Attributes:
        output (`Path`): Folder for all files.
        clips (`int`): Number of training clips of each emotion, at least 2. Half as many are rendered for testing.
        epochs (`int`): Number of epochs on frozen features.
        lora_epochs (`int`): Number of epochs of end-to-end training with LoRA.
        seed (`int`): Seed of the rendered faces and of the training.
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
        """Runs all stages that are not finished yet.

        Raises:
            UserError: If the folder contains other files, or a demo with other settings.
        """
        start = time.perf_counter()
        self._claim_folder()
        with _stage(1, "Render a data set, with the ground truth of every frame"):
            self._render()
        with _stage(2, "Train on frozen CLIP features"):
            self._train_frozen()
        with _stage(3, "Train end to end, with LoRA"):
            self._train_lora()
        with _stage(4, "Evaluate on people who are not in the training clips, and compare with a baseline"):
            print_metrics(evaluate_model(self.output, batch_size=8, baseline=True))
        with _stage(5, "Predict videos"):
            videos = self._predict()
        with _stage(6, "Prepare the model for the Hub (dry run)"):
            write_card(self.output)
            publish(self.output, "your-name/tgdfer-demo", dry_run=True)
        self._print_paths(videos, time.perf_counter() - start)

    def _claim_folder(self) -> None:
        if self.clips < 2:
            raise UserError(
                f"clips is {self.clips}, but must be at least 2 for each emotion: one for training and one for"
                " validation."
            )
        note = self.output / "demo.json"
        require_writable(note)
        settings = {**asdict(self), "output": None}
        if not note.is_file():
            if self.output.is_dir() and any(self.output.iterdir()):
                raise UserError(
                    f"{self.output} is not empty and was not created by the demo; give another folder with --output."
                )
            self.output.mkdir(parents=True, exist_ok=True)
            write_text(note, json.dumps(settings) + "\n")
        elif json.loads(note.read_text(encoding="utf-8")) != settings:
            raise UserError(
                f"{self.output} contains a demo with other settings; remove it, or give another folder with --output."
            )

    def _render(self) -> None:
        if self.data.is_dir():
            get_console().print(f"The data set in {self.data} already exists.", markup=False)
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
        """Continues training from the model of the first run, and moves the finished run to the folder of the demo."""
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
        # `lora_done` exists only after the run is finished. If moving its files is interrupted, it can be repeated.
        for path in sorted(done.iterdir()):
            os.replace(path, self.output / path.name)
        done.rmdir()

    def _config(self, run: Path, **options: Any) -> TrainingConfig:
        """Returns the configuration of a run. The options here are common to both runs."""
        return TrainingConfig.from_options(
            dataset=str(self.data),
            output=str(run),
            feature_views=2,
            # The fraction sets the number of folds. There must not be more folds than clips of each emotion.
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

    def _print_paths(self, videos: list[str], seconds: float) -> None:
        out, best = escape(str(self.output)), escape(str(self.output / "best"))
        metrics, figures = escape(str(self.output / "metrics.json")), escape(str(self.output / "figures"))
        get_console().print(
            Panel(
                f"[bold]{best}[/]  the model and its card (README.md), as published on the Hub\n"
                f"[bold]{metrics}[/]  the metrics; [bold]predictions.csv[/] lists the prediction for each clip\n"
                f"[bold]{figures}[/]  confusion matrix and timelines\n"
                f"[bold]{escape(str(self.data))}[/]  the clips, with the ground truth of every frame\n\n"
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
    """Describes the peak memory of this process and of its largest child process. Empty on Windows."""
    try:
        import resource
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (
        resource.getrusage(who).ru_maxrss * unit / 1e9 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return f" and {own:.1f} GB of memory" + (f", and {child:.1f} GB in a child process" if child else "")


@contextmanager
def _stage(number: int, title: str) -> Iterator[None]:
    get_console().print(Rule(f"{number} of 6  {title}", align="left"))
    yield
