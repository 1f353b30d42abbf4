"""`clipes` commands in processes that are there at once: forked from one that has imported and warmed up everything.

Importing torch takes seconds, and a run that is to be killed fifty times would do little else.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipes.cli import main
from clipes.generator import MaskGenerator, load

PATIENCE = 120
"""Seconds after which a process hangs."""

if multiprocessing.parent_process() is None and "PYTEST_VERSION" not in os.environ:  # the one that all are forked from
    load()(np.zeros((32, 32, 3), np.uint8), ["cat", "tree"])


class Command:
    """A running command, in a session of its own; in a ``with``, after which it is dead."""

    def __init__(self, arguments: Sequence[object], log: Path, prepare: Callable[[], object] | None = None):
        self.log, self.texts = log, [str(argument) for argument in arguments]
        log.write_bytes(b"")
        start: Any = multiprocessing.get_context("forkserver").Process
        self.process: BaseProcess = start(target=_run, args=(self.texts, log, os.getcwd(), prepare))
        self.process.start()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.join()

    @property
    def pid(self) -> int:
        """The number of the process, and of its group."""
        assert self.process.pid
        return self.process.pid

    @property
    def said(self) -> str:
        """What it has printed so far, to both outputs."""
        return self.log.read_text(errors="replace")

    def code(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code, minus the signal's number if one killed it; None if it still runs after ``seconds``."""
        self.process.join(seconds)
        return self.process.exitcode

    def until(self, happened: Callable[[], object]) -> None:
        """Wait for something that it does."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert self.process.is_alive(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)


@contextmanager
def server() -> Iterator[None]:
    """Start the process from which all are forked: one thread only, so that nothing is lost in a fork."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "forked"])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(name, "1")
        patch.delenv("PYTEST_VERSION", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        first = context.Process(target=int)
        first.start()
        first.join()
    yield


def _run(arguments: list[str], log: Path, folder: str, prepare: Callable[[], object] | None) -> None:
    os.setsid()
    os.chdir(folder)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if prepare:
        prepare()
    sys.exit(main(arguments))


class Limit:
    """No file grows beyond ``size`` bytes."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


class Slow:
    """From the ``after``-th image on, each takes ``seconds``."""

    def __init__(self, after: int, seconds: float):
        self.after, self.seconds = after, seconds

    def __call__(self) -> None:
        generate, images = MaskGenerator.generate, count()

        def slow(*arguments: Any) -> Iterator[Any]:
            if next(images) >= self.after:
                print("slow", flush=True)
                end = time.monotonic() + self.seconds
                while time.monotonic() < end:
                    time.sleep(0.05)
            return generate(*arguments)

        MaskGenerator.generate = slow  # type: ignore[method-assign]
