"""Masks by several devices of one machine: a process for each, which asks for images when it has room for more.

:mod:`multiprocessing` starts the processes and carries what they say. What is here says who gets which images, and
what becomes of them when a process dies or a GPU is lost; :mod:`clipes.runs.device_process` is one process.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from multiprocessing import connection
from typing import Any

import torch

from clipes.datasets import Sample
from clipes.device.choice import choose_device
from clipes.device.errors import DeviceLost
from clipes.generator import MaskGenerator
from clipes.io.atomic import remove_stale
from clipes.store.output import Output

from .device_process import DeviceProcess, More, Raised, Task, Warned
from .outcome import Outcome

BLOCK = 8
"""Images that a process gets at a time; for ``.tar`` output it is a shard, which is done again if the process dies."""

DEATHS = 3
"""Deaths of processes that had one image in hand, or that were loading the model, before that is given up."""

_POLL = 0.2  # seconds between looks at whether to stop, and at who still lives


def device_list(given: str) -> list[str]:
    """The devices that ``given`` names: ``"cuda:0,cuda:1"``, or ``"all"`` for every GPU that torch sees.

    One named twice gets two processes. Raises ValueError for a device that is not there, for ``all`` without a GPU,
    and for CPU and GPU together, whose masks are not the same.

    >>> device_list("cpu, cpu")
    ['cpu', 'cpu']
    """
    if given == "all":
        if not torch.cuda.is_available():
            raise ValueError("devices are 'all', but torch sees no CUDA device; name them: cpu, or cpu,cpu for two")
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in given.split(",")]
    if len({choose_device(name).type for name in names}) > 1:
        raise ValueError(f"devices are {given!r}, whose masks would differ by rounding; give CPUs or GPUs only")
    return names


def write_on_devices(
    load: Callable[[str], MaskGenerator],
    output: Output,
    header: Mapping[str, Any],
    samples: Iterable[Sample],
    devices: Sequence[str],
    *,
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    **writer: Any,
) -> Generator[Outcome, None, None]:
    """Write the masks of ``samples`` by a process on each device; yields how each image ends, in any order.

    Every process loads the model once and has a record of its own. On a CPU the masks are the bytes that one
    process writes with as many threads for an image. What a process had in hand when it died, or when its
    GPU was lost, is done again: by a new process, or by the other devices. A device whose GPU is lost, or whose
    processes do not survive the loading of the model, is given up with a warning as long as there is another.

    Args:
        load: makes the generator of a device; called in each process, so that it must pickle (a function of a module
            does, and a ``functools.partial`` of one).
        output, header: as for :class:`clipes.runs.local_engine.MaskWriter`. The folder must be claimed, see
            :mod:`clipes.runs.run`.
        samples: read on demand, a few blocks ahead at most.
        devices: one or more; one that is named twice has two processes.
        threads: torch threads per image, see :func:`clipes.device.threads.configure_threads`; each process
            has its share of all.
        stop: asked several times a second whether to end after the images in hand.
        writer: ``batch_size``, ``readers`` and ``skip`` of :class:`clipes.runs.local_engine.MaskWriter`.

    Raises:
        DeviceLost: every GPU is lost.
        ChildProcessError: an image was in hand at ``DEATHS`` deaths of processes, or no device's process survives
            the loading of the model.
        OSError, and what ``load`` raises: as they were raised in a process, after what the others have in hand.
    """
    tar = output.tar_size if output.format == "tar" else 0
    left = _Left(samples, tar or BLOCK)
    task = Task(load, output, header, writer, threads, len(devices))
    pool = _Pool(left, not tar, lambda device: DeviceProcess(device, task))
    try:
        for device in devices[: left.look_ahead(len(devices))]:  # no more than have something to do
            pool.start(device)
        yield from pool.outcomes(stop)
    finally:
        pool.close()
        if pool.died:
            remove_stale(output.folder)  # what they were writing
    if pool.error:
        raise pool.error


class _Left:
    """The samples that nobody has in hand, in blocks of ``size``; before them, those that were put back."""

    def __init__(self, samples: Iterable[Sample], size: int):
        source = iter(samples)
        self._new = iter(lambda: list(islice(source, size)), [])
        self._ahead: deque[list[Sample]] = deque()
        self.back: deque[list[Sample]] = deque()

    def __bool__(self) -> bool:
        return bool(self.back) or self.look_ahead(1) > 0

    def look_ahead(self, count: int) -> int:
        """How many blocks there still are, ``count`` of them at most."""
        self._ahead.extend(islice(self._new, max(count - len(self._ahead), 0)))
        return min(count, len(self._ahead))

    def take(self) -> list[Sample]:
        """The next block; an empty one at the end."""
        if self.back:
            return self.back.popleft()
        return self._ahead.popleft() if self.look_ahead(1) else []


class _Pool:
    """The processes of all devices.

    ``apart`` says whether what a dead process had in hand is done again one by one, so that what has killed it is
    found, and kills nothing else.

    Attributes:
        died: whether a process has ended in the middle of what it did.
        error: what ends the run.
    """

    def __init__(self, left: _Left, apart: bool, new: Callable[[str], DeviceProcess]):
        self.error: Exception | None = None
        self.died = False
        self._left, self._apart, self._new = left, apart, new
        self._processes: list[DeviceProcess] = []
        self._deaths: Counter[str] = Counter()  # by sample, of those that are not done yet
        self._unloaded: Counter[str] = Counter()  # by device, one after the other
        self._ending = False

    def start(self, device: str) -> None:
        """Start a process."""
        self._processes.append(self._new(device))

    def close(self) -> None:
        """End all processes that are there still, at once."""
        for process in self._processes:
            process.let_go()
        for process in self._processes:
            self.died |= process.join() != 0 and process.loaded

    def outcomes(self, stop: Callable[[], bool]) -> Iterator[Outcome]:
        """Hand out images until none is left, or an error or ``stop`` ends that, and all processes have ended."""
        while self._processes:
            if not self._ending and (self.error or stop() or self._done()):
                self._ending = True
                for process in self._processes:
                    process.stop()
            self._answer()
            ready = connection.wait([process.pipe for process in self._processes], _POLL)
            for process in list(self._processes):
                if process.pipe in ready or process.silent():
                    yield from self._hear(process)

    def _hear(self, process: DeviceProcess) -> Iterator[Outcome]:
        try:
            said = process.hear()
        except EOFError:
            self._bury(process)
            return
        if isinstance(said, Outcome):
            process.hand.pop(said.sample.id, None)
            self._deaths.pop(said.sample.id, None)
            yield said
        elif isinstance(said, More):
            process.asks = process.loaded = True
            self._unloaded.pop(process.device, None)
        elif isinstance(said, Warned):
            warnings.warn(said.text, stacklevel=2)
        elif isinstance(said, Raised):
            self._end(process)
            said.error.__cause__ = _There(said.text)
            self._raised(process.device, said.error)
        else:  # it has done what there was
            self._end(process)

    def _answer(self) -> None:
        """Give those that ask more images. Those for which there are none wait: others may die, and leave theirs."""
        for process in [process for process in self._processes if process.asks]:
            block = [] if self._ending or self._dangerous(process) else self._left.take()
            if block or process.hand or self._ending:  # without more it finishes what it has in hand
                process.give(block)

    def _done(self) -> bool:
        return not self._left and not any(process.hand for process in self._processes)

    def _dangerous(self, process: DeviceProcess) -> bool:
        """Whether what it has in hand, or would get, has been in a dead process's hand and must be in one alone."""
        names = {*process.hand, *(sample.id for block in islice(self._left.back, 1) for sample in block)}
        return bool(process.hand) and not self._deaths.keys().isdisjoint(names)

    def _end(self, process: DeviceProcess, apart: bool = False) -> int:
        """Let it end; what it has in hand is done again. Returns its exit code."""
        code, hand = process.join(), list(process.hand.values())
        self._processes.remove(process)
        self._left.back.extend([[sample] for sample in hand] if apart else [hand] if hand else [])
        return code

    def _raised(self, device: str, error: Exception) -> None:
        """Give up a device whose GPU is lost, if there is another; end the run for anything else."""
        lost = isinstance(error, DeviceLost | _NeverLoaded)
        if not lost:
            self.error = self.error or error
        elif self._processes:
            warnings.warn(f"{device} is given up, the others go on: {error}", stacklevel=2)
        elif self._left and not self._ending:
            self.error = error

    def _bury(self, process: DeviceProcess) -> None:
        """Do again what a dead process had in hand, unless it has cost too many lives."""
        code = self._end(process, self._apart)
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        self.died |= process.loaded
        if self._ending:
            return
        device, hand = process.device, process.hand
        self._deaths.update(list(hand))
        self._unloaded[device] += not process.loaded
        if self._unloaded[device] >= DEATHS:
            text = f"{DEATHS} processes in a row died while they loaded the model on {device} ({how})"
            self._raised(device, _NeverLoaded(f"{text}; is there too little memory?"))
        elif fatal := [sample for sample in hand.values() if self._deaths[sample.id] == DEATHS]:
            others = f", or one of {len(fatal) - 1} after it," if len(fatal) > 1 else ""
            self._raised(
                device,
                ChildProcessError(
                    f"{DEATHS} processes died ({how}) with {fatal[0].image}{others} in hand; leave it out, or give "
                    "more memory, and start again to go on"
                ),
            )
        else:
            warnings.warn(f"a process on {device} died ({how}); {len(hand)} images are done again", stacklevel=2)
            self.start(device)


class _NeverLoaded(ChildProcessError):
    """No process survives the loading of the model on a device."""


class _There(Exception):
    """The traceback of an error in a process."""
