"""The command line. Each command is a short function. It imports what it needs only when it runs, so help is fast."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import get_console
from rich.console import Console
from rich.filesize import decimal
from rich.logging import RichHandler
from rich.markup import escape

from tgdfer import __version__
from tgdfer.console import (
    escape_unprintable_characters,
    expand_home,
    hide_loading_bars,
    is_first_to_print,
    is_main_process,
    print_once,
    with_flag_names,
)
from tgdfer.data_commands import DATASET_HELP, ReadingFlags, data_app
from tgdfer.help_pages import App
from tgdfer.live_command import LIVE_EXAMPLES, live
from tgdfer.option_groups import with_groups
from tgdfer.prediction_commands import (
    JOIN_EXAMPLES,
    MODEL_HELP,
    PREDICT_EXAMPLES,
    REVISION_HELP,
    HardwareOptions,
    join,
    predict,
)
from tgdfer.publishing_commands import PUSH_EXAMPLES, push
from tgdfer.search_commands import FIND_EXAMPLES, find
from tgdfer.training.errors import PartialResultError, UserError, error_message, is_lost_process_error, is_user_error
from tgdfer.training.files import UNWRITABLE, require_writable
from tgdfer.training.interruption import Terminated, reporting_interruption
from tgdfer.training.revisions import with_revision
from tgdfer.training_command import TRAIN_EXAMPLES, train
from tgdfer.weights import DEFAULT_MODEL

app = App(
    name="tgdfer",
    help="Recognise facial expressions in video: train, evaluate and use TG-DFER models.",
    no_args_is_help=True,
)


_EVALUATED_HELP = f"{MODEL_HELP}. A CLIP is measured without training (zero-shot)"
# Exit code of `tgdfer reproduce` if the results differ.
NOT_REPRODUCED = 4
_UNFINISHED_EVALUATION = (
    "Interrupted before the evaluation was complete. Finished files are kept."
    " Run the same command again to create the others."
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tgdfer {__version__}")
        raise typer.Exit()


@app.callback()
def _options_of_the_program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv (`Sequence[str]`, *optional*): Arguments without the name of the program. Defaults to those of the
            process.

    Returns:
        `int`: Exit code. It is 0 on success, 1 if another process of the run has failed, 2 for bad input or output
        that cannot be written, 3 if some of several files could not be used, 4 if a repeated run has other results,
        130 after Ctrl-C, and 143 after SIGTERM.
    """
    arguments = expand_home(sys.argv[1:] if argv is None else argv)
    escape_unprintable_characters()
    logger = logging.getLogger("tgdfer")
    handler = RichHandler(console=get_console(), show_time=False, show_path=False)
    flags = _flags_of(arguments)
    handler.addFilter(partial(_add_flag_names, flags))
    # Several processes read the same data and find the same problems.
    handler.addFilter(lambda record: is_first_to_print(record.getMessage()))
    logger.addHandler(handler)
    try:
        app(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except ValueError as error:
        if not is_user_error(error):
            raise
        sentence = with_flag_names(error_message(error), flags)
        return _print_error(sentence, 3 if isinstance(error, PartialResultError) else 2)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return _print_error(f"Cannot write {error.filename or 'the output'}: {error.strerror}.")
    except RuntimeError as error:
        if not is_lost_process_error(error):
            raise
        return _print_error("Another process of this run has failed, so this process stops.", 1)
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    finally:
        logger.removeHandler(handler)
    return 0


app.command(epilog=TRAIN_EXAMPLES)(train)


@app.command(epilog="[bold]Example[/]\n\ntgdfer reproduce runs/first --output runs/first-again")
def reproduce(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run")],
    output: Annotated[Path, typer.Option(help="Folder for the repetition", show_default=False)],
) -> None:
    """Train a run again from its run.json, and compare clips, versions, losses, figures and weights.

    The exit code is 0 if losses, figures and weights are identical, and 4 if they are not.
    """
    hide_loading_bars()
    with reporting_interruption(lambda: "Interrupted. Run the same command again to continue."):
        from tgdfer.training.reproduce import reproduce as run_again
        from tgdfer.training.runs.reproduction import is_reproduced, print_comparisons

        comparisons = run_again(run, output)
    if is_main_process():
        print_comparisons(comparisons)
    if not is_reproduced(comparisons):
        raise typer.Exit(NOT_REPRODUCED)


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer evaluate runs/first --baseline\n\n"
    "tgdfer evaluate user/model --dataset clips/ --split test --output runs/elsewhere\n\n"
    "tgdfer evaluate --dataset clips/\n\n"
    "tgdfer evaluate openai/clip-vit-base-patch16 --dataset clips/ --output runs/zero_shot"
)
@with_groups
def evaluate(
    model: Annotated[str, typer.Argument(help=_EVALUATED_HELP)] = DEFAULT_MODEL,
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"{DATASET_HELP}. Default: that of the run; required if MODEL is not a run",
            rich_help_panel="Data",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to evaluate on. Default: the test split", rich_help_panel="Data")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at the first clip that cannot be read, instead of leaving it out",
            rich_help_panel="Data",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of processes that decode clips ahead; 0 decodes in the main process. Default: one per free "
            "CPU, at most 8, on a GPU, else 0",
            rich_help_panel="Data",
        ),
    ] = None,
    windows: Annotated[
        int,
        typer.Option(
            min=1,
            help="Windows of each clip, with different frames; their logits are averaged",
            rich_help_panel="Data",
        ),
    ] = 1,
    crops: Annotated[
        Literal["1", "5", "10"],
        typer.Option(
            help="Crops of each frame: 5 are the corners and the centre, and 10 also their mirror images; their logits"
            " are averaged",
            rich_help_panel="Data",
        ),
    ] = "1",
    which: Annotated[
        Literal["best", "last"],
        typer.Option(help="Evaluate the model of the best or of the last epoch of the run", rich_help_panel="Model"),
    ] = "best",
    revision: Annotated[str | None, typer.Option(help=REVISION_HELP, rich_help_panel="Model")] = None,
    descriptions: Annotated[
        str | None,
        typer.Option(
            help="YAML file with the descriptions of the classes, for an untrained CLIP. Default: the built-in ones",
            rich_help_panel="Model",
        ),
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option(
            help="Also train and measure a linear layer on the mean of the frame features", rich_help_panel="Model"
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to. Default: the folder of the run; if MODEL is not a run, nothing is written",
            rich_help_panel="Run",
        ),
    ] = None,
    errors: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of film strips of the most confident errors in the folder `errors`, which is never published",
            rich_help_panel="Run",
        ),
    ] = 12,
    *,
    reading: ReadingFlags,
    hardware: HardwareOptions,
) -> None:
    """Measure a model on a split, or a CLIP without training (zero-shot).

    The metrics are accuracy (WAR), mean recall (UAR), the recall and precision of each class, and the calibration
    error before and after temperature scaling. If the data set has the intensity of every frame, they also include
    frame AP and pointing. WAR, UAR, recall, calibration error, frame AP and pointing have 95% bootstrap intervals over
    people or clips. If the data set has other labels than the model, the labels that both have are measured.
    """
    hide_loading_bars()
    with reporting_interruption(lambda: _UNFINISHED_EVALUATION):
        from tgdfer.training.evaluate import EvaluationData, evaluate_model
        from tgdfer.training.evaluation.tables import print_metrics
        from tgdfer.training.evaluation.views import EvaluationViews
        from tgdfer.training.hardware import Hardware
        from tgdfer.training.label_kinds import print_several_labels

        data = EvaluationData(dataset, split, strict=strict or None, **reading.options())
        options: dict[str, Any] = {"output": output, "which": which, "workers": workers, "baseline": baseline}
        options |= {"views": EvaluationViews(windows, int(crops)), "errors": errors, "descriptions": descriptions}
        metrics = evaluate_model(
            with_revision(model, revision), data, **options, hardware=Hardware(**asdict(hardware))
        )
    if is_main_process():
        (print_several_labels if metrics.get("label_kind") == "multiple" else print_metrics)(metrics)
        folder = output or (Path(model) if (Path(model) / "config.yaml").is_file() else None)
        if folder is not None:
            print_once(f"The results are in {folder}.")


