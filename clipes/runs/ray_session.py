"""Ray as this package uses it: started and ended, quiet, and with errors of Python's own types."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def import_ray() -> Any:
    """The module ``ray``; ImportError that says how to install it."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError('the engine "ray" needs Ray: pip install "clipes[ray]"') from error
    return ray


@contextmanager
def connected(ray: Any, address: str | None, actors: int, each: Mapping[str, float]) -> Iterator[None]:
    """Connect to Ray, or start it on this machine, which must have room for the actors; end it if it was started here.

    ``each`` says what an actor reserves, by the name of the resource.
    """
    ours = not ray.is_initialized()
    address = address or os.environ.get("RAY_ADDRESS") or "local"  # None would take any Ray that runs on this machine
    if ours:
        with _own_sigterm():
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        resources = ray.cluster_resources()
        for kind, amount in each.items() if ours and address == "local" else ():
            if amount * actors > resources.get(kind, 0):
                raise ValueError(
                    f"{actors} actor(s) with {amount:g} {kind}(s) each, but Ray finds {resources.get(kind, 0):g} here; "
                    "ask for less, or give the address of a cluster"
                )
        yield
    finally:
        if ours:
            gc.collect()  # ends what Ray Data still executes
            for thread in threading.enumerate():
                if thread.name.startswith("StreamingExecutor-"):  # after ray.shutdown it would abort this process
                    thread.join(30)
            ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which ``ray.init`` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the log of Ray Data, because its errors are raised as well."""
    logger = logging.getLogger("ray.data")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def context_of(ray: Any, timeout_s: float) -> Any:
    """Ray Data's settings, changed for a run that has its own progress bar and reports of errors."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = timeout_s
    return context


def python_errors(ray: Any, tables: Iterable[pyarrow.Table]) -> Generator[pyarrow.Table, None, None]:
    """The tables; Ray's own errors are raised as Python's."""
    from ray.data.exceptions import ExecutionTimeoutError

    try:
        yield from tables
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ExecutionTimeoutError as error:
        raise TimeoutError(
            "no block of images got ready in time: the cluster has no room for an actor, or an image kills each "
            "process that makes its mask; start again to go on"
        ) from error
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"Ray broke off: {error}; start again to go on") from error
