"""Mask files and truth files: which belong together, how they are read, and counts added up over all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.io.masks import SizeError, check_size, read_ids

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Judge = Callable[..., NDArray[np.int64]]
Task = tuple[Any, ...]  # a name and the paths of its files

_WORTH = 16  # files for which a further process is worth its start
_CHUNK = 4  # files that a worker takes at a time, and finishes when the parent alone is stopped
_BLOCK = 1024  # files per worker that are in hand at a time


class Pairs(NamedTuple):
    """The relative names, with forward slashes and sorted, of a folder of masks and a folder of truth files."""

    names: list[str]  # in both
    missing: list[str]  # truth without a mask
    extra: list[str]  # masks without truth


class Problem(NamedTuple):
    """A pair that was not counted; the reason begins with the path of the file at fault."""

    name: str
    reason: str


@dataclass
class Tally:
    """Counts over all files, and which could not be counted."""

    counts: NDArray[np.int64]
    images: int = 0
    mis_sized: list[Problem] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)


def match_files(masks: Path, truth: Path) -> Pairs:
    """Return which PNG files of two folders have a name in common; two files are one pair with an empty name.

    Raises FileNotFoundError for a path that is not there, ValueError for a file and a folder, and when no name
    is in both.
    """
    for path, what in ((masks, "masks"), (truth, "truth")):
        if not path.exists():
            raise FileNotFoundError(f"no such folder or file of {what}: {path}")
    if masks.is_file() and truth.is_file():
        return Pairs([""], [], [])
    if masks.is_file() or truth.is_file():
        raise ValueError(f"one of {masks} and {truth} is a file, one a folder; give two folders or two files")
    left, right = (set(_mask_names(folder)) for folder in (masks, truth))
    for folder, names in ((masks, left), (truth, right)):
        if not names:
            raise ValueError(f"no PNG file in {folder}; masks and truth are PNG files of class ids")
    if not left & right:
        raise ValueError(
            f"no mask has the name of a truth file: {min(left)!r} in {masks}, {min(right)!r} in {truth}; "
            "give the folders below which the names agree"
        )
    return Pairs(sorted(left & right), sorted(right - left), sorted(left - right))


def find_files(folder: Path, suffix: str, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the relative names, with forward slashes, of the files below ``folder`` with this suffix, in any case.

    Hidden files and folders are left out, as are the folders named in ``skip`` directly in ``folder``. Links
    are followed, except back into a folder above.
    """
    return _walk(os.fspath(folder), "", suffix, skip, frozenset())


def read_pair(classes: int, mask: Path, truth: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ids of two mask files: (H, W) integers, 0..classes or the ignore value.

    Raises ValueError, naming the file, for one that is no PNG, is broken, has colours for pixels or other values;
    SizeError when they differ in size.
    """
    ids, true_ids = read_ids(mask, classes), read_ids(truth, classes)
    check_size(ids.shape, mask, true_ids.shape, truth)
    return ids, true_ids


def add_up(
    judge: Judge, tasks: Iterable[Task], count: int, shape: tuple[int, ...], workers: int | None, progress: Progress
) -> Tally:
    """Add up ``judge(*paths)``, an int64 array of ``shape``, over ``count`` tasks ``(name, *paths)``.

    A task whose judge raises ValueError, OSError or MemoryError is noted in the order of the tasks. They are
    taken lazily by ``workers`` processes (None: one per core), at most one for 16 tasks; with one, in this process.

    Raises ValueError for less than 1 worker, ChildProcessError when one is killed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    processes = max(1, min(workers or cores(), count // _WORTH))
    tally = Tally(np.zeros(shape, np.int64))
    for name, result in progress(_results(partial(_judged, judge), iter(tasks), processes), count, "images"):
        if isinstance(result, SizeError):
            tally.mis_sized.append(Problem(name, str(result)))
        elif isinstance(result, Exception):
            tally.failed.append(Problem(name, str(result) or type(result).__name__))
        else:
            present, counts = result
            tally.counts[..., present] += counts
            tally.images += 1
    return tally


def _judged(judge: Judge, task: Task) -> tuple[str, Any]:
    """The task's name, and its counts (of the classes that occur, last axis) or why there are none."""
    name, *paths = task
    try:
        counts = judge(*paths)
    except (ValueError, OSError, MemoryError) as error:
        return name, error.with_traceback(None)
    present = np.flatnonzero(counts.any(axis=tuple(range(counts.ndim - 1))))
    return name, (present, counts[..., present])


def _results(work: Callable[[Task], Any], tasks: Iterator[Task], processes: int) -> Iterator[Any]:
    """The results in the order of the tasks, of which only a block is in hand at a time."""
    if processes == 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(processes, initializer=_end_at_signals)
    try:
        while block := list(islice(tasks, _BLOCK * processes)):
            yield from pool.map(work, block, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise ChildProcessError("a worker was killed, perhaps for want of memory; take fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_at_signals() -> None:
    """A terminal's Ctrl-C reaches every process: a worker ends without a word, the parent speaks."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mask_names(folder: Path) -> Iterator[str]:
    ours = (folder / "classes.json").is_file()  # then these two hold what `clipes generate` saves beside masks
    return find_files(folder, ".png", frozenset({"confidence", "cams"} if ours else ()))


def _walk(folder: str, prefix: str, suffix: str, skip: frozenset[str], above: frozenset[str]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or (not prefix and entry.name in skip):
                continue
            fits = entry.name.lower().endswith(suffix)
            if fits and entry.is_file(follow_symlinks=False):
                yield prefix + entry.name
            elif os.path.isdir(entry.path):
                yield from _walk(entry.path, f"{prefix}{entry.name}/", suffix, skip, above | {here})
            elif fits:  # a link, perhaps broken: the reader will tell
                yield prefix + entry.name
