"""Memory that concurrent batches share: of a GPU, of a machine, of a container."""

from __future__ import annotations

import math
import os
import re
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


def memory_limit() -> float:
    """Bytes of memory that this process may have: the machine's, or less as its cgroups say. Infinite if unknown.

    A process is in a cgroup of version 1 or 2 inside others (containers, systemd, Slurm); the lowest limit counts.
    """
    limits: list[float] = [math.inf]
    if hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= os.sysconf_names.keys():
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _limit_files(_PROC):
        with suppress(OSError, ValueError):  # no such file, or it says "max"
            limits.append(int(path.read_text(encoding="ascii")))
    return min(limits)


def memory_in_use() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int((_PROC / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


_PROC = Path("/proc/self")


def _limit_files(process: Path) -> Iterator[Path]:
    """The files with the memory limits of a process's cgroup and of all around it.

    ``/proc/PID/cgroup`` has a line ``number:controllers:path`` for each hierarchy, and ``mountinfo`` says where it is
    mounted and which of its paths is the root there: in a container that of the container.
    """
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for root, place, kind, options in map(_mount, mounts):
        for group in groups:
            _, controllers, path = group.split(":", 2)
            if kind == "cgroup2" and not controllers:
                name = "memory.max"
            elif kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                name = "memory.limit_in_bytes"
            else:
                continue
            inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
            yield from (Path(place, part, name) for part in (inside, *inside.parents))


def _mount(line: str) -> tuple[str, str, str, str]:
    """Root, place, kind and options of a line of ``mountinfo``."""
    before, _, after = line.partition(" - ")
    fields, rest = before.split(), after.split()
    root, place = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
    return root, place, rest[0], rest[-1]


def cpu_memory_limit(device: torch.device, processes: int = 1) -> float:
    """Bytes of CPU memory that concurrent batches may take together, where the system states its limits.

    It is half of what :func:`memory_limit` says, divided among ``processes`` that run at the same time. Infinite for a
    GPU, whose batches are limited by :func:`free_gpu_memory`.
    """
    return math.inf if device.type != "cpu" else memory_limit() / 2 / processes
