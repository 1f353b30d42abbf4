"""The measurements of ``benchmarks/run.py --parts limits,stages``. Each returns what its JSON holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from speed.clock import Clock, quartiles, ratios
from speed.limits import library_calls, shape_of, work
from speed.stages import INPUTS, LABEL_STAGES, OUTPUTS, PICTURE_STAGES, BaselineStages, ClipesStages
from speed.subjects import BASELINE, Subjects, pictures

LIBRARY = "library call"
LAST = " last block"

TOKENS = 16 * 1200
"""Of a batch on a GPU, where clipes' stages take as many pictures as that allows, 16 at most."""


def batch_of(device: torch.device, tokens: int) -> int:
    """Pictures that clipes' stages take together."""
    return 1 if device.type == "cpu" else max(1, min(16, TOKENS // tokens))


def stage_cells(
    subjects: Subjects, clock: Clock, size: tuple[int, int], labels: list[int], folder: Path, photos: Path | None
) -> list[dict[str, Any]]:
    """A row for each stage, number of labels and subject: seconds for a picture, and how many times the baseline's."""
    tokens = shape_of(subjects, size, 1).tokens
    paths = pictures(folder, batch_of(clock.device, tokens), size, photos)
    cells: list[dict[str, Any]] = []
    runs: dict[str, Any] = {BASELINE: BaselineStages(subjects.baseline, paths[0], folder)}
    runs |= {name: ClipesStages(generator, paths) for name, generator in subjects.clipes.items()}
    for count in tqdm(labels, disable=None, desc=f"{subjects.model}, {size[1]} x {size[0]}"):
        for run in runs.values():
            run.label(list(range(1, count + 1)))
        for stage in (*(PICTURE_STAGES if count == labels[0] else ()), *LABEL_STAGES):
            needed = work(stage, shape_of(subjects, size, count))
            about = {"model": subjects.model, "size": list(size), "labels": count, "stage": stage, "work": needed}
            times = _times(stage, runs, clock, paths[0])
            for name, samples in times.items():
                cell = {**about, "subject": name, "seconds": quartiles(samples), "rounds": len(samples)}
                cells.append(cell | {"ratio": ratios(times[BASELINE], samples)})
    return cells


def _times(stage: str, runs: dict[str, Any], clock: Clock, path: Path) -> dict[str, list[float]]:
    """Seconds of a stage for a picture, round by round, of each subject that has it."""
    having = {name: run for name, run in runs.items() if hasattr(run, stage)}
    calls: dict[str, Callable[[], object]] = {name: partial(_kept, run, stage) for name, run in having.items()}
    counts = {name: run.count for name, run in having.items()}
    for run in having.values():
        getattr(run, INPUTS.get(stage, "count"))
    if stage == "encode":  # clipes' goes on through the last block, which the next stage counts
        having.pop(BASELINE)
        # In this order: a last block's input is what the first encode left.
        calls |= {name + LAST: run.last for name, run in having.items()}
    elif stage in ("decode", "resize", "png"):
        first = runs[BASELINE]
        calls[LIBRARY], counts[LIBRARY] = library_calls(path, first.patch, first.masks)[stage], 1
    samples = clock.interleaved(calls)
    taken = {name: samples[name + LAST] if name + LAST in samples else [0.0] * len(samples[name]) for name in counts}
    return {
        name: [max(one - off, 1e-9) / counts[name] for one, off in zip(samples[name], taken[name], strict=True)]
        for name in counts
    }


def _kept(run: Any, stage: str) -> None:
    result = getattr(run, stage)()
    if stage in OUTPUTS:
        setattr(run, OUTPUTS[stage], result)
