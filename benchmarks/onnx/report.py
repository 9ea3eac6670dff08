"""The report of the ONNX benchmark."""

from typing import Any

from benchmarks.harness.tables import markdown_table, paragraph

EAGER = "PyTorch, eager"


def report(measured: dict[str, Any]) -> str:
    """Returns the report in Markdown.

    Args:
        measured (`dict[str, Any]`): The figures that `python -m benchmarks.onnx` writes.
    """
    packages = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    lines = [
        "# ONNX compared with PyTorch",
        "",
        paragraph(
            f"`{measured['model']}` as `tgdfer export --int8` writes it, compared with the model in PyTorch, in one"
            f" run on {measured['machine']} at commit `{(measured['commit'] or 'unknown')[:7]}` ({packages}). Command:"
        ),
        f"`{measured['command']}`",
        "",
        "## Speed",
        "",
        paragraph(
            "Milliseconds for a batch of clips of 16 frames that are already decoded and cropped. In brackets, how"
            " many times as fast as PyTorch eager. The candidates take turns, and the shortest time of each is shown,"
            " because other programs were running on the machine. Times on one thread are CPU times."
        ),
        "",
        _speed_table(measured["seconds"]),
        "",
        "## Size",
        "",
        markdown_table(
            ["file", "MB"],
            [
                ["weights of the model in PyTorch, fp32", f"{measured['pytorch_bytes'] / 1e6:.1f}"],
                *([f"`{name}`", f"{size / 1e6:.1f}"] for name, size in measured["sizes"].items()),
            ],
        ),
        "",
        paragraph(
            "`model.onnx` has no text tower, because it contains the class texts. Only other classes need"
            " `text_model.onnx`."
        ),
        "",
        "## Agreement",
        "",
        paragraph(
            "The largest errors in fp32, over batches of 1 to 8 random clips of 1 to 16 frames with masked frames: "
            + ", ".join(f"{error:.0e} (`{name}`)" for name, error in measured["errors"].items())
            + ". The target is at most 1e-4."
        ),
        "",
        paragraph(
            "The table shows how many clips have the same most probable label as in PyTorch, and the largest error of"
            " a logit. The target in int8 is 99 %."
        ),
        "",
        markdown_table(["clips", "file", "same label", "share", "largest error"], _label_rows(measured["labels"])),
    ]
    return "\n".join(lines) + "\n"


def _speed_table(seconds: dict[str, dict[str, dict[str, float]]]) -> str:
    columns = [(threads, batch) for threads in seconds for batch in seconds[threads]]
    plural = {"1": ""}
    head = [f"{threads} thread{plural.get(threads, 's')}, batch of {batch}" for threads, batch in columns]
    rows = []
    for name in next(iter(next(iter(seconds.values())).values())):
        cells = []
        for threads, batch in columns:
            times = seconds[threads][batch]
            cells.append(f"{times[name] * 1000:.1f} ({times[EAGER] / times[name]:.2f})")
        rows.append([name, *cells])
    return markdown_table(["", *head], rows)


def _label_rows(labels: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            file,
            f"{found['same'][file]} of {found['clips']}",
            f"{found['same'][file] / found['clips']:.1%}",
            f"{found['worst'][file]:.1e}",
        ]
        for name, found in labels.items()
        for file in found["same"]
    ]
