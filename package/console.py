"""Terminal output of the commands: progress bars, messages, and the names of flags in messages."""

import hashlib
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rich import get_console

# Parts of messages that name Python arguments without a flag, and what replaces them on the command line.
_PHRASES_WITHOUT_FLAG = {
    "; raise `url_timeout`": "; download it and use the file",
    "; raise `url_max_bytes`": "; download it and use the file",
}


def hide_loading_bars() -> None:
    """Hides the progress bars of `transformers` for loading and saving models. Downloads keep theirs."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    downloads_are_shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if downloads_are_shown:
        enable_progress_bars()


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that `torchrun` or `accelerate launch` has started."""
    return int(os.environ.get("RANK", 0)) == 0


def is_first_to_print(sentence: str) -> bool:
    """Whether this process is the first of the launched processes to print the sentence.

    `torchrun` and `accelerate launch` start several processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return True
    from torch.distributed import TCPStore

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # Usually the launcher hosts the store. If the process of rank 0 hosts it, it may not exist yet.
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        digest = hashlib.sha256(sentence.encode("utf-8", "backslashreplace")).hexdigest()
        return store.add(f"tgdfer/printed/{attempt}/{digest}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return True


def print_once(sentence: str) -> None:
    """Prints a sentence in the main process only."""
    if is_main_process():
        get_console().print(sentence, highlight=False, markup=False, soft_wrap=True)


def expand_home(arguments: Sequence[str]) -> list[str]:
    """Replaces `~` by the home folder of the user, also if shells do not, for example in `--csv=~/frames.csv`."""
    return [re.sub(r"^(--[\w-]+=)?~(?=/|$)", lambda found: f"{found[1] or ''}{Path.home()}", one) for one in arguments]


def escape_unprintable_characters() -> None:
    """Makes the output replace characters that the terminal cannot show by escape codes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def with_flag_names(sentence: str, flags: Mapping[str, str]) -> str:
    """Replaces the names of Python arguments in a message by the flags of the command line.

    For example, `no_face="full_frame"` becomes `--no-face full_frame`.

    Args:
        sentence (`str`): The message.
        flags (`Mapping[str, str]`): The flag of each argument, such as `{"no_face": "--no-face"}`.

    Returns:
        `str`: The message with flags.
    """
    for phrase, replacement in _PHRASES_WITHOUT_FLAG.items():
        sentence = sentence.replace(phrase, replacement)
    for name, flag in flags.items():
        # Names without quotes are replaced only before "is", "has" or "must". Elsewhere they may be a path or a word.
        sentence = re.sub(rf"(?<![\w/.-]){name}=[\"'](\w+)[\"']", rf"{flag} \1", sentence)
        sentence = sentence.replace(f"`{name}`", f"`{flag}`")
        if "_" in name:
            sentence = re.sub(rf"(?<![\w/.'\"-]){name}(?= (is|has|must) )", flag, sentence)
    return sentence