@app.command(
    epilog="[bold]Examples[/]\n\ntgdfer compare runs/second runs/first\n\n"
    "tgdfer compare runs/second runs/zero_shot --output comparison.json"
)
def compare(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="A", help="Folder that `tgdfer evaluate` wrote to, or its metrics.json or predictions.csv"
        ),
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same for the model to compare with")],
    output: Annotated[Path | None, typer.Option(help="JSON file for the differences")] = None,
) -> None:
    """Compare two evaluations on the same clips: the differences, with 95% paired bootstrap intervals.

    People are drawn if they are known, otherwise clips. If an interval does not contain 0, the difference is
    significant at the level of 5%.
    """
    from tgdfer.training.evaluation.compare import compare_results, print_comparison, write_comparison

    if output is not None:
        require_writable(output)
    comparison = compare_results(first, second)
    if output is not None:
        write_comparison(output, comparison)
    print_comparison(comparison)


app.command(epilog=PREDICT_EXAMPLES)(predict)
app.command(epilog=JOIN_EXAMPLES)(join)
app.command(epilog=FIND_EXAMPLES)(find)


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "tgdfer faces clips/ clips-cropped/ --annotations list.csv\n\n"
    "tgdfer train --dataset clips-cropped/ --output runs/first"
)
def faces(
    source: Annotated[Path, typer.Argument(help="Video, or folder that contains videos or folders of frames")],
    output: Annotated[Path, typer.Argument(help="Folder for the crops, with the same subfolders as SOURCE")],
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="List of the expected clips (CSV, TSV, JSON lines or text). The report names clips that are missing "
            "or not in the list",
            rich_help_panel="Data",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes. Default: one for each CPU", rich_help_panel="Data"),
    ] = None,
    face_crop: Annotated[
        Literal["largest", "center", "all"],
        typer.Option(help='Which face to crop; "all" writes a file for each face', rich_help_panel="Faces"),
    ] = "largest",
    face_detector: Annotated[
        Literal["auto", "yunet", "mtcnn"],
        typer.Option(
            help='Face detector; "auto" uses YuNet if it can be downloaded, otherwise MTCNN', rich_help_panel="Faces"
        ),
    ] = "auto",
    face_model: Annotated[
        Path | None, typer.Option(help="File of YuNet to use instead of downloading it", rich_help_panel="Faces")
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, help="Height and width of a crop in pixels", rich_help_panel="Faces")
    ] = 224,
    margin: Annotated[
        float, typer.Option(help="Margin around the face, as a fraction of its size", rich_help_panel="Faces")
    ] = 0.2,
    detect_every: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of frames from one face detection to the next; 1 detects faces in every frame. Positions in "
            "between are interpolated",
            rich_help_panel="Faces",
        ),
    ] = 1,
    no_face: Annotated[
        Literal["skip", "error", "full_frame"],
        typer.Option(
            help='Frames without the face: "skip" leaves them out, "error" leaves out the whole clip, and '
            '"full_frame" keeps the whole frame',
            rich_help_panel="Faces",
        ),
    ] = "skip",
) -> None:
    """Crop the faces in all clips of a data set, and report frames and clips without a face.

    To resume an interrupted run, give the same command again.
    """
    hide_loading_bars()
    from tgdfer.processing.faces_tgdfer import FaceSettings
    from tgdfer.training.face_crops import cut_faces, print_report

    model = None if face_model is None else str(face_model)
    try:
        settings = FaceSettings(face_crop, face_detector, model, size, margin, detect_every, no_face)
    except ValueError as error:
        raise UserError(f"--margin is {margin:g}, but must be above -0.5 and below 4.") from error
    report = cut_faces(source, output, settings, annotations, workers or os.cpu_count() or 1)
    print_report(report)
    print_once(f"The crops are in {output}, the report in {output / 'report.json'}.")


