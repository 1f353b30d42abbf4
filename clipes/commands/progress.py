"""Progress where stderr is no terminal, in a log say: a line a minute instead of a bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

INTERVAL = 60.0
"""Seconds between two lines."""


class ProgressLines:
    """Counts as a tqdm bar does, and says every :data:`INTERVAL` seconds how far the work is.

    Args:
        items: what is iterated over; None where :meth:`update` counts.
        total: how many there are.
        unit: what they are, in the plural.
        say: prints one line.
        clock: seconds; of a monotonic clock.
    """

    def __init__(
        self,
        items: Iterable[Any] | None,
        total: int,
        unit: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._items, self._total, self._unit, self._say, self._clock = items, total, unit, say, clock
        self._count, self._notes = 0, ""
        self._started = self._told = clock()

    def __iter__(self) -> Iterator[Any]:
        for item in self._items or ():
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        """Count ``count`` more."""
        self._count += count
        now = self._clock()
        if now - self._told >= INTERVAL:
            self._told = now
            self._say(self._line(now - self._started))

    def set_postfix(self, refresh: bool = True, **counts: object) -> None:
        """Say these counts, too."""
        self._notes = "".join(f", {name} {value}" for name, value in counts.items() if value)

    def close(self) -> None:
        """Nothing is left to be said; what follows says how it ended."""

    def _line(self, seconds: float) -> str:
        rate = self._count / seconds
        left = max(0, self._total - self._count) / rate if rate else 0
        time_left = f", {_duration(left)} left" if left else ""
        return f"{self._count} of {self._total} {self._unit}, {rate:.3g}/s{time_left}{self._notes}"


def _duration(seconds: float) -> str:
    """``2 h 05 min``, ``7 min``.

    >>> _duration(7500), _duration(401), _duration(3)
    ('2 h 05 min', '7 min', '1 min')
    """
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
