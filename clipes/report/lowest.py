"""The few lowest of many values, kept while they pass."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lowest(Generic[Item]):
    """Keeps at most ``limit`` items, those that were offered with the lowest order; of equals the first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._offered = limit, 0
        self._heap: list[tuple[float, int, Item]] = []

    def offer(self, order: float, make: Callable[[], Item]) -> None:
        """Keep what ``make`` returns if it is among the lowest so far; only then it is called."""
        key = (-order, -self._offered)
        self._offered += 1
        if self._limit == 0 or (len(self._heap) == self._limit and key < self._heap[0][:2]):
            return
        if len(self._heap) == self._limit:
            heapq.heapreplace(self._heap, (*key, make()))
        else:
            heapq.heappush(self._heap, (*key, make()))

    def lowest_first(self) -> list[Item]:
        """The items that were kept."""
        return [item for *_, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
