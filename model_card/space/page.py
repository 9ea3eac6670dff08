"""The page of the Space, with Gradio: what can be clicked, and which function answers.

Gradio is imported here and in no other file, so that the functions behind the page work without it.
"""

import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported

import gradio as gr
from rich.console import Console

from tgdfer.model_card.space.clips import STRIP, Analysis, Limits, Recogniser
from tgdfer.model_card.space.limits import limits_of
from tgdfer.model_card.space.views import OWN_CLASSES, answers_html, error_html, limits_html
from tgdfer.training.errors import UserError
from tgdfer.training.interruption import raising_on_sigterm
from tgdfer.weights import DEFAULT_MODEL

TITLE = "Expressions in a clip"
EXAMPLES = {
    "One expression": "one_expression.mp4",
    "Several expressions": "several_expressions.mp4",
    "Two people": "two_people.mp4",
}
EXAMPLE_FOLDER = Path(__file__).parent / "examples"
# Seconds for which the answers of a session are kept, so that they can be given again with other classes.
SESSION_SECONDS = 20 * 60
# Clips that may wait. Clips are analysed one after the other.
QUEUE = 16
# Seconds after which an analysed file is removed. Until then, the browser may still load its preview.
_GRACE = 2.0
# Seconds between two searches for files that were uploaded and never analysed, and the age at which they are removed.
_SWEEP = (60, 600)


class _ClipInput(gr.Video):
    """An input for clips that records no sound and gives the file as it was uploaded, without FFmpeg."""

    is_template = True  # the browser uses the code of `gr.Video`

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


def build_page(model: str | Path = DEFAULT_MODEL, limits: Limits | None = None) -> gr.Blocks:
    """Builds the page.

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id.
        limits (`Limits`, *optional*): What is accepted.

    Returns:
        `gr.Blocks`: The page. `launch_page` starts it.

    Raises:
        UserError: If the model cannot be loaded.
    """
    recogniser = Recogniser(model, limits)
    accepted = recogniser.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=_SWEEP) as page:
        session = gr.State(None, time_to_live=SESSION_SECONDS)
        _html(
            f'<div class="intro"><h1>{TITLE}</h1><p>Upload or record up to {accepted.seconds:g} seconds of faces'
            f" ({accepted.megabytes} MB). The file is deleted as soon as it is analysed.</p>"
            f"{limits_html(limits_of(model))}</div>"
        )
        clip = _ClipInput(
            label="Your clip",
            sources=["upload", "webcam"],
            include_audio=False,
            webcam_options=gr.WebcamOptions(mirror=False),
            height=280,
            elem_id="clip",
        )
        with gr.Row(elem_id="examples"):
            examples = [gr.Button(f"Example: {title}", size="sm") for title in EXAMPLES]
        answers = _html("", elem_id="answers")
        with gr.Group(visible=False, elem_id="own") as own:
            classes = gr.Textbox(
                OWN_CLASSES,
                label="Ask about your own emotions",
                info="One in each line: a name, a colon, and what the face looks like. Use semicolons for several"
                " descriptions.",
                lines=4,
                max_lines=12,
            )
            with gr.Row():
                ask = gr.Button("Answer with these words", variant="primary")
                forget = gr.Button("Forget this clip")
        shown = [clip, answers, session, own]
        analyse = _analyse_upload(recogniser)
        options: dict[str, Any] = {"concurrency_id": "analysis", "concurrency_limit": 1, "api_visibility": "private"}
        for event in (clip.upload, clip.stop_recording):
            event(analyse, clip, shown, show_progress_on=answers, **options)
        for button, name in zip(examples, EXAMPLES.values(), strict=True):
            button.click(_analyse_example(recogniser, name), None, shown, show_progress_on=answers, **options)
        ask.click(_relabel(recogniser), [session, classes], [answers, session], show_progress_on=answers, **options)
        forget.click(lambda: (None, "", None, gr.update(visible=False)), None, shown, api_visibility="private")
    page.queue(max_size=QUEUE, api_open=False)
    return page


