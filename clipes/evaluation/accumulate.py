"""Counts over many files, added up by a pool of processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.io.masks import SizeError
from clipes.io.processes import MAIN_GUARD, forked

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Counted = NDArray[np.int64] | Exception | None
Task = tuple[Any, ...]  # a name, and the arguments of the counting function

_FILES_PER_PROCESS = 16  # fewer are not worth the start of a further process
_CHUNK = 4  # tasks that a process takes at a time, and finishes when the parent is stopped
_BLOCK = 1024  # tasks per process that are submitted at a time


class Problem(NamedTuple):
    """A pair of files that was not counted; the reason begins with the path of the file at fault."""

    name: str
    reason: str


@dataclass
class Total:
    """Counts over all files, and the files that could not be counted."""

    counts: NDArray[np.int64]
    images: int = 0
    mis_sized: list[Problem] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)

    def add(self, occurring: NDArray[np.intp], counts: NDArray[np.int64]) -> None:
        """Add the counts (..., n) of one file's n classes that occur."""
        self.counts[..., occurring] += counts
        self.images += 1

    def add_problem(self, name: str, error: Exception) -> None:
        """Note why a file was not counted."""
        problems = self.mis_sized if isinstance(error, SizeError) else self.failed
        problems.append(Problem(name, str(error) or type(error).__name__))


def accumulate(
    count: Callable[..., Sequence[Counted]],
    tasks: Iterable[Task],
    length: int,
    shapes: Sequence[tuple[int, ...]],
    workers: int | None,
    progress: Progress,
) -> list[Total]:
    """Call ``count(*arguments)`` for each of ``length`` tasks ``(name, *arguments)``; add its results up.

    ``count`` returns one result for each of ``shapes``: an int64 array of that shape, with the classes last; an error,
    which is noted in the order of the tasks; or None, which counts nothing. Tasks are taken lazily by ``workers``
    processes (None: one per CPU), at most one for 16 tasks; a single one is this process.

    Raises ValueError for less than 1 worker, ChildProcessError when a process is killed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    processes = max(1, min(workers or available_cpus(), length // _FILES_PER_PROCESS))
    totals = [Total(np.zeros(shape, np.int64)) for shape in shapes]
    for name, results in progress(_map(partial(_run_task, count), iter(tasks), processes), length, "images"):
        for total, result in zip(totals, results, strict=True):
            if isinstance(result, Exception):
                total.add_problem(name, result)
            elif result is not None:
                total.add(*result)
    return totals


def available_cpus() -> int:
    """The number of CPUs that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_task(count: Callable[..., Sequence[Counted]], task: Task) -> tuple[str, list[Any]]:
    name, *arguments = task
    return name, [_occurring(counted) if isinstance(counted, np.ndarray) else counted for counted in count(*arguments)]


def _occurring(counts: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The classes with a count, and the counts of these alone: less to send from process to process."""
    occurring = np.flatnonzero(counts.any(axis=tuple(range(counts.ndim - 1))))
    return occurring, counts[..., occurring]


def _map(work: Callable[[Task], Any], tasks: Iterator[Task], processes: int) -> Iterator[Any]:
    """Yield the results in the order of the tasks; only a block of tasks is submitted at a time."""
    if processes == 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(processes, initializer=_leave_signals_to_parent)
    try:
        while block := list(islice(tasks, _BLOCK * processes)):
            yield from pool.map(work, block, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        cure = "take fewer workers" if forked() else f"take fewer workers, or {MAIN_GUARD}"
        raise ChildProcessError(f"a worker was killed, perhaps for want of memory; {cure}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals_to_parent() -> None:
    """Ignore Ctrl-C, which a terminal sends to every process: the parent stops the pool after the tasks in hand.

    A worker that died of it would break the pool while the parent cancels its futures, and concurrent.futures of
    Python 3.11 answers that race with a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