app.add_typer(data_app, name="data")
app.command(epilog=PUSH_EXAMPLES)(push)

app.command(epilog=LIVE_EXAMPLES)(live)


@app.command(epilog="[bold]Examples[/]\n\ntgdfer space\n\ntgdfer space runs/first")
def space(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = DEFAULT_MODEL,
    revision: Annotated[str | None, typer.Option(help=REVISION_HELP)] = None,
) -> None:
    """Run a web page on this machine, on which people try a model with their own clips.

    Only this machine can open the page. An uploaded clip is deleted after it is analysed. Stop the page with Ctrl-C.
    """
    hide_loading_bars()
    if find_spec("gradio") is None:
        raise UserError("The page needs the library gradio: `pip install '.[space]'` in the clone of tgdfer.")
    from tgdfer.model_card.space.page import run_space

    run_space(with_revision(model, revision))


@app.command(epilog="[bold]Examples[/]\n\ntgdfer export runs/first\n\ntgdfer export tgdfer-tiny --int8 --output onnx/")
def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)] = DEFAULT_MODEL,
    file_format: Annotated[Literal["onnx"], typer.Option("--format", help="Format of the files")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write files with weights of 8 bits, which are smaller and faster")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write. Default: `onnx` in the folder of the run, otherwise NAME-onnx"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help=REVISION_HELP)] = None,
) -> None:
    """Export a model to ONNX, with a script that runs it without PyTorch."""
    hide_loading_bars()
    from tgdfer.model_card.export.onnx_files import export_onnx

    folder = export_onnx(with_revision(model, revision), output, int8)
    print_once(f"The {file_format.upper()} files are in {folder}. Next: python {folder / 'onnx_predict.py'} CLIP")


