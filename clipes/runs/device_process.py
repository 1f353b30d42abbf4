"""The process of one of several devices: its outside, and what it does. See :mod:`clipes.runs.device_pool`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from clipes.datasets import Sample
from clipes.device.errors import DeviceLost, is_device_error
from clipes.device.threads import configure_threads
from clipes.generator import MaskGenerator
from clipes.store.output import Output

from .generation import MasksFromImages
from .local_engine import MaskWriter

GRACE = 5
"""Seconds that a process takes to end that is told to end at once, even if the images in hand need longer."""

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@dataclass(frozen=True)
class Task:
    """What each of several ``processes`` is to do; see :func:`clipes.runs.device_pool.write_on_devices`."""

    load: Callable[[str], MaskGenerator]
    output: Output
    header: Mapping[str, Any]
    writer: Mapping[str, Any]
    threads: int | None
    processes: int


class More(NamedTuple):
    """The process waits for images."""


class Warned(NamedTuple):
    """It has warned of something."""

    text: str


class Raised(NamedTuple):
    """It has ended by an error, whose traceback there was ``text``."""

    error: Exception
    text: str


class Ended(NamedTuple):
    """It has ended well."""


class DeviceProcess:
    """The process of a device, as it is seen from here.

    Attributes:
        hand: the samples that it was given and that have not ended.
        asks: whether it waits for more.
        loaded: whether it has its model.
    """

    def __init__(self, device: str, task: Task):
        self.device, self.asks, self.loaded = device, False, False
        self.hand: dict[str, Sample] = {}
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.pipe, theirs = context.Pipe()
        control, self._control = context.Pipe(duplex=False)
        given = (device, task, multiprocessing.get_start_method(), theirs, control)
        self._process = context.Process(target=work, args=given, name=f"clipes-{device}")
        with _signals_held():
            self._process.start()
        theirs.close()
        control.close()

    def hear(self) -> Any:
        """The next that it says; EOFError if it is dead, and has said all."""
        if self.silent():
            raise EOFError
        try:
            return self.pipe.recv()
        except OSError as error:  # it died in the middle of a word
            raise EOFError from error

    def silent(self) -> bool:
        """Whether it is dead, and has said all: its pipe may be open still, in processes that read images for it."""
        return not self._process.is_alive() and not self.pipe.poll()

    def give(self, block: list[Sample]) -> None:
        """Answer that it asks for more; an empty block says that there is none for now."""
        self.asks = False
        self.hand |= {sample.id: sample for sample in block}
        with suppress(OSError):  # it has died, which is found out soon
            self.pipe.send(block)

    def stop(self) -> None:
        """Tell it to end after the images in hand; without a model it has none, and is not waited for."""
        if not self.loaded:
            self._process.kill()
        with suppress(OSError):
            self._control.send(None)

    def let_go(self) -> None:
        """Tell it to end at once, if it has not ended: that is what it takes for our death, too."""
        self._control.close()
        self.pipe.close()

    def join(self) -> int:
        """Wait for its end, a while; returns its exit code, minus the number of the signal that has killed it."""
        ready = time.monotonic() + GRACE + 5  # it kills itself in time, unless it cannot
        while self._process.is_alive():  # not join: that waits for processes that read images, too
            if time.monotonic() > ready:
                self._process.kill()
            time.sleep(0.01)
        self.let_go()
        return self._process.exitcode or 0


@contextmanager
def _signals_held() -> Iterator[None]:
    """What starts meanwhile hears no Ctrl-C and no SIGTERM before it is ready for them; we hear them afterwards."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # which a first start would do, and let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work(device: str, task: Task, start_method: str, pipe: Connection, control: Connection) -> None:
    """Write the masks of the images that ``pipe`` gives, and say there how each ends; then, how the process ends.

    Says :class:`More` for a list of samples; an empty one where it has none in hand ends the process. ``control``
    tells to end: anything it sends, after the images in hand; its end, which is that of who holds it, at once.
    ``start_method`` is how processes that read images start: spawned as this one is, they would take seconds.
    """
    try:
        stop = _obey(control)
        multiprocessing.set_start_method(start_method, force=True)
        said = _work(device, task, _Line(pipe), stop)
        with suppress(OSError):  # nobody hears it any more
            pipe.send(said)
    except KeyboardInterrupt:  # told to end at once
        pass
    finally:
        for number in _SIGNALS:  # what is told now comes too late
            signal.signal(number, signal.SIG_IGN)


class _Line:
    """The pipe, for several threads."""

    def __init__(self, pipe: Connection):
        self._pipe, self._lock = pipe, threading.Lock()

    def say(self, what: object) -> None:
        with self._lock:
            self._pipe.send(what)

    def more(self) -> list[Sample]:
        """The next samples; none at the end, and where there are none for now."""
        self.say(More())
        block: list[Sample] = self._pipe.recv()
        return block


def _work(device: str, task: Task, line: _Line, stop: threading.Event) -> Ended | Raised:
    warnings.showwarning = lambda message, *where: line.say(Warned(str(message)))
    try:
        torch.set_num_threads(max(1, torch.get_num_threads() // task.processes))
        jobs = configure_threads(task.threads, torch.device(device), 2)  # many images: how many, nobody knows yet
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(torch.device(device).index or 0)  # or what names no device would be on the first
        header = {**task.header, "device": device, "threads": torch.get_num_threads()}
        given = {**task.writer, "stop": stop.is_set, "jobs": jobs, "processes": task.processes}
        with MaskWriter(MasksFromImages(task.load(device)), task.output, header, **given) as writer:
            while not stop.is_set() and (block := line.more()):
                if task.output.format == "tar":
                    _write_shard(block, line, writer)
                else:
                    for outcome in writer.write(_and_more(block, line)):
                        line.say(outcome)
    except Exception as error:
        return Raised(_portable(error), traceback.format_exc())
    return Ended()


def _and_more(block: list[Sample], line: _Line) -> Iterator[Sample]:
    """The samples of a block, and of those that come after it: so that reading goes on between them."""
    while block:
        yield from block
        block = line.more()


def _write_shard(block: list[Sample], line: _Line, writer: MaskWriter) -> None:
    """Write a block, and say how its images end when they are safe: what is in an open .tar is not."""
    outcomes = []
    try:
        for outcome in writer.write(block):
            outcomes.append(outcome)
    finally:  # those before an error are not done again
        writer.flush()
        for outcome in outcomes:
            line.say(outcome)


def _portable(error: Exception) -> Exception:
    """The error as it can travel."""
    if is_device_error(error):
        return DeviceLost(str(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _obey(control: Connection) -> threading.Event:
    """Set when the process is to end; a KeyboardInterrupt in the main thread where that is to be at once.

    Ctrl-C and a scheduler's SIGTERM reach every process; what they mean is for the one that holds ``control`` to say.
    """
    stop, at_once = threading.Event(), threading.Event()

    def hear(number: int, frame: object) -> None:
        if at_once.is_set():
            at_once.clear()  # no second time, in the middle of clearing up
            raise KeyboardInterrupt

    def listen() -> None:
        with suppress(EOFError, OSError):
            control.recv()
            stop.set()
            control.recv()
        stop.set()
        at_once.set()
        if sys.platform == "win32":
            signal.raise_signal(signal.SIGINT)
        else:  # to the thread itself, so that it does not go on waiting
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(GRACE)
        os._exit(1)  # stuck in something that hears no signal

    for number in _SIGNALS:
        signal.signal(number, hear)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    main = threading.get_ident()
    threading.Thread(target=listen, daemon=True).start()
    return stop
