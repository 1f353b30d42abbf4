"""Images read ahead of the model by reader processes, in order and in batches."""

from __future__ import annotations

import multiprocessing
import re
import signal
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from clipes.datasets import Sample

from .decoding import Decoder, Loaded, decode_image

T = TypeVar("T")

KILLED = "the process that read it died; the file may be broken, or too large for the memory"
"""The reason of an image that kills every process that reads it."""


def load_ahead(
    samples: Iterable[Sample], batch_size: int, readers: int, decode: Decoder = decode_image
) -> Generator[list[Loaded], None, None]:
    """Read ``samples`` in batches, in order; each reader process is two batches ahead at most.

    With 0 ``readers`` this process reads, when it is asked. An image that cannot be read has a reason instead of
    pixels. Warnings of the readers are issued here. Close the generator where it is not used up: nothing else ends
    its processes.

    When a reader process dies (a fault of the decoder, or too little memory), the images that it and the others had
    been given are read again one by one, each in a process of its own. Only those that kill that process, too, are
    given up.
    """
    in_flight: deque[list[Sample]] = deque()

    def handed_out() -> Iterator[list[Sample]]:
        source = iter(samples)
        while batch := list(islice(source, batch_size)):
            in_flight.append(batch)
            yield batch

    batches = handed_out()
    while True:
        try:
            for loaded in _load(batches, readers, decode):
                in_flight.popleft()
                yield _warned(loaded)
            return
        except _ReaderDied:
            again = list(in_flight)
            in_flight.clear()
        for batch in again:
            yield _warned([load_isolated(sample, decode) for sample in batch])


def load_isolated(sample: Sample, decode: Decoder = decode_image) -> Loaded:
    """Read one sample in a process of its own; where that dies, the sample has the reason ``KILLED``."""
    try:
        ((loaded,),) = _load(iter([[sample]]), 1, decode)
    except _ReaderDied:
        loaded = Loaded(sample, reason=KILLED)
    return loaded


def _warned(batch: list[Loaded]) -> list[Loaded]:
    for text in (text for loaded in batch for text in loaded.warnings):
        warnings.warn(text, stacklevel=3)
    return batch


class _ReaderDied(Exception):
    """A reader process is gone."""


def _load(batches: Iterator[list[Sample]], readers: int, decode: Decoder) -> Iterator[list[Loaded]]:
    loader = DataLoader(
        _Images(decode),
        batch_sampler=batches,  # yields samples instead of indices, so that no list of all samples is needed
        collate_fn=_unchanged,
        num_workers=readers,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # the global one is the user's
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    died = False
    with _SigchldGuard() as guard:
        try:
            while (loaded := guard.next_of(iterator)) is not None:
                yield loaded
        except RuntimeError as error:
            died = readers > 0 and re.search("exited unexpectedly|is killed by signal", str(error)) is not None
            if not died:
                raise
        finally:
            del iterator  # ends the processes, except those that are stuck in a read
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
                process.join()  # still inside the SIGCHLD guard
    if died:
        raise _ReaderDied


class _Images(Dataset[Loaded]):
    """Reads a sample where a data set would look up a number."""

    def __init__(self, decode: Decoder):
        self._decode = decode

    def __getitem__(self, sample: Any) -> Loaded:
        return self._decode(sample)


def _unchanged(batch: list[Loaded]) -> list[Loaded]:
    return batch


def _ignore_signals(reader: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach every process; the one with the model decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _SigchldGuard:
    """Delays torch's SIGCHLD handler, which raises anywhere in the main thread, until we are inside ``next()``."""

    def __enter__(self) -> _SigchldGuard:
        self._waiting = self._missed = False
        main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
        self._theirs = signal.signal(signal.SIGCHLD, self._handle) if main else None
        return self

    def __exit__(self, *raised: object) -> None:
        if self._theirs is not None:
            signal.signal(signal.SIGCHLD, self._theirs)

    def next_of(self, items: Iterator[T]) -> T | None:
        """The next item; None at the end. Raises torch's RuntimeError for a death before or while it is waited for."""
        self._waiting = True
        try:
            if self._missed:
                self._handle(signal.SIGCHLD, None)
            return next(items, None)
        finally:
            self._waiting = False

    def _handle(self, number: int, frame: Any) -> None:
        self._missed = not self._waiting
        if self._waiting and callable(self._theirs):
            self._theirs(number, frame)