@app.command(
    epilog="[bold]Examples[/]\n\ntgdfer cache\n\ntgdfer cache --clear\n\ntgdfer cache --clear --older-than 30"
)
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove the cached files")] = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="With --clear: remove only files that were not used for this many days")
    ] = None,
) -> None:
    """List or remove what is cached on this machine: features of data sets, and the faces of searched videos."""
    from tgdfer.training.cache import clear_cache, print_cache

    if older_than is not None and not clear:
        raise UserError("--older-than only works together with --clear; add --clear to remove old files.")
    if clear:
        removed = clear_cache(older_than)
        files = "1 file" if len(removed) == 1 else f"{len(removed)} files"
        get_console().print(f"Removed {files} ({decimal(sum(file.size for file in removed))} in total).")
    print_cache()


@app.command(epilog="[bold]Examples[/]\n\ntgdfer demo\n\ntgdfer demo --clips 10 --epochs 10 --output runs/small")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for all files")] = Path("runs/demo"),
    clips: Annotated[
        int,
        typer.Option(min=2, help="Number of training clips of each emotion; half as many are rendered for testing"),
    ] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs on frozen features")] = 10,
    lora_epochs: Annotated[int, typer.Option(min=1, help="Number of epochs of end-to-end training with LoRA")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the rendered faces and of the training")] = 0,
) -> None:
    """Render a data set, train and evaluate a model, predict videos, and prepare the model for the Hub.

    With the default options, this takes a few minutes on two cores.
    """
    hide_loading_bars()
    with reporting_interruption(
        lambda: f"Interrupted. Finished stages are kept in {output}. Resume with the same command."
    ):
        from tgdfer.demo import Demo

        Demo(output, clips, epochs, lora_epochs, seed).run()


def _add_flag_names(flags: Mapping[str, str], record: logging.LogRecord) -> bool:
    """Logging filter that replaces Python arguments in a message by flags. It lets every message pass."""
    record.msg, record.args = with_flag_names(record.getMessage(), flags), None
    return True


def _flags_of(arguments: Sequence[str]) -> dict[str, str]:
    """Returns the flag of each parameter of the command in `arguments`."""
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        # `tgdfer data` has commands of its own.
        command = getattr(command, "commands", {}).get(argument, command)
        if not hasattr(command, "commands"):
            break
    else:
        return {}
    return {parameter.name: parameter.opts[0] for parameter in command.params if parameter.opts[0].startswith("--")}


def _print_error(sentence: str, code: int = 2) -> int:
    if is_first_to_print(sentence):
        Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    return code
