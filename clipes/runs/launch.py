"""One process for each of several devices of this machine, started by torch.distributed's elastic launcher.

Each process does a shard of the images and has a record of its own, as under ``torchrun``. The launcher starts all of
them again when one is killed; what was finished is skipped then. This process only follows their records.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from clipes.datasets import Sample
from clipes.device.choice import choose_device
from clipes.device.errors import DeviceLost, is_device_error
from clipes.io import retry
from clipes.store.layout import RECORDS
from clipes.store.row import Row

from .execute import Run, start_run, write_here
from .outcome import Outcome
from .plan import LocalEngine, Plan
from .prepare import prepare
from .shards import Shard

POLL_SECONDS = 0.2
RESTARTS = 3
"""How often the processes are started again after one was killed."""


def choose_devices(names: str) -> tuple[str, ...]:
    """The devices of ``"cuda:0,cuda:1"``, or of ``"all"``: every GPU that torch sees. Repeated names are kept.

    Raises ValueError for a device that is not there, for ``all`` without a GPU, and for CPU and GPU together, whose
    masks differ by rounding.

    >>> choose_devices("cpu, cpu")
    ('cpu', 'cpu')
    """
    if names == "all":
        if not torch.cuda.is_available():
            raise ValueError("devices are 'all', but torch sees no CUDA device; name them: cpu, or cpu,cpu for two")
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    devices = tuple(name.strip() for name in names.split(","))
    if len({choose_device(name).type for name in devices}) > 1:
        raise ValueError(f"devices are {names!r}, whose masks would differ by rounding; give CPUs or GPUs only")
    return devices


def write_on_devices(run: Run) -> Generator[Outcome, None, None]:
    """Write the masks of a run by a process for each of its devices; yields how each image ends, in any order.

    Raises what a process raised, with its own type, after the others have ended; ChildProcessError if one is killed
    again and again.
    """
    records = run.plan.output.folder / RECORDS
    earlier = frozenset(records.glob("*.jsonl"))
    if not sum(1 for _ in run.remaining):  # which counts those that are finished
        return
    asked = set(multiprocessing.active_children())  # the caller's own are left alone
    pool = ThreadPoolExecutor(1, thread_name_prefix="clipes-job")  # cli.entry does not wait for threads of this name
    launched = pool.submit(_launch, run.plan)
    try:
        for row in _follow(records, earlier, launched):
            if row is not None:
                sample = Sample(row.id, Path(row.id), row.labels)
                yield Outcome(sample, row.status, row.reason, row.suspect, row.nothing_found)
            elif run.stop():
                _terminate(asked)
        error = launched.result()
        if error and not (run.stop() and isinstance(error, ChildProcessError)):
            raise error
    except GeneratorExit:  # the caller has seen enough
        while not launched.done():
            _terminate(asked)
            time.sleep(POLL_SECONDS)
        raise
    finally:
        pool.shutdown(wait=False)


def _terminate(asked: set[BaseProcess]) -> None:
    """Ask the processes, each once, to end after the images that they are working on."""
    for process in set(multiprocessing.active_children()) - asked:
        asked.add(process)
        process.terminate()


def _launch(plan: Plan) -> Exception | None:
    """Run :func:`_work` on every device; returns the first error."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # It warns that it handles no signals in this thread; the main thread passes them on.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
    engine = plan.placement.engine
    devices = engine.devices if isinstance(engine, LocalEngine) else ()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(devices),
        run_id=f"clipes-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
        start_method="spawn",  # CUDA does not survive a fork
    )
    try:
        errors = elastic_launch(config, _work)(plan, os.getpid())
    except ChildFailedError as error:
        return ChildProcessError(f"the processes were killed {RESTARTS + 1} times; start again to continue: {error}")
    return next((errors[rank] for rank in sorted(errors) if errors[rank] is not None), None)


class Stop:
    """Whether the process is asked to stop. No lock is taken: a signal may interrupt the handler of another one."""

    asked = False

    def __call__(self) -> bool:
        return self.asked

    def ask(self, *received: object) -> None:
        """Ask it, whatever is received."""
        self.asked = True


def stop_on_signals() -> Stop:
    """What SIGINT and SIGTERM ask to stop, in the main thread of a process."""
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.ask)
    return stop


def _work(plan: Plan, parent: int) -> Exception | None:
    """Write the masks of this process's shard; returns an error instead of raising it, so that it keeps its type."""
    stop, ended = stop_on_signals(), threading.Event()
    threading.Thread(target=_watch, args=(parent, stop, ended), daemon=True).start()
    warnings.showwarning = lambda message, *place: _write_warning(message)
    rank, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        waits = retry.of_process.until(stop)
        with waits, start_run(prepare(_plan_of_rank(plan, rank)), stop=stop) as run:
            for outcome in write_here(run):
                if plan.faults.strict and outcome.status == "failed":
                    break
    except Exception as error:
        return DeviceLost(str(error)) if is_device_error(error) else error
    finally:
        ended.set()
    return None


def _write_warning(message: Warning | str) -> None:
    with suppress(OSError, ValueError):  # a closed pipe does not end the run
        sys.stderr.write(f"clipes generate: warning: {message}\n")


def _plan_of_rank(plan: Plan, rank: int) -> Plan:
    """The part of ``plan`` that the process of device number ``rank`` does."""
    placement, faults = plan.placement, replace(plan.faults, overwrite=False)
    devices = placement.engine.devices if isinstance(placement.engine, LocalEngine) else ()
    outer = placement.shard
    # An image of shard i of n is in i, i + n, i + 2 n, ... of n * k: the hash is taken modulo the count.
    shard = Shard(outer.index + outer.count * rank, outer.count * len(devices))
    part = replace(placement, engine=LocalEngine(), device=devices[rank], shard=shard)
    return replace(plan, placement=part, faults=faults)


def _watch(parent: int, stop: Stop, ended: threading.Event) -> None:
    """Stop and exit when the launching process has ended, because it can no longer take the result."""
    while os.getppid() == parent:
        time.sleep(1)
    stop.ask()
    ended.wait()
    os._exit(1)


def _follow(records: Path, earlier: frozenset[Path], launched: Future[Exception | None]) -> Iterator[Row | None]:
    """The rows that the processes append, as they come; None after each look, until ``launched`` has ended."""
    places: dict[Path, int] = {}
    ended = False
    while not ended:
        ended = launched.done()  # asked before the look, so that no row is missed
        for path in sorted(set(records.glob("*.jsonl")) - earlier):
            yield from _new_rows(path, places)
        yield None
        if not ended:
            time.sleep(POLL_SECONDS)


def _new_rows(path: Path, places: dict[Path, int]) -> Iterator[Row]:
    """The complete rows of a record behind the place where the last look ended; the first line is its header."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        start = places.get(path, 0)
        file.seek(start)
        lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        places[path] = start + sum(map(len, lines))
        for line in lines if start else lines[1:]:
            yield Row.from_json(line)
