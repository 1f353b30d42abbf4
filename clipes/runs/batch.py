"""Many images to mask files: read ahead, generate, write behind, and a row of the record for each."""

from __future__ import annotations

import errno
import hashlib
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from threading import Lock
from typing import Any, NamedTuple

import torch

from clipes.datasets import Sample
from clipes.device.errors import DeviceLost, is_device_error, is_out_of_memory
from clipes.device.memory import Budget, memory
from clipes.device.threads import begin_thread, default_jobs
from clipes.generator import MaskGenerator
from clipes.result import PseudoMask
from clipes.store.output import Output, new_sink
from clipes.store.record import Recorder, Row, Status

from .loading import Read, read_ahead

Ending = tuple[Status, str]
"""How an image ends that gets no mask, and why."""

_IMAGES_FAULT = (ValueError, FloatingPointError, MemoryError, RuntimeError)
_NAMES_FAULT = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)

WRITERS = {"cpu": 2, "cuda": 8}
"""Threads that compress and write; results wait for them, each with maps at the image's size."""

_PIXELS = 2**25
"""Images worked on together have no more than this, but for a single one: each has maps at its size."""


@dataclass(frozen=True)
class Outcome:
    """How one image ended; without a mask, why."""

    sample: Sample
    status: Status
    reason: str = ""

    @property
    def error(self) -> str:
        """The image and the reason why it has no mask; empty where it has one."""
        return "" if self.status == "ok" else f"{self.sample.image}: {self.reason}"


class Waiting(NamedTuple):
    """An image that is done but for its files, which a thread encodes; None where it has none."""

    sample: Sample
    row: Row
    files: Future[dict[str, bytes]] | None


