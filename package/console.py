"""How commands speak: without the progress bars of libraries, and in the words of the command line."""

import hashlib
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rich import get_console

# What messages for Python say about arguments that no command has.
_WITHOUT_A_FLAG = {
    "; see `url_timeout`": "; download it, and give the file",
    ", see `url_max_bytes`": ", the most that is fetched",
}


def quieten() -> None:
    """Switches off the progress bars of `transformers` for every load and save of a model, but not for downloads."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    downloads_are_shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if downloads_are_shown:
        enable_progress_bars()


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that `torchrun` or `accelerate launch` has started."""
    return int(os.environ.get("RANK", 0)) == 0


def is_first_to_say(sentence: str) -> bool:
    """Whether no other process that `torchrun` or `accelerate launch` has started has said the same."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return True
    from torch.distributed import TCPStore

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # The launcher keeps the store. Where rank 0 does, it may not be there yet.
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        said = hashlib.sha256(sentence.encode("utf-8", "backslashreplace")).hexdigest()
        return store.add(f"tgdfer/said/{attempt}/{said}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return True


def say(sentence: str) -> None:
    """Prints a sentence, once however many processes there are."""
    if is_main_process():
        get_console().print(sentence, highlight=False, markup=False, soft_wrap=True)


def with_home(arguments: Sequence[str]) -> list[str]:
    """Arguments with the home of the user for `~`, also where shells leave it, as in `--csv=~/frames.csv`."""
    return [re.sub(r"^(--[\w-]+=)?~(?=/|$)", lambda found: f"{found[1] or ''}{Path.home()}", one) for one in arguments]


def print_what_terminals_cannot_show() -> None:
    """Has characters that a terminal cannot show printed as their numbers, where Python would stop with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def in_flags(sentence: str, flags: Mapping[str, str]) -> str:
    """A message in which the arguments of Python functions are the options of the command line.

    For example, `no_face="full_frame"` becomes `--no-face full_frame`.

    Args:
        sentence: the message.
        flags: for each argument its option, such as `{"no_face": "--no-face"}`.
    """
    for said, instead in _WITHOUT_A_FLAG.items():
        sentence = sentence.replace(said, instead)
    for name, flag in flags.items():
        # Bare names are replaced only where they cannot be a path or a word.
        sentence = re.sub(rf"(?<![\w/.-]){name}=[\"'](\w+)[\"']", rf"{flag} \1", sentence)
        sentence = sentence.replace(f"`{name}`", f"`{flag}`")
        if "_" in name:
            sentence = re.sub(rf"(?<![\w/.'\"-]){name}(?= (is|has|must) )", flag, sentence)
    return sentence
