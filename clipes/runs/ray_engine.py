"""Masks by many machines: Ray Data hands blocks of images to actors, each of which writes its own files.

Everything of the engine is Ray's: queues, scheduling, starting actors anew. What is here says what an actor does with
a block, in which form samples travel, and which settings of Ray Data that needs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import torch

from clipes.datasets import Sample
from clipes.generator import MaskGenerator
from clipes.io.tempdb import blob, text
from clipes.store.output import Output

from .generation import MasksFromImages
from .local_engine import MaskWriter
from .outcome import Outcome
from .ray_session import Raised, connected, context_of, import_ray, quiet, raising
from .sample_table import samples_of, table_of

if TYPE_CHECKING:
    import pyarrow

BLOCK = 64
"""Images that an actor gets at a time, and does again if it dies; for ``.tar`` output it is the size of a shard."""

WAVE = 640_000
"""Images that Ray knows at a time: the driver's memory grows with them, and not with all that there are."""


@dataclass(frozen=True)
class Pool:
    """Which actors there are, and what each has.

    Attributes:
        actors: how many at least and at most; None for as many as the cluster has, or grows to have, room for.
        gpus_per_actor: GPUs that each has to itself; a fraction shares one.
        cpus_per_actor: CPUs that each reserves; by default 1 beside a GPU, else ``threads``.
        threads: of torch in each actor; by default as many as here, with which the masks are the same.
        address: of a Ray cluster (``"auto"``, or ``HOST:PORT``); by default $RAY_ADDRESS, else Ray is started on this
            machine, and ended again. A Ray that this process is connected to is used and left as it is.
        block_size: images that an actor gets at a time; by default ``BLOCK``, and ``tar_size`` for ``.tar`` output.
        patience: seconds in which one block at least must get ready, the wait for machines included. A block whose
            actor dies whenever it is done ends the run by this.
    """

    actors: tuple[int, int | None] = (1, None)
    gpus_per_actor: float = 0
    cpus_per_actor: float | None = None
    threads: int | None = None
    address: str | None = None
    block_size: int | None = None
    patience: float = 3600


def write_with_ray(
    load: Callable[[], MaskGenerator],
    output: Output,
    header: Mapping[str, Any],
    samples: Iterable[Sample],
    pool: Pool,
    *,
    stop: Callable[[], bool] = lambda: False,
    **writer: Any,
) -> Generator[Outcome, None, None]:
    """Write the masks of ``samples`` by Ray actors; yields how each image ends, block by block, in any order.

    Every actor loads the model once in a wave and has a record of its own. The masks are the bytes that a
    :class:`clipes.runs.local_engine.MaskWriter` writes with as many threads. An actor that dies is started anew and
    does its block again. All machines must see the images, the output folder and the folder this process was started
    in.

    Args:
        load: makes the generator; called in each actor, so that it must pickle (a ``functools.partial`` does).
        output, header: as for :class:`clipes.runs.local_engine.MaskWriter`. The folder must be claimed, see
            :mod:`clipes.runs.run`.
        samples: read on demand, ``WAVE`` at a time.
        stop: asked after each block whether to end early.
        writer: ``batch_size``, ``readers`` and ``skip`` of :class:`clipes.runs.local_engine.MaskWriter`.

    Raises:
        ImportError: Ray is not installed.
        ValueError: more actors, CPUs or GPUs than this machine has, where Ray runs on it alone.
        TimeoutError: no block got ready for ``pool.patience`` seconds.
        ConnectionError: the cluster cannot be reached, or is gone.
        OSError, DeviceLost, and what ``load`` raises: as they were raised in an actor.
    """
    ray = import_ray()
    size = pool.block_size or (output.tar_size if output.format == "tar" else BLOCK)
    threads = pool.threads or torch.get_num_threads()
    cpus = pool.cpus_per_actor
    cpus = (1 if pool.gpus_per_actor else threads) if cpus is None else cpus
    source = iter(samples)
    if not (tables := _wave(source, size)):
        return
    each = {"CPU": cpus, "GPU": pool.gpus_per_actor}
    with connected(ray, pool.address, pool.actors[0], each), quiet():
        while tables:
            with ray.data.DataContext.current(context_of(ray, pool.patience)):
                blocks = ray.data.from_arrow(tables).map_batches(
                    _Actor,
                    fn_constructor_args=(load, output, header, os.getcwd(), threads, writer),
                    batch_size=size,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(min_size=pool.actors[0], max_size=pool.actors[1]),
                    num_cpus=cpus,
                    num_gpus=pool.gpus_per_actor or None,
                )
            ready = blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            with closing(raising(ray, ready)) as done:
                for table in done:
                    yield from _outcomes(table)
                    if stop():
                        return
            tables = _wave(source, size)


def _wave(samples: Iterator[Sample], size: int) -> list[pyarrow.Table]:
    """The next ``WAVE`` samples, in blocks of ``size``."""
    blocks = (list(islice(samples, size)) for _ in range(max(WAVE // size, 1)))
    return [table_of(block) for block in takewhile(bool, blocks)]


class _Actor:
    """Writes the masks of blocks. What loading raises is raised by the first block, so that it keeps its type."""

    def __init__(
        self,
        load: Callable[[], MaskGenerator],
        output: Output,
        header: Mapping[str, Any],
        folder: str,
        threads: int,
        writer: Mapping[str, Any],
    ):
        self._load, self._output, self._options = load, output, writer
        self._header = {**header, "threads": threads}
        self._folder, self._threads = folder, threads

    @cached_property
    def _writer(self) -> MaskWriter:
        try:
            os.chdir(self._folder)
        except OSError as error:
            host = socket.gethostname()
            raise ValueError(f"{self._folder} is not on {host}; start in a folder that all machines share") from error
        torch.set_num_threads(self._threads)  # Ray has set it to the CPUs that the actor reserves
        return MaskWriter(MasksFromImages(self._load()), self._output, self._header, **self._options).__enter__()

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        import pyarrow as pa

        try:
            outcomes = list(self._writer.write(samples_of(table)))
            self._writer.flush()  # once Ray has the block, it is not done again
        except Exception as error:
            if "_writer" in vars(self):
                self._writer.__exit__()
            raise Raised(error) from error
        status = pa.array([one.status for one in outcomes], pa.string())
        reason = pa.array([blob(one.reason) for one in outcomes], pa.binary())
        return table.append_column("status", status).append_column("reason", reason)


def _outcomes(table: pyarrow.Table) -> Iterator[Outcome]:
    ends = zip(samples_of(table), table["status"].to_pylist(), table["reason"].to_pylist(), strict=True)
    for sample, status, reason in ends:
        yield Outcome(sample, status, text(reason))
