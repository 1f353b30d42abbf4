"""The stages of the Ray engine, each in processes of its own: decode, generate, encode, write.

Decoding, encoding and writing load no torch. A stage never raises: an error travels as an :class:`Item` to the driver,
which raises it there as what it was, after all images before it are written.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.datasets import Sample
from clipes.result import PseudoMask
from clipes.store.output import Output
from clipes.store.record import Row
from clipes.store.writer import new_writer

from .arrow_tables import Item, items_of, table_of
from .decoding import Decoder, Loaded, decode_image
from .outcome import Outcome
from .publishing import Publisher, refuse, row_of

if TYPE_CHECKING:  # they load torch, or Ray
    import pyarrow

    from clipes.generator import MaskGenerator

    from .generation import BatchGenerator

PIXELS = ("pixels",)
RESULT = ("class_ids", "patch_cams", "cams", "mask", "confidence")
FILES = ("files.mask", "files.confidence", "files.cams")

TABLE_BYTES = 2**25
"""A stage hands on what it has once that is so much."""

_WRITER_THREADS = 8


@dataclass(frozen=True)
class Work:
    """What all stages are told; it pickles.

    Attributes:
        load: makes the generator; called in each process that makes masks.
        class_names: K names, in the data set's order.
        output: what is saved, and where.
        header: what each record says.
        folder: the working directory of the driver.
        threads: of torch, in each process that makes masks.
        batch_size: images encoded together; None for the generator's own.
        skip: see :func:`clipes.runs.publishing.refuse`.
        decode: reads the picture of a sample.
    """

    load: Callable[[], MaskGenerator]
    class_names: Sequence[str]
    output: Output
    header: Mapping[str, Any]
    folder: str
    threads: int
    batch_size: int | None = None
    skip: tuple[str, ...] = ()
    decode: Decoder = decode_image

    def enter_folder(self) -> None:
        """Go to the driver's folder; ValueError where this machine does not have it."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            host = socket.gethostname()
            raise ValueError(f"{self.folder} is not on {host}; start in a folder that all machines share") from error


def load_pixels(table: pyarrow.Table, work: Work) -> Iterator[pyarrow.Table]:
    """Read the pictures of samples; those of which no mask can be made get their row.

    A task that is tried again, because its process died, reads in a process of its own: a picture that kills that,
    too, has failed, and no other.
    """
    items = items_of(table)
    decoded: list[Item] = []
    size = 0
    try:
        work.enter_folder()
        writer, names = new_writer(work.output, ""), frozenset(work.class_names)
        for loaded in _loaded([item.sample for item in items], work.decode, isolate=_attempt() > 0):
            outcome = refuse(loaded, names, work.skip, writer)
            arrays = {} if outcome or loaded.pixels is None else {"pixels": loaded.pixels}
            row = row_of(outcome) if outcome else None
            decoded.append(Item(loaded.sample, row, None, loaded.warnings, arrays))
            size += sum(array.nbytes for array in arrays.values())
            if size > TABLE_BYTES:
                yield table_of(decoded, PIXELS)
                decoded, size = [], 0
    except Exception as error:
        decoded.append(Item(items[0].sample, error=error))
    yield table_of(decoded, PIXELS)


def _loaded(samples: Sequence[Sample], decode: Decoder, isolate: bool) -> Iterator[Loaded]:
    if not isolate:
        yield from map(decode, samples)
        return
    from .loading import load_ahead

    for batch in load_ahead(samples, 4, 1, decode):
        yield from batch


def _attempt() -> int:
    """How often Ray has tried this task before; 1, which is the safe answer, where Ray does not tell."""
    from ray._private.worker import global_worker

    worker: Any = global_worker
    try:
        return int(worker.core_worker.get_current_task_attempt_number())
    except AttributeError:
        return 1