class MaskWriter:
    """Writes the masks of images to a folder. Use it in a ``with``, or call :meth:`close`.

    Args:
        generator: makes the masks.
        output: what is saved, and where.
        header: what the record says of this process, see :class:`clipes.store.record.Recorder`.
        batch_size: images read and encoded together (None: the generator's ``default_batch_size``). Masks do not
            depend on it on a CPU.
        workers: processes that read images; with 0 this one does.
        skip: ``"unknown"``: images with a label that is no class are skipped; ``"missing"``: those without a file.
            Otherwise they fail.
        stop: asked between batches whether to end early.
        jobs: batches worked on side by side, by a thread each: by default 1 on a CPU and 2 on a GPU, one's work on the
            host behind the other's on the device; on a CPU see :func:`clipes.device.threads.split_threads`.
        processes: how many like this one share the machine's memory.
    """

    def __init__(
        self,
        generator: MaskGenerator,
        output: Output,
        header: Mapping[str, Any],
        *,
        batch_size: int | None = None,
        workers: int = 0,
        skip: Collection[str] = (),
        stop: Callable[[], bool] = lambda: False,
        jobs: int | None = None,
        processes: int = 1,
    ):
        size = generator.default_batch_size if batch_size is None else batch_size
        jobs = default_jobs(generator.device) if jobs is None else jobs
        if size < 1 or workers < 0 or jobs < 1:
            given = f"batch_size is {size}, workers {workers} and jobs {jobs}"
            raise ValueError(f"{given}; they must be at least 1, 0 and 1")
        self.generator, self.output, self.size, self.workers = generator, output, size, workers
        self._skip, self._stop = skip, stop
        self._names = frozenset(generator.class_names)
        self._wide: MaskGenerator | None = None
        self._closed = self._hurry = False
        self._most = size  # images encoded together, fewer once memory was short
        self._recorder = Recorder(output.folder, header)
        name = f"masks-{self._recorder.path.stem}"
        self._sink = new_sink(output, name)
        self._pool = ThreadPoolExecutor(WRITERS[generator.device.type], thread_name_prefix="clipes-write")
        self._jobs, self._lock, self._memory = jobs, Lock(), Budget(memory(generator.device, processes))
        begin = partial(begin_thread, torch.get_num_threads(), generator.device)
        self._workers = ThreadPoolExecutor(jobs, "clipes-job", initializer=begin)

    def __enter__(self) -> MaskWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring what is done to the disk and end the record."""
        if self._closed:
            return
        self._closed = True
        self._workers.shutdown(wait=not self._hurry, cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)
        try:
            self.flush()
        finally:
            self._recorder.close()

    def flush(self) -> None:
        """Close a .tar that is not full, and bring the record to the disk."""
        self._recorder.add(*self._sink.flush())
        self._recorder.sync()

    def write(self, samples: Iterable[Sample]) -> Generator[Outcome, None, None]:
        """Write the files of each sample; yields how they ended, in order.

        An image that cannot be read, or whose maps are not finite even in float32, or that alone is too large for the
        memory, has failed, and the others are done.

        Raises OSError when the folder cannot be written to (a full disk, no permission), and DeviceLost: nothing would
        go well then. What was finished before is written and recorded.
        """
        batches: deque[Future[list[Waiting]]] = deque()
        reads = read_ahead(samples, self.size, self.workers)
        raised: Exception | None = None
        try:
            try:
                for batch in reads:
                    batches.append(self._workers.submit(self._batch, batch))
                    if len(batches) > self._jobs:
                        yield from self._ends(batches)
                    if self._stop():
                        break
            except Exception as error:
                raised = error
            while batches:
                with suppress(*([Exception] if raised else [])):
                    yield from self._ends(batches)
        except KeyboardInterrupt:
            self._hurry = True
            raise
        finally:
            while batches:  # nobody asks for them any more
                if batches[0].cancel() or (self._hurry and not batches[0].done()):
                    batches.popleft()
                else:
                    with suppress(Exception):
                        list(self._ends(batches))
            reads.close()
        if raised:
            raise raised

    def _ends(self, batches: deque[Future[list[Waiting]]]) -> Iterator[Outcome]:
        """Wait for the first batch; yields how its images end, and writes down those that are not asked for."""
        wait([batches[0]])  # if that is interrupted, it is among those in hand
        waiting = deque(batches.popleft().result())
        try:
            while waiting:
                yield self._finished(waiting.popleft())
        finally:
            while waiting:
                with suppress(OSError):
                    self._finished(waiting.popleft())

    def _batch(self, batch: Sequence[Read]) -> list[Waiting]:
        """A row for each image of a batch, with its encoded files to come if it has a mask. Runs in a thread."""
        refused = [self._refused(read) for read in batch]
        good = [read for read, no in zip(batch, refused, strict=True) if no is None]
        started = time.monotonic()
        made = iter(self._made(good))
        seconds = round((time.monotonic() - started) / max(len(good), 1), 4)
        found = []
        for read, no in zip(batch, refused, strict=True):
            result, sample = no or next(made), read.sample
            if isinstance(result, tuple):
                found.append(Waiting(sample, Row(sample.id, *result, labels=sample.labels), None))
                continue
            row = Row(sample.id, "ok", labels=sample.labels, size=result.size, seconds=seconds)
            found.append(Waiting(sample, row, self._pool.submit(self._encoded, sample.id, result)))
        return found

    def _refused(self, read: Read) -> Ending | None:
        """How an image ends of which no mask can be made."""
        sample, unknown = read.sample, [name for name in read.sample.labels if name not in self._names]
        if unknown and "unknown" in self._skip:
            return "skipped", f"unknown class {unknown[0]!r}"
        try:
            self._sink.check(sample)
        except (ValueError, OSError) as error:  # a name that is too long, say
            return "failed", str(error)
        if read.missing and "missing" in self._skip:
            return "skipped", read.reason
        return None if read.image else ("failed", read.reason)

    def _made(self, batch: Sequence[Read]) -> list[PseudoMask | Ending]:
        """The result of each image, or how it ends without one; what is too much for the memory is halved."""
        found: list[PseudoMask | Ending] = []
        while len(found) < len(batch):
            rest = batch[len(found) : len(found) + self._most]
            pixels = accumulate(read.image.width * read.image.height if read.image else 0 for read in rest)
            found += self._some(rest[: max(1, sum(so_far <= _PIXELS for so_far in pixels))])
        return found

    def _some(self, batch: Sequence[Read]) -> list[PseudoMask | Ending]:
        """The results of images encoded together: if that fails, of the first half of them, down to the culprit."""
        images, labels = [read.image for read in batch if read.image], [read.sample.labels for read in batch]
        try:
            with self._memory.taken(self.generator.bytes_of(images, [len(names) for names in labels])):
                return list(self.generator.generate(images, labels, len(batch)))
        except _IMAGES_FAULT as error:
            reason, scarce = _reason(error)
            infinite = isinstance(error, FloatingPointError)
        # Out of the handler: the error's traceback keeps the failed batch's tensors alive.
        half = len(batch) // 2
        if half:
            if scarce:
                self._shrink(len(batch), len(batch) - half)
            return self._some(batch[:half])
        if infinite and self.generator.dtype != torch.float32:
            return [self._in_float32(batch[0])]
        return [("failed", reason)]

    def _shrink(self, tried: int, most: int) -> None:
        with self._lock:
            if most < self._most:  # two batches may run out of the same memory
                self._most = most
                warnings.warn(f"out of memory with {tried} images; going on with {most} at a time", stacklevel=2)

    def _in_float32(self, read: Read) -> PseudoMask | Ending:
        """An image again whose maps were not finite in a lower precision."""
        try:
            with self._lock:
                self._wide = self._wide or self.generator.in_float32()
            return next(self._wide.generate([read.image] if read.image else [], [read.sample.labels], 1))
        except _IMAGES_FAULT as error:
            return "failed", f"in float32, too: {_reason(error)[0]}"

    def _encoded(self, image_id: str, result: PseudoMask) -> dict[str, bytes]:
        files = self.output.encode(result)
        self._sink.prepare(image_id, files)
        return files

    def _finished(self, one: Waiting) -> Outcome:
        """Wait for an image's files and write down how it ended."""
        row = one.row
        if one.files is not None:
            try:
                files = one.files.result()
            except (OSError, MemoryError) as error:
                if not isinstance(error, MemoryError) and not self._is_a_names_fault(error):
                    raise
                row = Row(row.id, "failed", str(error) or "out of memory", row.labels)
            else:
                row = replace(row, checksum=hashlib.sha256(files["mask"]).hexdigest())
                self._recorder.add(*self._sink.commit(row, files))
        if row.status != "ok":
            with suppress(ValueError, OSError):  # nothing of it is in the folder, or what is there no run wrote
                self._sink.check(one.sample)
                self._sink.discard(row.id)
            self._recorder.add(row)
        return Outcome(one.sample, row.status, row.reason)

    def _is_a_names_fault(self, error: OSError) -> bool:
        names = isinstance(error, FileExistsError) or error.errno in _NAMES_FAULT
        return names and self.output.folder.is_dir()


def _reason(error: Exception) -> tuple[str, bool]:
    """Why an image has no mask, and whether for want of memory; raises what is no image's fault."""
    memory = isinstance(error, MemoryError) or is_out_of_memory(error)
    if isinstance(error, RuntimeError) and not memory:
        raise (DeviceLost(str(error)) if is_device_error(error) else error) from error
    return str(error) or "out of memory", memory
