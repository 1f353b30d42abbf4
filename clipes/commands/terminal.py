"""What the commands share: exit codes, arguments read from text, what is said on the terminal."""

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


def natural(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def named(text: str) -> str:
    """A text that is not blank, for argparse."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; was a variable of the shell not set?")
    return text


def words(given: str | None) -> str | tuple[str, ...] | None:
    """A set's or file's name as it is, ``a,b`` and ``a,`` as words, the empty string as no word."""
    if given is None or (given and ("," not in given or os.path.isfile(given))):
        return given
    words = tuple(word.strip() for word in given.split(","))
    return words if words[-1] else words[:-1]


def bar(items: Any, total: int, unit: str) -> Any:
    """A progress bar on a terminal, silence elsewhere."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=f" {unit}", disable=None if sys.stderr else True, smoothing=0.05)


def tell_failed(reasons: Sequence[str]) -> int:
    """Say why the first of the images failed, and how many more did; returns the exit code."""
    for reason in reasons[:FAILURES_SHOWN]:
        complain(reason)
    if len(reasons) > FAILURES_SHOWN:
        complain(f"and {len(reasons) - FAILURES_SHOWN} more failed")
    return FAILED if reasons else DONE


def complain(text: str) -> None:
    """Print one line to stderr."""
    print(printable(text), file=sys.stderr)


def short(text: object, widest: int) -> str:
    """``text`` on one line of at most ``widest`` characters, cut by an ellipsis."""
    shown = printable(text)
    return shown if len(shown) <= widest else f"{shown[: widest - 1]}…"


def printable(text: object) -> str:
    """``text`` on one line: control characters and broken bytes of hostile file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
