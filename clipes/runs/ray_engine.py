"""Masks by many machines: Ray Data streams images through processes that decode, generate and write.

Queues, scheduling, back-pressure and the restart of processes are Ray's. :mod:`clipes.runs.ray_stages` says what each
stage does; this file says how many processes it has, and in which pieces images are handed to Ray.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from clipes.datasets import Sample
from clipes.store.output import Output

from .outcome import Outcome
from .plan import RayEngine
from .ray_session import connected, context_of, import_ray, python_errors
from .ray_stages import (
    TABLE_BYTES,
    GenerateMasks,
    Item,
    Work,
    WriteFiles,
    items_of,
    load_pixels,
    table_of,
)

if TYPE_CHECKING:
    import pyarrow

    from clipes.generator import MaskGenerator

BLOCK = 64
"""Images that a process gets at a time at most, and does again if it dies."""

IMAGES_PER_SUBMISSION = 640_000
"""Images that Ray knows at a time: the driver's memory grows with them, and not with the size of the data set."""


def write_with_ray(
    load: Callable[[], MaskGenerator],
    work: Work,
    samples: Iterable[Sample],
    engine: RayEngine,
    *,
    readers: int | None = None,
    block_size: int | None = None,
    timeout_s: float = 3600,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Outcome, None, None]:
    """Write the masks of ``samples`` by Ray; yields how each image ends, block by block, in any order.

    Every actor loads the model once for ``IMAGES_PER_SUBMISSION`` images. Every process that writes has a record of its
    own. The masks are the bytes that a :class:`clipes.runs.local_engine.MaskWriter` writes with as many threads. What a
    process had when it died is done again by another; a picture that kills every process that reads it has failed. All
    machines must see the images, the output folder and the folder this process was started in.

    Args:
        load: makes the generator; it is pickled, and called in each process that makes masks.
        work: what the processes need to know. The output folder must be that of a run, see :mod:`clipes.runs.run`.
        samples: read on demand, ``IMAGES_PER_SUBMISSION`` at a time.
        engine: how many actors, and what each reserves. The processes that decode and write reserve no CPUs: there are
            as many as CPUs are free beside the actors.
        readers: processes that decode at most; by default by the CPUs of the cluster.
        block_size: images that a process gets at a time; by default ``BLOCK``, for ``.tar`` output about as many.
        timeout_s: seconds in which anything must get ready, the wait for machines included. A block whose actor dies
            whenever it is done ends the run by this.
        stop: asked after each block whether to end early.

    Raises:
        ImportError: Ray is not installed.
        ValueError: more actors, CPUs or GPUs than this machine has, where Ray runs on it alone.
        TimeoutError: nothing got ready for ``timeout_s`` seconds.
        ConnectionError: the cluster cannot be reached, or the connection to it ends.
        OSError, DeviceLost, and what ``load`` raises: as they were raised in a process, after the images before
            them are written.
    """
    ray = import_ray()
    size = block_size or _block_size(work.output)
    cpus = engine.cpus_per_actor
    cpus = (1 if engine.gpus_per_actor else work.threads) if cpus is None else cpus
    source = iter(samples)
    if not (tables := _next_tables(source, size)):
        return
    each = {"CPU": cpus, "GPU": engine.gpus_per_actor}
    with connected(ray, engine.address, engine.actors[0], each):
        while tables:
            with ray.data.DataContext.current(context_of(ray, timeout_s)):
                results = _pipeline(ray, tables, load, work, engine, cpus, readers)
            ready = results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            with closing(python_errors(ray, ready)) as done:
                for table in done:
                    yield from _outcomes(items_of(table))
                    if stop():
                        return
            tables = _next_tables(source, size)


def _pipeline(
    ray: Any,
    tables: list[pyarrow.Table],
    load: Callable[[], MaskGenerator],
    work: Work,
    engine: RayEngine,
    cpus: float,
    readers: int | None,
) -> Any:
    """The stages as a Ray data set, which does nothing yet."""
    total, fewest = ray.cluster_resources().get("CPU", 1), engine.actors[0]
    helpers = max(1, int(total - cpus * fewest) if engine.gpus_per_actor else int(total) // 8)
    table = {"batch_format": "pyarrow"}
    # Tasks reserve no CPU: actors, which hold theirs for the whole run, cannot keep them from starting. Tasks reserve
    # the memory of a table, and actors none: Ray would run them in the actors' processes if both reserved the same.
    task = {**table, "batch_size": None, "num_cpus": 0, "memory": TABLE_BYTES, "fn_kwargs": {"work": work}}
    actors = ray.data.ActorPoolStrategy(min_size=fewest, max_size=engine.actors[1])
    writers = ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, helpers // 4))
    return (
        ray.data.from_arrow(tables)
        .map_batches(load_pixels, concurrency=readers or helpers, **task)
        .map_batches(
            GenerateMasks,
            fn_constructor_args=(work, load),
            batch_size=None,
            compute=actors,
            num_cpus=cpus,
            num_gpus=engine.gpus_per_actor or None,
            **table,
        )
        .map_batches(
            WriteFiles,
            fn_constructor_args=(work,),
            batch_size=work.output.tar_size if work.output.in_tars else None,
            compute=writers,
            num_cpus=0,
            **table,
        )
    )


def _block_size(output: Output) -> int:
    """``BLOCK``, or for .tar output the next lower number that fills shards without a rest, if that is not small."""
    if not output.in_tars:
        return BLOCK
    most = min(BLOCK, output.tar_size)
    return next((size for size in range(most, most // 4, -1) if output.tar_size % size == 0), most)


def _next_tables(samples: Iterator[Sample], size: int) -> list[pyarrow.Table]:
    """The next ``IMAGES_PER_SUBMISSION`` samples, in tables of ``size``."""
    blocks = (list(islice(samples, size)) for _ in range(max(IMAGES_PER_SUBMISSION // size, 1)))
    return [table_of([Item(sample) for sample in block]) for block in takewhile(bool, blocks)]


def _outcomes(items: Sequence[Item]) -> Iterator[Outcome]:
    """How the images ended; then the first error, if there is one, is raised."""
    for item in items:
        for text in item.warnings:
            warnings.warn(text, stacklevel=2)
        if not item.error:
            yield item.content
    for item in items:
        if item.error:
            raise item.error
