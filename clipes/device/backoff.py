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
    """Runs batches of at most ``max_size`` items. May be used by several threads."""

    def __init__(self, max_size: int):
        self._max_size = max_size
        self._warned = threading.Lock()  # held once it has been said that memory was short

    def run(
        self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], fits: Callable[[Sequence[T]], int] = len
    ) -> list[R | Failure]:
        """The result of each item, in order, or why it has none.

        ``work`` gives the results of a batch, or raises: ValueError, FloatingPointError, MemoryError, or torch's
        RuntimeError for want of memory. Then it is asked for the first half of the batch only, down to one item,
        which has failed. Where memory was short, no more of these items are worked on together than then sufficed.
        ``fits`` says how many of the first items may be worked on together.

        Raises DeviceLost where the GPU does not work any more, and every other RuntimeError: no item is to blame.
        """
        results: list[R | Failure] = []
        most = self._max_size
        while len(results) < len(items):
            rest = items[len(results) : len(results) + most]
            found, most = self._first_results(rest[: max(1, fits(rest))], work, most)
            results += found
        return results

    def _first_results(
        self, batch: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], most: int
    ) -> tuple[Sequence[R | Failure], int]:
        """The results of the batch, or of its first half, or of the half of that, where they cannot be had together;
        and how many items may be worked on together from then on.
        """
        try:
            return work(batch), most
        except _ITEM_ERRORS as error:
            failure, scarce = failure_of(error)
        # Outside the handler, because the error's traceback keeps the failed batch's tensors alive.
        half = len(batch) // 2
        if not half:
            return [failure], most
        if scarce:
            most = len(batch) - half
            if self._warned.acquire(blocking=False):
                text = f"out of memory with {len(batch)} images; making them {most} at a time"
                warnings.warn(text, stacklevel=2)
        return self._first_results(batch[:half], work, most)


def failure_of(error: Exception) -> tuple[Failure, bool]:
    """Why an item has no result, and whether for want of memory.

    Raises DeviceLost for an error of the GPU, and any other RuntimeError that is not for want of memory.
    """
    scarce = isinstance(error, MemoryError) or is_out_of_memory(error)
    if isinstance(error, RuntimeError) and not scarce:
        raise (DeviceLost(str(error)) if is_device_error(error) else error) from error
    return Failure(str(error) or "out of memory", isinstance(error, FloatingPointError)), scarce
