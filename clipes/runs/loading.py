"""Images read ahead of the model, by other processes, in order and in batches."""

from __future__ import annotations

import multiprocessing
import re
import signal
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from clipes.datasets import Sample
from clipes.io.images import open_image

T = TypeVar("T")

KILLED = "the process that read it died; the file may be broken, or too large for the memory"
"""The reason of an image that no process survives."""


class Read(NamedTuple):
    """A sample with its picture, or with why that cannot be had; ``missing`` where there is no such file."""

    sample: Sample
    image: Image.Image | None
    reason: str = ""
    missing: bool = False


class _Found(NamedTuple):
    """What a process sends back: the pixels (H, W, 3) uint8, or a reason; and what was warned of."""

    pixels: NDArray[np.uint8] | None
    reason: str
    missing: bool
    warned: list[str]


def read_ahead(samples: Iterable[Sample], batch_size: int, workers: int) -> Generator[list[Read], None, None]:
    """Read the images of ``samples`` in batches, in order; each process is two batches ahead at most.

    ``workers`` processes read, with 0 this one does, when it is asked. An image that cannot be read has a reason
    instead. Close the generator where it is not used up: its processes end with it, and nothing else ends them.

    If a process dies (of a decoder's fault, or for want of memory), the images that were on their way are
    read again one by one, and only those that kill their process again are given up.
    """
    on_the_way: deque[list[Sample]] = deque()

    def handed_out() -> Iterator[list[Sample]]:
        source = iter(samples)
        while batch := list(islice(source, batch_size)):
            on_the_way.append(batch)
            yield batch

    batches = handed_out()
    while True:
        try:
            for found in _found(batches, workers):
                yield _reads(on_the_way.popleft(), found)
            return
        except _WorkerDied:
            again = list(on_the_way)
            on_the_way.clear()
        for batch in again:
            yield _reads(batch, [_alone(sample) for sample in batch])


def _reads(batch: list[Sample], found: list[_Found]) -> list[Read]:
    for text in (text for one in found for text in one.warned):
        warnings.warn(text, stacklevel=2)
    pictures = [None if one.pixels is None else Image.fromarray(one.pixels) for one in found]
    rows = zip(batch, pictures, found, strict=True)
    return [Read(sample, picture, one.reason, one.missing) for sample, picture, one in rows]


def _alone(sample: Sample) -> _Found:
    try:
        ((found,),) = _found(iter([[sample]]), 1)
    except _WorkerDied:
        found = _Found(None, KILLED, False, [])
    return found


class _WorkerDied(Exception):
    """A process of the loader is gone."""


def _found(batches: Iterator[list[Sample]], workers: int) -> Iterator[list[_Found]]:
    loader = DataLoader(
        _Images(),
        batch_sampler=batches,  # of samples instead of numbers: there may be millions
        collate_fn=_as_they_are,
        num_workers=workers,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # the global one is the user's
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    died = False
    with _Deaths() as deaths:
        try:
            while (found := deaths.next_of(iterator)) is not None:
                yield found
        except RuntimeError as error:
            died = workers > 0 and re.search("exited unexpectedly|is killed by signal", str(error)) is not None
            if not died:
                raise
        finally:
            del iterator  # which ends the processes, but not those that are stuck in a read
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
                process.join()  # as long as torch does not hear of it
    if died:
        raise _WorkerDied


class _Images(Dataset[_Found]):
    """Reads a sample where a data set would look up a number."""

    def __getitem__(self, sample: Any) -> _Found:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pixels, reason, missing = _pixels(sample)
        return _Found(pixels, reason, missing, [str(one.message) for one in caught])


def _pixels(sample: Sample) -> tuple[NDArray[np.uint8] | None, str, bool]:
    try:
        return np.asarray(open_image(sample.image)), "", False
    except FileNotFoundError:
        return None, "no such image", True
    except (ValueError, OSError, MemoryError) as error:
        reason = str(error) or "out of memory"
    return None, reason.removeprefix(f"{sample.image}: ").removesuffix(f": {sample.image}"), False


def _as_they_are(found: list[_Found]) -> list[_Found]:
    return found


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach every process; when to stop is for the one with the model to say."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Deaths:
    """Lets torch hear of a reading process's death only while we wait for it: it raises wherever we happen to be."""

    def __enter__(self) -> _Deaths:
        self._waiting = self._missed = False
        main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
        self._theirs = signal.signal(signal.SIGCHLD, self._hear) if main else None
        return self

    def __exit__(self, *raised: object) -> None:
        if self._theirs is not None:
            signal.signal(signal.SIGCHLD, self._theirs)

    def next_of(self, items: Iterator[T]) -> T | None:
        """The next item; None at the end. Raises torch's RuntimeError for a death before or while it is waited for."""
        self._waiting = True
        try:
            if self._missed:
                self._hear(signal.SIGCHLD, None)
            return next(items, None)
        finally:
            self._waiting = False

    def _hear(self, number: int, frame: Any) -> None:
        self._missed = not self._waiting
        if self._waiting and callable(self._theirs):
            self._theirs(number, frame)
