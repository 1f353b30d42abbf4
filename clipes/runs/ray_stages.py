"""The stages of the Ray engine, each in processes of its own: decode, generate, write.

Decoding and writing load no torch. A stage never raises: an error travels as an :class:`Item` to the driver,
which raises it there as what it was, after all images before it are written.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from clipes.datasets import Sample
from clipes.result import Result
from clipes.store.output import Output
from clipes.store.row import Row
from clipes.store.writer import new_writer

from .decoding import Decoder, decode_image
from .loading import load_ahead
from .publishing import Publisher, refuse, row_without_mask

if TYPE_CHECKING:  # they load torch, or Ray
    import pyarrow

    from clipes.generator import MaskGenerator

    from .generation import BatchGenerator

TABLE_BYTES = 2**25
"""A stage hands on what it has once that is so much."""

_THREADS = 8
"""That encode in a process that makes masks, and that write in one that writes."""


@dataclass(frozen=True)
class Work:
    """What the processes of all stages need to know; it pickles.

    How the model is loaded is no part of it: to unpickle that imports torch, which only :class:`GenerateMasks` needs.

    Attributes:
        class_names: K names, in the data set's order.
        output: what is saved, and where.
        header: what each record says.
        threads: of torch, in each process that makes masks.
        batch_size: images encoded together; None for the generator's own.
        skip: see :func:`clipes.runs.publishing.refuse`.
        decode: reads the picture of a sample.
        folder: the working directory of the driver.
    """

    class_names: Sequence[str]
    output: Output
    header: Mapping[str, Any]
    threads: int
    batch_size: int | None = None
    skip: tuple[str, ...] = ()
    decode: Decoder = decode_image
    folder: str = field(default_factory=os.getcwd)

    def enter_folder(self) -> None:
        """Go to the driver's folder; ValueError where this machine does not have it."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            host = socket.gethostname()
            raise ValueError(f"{self.folder} is not on {host}; start in a folder that all machines share") from error


@dataclass(frozen=True)
class Item:
    """One image between two stages.

    Attributes:
        sample: the sample.
        row: how it ended, where that is decided; a mask's row before its files are written, too.
        error: what ends the run, as it was raised in a stage; the image is not done then.
        warnings: what was warned of while it was read.
        content: what the next stage needs of it, what was loaded or its files, if it has any; at the end, its outcome.
    """

    sample: Sample
    row: Row | None = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()
    content: Any = None


def table_of(items: Sequence[Item]) -> pyarrow.Table:
    """Items as an Arrow table of one column: a row each, pickled."""
    import pyarrow as pa

    return pa.table({"item": pa.array([_pickled(item) for item in items], pa.large_binary())})


def items_of(table: pyarrow.Table) -> list[Item]:
    """The items that :func:`table_of` made a table of."""
    return [pickle.loads(data.as_buffer()) for data in table["item"]]


def _pickled(item: Item) -> bytes:
    """The item; an error that does not pickle is a RuntimeError with its text."""
    if item.error:
        try:
            pickle.loads(pickle.dumps(item.error))
        except Exception:
            item = replace(item, error=RuntimeError(f"{type(item.error).__name__}: {item.error}"))
    return pickle.dumps(item, protocol=5)


def load_pixels(table: pyarrow.Table, work: Work) -> Iterator[pyarrow.Table]:
    """Read the pictures of samples; those of which no mask can be made get their row.

    A task that is tried again, because its process died, reads in a process of its own: a picture that kills that,
    too, has failed, and no other.
    """
    samples = [item.sample for item in items_of(table)]
    decoded: list[Item] = []
    size = 0
    try:
        work.enter_folder()
        writer, names = new_writer(work.output, ""), frozenset(work.class_names)
        isolated = chain.from_iterable(load_ahead(samples, 4, 1, work.decode))
        for loaded in isolated if _attempt() > 0 else map(work.decode, samples):
            row = refuse(loaded, names, work.skip, writer)
            decoded.append(Item(loaded.sample, row, None, loaded.warnings, None if row else loaded))
            size += sum(0 if array is None else array.nbytes for array in (loaded.pixels, loaded.regions))
            if size > TABLE_BYTES:
                yield table_of(decoded)
                decoded, size = [], 0
    except Exception as error:
        decoded.append(Item(samples[0], error=error))
    yield table_of(decoded)


