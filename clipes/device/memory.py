"""Memory that concurrent batches share: of a GPU, or of what this process may have."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .process_memory import memory_limit


def free_gpu_memory(device: torch.device) -> float:
    """Bytes of a GPU that one batch may take: half of the free memory, because a second batch runs concurrently.

    Infinite on a CPU.
    """
    if device.type == "cpu":
        return math.inf
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + cached) / 2


class MemoryBudget:
    """A semaphore over bytes. A request larger than the total waits until nothing else is reserved."""

    def __init__(self, total: float):
        self._total, self._changed = total, threading.Condition()
        self._reserved: list[float] = []

    @contextmanager
    def reserve(self, amount: float) -> Iterator[None]:
        """Wait for ``amount`` bytes and release them at the end of the block.

        Not reentrant: a thread that reserves twice can deadlock.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved or sum(self._reserved) + amount <= self._total)
            self._reserved.append(amount)
        try:
            yield
        finally:
            with self._changed:
                self._reserved.remove(amount)
                self._changed.notify_all()


def cpu_memory_limit(device: torch.device, processes: int = 1) -> float:
    """Bytes of CPU memory that concurrent batches may take together, where the system states its limits.

    It is half of what :func:`memory_limit` says, divided among ``processes`` that run at the same time. Infinite for a
    GPU, whose batches are limited by :func:`free_gpu_memory`.
    """
    return math.inf if device.type != "cpu" else memory_limit() / 2 / processes
