"""How ``benchmarks/run.py`` takes times: warmed up, interleaved, synchronised, as long as a budget lasts."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

LEAST = 0.01
"""Seconds that one sample lasts at least; what is faster is repeated within it."""


@dataclass(frozen=True)
class Clock:
    """Times calls on a device. Processor time for one thread on a CPU, so that others on the machine count less;
    otherwise the time on the wall, the device waited for.

    ``rounds`` samples are taken of everything, fewer where they would take more than ``budget`` seconds.
    """

    device: torch.device
    threads: int
    rounds: int
    budget: float

    @property
    def kind(self) -> str:
        """What is measured, in words."""
        return "processor time" if self._own else "wall time"

    @property
    def _own(self) -> bool:
        return self.device.type == "cpu" and self.threads == 1

    def now(self) -> float:
        """Seconds, everything done that was asked of the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self._own else time.perf_counter()

    def seconds(self, call: Callable[[], object], times: int = 1) -> float:
        """Of one call, out of ``times``."""
        started = self.now()
        for _ in range(times):
            call()
        return (self.now() - started) / times

    def interleaved(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each call in each round, all of them once a round, in turns forwards and backwards.

        The first call of each warms up and is not counted, unless the warm-up alone outlasts the budget. On a GPU
        there is one more before it: kernels are compiled in it.
        """
        for call in calls.values() if self.device.type == "cuda" else ():
            call()
        started = time.perf_counter()
        first = {name: self.seconds(call) for name, call in calls.items()}
        if time.perf_counter() - started > self.budget:
            return {name: [taken] for name, taken in first.items()}
        times = {name: max(1, math.ceil(LEAST / max(taken, 1e-6))) for name, taken in first.items()}
        samples: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(self.rounds):
            for name in list(calls)[:: -1 if number % 2 else 1]:
                samples[name].append(self.seconds(calls[name], times[name]))
            if time.perf_counter() - started > self.budget:
                break
        return samples


class Busy:
    """The share of the time within a ``with`` in which a GPU worked, by nvidia-smi; None where there is none."""

    share: float | None = None

    def __init__(self, device: torch.device):
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
        self._command = query if device.type == "cuda" and shutil.which(query[0]) else None

    def __enter__(self) -> Busy:
        if self._command:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._command:
            self._process.terminate()
            told = [float(line) for line in self._process.communicate()[0].split() if line.isdigit()]
            self.share = sum(told) / len(told) / 100 if told else None


def quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(value) for value in np.percentile(values, [25, 50, 75])]


def ratios(base: list[float], other: list[float]) -> list[float]:
    """Quartiles of how many times faster ``other`` was, round by round."""
    return quartiles([one / two for one, two in zip(base, other, strict=True)])