def _attempt() -> int:
    """How often Ray has tried this task before; 1, which is the safe answer, where Ray does not tell."""
    from ray._private.worker import global_worker

    worker: Any = global_worker
    try:
        return int(worker.core_worker.get_current_task_attempt_number())
    except AttributeError:
        return 1


class GenerateMasks:
    """Makes masks from pixels. ``load`` makes the generator; it is called once, for the first table."""

    def __init__(self, work: Work, load: Callable[[], MaskGenerator]):
        self._work = work
        self._load = load

    @cached_property
    def _generate(self) -> BatchGenerator:
        import torch

        from clipes.device.threads import default_concurrency, init_worker_thread

        from .generation import BatchGenerator, image_source

        self._work.enter_folder()
        torch.set_num_threads(self._work.threads)  # Ray has set it to the CPUs that the actor reserves
        source = image_source(self._load(), self._work.output)
        self._batch_size = self._work.batch_size or source.batch_size
        self._encoders = ThreadPoolExecutor(_THREADS, "clipes-write")
        initializer = partial(init_worker_thread, self._work.threads, source.device)
        self._jobs = ThreadPoolExecutor(default_concurrency(source.device), "clipes-job", initializer=initializer)
        return BatchGenerator(source, self._batch_size)

    def __call__(self, table: pyarrow.Table) -> Iterator[pyarrow.Table]:
        """The encoded files of a table of pixels, batch by batch; jobs side by side as in one process."""
        items = items_of(table)
        todo = [item for item in items if not (item.row or item.error)]
        if len(todo) < len(items):
            yield table_of([item for item in items if item.row or item.error])
        done = 0
        try:
            if todo:
                self._generate  # noqa: B018 loads the model
                size = self._batch_size
                for made in self._jobs.map(self._batch, [todo[i : i + size] for i in range(0, len(todo), size)]):
                    yield table_of(made)
                    done += len(made)
        except Exception as error:
            yield table_of([Item(todo[done].sample, error=error)])

    def _batch(self, batch: Sequence[Item]) -> list[Item]:
        made = self._generate([item.content for item in batch])
        return list(self._encoders.map(self._encoded, batch, *zip(*made, strict=True)))

    def _encoded(self, item: Item, row: Row, result: Result | None) -> Item:
        """The files of a result; one that is too large for the memory has failed."""
        try:
            return replace(item, row=row, content=None if result is None else self._work.output.encode(result))
        except MemoryError as error:
            row = row_without_mask(item.sample, "failed", str(error) or "out of memory")
            return replace(item, row=row, content=None)


class WriteFiles:
    """Writes files, and the rows of a record of its own."""

    def __init__(self, work: Work):
        self._work = work
        self._error: Exception | None = None

    @cached_property
    def _publisher(self) -> Publisher:
        self._work.enter_folder()
        return Publisher(self._work.output, {**self._work.header, "threads": self._work.threads}, _THREADS)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """How the images ended; when it returns, their files and rows are on the disk."""
        items = items_of(table)
        errors, todo = [item for item in items if item.error], [item for item in items if not item.error]
        done: list[Item] = []
        try:
            if self._error:
                raise self._error
            staged = [
                self._publisher.stage(item.sample.id, item.content) if item.content is not None else None
                for item in todo
            ]
            for item, files in zip(todo, staged, strict=True):
                if item.row is None:
                    raise ValueError(f"{item.sample.image}: no stage has decided how it ends")
                done.append(replace(item, content=self._publisher.publish(item.sample, item.row, files)))
            if done:
                self._publisher.flush()
        except Exception as error:
            errors.append(Item(items[0].sample, error=error))
            if not self._closed(error):
                done = []
        return table_of([*done, *errors])

    def _closed(self, error: Exception) -> bool:
        """End the record after an error; whether what was published before it is safe."""
        first, self._error = self._error is None, error
        if first and "_publisher" in vars(self):
            with suppress(Exception):
                self._publisher.close()
                return True
        return False
