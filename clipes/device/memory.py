"""Memory that batches side by side share: of a GPU, of a machine, of a container."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


def room(device: torch.device) -> float:
    """Bytes of a GPU that one batch may take: half of what is free, since another is worked on beside it."""
    if device.type == "cpu":
        return math.inf
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + cached) / 2


class Budget:
    """A sum of bytes that threads share: each takes what it needs while it works, and waits until there is so much.

    What is more than all of it is given to a thread that is alone.
    """

    def __init__(self, total: float):
        self._total, self._changed = total, threading.Condition()
        self._taken: list[float] = []

    @contextmanager
    def taken(self, amount: float) -> Iterator[None]:
        """Wait for ``amount``, and give it back at the end. A thread that has some already may wait for itself."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or sum(self._taken) + amount <= self._total)
            self._taken.append(amount)
        try:
            yield
        finally:
            with self._changed:
                self._taken.remove(amount)
                self._changed.notify_all()


_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux tells what a container, or a job of Slurm's, may take."""


def memory(device: torch.device, processes: int = 1) -> float:
    """Bytes that batches worked on side by side may take together: on a CPU half of what ``processes`` like this one
    may have, divided among them, where the system tells; a GPU's batches look for themselves, see :func:`room`.
    """
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(Path(path).read_text()))
    return min(found) / 2 / processes
