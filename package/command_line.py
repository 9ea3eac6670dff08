"""The command line. Each command is a short function that imports what it needs when it is called."""

import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich import get_console
from rich.console import Console
from rich.filesize import decimal
from rich.logging import RichHandler
from rich.markup import escape
from ruamel.yaml import YAMLError

from tgdfer.console import (
    in_flags,
    is_first_to_say,
    is_main_process,
    print_what_terminals_cannot_show,
    quieten,
    say,
    with_home,
)
from tgdfer.option_groups import with_groups
from tgdfer.prediction_commands import JOIN_EXAMPLES, PREDICT_EXAMPLES, HardwareOptions, join, predict
from tgdfer.training.config import OPTIONS, Option, TrainingConfig
from tgdfer.training.errors import PartialResultError, UserError, is_user_error, lost_another_process, sentence_of
from tgdfer.training.files import UNWRITABLE, parse_yaml, read_yaml
from tgdfer.training.interruption import Terminated, saying_what_is_kept
from tgdfer.weights import DEFAULT_MODEL

app = typer.Typer(
    name="tgdfer",
    help="Recognise facial expressions in video: train, evaluate and use TG-DFER models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


_UNFINISHED_EVALUATION = (
    "Interrupted before everything was evaluated. Files that are written are whole; for the others, start again with"
    " the same command."
)
_TRAINED = "Folder of a run or a model, or Hub id; tgdfer-tiny is the model in the package"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: arguments without the name of the program; those of the process when None.

    Returns:
        Exit code: 0, 1 where another process of a run has failed, 2 after a mistake of the user, 3 where some files
        could not be used and the others were, 130 after Ctrl-C, 143 after SIGTERM.
    """
    arguments = with_home(sys.argv[1:] if argv is None else argv)
    print_what_terminals_cannot_show()
    logger = logging.getLogger("tgdfer")
    handler = RichHandler(console=get_console(), show_time=False, show_path=False)
    flags = _flags_of(arguments)
    handler.addFilter(partial(_say_in_flags, flags))
    logger.addHandler(handler)
    try:
        app(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except ValueError as error:
        if not is_user_error(error):
            raise
        sentence = in_flags(sentence_of(error), flags)
        return _refuse(sentence, 3 if isinstance(error, PartialResultError) else 2)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return _refuse(f"Cannot write {error.filename or 'the output'}: {error.strerror}.")
    except RuntimeError as error:
        if not lost_another_process(error):
            raise
        return _refuse("Another process of this run has ended, so this one ends as well.", 1)
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    finally:
        logger.removeHandler(handler)
    return 0


def _training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command `command(config=..., **given)` a flag for every option of a training run, in its section."""
    help_text = "YAML file of these options; flags override it"
    annotations: dict[str, Any] = {"config": Annotated[Path | None, typer.Option(help=help_text)]}
    for name, option in OPTIONS.items():
        # None stands for a flag that was not given, so that it does not override the file.
        annotations[name] = Annotated[_flag_type(option.type) | None, typer.Option(**_flag(option))]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
    command.__annotations__ = annotations
    return command


def _flag_type(hint: Any) -> Any:
    """The type of a flag: choices and locations are words, mappings are lists of assignments."""
    if get_origin(hint) in (Union, UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return {Literal: str, dict: list[str]}.get(get_origin(hint), hint)


def _flag(option: Option) -> dict[str, Any]:
    """How the help shows a flag."""
    kinds = [hint for hint in (option.type, *get_args(option.type)) if get_origin(hint) in (Literal, dict)]
    help_text = escape(option.help)
    if option.default not in (None, {}):
        default = str(option.default).lower() if isinstance(option.default, bool) else option.default
        help_text += f" [dim]\\[default: {default}][/]"
    shown = {"help": help_text, "show_default": False, "rich_help_panel": option.section.capitalize()}
    if kinds:
        shown["metavar"] = "FIELD=VALUE" if get_origin(kinds[0]) is dict else "|".join(get_args(kinds[0]))
    return shown


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer train --dataset clips/ --output runs/first --frozen-features\n\n"
    "tgdfer train --dataset user/clips --model openai/clip-vit-base-patch16 --mixed-precision bf16\n\n"
    "tgdfer train --config clips.yaml --epochs 30 --model-options lora_layers=2 --model-options mil_pooling=topk\n\n"
    "tgdfer train --output runs/first --resume"
)
@_training_options
def train(config: Path | None = None, **given: Any) -> None:
    """Train a model on labelled clips."""
    resolved = resolve_config(config, **given)
    quieten()
    from tgdfer.training.run_folder import how_to_go_on

    with saying_what_is_kept(partial(how_to_go_on, resolved)):
        from tgdfer.training.train import train as run_training

        run = run_training(resolved)
    say(f"The model is in {run / 'best'}. Next: tgdfer evaluate {run}")


def resolve_config(file: Path | None = None, **given: Any) -> TrainingConfig:
    """The config of a run: of a YAML file, or of the run to resume, overridden by what else is given.

    Args:
        file: YAML file of options.
        **given: options; None where a flag was not used. Those that are mappings may be a list of `field=value`.

    Raises:
        UserError: if a key is unknown, or a value is of the wrong type.
    """
    given = {name: value for name, value in given.items() if value not in (None, [])}
    for name in ("model_options", "augmentation"):
        if isinstance(given.get(name), list):
            given[name] = dict(_assignment(name, text) for text in given[name])
    values = read_yaml(file) if file else {}
    saved = Path(given.get("output") or values.get("output") or str(OPTIONS["output"].default)) / "config.yaml"
    if given.get("resume") and not saved.is_file():
        raise UserError(f"There is no run to resume in {saved.parent}: name its folder with --output.")
    if given.get("resume") and file is None:
        values = read_yaml(saved)
    for name in ("model_options", "augmentation"):
        if name in given and isinstance(values.get(name), dict):
            given[name] = {**values[name], **given[name]}
    return TrainingConfig.from_options(**values | given)


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer evaluate runs/first --baseline\n\n"
    "tgdfer evaluate user/model --dataset clips/ --split test --output runs/elsewhere\n\n"
    "tgdfer evaluate --dataset clips/"
)
@with_groups
def evaluate(
    model: Annotated[str, typer.Argument(help=_TRAINED)] = DEFAULT_MODEL,
    dataset: Annotated[str | None, typer.Option(help="Hub id or folder; by default what the run trained on")] = None,
    split: Annotated[str | None, typer.Option(help="Split to evaluate on; by default test")] = None,
    which: Annotated[Literal["best", "last"], typer.Option(help="Model of the run")] = "best",
    output: Annotated[Path | None, typer.Option(help="Where to write; by default the folder of the run")] = None,
    baseline: Annotated[bool, typer.Option(help="Train and measure the baseline beside a run")] = False,
    dataset_config: Annotated[str | None, typer.Option(help="Configuration of a Hub data set")] = None,
    video_column: Annotated[str | None, typer.Option(help="Column that holds the videos")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column that holds the label")] = None,
    workers: Annotated[int, typer.Option(help="Processes that decode clips")] = 0,
    *,
    hardware: HardwareOptions,
) -> None:
    """Measure a model on a split: WAR, UAR and, where the intensity of frames is known, frame AP and pointing."""
    quieten()
    with saying_what_is_kept(lambda: _UNFINISHED_EVALUATION):
        from tgdfer.training.evaluate import EvaluationData, evaluate_model, print_metrics
        from tgdfer.training.hardware import Hardware

        data = EvaluationData(dataset, split, dataset_config, video_column, label_column)
        options: dict[str, Any] = {"output": output, "which": which, "workers": workers, "baseline": baseline}
        metrics = evaluate_model(model, data, **options, hardware=Hardware(**asdict(hardware)))
    if is_main_process():
        print_metrics(metrics)


app.command(epilog=PREDICT_EXAMPLES)(predict)
app.command(epilog=JOIN_EXAMPLES)(join)


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer faces clips/ clips-cropped/ --annotations list.csv\n\n"
    "tgdfer train --dataset clips-cropped/ --output runs/first"
)
def faces(
    source: Annotated[Path, typer.Argument(help="Video, or folder of videos or of folders of frames")],
    output: Annotated[Path, typer.Argument(help="Folder of the crops, in the same order")],
    face_crop: Annotated[
        Literal["largest", "center", "all"], typer.Option(help="Which face; of all each has a file")
    ] = "largest",
    face_detector: Annotated[
        Literal["auto", "yunet", "mtcnn"], typer.Option(help="auto: YuNet where its model can be had, else MTCNN")
    ] = "auto",
    face_model: Annotated[
        Path | None, typer.Option(help="File of the face detector YuNet, instead of the Hub's")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Height and width of the crops in pixels")] = 224,
    margin: Annotated[float, typer.Option(help="How much more than the face is seen around it, as a share")] = 0.2,
    every: Annotated[int, typer.Option(min=1, help="Look for faces in every n-th frame; between, interpolate")] = 1,
    no_face: Annotated[
        Literal["skip", "error", "full_frame"],
        typer.Option(help="Frames without the face: leave them out, leave out the clip, or keep them whole"),
    ] = "skip",
    annotations: Annotated[Path | None, typer.Option(help="List of the clips that there should be")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a processor")] = None,
) -> None:
    """Cut the faces out of a whole data set, once, and report what is missing; goes on where it stopped."""
    quieten()
    from tgdfer.processing.faces_tgdfer import FaceSettings
    from tgdfer.training.face_crops import cut_faces, print_report

    model = None if face_model is None else str(face_model)
    settings = FaceSettings(face_crop, face_detector, model, size, margin, every, no_face)
    report = cut_faces(source, output, settings, annotations, workers or os.cpu_count() or 1)
    print_report(report)
    say(f"The crops are in {output}, the report in {output / 'report.json'}.")


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer push runs/first user/name --dry-run\n\n"
    "tgdfer push runs/first user/name --private --no-pictures"
)
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a model")],
    repository: Annotated[str, typer.Argument(help="Hub repository, made if it does not exist", metavar="USER/NAME")],
    private: Annotated[bool, typer.Option("--private", help="Let only yourself see the repository")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing")] = False,
    pictures: Annotated[bool, typer.Option(help="Send the pictures of the run; timelines show frames")] = True,
) -> None:
    """Publish a model on the Hub, with its code, card and figures, in one commit."""
    quieten()
    from tgdfer.model_card.publish import publish

    url = publish(run, repository, private=private, dry_run=dry_run, pictures=pictures)
    if not dry_run:
        say(f"Published: {url}")


@app.command(
    epilog="[bold]Examples[/]\n\ntgdfer cache\n\ntgdfer cache --clear\n\ntgdfer cache --clear --older-than 30"
)
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove the features of data sets")] = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="With --clear, only those that were not used for so many days")
    ] = None,
) -> None:
    """List what is kept on this machine so that it need not be computed again, or remove it."""
    from tgdfer.training.cache import clear_cache, print_cache

    if older_than is not None and not clear:
        raise UserError("--older-than says what to remove; give --clear with it.")
    if clear:
        removed = clear_cache(older_than)
        get_console().print(f"Removed {len(removed)} files of {decimal(sum(file.size for file in removed))}.")
    print_cache()


