"""The engine of one process: images are read ahead, masks are made by jobs, files are written behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch

from clipes.datasets import Sample
from clipes.device.threads import default_concurrency, init_worker_thread
from clipes.io import retry
from clipes.store.output import Output
from clipes.store.row import Row

from .decoding import Loaded
from .generation import BatchGenerator, MaskSource
from .loading import load_ahead
from .outcome import Outcome
from .publishing import Publisher, refuse

WRITER_THREADS = {"cpu": 2, "cuda": 8}
"""Threads that encode and write files, by device."""


_Pending = tuple[Sample, Row, "Future[dict[str, bytes]] | None"]
"""An image that is done except for its files, if it has any, which a thread encodes and stages."""


class MaskWriter:
    """Writes the masks of images to a folder. Use it in a ``with``.

    Args:
        source: makes the masks.
        output: what is saved, and where.
        header: what the record says of this process, see :class:`clipes.store.record.Recorder`.
        batch_size: images read and worked on together (None: the source's). Masks do not depend on it on a CPU.
        readers: processes that read images; with 0 this one does.
        skip: ``"unknown"``: images with a label that is no class are skipped; ``"missing"``: those without a file.
            Otherwise they fail.
        stop: asked between batches whether to end early.
        jobs: batches worked on side by side, by a thread each: by default 1 on a CPU; on a GPU 2, which overlap one
            batch's CPU work with the other's GPU work. On a CPU see :func:`clipes.device.threads.configure_threads`.
        processes: how many like this one share the machine's memory.
        keep_masks: whether an image that fails keeps the mask of an earlier run.
    """

    def __init__(
        self,
        source: MaskSource,
        output: Output,
        header: Mapping[str, Any],
        *,
        batch_size: int | None = None,
        readers: int = 0,
        skip: Collection[str] = (),
        stop: Callable[[], bool] = lambda: False,
        jobs: int | None = None,
        processes: int = 1,
        keep_masks: bool = False,
    ):
        size = source.batch_size if batch_size is None else batch_size
        jobs = default_concurrency(source.device) if jobs is None else jobs
        if size < 1 or readers < 0 or jobs < 1:
            values = f"batch_size is {size}, readers {readers} and jobs {jobs}"
            raise ValueError(f"{values}; they must be at least 1, 0 and 1")
        self._open = partial(Publisher, output, header, WRITER_THREADS[source.device.type], keep_masks)
        self._source, self._size, self._readers, self._jobs = source, size, readers, jobs
        self._processes = processes
        self._class_names = frozenset(source.class_names)
        self._skip, self._stop = skip, stop
        self._abort = False

    def __enter__(self) -> MaskWriter:
        device = self._source.device
        self._waits = ExitStack()
        self._waits.enter_context(retry.of_process.until(lambda: self._abort or self._stop()))
        self._publisher = self._open()
        self._generate = BatchGenerator(self._source, self._size, self._processes, self._publisher.in_hand)
        initializer = partial(init_worker_thread, torch.get_num_threads(), device)
        self._job_pool = ThreadPoolExecutor(self._jobs, "clipes-job", initializer=initializer)
        return self

    def __exit__(self, *raised: object) -> None:
        """Bring what is done to the disk and end the record."""
        with self._waits:
            self._job_pool.shutdown(wait=not self._abort, cancel_futures=True)
            self._publisher.close()

    def record(self, rows: Iterable[Row]) -> None:
        """Append rows of images that need no work."""
        for row in rows:
            self._publisher.record(row)

    def write(self, samples: Iterable[Sample]) -> Generator[Outcome, None, None]:
        """Write the files of each sample; yields how they ended, in order.

        An image that cannot be read, or whose maps are not finite even in float32, or that alone is too large for the
        memory, has failed, and the others are done.

        Raises OSError when the folder cannot be written to (a full disk, no permission), and DeviceLost: nothing would
        go well then. What was finished before is written and recorded. Samples that killed earlier processes come last.
        """
        yield from self._write(self._publisher.without_deadly(samples))
        if self._publisher.deadly and not self._stop():
            self._publisher.flush()  # all that is done, before the next death
            yield from self._write(self._publisher.deadly)

    def _write(self, samples: Iterable[Sample]) -> Generator[Outcome, None, None]:
        batches: deque[Future[list[_Pending]]] = deque()
        loaded = load_ahead(samples, self._size, self._readers, self._source.decode, self._stop)
        raised: Exception | None = None
        try:
            try:
                for batch in loaded:
                    batches.append(self._job_pool.submit(self._work, batch))
                    if len(batches) > self._jobs:
                        yield from self._drain(batches)
                    if self._stop():
                        break
            except Exception as error:
                raised = error
            while batches:
                with suppress(*([Exception] if raised else [])):
                    yield from self._drain(batches)
        except KeyboardInterrupt:
            self._abort = True
            raise
        finally:
            while batches:  # the consumer stopped iterating
                if batches[0].cancel() or (self._abort and not batches[0].done()):
                    batches.popleft()
                else:
                    with suppress(Exception):
                        list(self._drain(batches))
            loaded.close()
        if raised:
            raise raised

    def _drain(self, batches: deque[Future[list[_Pending]]]) -> Iterator[Outcome]:
        """Wait for the first batch and publish its images; also when the consumer has stopped iterating."""
        wait([batches[0]])  # before popping: on Ctrl-C the batch must still be in the queue
        pending = deque(batches.popleft().result())
        try:
            while pending:
                yield self._publisher.publish(*pending.popleft())
        finally:
            while pending:
                with suppress(OSError):
                    self._publisher.publish(*pending.popleft())

    def _work(self, batch: Sequence[Loaded]) -> list[_Pending]:
        """A job: refuse, generate, and hand the files to the writer threads."""
        writer = self._publisher.writer
        rows = [refuse(loaded, self._class_names, self._skip, writer) for loaded in batch]
        made = iter(self._generate([loaded for loaded, row in zip(batch, rows, strict=True) if row is None]))
        ended = [(row, None) if row else next(made) for row in rows]
        return [
            (loaded.sample, row, None if result is None else self._publisher.stage(row.id, result))
            for loaded, (row, result) in zip(batch, ended, strict=True)
        ]