class GenerateMasks:
    """Makes masks from pixels. The model is loaded once, by the first table."""

    def __init__(self, work: Work):
        self._work = work

    @cached_property
    def _generate(self) -> BatchGenerator:
        import torch

        from clipes.device.threads import default_concurrency, init_worker_thread

        from .generation import BatchGenerator, MasksFromImages

        self._work.enter_folder()
        torch.set_num_threads(self._work.threads)  # Ray has set it to the CPUs that the actor reserves
        source = MasksFromImages(self._work.load())
        self._batch_size = self._work.batch_size or source.batch_size
        begin = partial(init_worker_thread, self._work.threads, source.device)
        self._jobs = ThreadPoolExecutor(default_concurrency(source.device), "clipes-job", initializer=begin)
        return BatchGenerator(source, self._batch_size)

    def __call__(self, table: pyarrow.Table) -> Iterator[pyarrow.Table]:
        """The results of a table of pixels, batch by batch; jobs side by side as in one process."""
        items = items_of(table, PIXELS)
        passed = [item for item in items if item.row or item.error]
        todo = [item for item in items if not (item.row or item.error)]
        if passed:
            yield table_of(passed, RESULT)
        done = 0
        try:
            if todo:
                self._generate  # noqa: B018 loads the model
                batches = _batches(todo, self._batch_size)
                for made in self._jobs.map(self._batch, batches):
                    yield table_of(made, RESULT)
                    done += len(made)
        except Exception as error:
            yield table_of([Item(todo[done].sample, error=error)], RESULT)

    def _batch(self, batch: Sequence[Item]) -> list[Item]:
        started = time.monotonic()
        results = self._generate([Loaded(item.sample, item.arrays["pixels"]) for item in batch])
        seconds = round((time.monotonic() - started) / len(batch), 4)
        return [self._item(item, result, seconds) for item, result in zip(batch, results, strict=True)]

    def _item(self, item: Item, result: PseudoMask | Outcome, seconds: float) -> Item:
        if isinstance(result, Outcome):
            return replace(item, row=row_of(result), arrays={})
        sample, output = item.sample, self._work.output
        row = Row(sample.id, "ok", labels=sample.labels, size=result.size, seconds=seconds)
        arrays: dict[str, NDArray[Any]] = {"mask": result.mask, "class_ids": result.class_ids}
        if output.confidence:
            arrays["confidence"] = result.confidence
        if output.cams:
            arrays["patch_cams"] = result.patch_cams
        if output.cams == "full":
            arrays["cams"] = result.cams
        return replace(item, row=row, arrays=arrays)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    return iter(lambda: list(islice(source, size)), [])


def encode_files(table: pyarrow.Table, work: Work) -> pyarrow.Table:
    """Encode the files of results; a result that memory does not suffice for has failed."""
    encoded = []
    for item in items_of(table, RESULT):
        if item.arrays:
            try:
                files = work.output.encode(_result(item, len(work.class_names)))
                arrays = {f"files.{kind}": np.frombuffer(data, np.uint8) for kind, data in files.items()}
                item = replace(item, arrays=arrays)
            except MemoryError as error:
                row = Row(item.sample.id, "failed", str(error) or "out of memory", item.sample.labels)
                item = replace(item, row=row, arrays={})
            except Exception as error:
                item = Item(item.sample, error=error)
        encoded.append(item)
    return table_of(encoded, FILES)


def _result(item: Item, class_count: int) -> PseudoMask:
    """As much of a result as its files are made of."""
    mask, nothing = item.arrays["mask"], np.empty((0, 0, 0), np.float32)
    return PseudoMask(
        labels=item.sample.labels,
        class_ids=item.arrays["class_ids"],
        patch_cams=item.arrays.get("patch_cams", nothing),
        cams=item.arrays.get("cams", nothing),
        scores=nothing,
        mask=mask,
        confidence=item.arrays.get("confidence", nothing),
        image=Image.new("RGB", (1, 1)),
        num_classes=class_count,
    )


class WriteFiles:
    """Writes files, and the rows of a record of its own."""

    def __init__(self, work: Work):
        self._work = work
        self._error: Exception | None = None

    @cached_property
    def _publisher(self) -> Publisher:
        self._work.enter_folder()
        self._threads = ThreadPoolExecutor(_WRITER_THREADS, "clipes-write")
        return Publisher(self._work.output, {**self._work.header, "threads": self._work.threads})

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """How the images ended; when it returns, their files and rows are on the disk."""
        items = items_of(table, FILES)
        errors, todo = [item for item in items if item.error], [item for item in items if not item.error]
        done: list[Item] = []
        try:
            if self._error:
                raise self._error
            for item, files in [(item, self._staged(item)) for item in todo]:
                done.append(self._published(item, files))
            if done:
                self._publisher.flush()
        except Exception as error:
            errors.append(Item(items[0].sample, error=error))
            if not self._closed(error):
                done = []
        return table_of([*done, *errors])

    def _staged(self, item: Item) -> Future[dict[str, bytes]] | None:
        publisher = self._publisher
        if not item.arrays:
            return None
        files = {name.removeprefix("files."): array.tobytes() for name, array in item.arrays.items()}
        return self._threads.submit(publisher.stage, item.sample.id, files)

    def _published(self, item: Item, files: Future[dict[str, bytes]] | None) -> Item:
        if item.row is None:
            raise ValueError(f"{item.sample.image}: no stage has decided how it ends")
        outcome = self._publisher.publish(item.sample, item.row, files)
        return replace(item, row=row_of(outcome), arrays={})

    def _closed(self, error: Exception) -> bool:
        """End the record after an error; whether what was published before it is safe."""
        first, self._error = self._error is None, error
        if first and "_publisher" in vars(self):
            with suppress(Exception):
                self._threads.shutdown()
                self._publisher.close()
                return True
        return False
