"""The time and the most memory that a piece of work takes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

_PROC = Path("/proc/self")


@dataclass
class Cost:
    """What the blocks of :meth:`measured` took.

    Attributes:
        seconds: all blocks together.
        peak_bytes: the most memory while any of them ran: of a GPU what torch had allocated, else all that this process
            had. None where the system does not say (other systems than Linux).
    """

    seconds: float = 0.0
    peak_bytes: int | None = None

    @contextmanager
    def measured(self, device: torch.device) -> Iterator[None]:
        """Add what the block takes on ``device``; what raises an error is not added."""
        known = _reset_peak(device)
        started = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds += time.perf_counter() - started
        peak = _peak(device) if known else None
        if peak is not None:
            self.peak_bytes = max(self.peak_bytes or 0, peak)


def _reset_peak(device: torch.device) -> bool:
    """Whether the peak counts from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (_PROC / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+) kB", (_PROC / "status").read_text(encoding="ascii", errors="replace")):
            return 1024 * int(found[1])
    return None