@app.command(epilog="[bold]Examples[/]\n\ntgdfer demo\n\ntgdfer demo --clips 10 --epochs 10 --output runs/small")
def demo(
    output: Annotated[Path, typer.Option(help="Folder that everything is written to")] = Path("runs/demo"),
    clips: Annotated[int, typer.Option(min=2, help="Training clips of each emotion; half as many to test on")] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs on frozen features")] = 10,
    lora_epochs: Annotated[int, typer.Option(min=1, help="Epochs end to end, with LoRA")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Decides the faces and the training")] = 0,
) -> None:
    """Render faces, train, evaluate, read videos and pack a model: the whole path in ten minutes on two cores."""
    quieten()
    with saying_what_is_kept(
        lambda: f"Interrupted: the stages that are done are kept in {output}. Go on with the same command."
    ):
        from tgdfer.demo import Demo

        Demo(output, clips, epochs, lora_epochs, seed).run()


def _say_in_flags(flags: Mapping[str, str], record: logging.LogRecord) -> bool:
    """Rewrites a warning as `in_flags` does; it is shown in any case."""
    record.msg, record.args = in_flags(record.getMessage(), flags), None
    return True


def _flags_of(arguments: Sequence[str]) -> dict[str, str]:
    """For each parameter of the command that runs, its flag."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    command = commands.get(arguments[0]) if arguments else None
    if command is None:
        return {}
    return {parameter.name: parameter.opts[0] for parameter in command.params if parameter.opts[0].startswith("--")}


def _assignment(option: str, text: str) -> tuple[str, Any]:
    flag = "--" + option.replace("_", "-")
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{flag} takes FIELD=VALUE, as its help shows, not {text!r}.")
    try:
        return name.strip(), parse_yaml(value)
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{flag} has {text!r}, whose value is not valid YAML.") from error


def _refuse(sentence: str, code: int = 2) -> int:
    if is_first_to_say(sentence):
        Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    return code
