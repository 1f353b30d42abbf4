"""``benchmarks/run.py --parts growth``: how images/s change with what is asked, by the whole path from file to file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import clipes
from clipes.scenes import THINGS
from speed.clock import Clock
from speed.subjects import Subjects, pictures
from speed.whole import side_by_side, table_of, write

TINY = "bundled model"
TINY_SIZE = (112, 112)
TINY_IMAGES = 120
"""Pictures of the bundled model where their number is not what changes."""

MANY = "pictures in a run"

IMAGE_COUNTS = (1, 10, 100, 500)
BATCHES = {"cpu": (1, 2, 4), "cuda": (1, 2, 4, 8, 16, 32, 64)}
LEAST_IMAGES = {"cpu": 1, "cuda": 64}
"""Pictures of a point of the large model, the batches apart, whose points all have as many as the largest."""


class Growth:
    """Points of images/s. Every point is one run, timed on the wall, its start included.

    One over a few pictures goes before it, but for the large model on a CPU, where only the first run would differ.
    """

    def __init__(self, subjects: Subjects | None, clock: Clock, folder: Path, photos: Path | None):
        self._subjects, self._clock, self._folder, self._photos = subjects, clock, folder, photos
        self._kind = clock.device.type
        self._given = side_by_side(clock.device, clock.threads)

    def many(self, most: int) -> dict[str, Any]:
        """The panel of the number of pictures alone, up to ``most``."""
        counts = [*(count for count in IMAGE_COUNTS if count < most), most]
        return self._panel(MANY, self._by_count(self._tiny(), counts))

    def _tiny(self) -> clipes.MaskGenerator:
        return clipes.load(config=clipes.config.CLIP_ES_SCENES, device=self._clock.device)

    def measure(self, sizes: list[tuple[int, int]], labels: list[int], many: int) -> list[dict[str, Any]]:
        """The panels of the plot: a title, the axis, and points of each series."""
        tiny = self._tiny()
        return [
            self._panel("batch size, pictures", self._by_batch(sizes[0])),
            self._panel("picture, megapixels", self._by_size(sizes)),
            self._panel("labels of a picture", self._by_labels(sizes[0], labels)),
            self.many(many),
            self._panel("reader processes", self._by_readers(tiny)),
            self._panel("batches side by side", self._by_jobs(tiny)),
        ]

    def _panel(self, axis: str, points: Iterable[tuple[str, float, float]]) -> dict[str, Any]:
        series: dict[str, list[list[float]]] = {}
        for name, x, rate in tqdm(points, disable=None, desc=axis):
            series.setdefault(name, []).append([x, rate])
        return {"axis": axis, "series": series}

    def _large(self, size: tuple[int, int], labels: int, count: int, **given: Any) -> Iterable[tuple[str, float]]:
        """Each precision's images/s over ``count`` pictures."""
        paths, warm = pictures(self._folder, count, size, self._photos), self._kind == "cuda"
        for name, generator in self._subjects.clipes.items():
            yield name, self._rate(generator, paths, list(generator.class_names[:labels]), warm, **given)

    def _rate(
        self, generator: clipes.MaskGenerator, paths: list[Path], names: list[str], warm: bool = True, **given: Any
    ) -> float:
        if self._kind == "cpu":
            torch.set_num_threads(1)
        out = self._folder / "growth"
        for chosen in (paths[: 64 if self._kind == "cuda" else 1], paths) if warm else (paths,):
            table = table_of(chosen, names)
            started = time.perf_counter()
            write(generator, table, out, **{**self._given, **given})
            taken = time.perf_counter() - started
            shutil.rmtree(out)
        return len(paths) / taken

    def _by_batch(self, size: tuple[int, int]) -> Iterable[tuple[str, float, float]]:
        """Without what else takes turns with the model: one batch at a time."""
        for batch in BATCHES[self._kind]:
            for name, rate in self._large(size, 2, max(BATCHES[self._kind]), batch_size=batch, jobs=1):
                yield name, batch, rate

    def _by_size(self, sizes: list[tuple[int, int]]) -> Iterable[tuple[str, float, float]]:
        for size in sorted(sizes):
            for name, rate in self._large(size, 2, LEAST_IMAGES[self._kind]):
                yield name, size[0] * size[1] / 1e6, rate

    def _by_labels(self, size: tuple[int, int], labels: list[int]) -> Iterable[tuple[str, float, float]]:
        for count in labels:
            for name, rate in self._large(size, count, LEAST_IMAGES[self._kind]):
                yield name, count, rate

    def _by_count(self, tiny: clipes.MaskGenerator, counts: list[int]) -> Iterable[tuple[str, float, float]]:
        """The record, the catalogue and the start of the reading processes are in it."""
        for count in counts:
            yield TINY, count, self._rate(tiny, pictures(self._folder, count, TINY_SIZE, None), list(THINGS[:2]))

    def _by_readers(self, tiny: clipes.MaskGenerator) -> Iterable[tuple[str, float, float]]:
        paths = pictures(self._folder, TINY_IMAGES, TINY_SIZE, None)
        for readers in sorted({0, 1, 2, self._given["readers"]}):
            yield TINY, readers, self._rate(tiny, paths, list(THINGS[:2]), readers=readers)

    def _by_jobs(self, tiny: clipes.MaskGenerator) -> Iterable[tuple[str, float, float]]:
        paths = pictures(self._folder, TINY_IMAGES, TINY_SIZE, None)
        for jobs in sorted({1, 2, self._clock.threads}):
            yield TINY, jobs, self._rate(tiny, paths, list(THINGS[:2]), jobs=jobs)
