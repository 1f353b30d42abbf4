"""Batches that are halved when they fail, until only the item that is to blame has failed."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from .errors import DeviceLost, is_device_error, is_out_of_memory

T = TypeVar("T")
R = TypeVar("R")

_ITEM_ERRORS = (ValueError, FloatingPointError, MemoryError, RuntimeError)


class Failure(NamedTuple):
    """Why one item has no result; ``not_finite`` for a FloatingPointError."""

    reason: str
    not_finite: bool = False


class Backoff:
    """Runs batches of at most ``max_size`` items. May be used by several threads.

    Attributes:
        max_size: items worked on together at most; lowered when the memory does not suffice.
    """

    def __init__(self, max_size: int):
        self.max_size = max_size
        self._lock = threading.Lock()

    def run(
        self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], fits: Callable[[Sequence[T]], int] = len
    ) -> list[R | Failure]:
        """The result of each item, in order, or why it has none.

        ``work`` gives the results of a batch, or raises: ValueError, FloatingPointError, MemoryError, or torch's
        RuntimeError for want of memory. Then it is asked for the first half of the batch only, down to one item,
        which has failed. ``fits`` says how many of the first items may be worked on together.

        Raises DeviceLost where the GPU does not work any more, and every other RuntimeError: no item is to blame.
        """
        results: list[R | Failure] = []
        while len(results) < len(items):
            rest = items[len(results) : len(results) + self.max_size]
            results += self._first_results(rest[: max(1, fits(rest))], work)
        return results

    def _first_results(self, batch: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> Sequence[R | Failure]:
        """The results of the batch, or of its first half, or of the half of that, where they cannot be had together."""
        try:
            return work(batch)
        except _ITEM_ERRORS as error:
            failure, scarce = failure_of(error)
        # Outside the handler, because the error's traceback keeps the failed batch's tensors alive.
        half = len(batch) // 2
        if not half:
            return [failure]
        if scarce:
            self._shrink(len(batch), len(batch) - half)
        return self._first_results(batch[:half], work)

    def _shrink(self, tried: int, max_size: int) -> None:
        with self._lock:
            if max_size < self.max_size:  # two batches may run out of the same memory
                self.max_size = max_size
                text = f"out of memory with {tried} images; going on with {max_size} at a time"
                warnings.warn(text, stacklevel=2)


def failure_of(error: Exception) -> tuple[Failure, bool]:
    """Why an item has no result, and whether for want of memory.

    Raises DeviceLost for an error of the GPU, and any other RuntimeError that is not for want of memory.
    """
    scarce = isinstance(error, MemoryError) or is_out_of_memory(error)
    if isinstance(error, RuntimeError) and not scarce:
        raise (DeviceLost(str(error)) if is_device_error(error) else error) from error
    return Failure(str(error) or "out of memory", isinstance(error, FloatingPointError)), scarce
