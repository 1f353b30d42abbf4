"""``benchmarks/run.py --parts end``: JPEG files in, PNG masks out, the baseline's two passes beside clipes' one."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baseline import second_pass
from crf import memory
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import clipes
from clipes.datasets import find_samples
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.run import Remaining, claim_folder, record_header
from clipes.store.output import Output
from speed.clock import Busy, Clock, quartiles, ratios
from speed.subjects import BASELINE, Subjects

IGNORED = 255


def table_of(paths: list[Path], names: list[str]) -> Path:
    """A table beside the pictures that gives each of them the labels ``names``."""
    table = paths[0].parent / f"labels-{len(paths)}-{len(names)}.csv"
    rows = (f"{path.name},{';'.join(names)}\n" for path in paths)
    table.write_text("image,labels\n" + "".join(rows))
    return table


def write(generator: clipes.MaskGenerator, table: Path, out: Path, **given: Any) -> None:
    """clipes' run over a table, its record and all; ``given`` to MaskWriter."""
    samples, output = find_samples(table), Output(out)
    with (
        claim_folder(generator.settings, generator.class_names, output) as store,
        MaskWriter(MasksFromImages(generator), output, record_header(store), **given) as writer,
    ):
        ends = {outcome.status for outcome in writer.write(Remaining(samples, store, output))}
    if ends != {"ok"}:
        raise SystemExit(f"{out}: {ends}")


def side_by_side(device: torch.device, threads: int) -> dict[str, int]:
    """What MaskWriter is given so that it uses ``threads`` cores: as `clipes generate` chooses by itself."""
    if device.type == "cuda":
        return {"jobs": 2, "readers": min(8, threads)}
    return {"jobs": threads, "readers": 1}


def without_crf(generator: clipes.MaskGenerator) -> clipes.MaskGenerator:
    """The same, deciding by the scores alone."""
    plain = copy.copy(generator)
    plain.config = replace(generator.config, refine=None)
    return plain


class Passes:
    """The baseline's two passes over pictures of the same labels: one process with the model, then one a core."""

    def __init__(self, subjects: Subjects, class_ids: list[int], folder: Path, threads: int):
        self._baseline, self._ids, self._threads = subjects.baseline, class_ids, threads
        self._maps, self.out = folder / "maps", folder / "out"
        for path in (self._maps, self.out):
            path.mkdir(parents=True)
        self._pool = _started_pool(threads) if threads > 1 else None

    def close(self) -> None:
        """End the processes of the second pass."""
        if self._pool:
            self._pool.shutdown()

    def first(self, paths: list[Path]) -> None:
        torch.set_num_threads(self._threads)
        for path in paths:
            self._baseline.first_pass(path, self._ids, self._maps)

    def second(self, paths: list[Path], crf: bool) -> None:
        job = partial(second_pass, folder=self._maps, out=self.out, crf=crf)
        for _ in self._pool.map(job, paths) if self._pool else map(job, paths):
            pass


