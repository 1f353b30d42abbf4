"""A session of Ray: starting and ending it, silencing its log, and converting its errors to Python's own types."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clipes._version import install_hint

if TYPE_CHECKING:
    import pyarrow


def import_ray() -> Any:
    """Import ``ray`` and ``ray.data``. Raises ImportError, with the command to install it, if it is missing."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f'the engine "ray" needs Ray: {install_hint("ray")}') from error
    return ray


@contextmanager
def connected(ray: Any, address: str | None, actors: int, each: Mapping[str, float]) -> Iterator[None]:
    """Connect to Ray, or start it on this machine; on exit, end the connection unless it existed before.

    ``each`` is the amount of each resource, by name, that one of the ``actors`` reserves. Raises ValueError if Ray is
    started here and this machine has less than all actors need.
    """
    opened_here = not ray.is_initialized()
    address = address or os.environ.get("RAY_ADDRESS") or "local"  # None would connect to any Ray on this machine
    if opened_here:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # ray.init replaces it
    logger = logging.getLogger("ray.data")  # silenced, because its errors are also raised as exceptions
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        resources = ray.cluster_resources()
        for kind, amount in each.items() if opened_here and address == "local" else ():
            if amount * actors > resources.get(kind, 0):
                raise ValueError(
                    f"{actors} actor(s) with {amount:g} {kind}(s) each, but Ray finds {resources.get(kind, 0):g} here; "
                    "ask for less, or give the address of a cluster"
                )
        yield
    finally:
        logger.setLevel(level)
        if opened_here:
            gc.collect()  # stops the executions of Ray Data that are still running
            for thread in threading.enumerate():
                # Ray Data's executor thread must end first: after ray.shutdown() it would abort this process.
                if thread.name.startswith("StreamingExecutor-"):
                    thread.join(30)
            ray.shutdown()


def context_of(ray: Any, timeout_s: float) -> Any:
    """A copy of Ray Data's settings without its progress bars, and with the original exceptions of workers."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = timeout_s
    return context


def python_errors(ray: Any, tables: Iterable[pyarrow.Table]) -> Generator[pyarrow.Table, None, None]:
    """Yield the tables, and raise Ray's errors as errors of Python: the worker's own, TimeoutError, ConnectionError."""
    from ray.data.exceptions import ExecutionTimeoutError

    try:
        yield from tables
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ExecutionTimeoutError as error:
        raise TimeoutError(
            "no block of images got ready in time: the cluster has no room for an actor, or an image kills each "
            "process that makes its mask; start again to continue"
        ) from error
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"the connection to Ray ended: {error}; start again to continue") from error
