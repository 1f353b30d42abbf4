"""How much memory this process may have and has: of its machine, its container, its Slurm job. Without torch."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


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