def _started_pool(processes: int) -> ProcessPoolExecutor:
    """Processes that have imported what they need: that is not counted."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=spawn.Barrier(processes).wait)
    list(pool.map(abs, range(processes)))  # which starts one for each, as none is ready before all are
    return pool


class EndToEnd:
    """Rounds of all subjects over the same files. On a GPU the baseline takes an eighth of the pictures: it is slow."""

    def __init__(self, subjects: Subjects, clock: Clock, paths: list[Path], class_ids: list[int], folder: Path):
        self._subjects, self._clock, self._folder = subjects, clock, folder
        self._gpu = clock.device.type == "cuda"
        self._paths = paths
        self._names = [next(iter(subjects.clipes.values())).class_names[i - 1] for i in class_ids]
        self._given = side_by_side(clock.device, clock.threads)
        self._passes = Passes(subjects, class_ids, folder / BASELINE, clock.threads)
        self._rates: dict[tuple[str, bool], list[float]] = {}
        self._peaks: dict[str, float] = {}
        self._busy: dict[tuple[str, bool], float | None] = {}
        self._agreement: list[dict[str, Any]] = []

    def measure(self) -> dict[str, Any]:
        """Images/s with and without the CRF, how many times the baseline's, peak memory, and how masks agree."""
        self._round(self._paths[: 64 if self._gpu else 1])  # warms up
        self._rates.clear()
        self._peaks.clear()
        started, rounds = time.monotonic(), 0
        for _ in tqdm(range(self._clock.rounds), disable=None, desc="end to end"):
            self._agreement.clear()
            self._round(self._paths)
            rounds += 1
            if time.monotonic() - started > self._clock.budget * (rounds / (rounds + 1)):
                break  # one more would end after the budget
        self._passes.close()
        rows = [
            {
                "subject": name,
                "crf": crf,
                "images_per_second": quartiles(rates),
                "ratio": ratios(rates, self._rates[BASELINE, crf]),
                "peak_megabytes": self._peaks[name],
                "busy": self._busy.get((name, crf)),
            }
            for (name, crf), rates in self._rates.items()
        ]
        about = {"images": len(self._paths), "labels": len(self._names), "rounds": rounds, "given": self._given}
        return about | {"rows": rows, "agreement": self._agreement}

    def _round(self, paths: list[Path]) -> None:
        few = paths[: max(1, len(paths) // 8)] if self._gpu else paths
        first = self._timed(BASELINE, partial(self._passes.first, few))
        table = table_of(paths, self._names)
        for crf in (True, False):
            second = self._timed(BASELINE, partial(self._passes.second, few, crf))
            self._rates.setdefault((BASELINE, crf), []).append(len(few) / (first + second))
            masks = {BASELINE: _masks(self._passes.out, few)}
            for name, generator in self._subjects.clipes.items():
                out = self._folder / "masks"
                chosen = generator if crf else without_crf(generator)
                torch.set_num_threads(self._clock.threads if self._gpu else 1)
                with Busy(self._clock.device) as busy:
                    taken = self._timed(name, partial(write, chosen, table, out, **self._given))
                self._busy[name, crf] = busy.share
                self._rates.setdefault((name, crf), []).append(len(paths) / taken)
                masks[name] = _masks(out, paths)
                shutil.rmtree(out)
            exact, lower = self._subjects.clipes
            for one, other in ((exact, BASELINE), (lower, exact)):
                self._agreement.append({"crf": crf, "of": one, "with": other, **agreement(masks[one], masks[other])})

    def _timed(self, name: str, call: Callable[[], None]) -> float:
        """Seconds on the wall; keeps the subject's highest memory, of the GPU or of this process above its start."""
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        else:
            _trim()
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before, started = memory("VmRSS"), time.perf_counter()
        call()
        taken = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated() / 2**20 if self._gpu else memory("VmHWM") - before
        self._peaks[name] = max(self._peaks.get(name, 0.0), peak)
        return taken


def _trim() -> None:
    """Give back what was freed, so that a run's memory is not hidden in what the last one left."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _masks(folder: Path, paths: list[Path]) -> dict[str, NDArray[np.uint8]]:
    return {path.stem: np.asarray(Image.open(folder / f"{path.stem}.png")) for path in paths}


def agreement(one: dict[str, NDArray[np.uint8]], other: dict[str, NDArray[np.uint8]]) -> dict[str, float]:
    """Shares of equal pixels: of all; and of those that both decide, which are a share of all as well."""
    pairs = [(one[name], other[name]) for name in one.keys() & other.keys()]
    equal = np.concatenate([(a == b).ravel() for a, b in pairs])
    decided = np.concatenate([((a != IGNORED) & (b != IGNORED)).ravel() for a, b in pairs])
    return {"all": float(equal.mean()), "of_decided": float(equal[decided].mean()), "decided": float(decided.mean())}
