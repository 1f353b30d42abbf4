"""Shared by the commands: exit codes, argparse types, and printing on the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

DONE, WRONG_USE, FAILED, DISK_FULL, DEVICE_LOST, INTERRUPTED, TERMINATED = 0, 2, 3, 4, 5, 130, 143
EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong use, 3 images failed (the others are done) or nothing was written, 4 disk full, "
    "5 GPU lost, 130 interrupted, 143 terminated."
)
FAILURES_SHOWN = 20


def positive_int(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def nonempty(text: str) -> str:
    """argparse type: a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; was a variable of the shell not set?")
    return text


def parse_words(text: str | None) -> str | tuple[str, ...] | None:
    """Split a list of words at its commas.

    None, the name of a set and the name of a file are returned unchanged. ``a,b`` gives two words, ``a,`` gives one,
    and the empty string gives none.
    """
    if text is None or (text and ("," not in text or os.path.isfile(text))):
        return text
    words = tuple(word.strip() for word in text.split(","))
    return words if words[-1] else words[:-1]


def progress_bar(items: Any, total: int, unit: str) -> Any:
    """Iterate over ``items`` with a progress bar, which is shown only if stderr is a terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=f" {unit}", disable=None if sys.stderr else True, smoothing=0.05)


def report_failures(reasons: Sequence[str]) -> int:
    """Print the first :data:`FAILURES_SHOWN` reasons and the number of the others; returns the exit code."""
    for reason in reasons[:FAILURES_SHOWN]:
        print_error(reason)
    if len(reasons) > FAILURES_SHOWN:
        print_error(f"and {len(reasons) - FAILURES_SHOWN} more failed")
    return FAILED if reasons else DONE


def print_error(text: str) -> None:
    """Print one line to stderr."""
    print(printable(text), file=sys.stderr)


def short(text: object, max_width: int) -> str:
    """``text`` on one line of at most ``max_width`` characters; a longer one is cut and ends in an ellipsis."""
    line = printable(text)
    return line if len(line) <= max_width else f"{line[: max_width - 1]}…"


def printable(text: object) -> str:
    """``text`` on one line: control characters and undecodable bytes of file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