def launch_page(page: gr.Blocks, limits: Limits | None = None, **options: Any) -> Any:
    """Starts the page, on loopback unless `GRADIO_SERVER_NAME` names another address.

    Args:
        page (`gr.Blocks`): The page.
        limits (`Limits`, *optional*): What is accepted.
        **options (`Any`): Options of `gr.Blocks.launch`.
    """
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8") + _strip_css()
    # System fonts, so that no font is fetched from elsewhere.
    theme = gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return page.launch(
        theme=theme,
        css=css,
        footer_links=[],
        run_history=False,
        share=False,
        ssr_mode=False,
        max_file_size=f"{(limits or Limits()).megabytes}mb",
        **options,
    )


def run_space(model: str | Path = DEFAULT_MODEL) -> None:
    """Runs the page until it is interrupted. Uploaded files are in a temporary folder that is removed at the end.

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id.

    Raises:
        UserError: If the model cannot be loaded.
    """
    # After SIGTERM, which containers send, the folder is removed as well.
    with raising_on_sigterm(), tempfile.TemporaryDirectory(prefix="tgdfer-space-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(model)
        _, url, _ = launch_page(page, prevent_thread_lock=True, quiet=True)
        Console().print(f"The page is at {url} (stop it with Ctrl-C)", highlight=False, soft_wrap=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def _html(value: str, **options: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, js_on_load=None, **options)


def _analyse_upload(recogniser: Recogniser) -> Callable[..., Any]:
    def analyse(path: str | None, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        if path is None:
            return None, "", None, gr.update(visible=False)
        try:
            return _answered(recogniser, path, progress)
        finally:
            _remove_soon(path)

    return analyse


def _remove_soon(path: str) -> None:
    """Removes an uploaded file, once the browser has taken its preview of the file off the page.

    Gradio names the folder of an upload by its content. If somebody has uploaded the same clip again meanwhile, the
    file is another one and stays until that clip is analysed.
    """
    with suppress(OSError):
        number = os.stat(path).st_ino

        def remove() -> None:
            with suppress(OSError):
                if os.stat(path).st_ino == number:
                    os.remove(path)
                    os.rmdir(os.path.dirname(path))

        timer = threading.Timer(_GRACE, remove)
        timer.daemon = True
        timer.start()


def _analyse_example(recogniser: Recogniser, name: str) -> Callable[..., Any]:
    def analyse(progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        return _answered(recogniser, EXAMPLE_FOLDER / name, progress)

    return analyse


def _relabel(recogniser: Recogniser) -> Callable[..., Any]:
    def relabel(analysis: Analysis | None, text: str) -> tuple[str, Analysis | None]:
        if analysis is None:
            return error_html("The clip is not there any more; upload or record it again."), None
        try:
            new = recogniser.relabel(analysis, text)
        except UserError as error:
            return error_html(str(error)) + answers_html(analysis), analysis
        return answers_html(new), new

    return relabel


def _answered(recogniser: Recogniser, path: str | Path, progress: gr.Progress) -> tuple[Any, ...]:
    """Returns the new values of the input, the answers, the session, and whether own classes can be typed."""
    progress(0.0, desc="Reading the clip")
    try:
        analysis = recogniser.analyse(path, lambda fraction: progress(fraction, desc="Reading the clip"))
    except UserError as error:
        return None, error_html(str(error)), None, gr.update(visible=False)
    return None, answers_html(analysis), analysis, gr.update(visible=True)


def _strip_css() -> str:
    """Returns the CSS that shows the large frame whose radio button is checked."""
    rules = [
        f".strip:has(.reel label:nth-child({n}) input:checked) .frames figure:nth-child({n})"
        for n in range(1, STRIP + 1)
    ]
    return ",\n".join(rules) + " { display: flex; }\n"
