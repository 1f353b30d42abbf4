"""Images read ahead of the model by reader processes, in order and in batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, cycle, islice
from multiprocessing.connection import Connection
from queue import SimpleQueue

from clipes.datasets import Sample
from clipes.io import retry
from clipes.io.processes import MAIN_GUARD, forked

from .decoding import Decoder, Loaded, decode_image

POLL_SECONDS = 0.2

STARTS = 3
"""How often processes that read are started in vain, before this process reads."""

KILLED = "the process that read it died; the file may be broken, or too large for the memory"
"""The reason of an image that kills every process that reads it."""


def load_ahead(
    samples: Iterable[Sample],
    batch_size: int,
    readers: int,
    decode: Decoder = decode_image,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[list[Loaded], None, None]:
    """Read ``samples`` in batches, in order; each reader process has two batches at most.

    With 0 ``readers`` this process reads, when it is asked. An image that cannot be read has a reason instead of
    pixels. Warnings of the readers are issued here. Close the generator where it is not used up: that ends its
    processes. What a reader has not sent yet is not waited for where ``stop`` says so: it may wait for a lost share.

    When a reader process dies (a fault of the decoder, or too little memory), the images that it and the others had
    been given are read again one by one, each in a process of its own. Only those that also kill that process
    have failed. One that dies before it can read, or cannot be started, is no image's fault: after ``STARTS`` such
    starts this process reads, with a warning. It reads without one where it may start no process, being a daemon.
    """
    source = iter(samples)
    batches: Iterator[list[Sample]] = iter(lambda: list(islice(source, batch_size)), [])
    if not readers or multiprocessing.current_process().daemon:
        yield from _read_here(batches, decode)
        return
    in_flight: deque[list[Sample]] = deque()
    vain = 0  # starts, one after the other, of processes that did not begin
    while True:
        try:
            for loaded in _read(batches, readers, decode, in_flight, stop):
                vain = 0
                yield _warned(loaded)
            return
        except _ReaderDied:
            again = list(in_flight)
            in_flight.clear()
        except _NeverBegan as error:
            batches, again, vain = chain(list(in_flight), batches), [], vain + 1
            in_flight.clear()
            if vain == STARTS:
                warnings.warn(f"{error}; images are read by this process alone", stacklevel=2)
                yield from _read_here(batches, decode)
                return
        for batch in again:
            yield _warned([_read_isolated(sample, decode) for sample in batch])


def _read_here(batches: Iterable[list[Sample]], decode: Decoder) -> Iterator[list[Loaded]]:
    return (_warned([decode(sample) for sample in batch]) for batch in batches)


def _warned(batch: list[Loaded]) -> list[Loaded]:
    for text in (text for loaded in batch for text in loaded.warnings):
        warnings.warn(text, stacklevel=3)
    return batch


def _read_isolated(sample: Sample, decode: Decoder) -> Loaded:
    try:
        ((loaded,),) = _read(iter([[sample]]), 1, decode, deque(), lambda: False)
    except _ReaderDied:
        return Loaded(sample, reason=KILLED)
    except _NeverBegan:
        return decode(sample)
    return loaded


def _read(
    batches: Iterator[list[Sample]],
    readers: int,
    decode: Decoder,
    in_flight: deque[list[Sample]],
    stop: Callable[[], bool],
) -> Iterator[list[Loaded]]:
    """Read batches by processes in turn; ``in_flight`` holds those that were given out and are not yielded yet."""
    processes: list[_Reader] = []
    try:
        processes.extend(_Reader(decode) for _ in range(readers))
        given, received = cycle(processes), cycle(processes)
        while True:
            for batch in islice(batches, 2 * readers - len(in_flight)):
                in_flight.append(batch)
                next(given).send(batch)
            if not in_flight:
                return
            reader = next(received)
            while (loaded := reader.receive()) is None:
                if stop():
                    return
            in_flight.popleft()
            yield loaded
    finally:
        for process in processes:
            process.kill()


class _ReaderDied(Exception):
    """A reader process has died."""


class _NeverBegan(Exception):
    """A reader process has died before it could read, or could not be started."""


class _Reader:
    """A process that reads batches. Its pipe is its own, so that its death at any time is seen and harms no other."""

    def __init__(self, decode: Decoder):
        self._began = False
        self._connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_serve, args=(theirs, self._connection, decode), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._connection.close()
            raise _NeverBegan(f"no process that reads images can be started: {error}") from error
        finally:
            theirs.close()  # the process has the only one, which its death closes

    def send(self, batch: list[Sample]) -> None:
        try:
            self._connection.send(batch)
        except OSError as error:
            self._begin()  # which tells a process that died from one that never began
            raise _ReaderDied from error

    def receive(self) -> list[Loaded] | None:
        """The next batch; None if it has not come after a short wait. What is said of troubles is passed on."""
        self._begin()
        try:
            if not self._connection.poll(POLL_SECONDS):
                return None
            result: list[Loaded] | str | Exception = self._connection.recv()
        except (EOFError, OSError) as error:
            raise _ReaderDied from error
        if isinstance(result, str):
            retry.warn(result)
            return None
        if isinstance(result, Exception):
            raise result
        return result

    def _begin(self) -> None:
        """Take the mark that the process sends first. Raises _NeverBegan if it died before."""
        if self._began:
            return
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            cause = "the processes that read images end before they read any"
            raise _NeverBegan(cause if forked() else f"{cause}; {MAIN_GUARD}") from error
        self._began = True

    def kill(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, other_end: Connection, decode: Decoder) -> None:
    """Read the batches that arrive, until the other end of the pipe is closed."""
    other_end.close()  # of the copy that this process has
    # Ctrl-C and a scheduler's SIGTERM reach every process; the one with the model decides when to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    batches: SimpleQueue[list[Sample]] = SimpleQueue()
    retry.of_process.say = connection.send
    connection.send(None)  # the mark that this process has begun
    threading.Thread(target=_receive, args=(connection, batches), daemon=True).start()
    while True:
        try:
            connection.send([decode(sample) for sample in batches.get()])
        except Exception as error:
            connection.send(error)


def _receive(connection: Connection, batches: SimpleQueue[list[Sample]]) -> None:
    """Take batches while others are read and sent: were both ends to send at once, both could wait forever."""
    try:
        while True:
            batches.put(connection.recv())
    finally:  # the other process closed its end, or died
        os._exit(0)
