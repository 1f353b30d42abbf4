"""What a process must know of `spawn`, which runs the script again that started it."""

from __future__ import annotations

import multiprocessing

MAIN_GUARD = "put what calls clipes below `if __name__ == '__main__':`, because a new process runs the script again"
"""The cure for processes that end when they begin, where they are not forked."""


def check_main_guard() -> None:
    """Raise RuntimeError in a process that is about to begin and runs the script that started it again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(f"this process was started to read or to count, and would start over: {MAIN_GUARD}")


def forked() -> bool:
    """Whether this process starts others as copies of itself, which run no script."""
    return multiprocessing.get_start_method() == "fork"
