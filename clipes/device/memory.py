"""Memory that concurrent batches share: of a GPU, of a machine, of a container."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


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


_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which Linux states the memory limit of a container or a Slurm job, cgroup versions 2 and 1."""


def cpu_memory_limit(device: torch.device, processes: int = 1) -> float:
    """Bytes of CPU memory that concurrent batches may take together, where the system states its limits.

    It is half of the machine's or container's memory, divided among ``processes`` that run at the same time. Infinite
    for a GPU, whose batches are limited by :func:`free_gpu_memory`.
    """
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or it says "max"
            limits.append(int(Path(path).read_text()))
    return min(limits) / 2 / processes
