"""Speed beside the original's way of working: ``python benchmarks/run.py --device cpu``. Writes benchmarks/RESULTS.md.

Parts can be made one at a time; each replaces its own results in results-cpu.json or results-cuda.json, from which
RESULTS.md, growth.png and the table in docs/results.md are drawn again:

- limits: what matrix products and copies reach on this machine, seconds;
- stages: each stage of the path, the baseline's (benchmarks/baseline.py) and clipes' in two precisions in turns;
- end: JPEG files in, PNG masks out, with the CRF and without, on the same cores and files;
- growth: images/s against batch, picture, labels, number of pictures, processes and threads;
- many: the number of pictures once more, up to ten times as many, with the bundled model.

``pip install ".[oracle,plot]"`` first. Weights are drawn at random unless given; what is measured does not depend on
them, but how well the masks of two precisions agree does. --rounds and --budget bound the time: a default run takes
about a quarter of an hour on one core of a CPU, and under 8 minutes on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from environment import describe, parse_options
from speed.clock import Clock
from speed.growth import Growth
from speed.limits import ceilings
from speed.parts import stage_cells
from speed.report import write_report
from speed.results_page import write_results_page
from speed.subjects import Subjects, cores, load_subjects, pictures, weights_file
from speed.whole import EndToEnd

PARTS = ("limits", "stages", "end", "growth", "many")
LABELS = 2
"""Of a picture where their number is not what changes."""

BUDGET = {"cpu": 8.0, "cuda": 1.0}
"""Seconds for the samples of one stage, all subjects together."""

WHOLE = {"cpu": 45.0, "cuda": 60.0}
"""How many times that for all rounds end to end."""

COUNT = {"cpu": 6, "cuda": 512}

THREADS = {"cpu": lambda: 1, "cuda": lambda: len(cores())}
"""Cores that are used unless others are asked for, whose results then stand beside these."""


class Session:
    """The parts, with the models loaded when the first of them asks."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self._options, self._folder = options, folder
        self._device = torch.device(options.device)
        self._loaded: dict[str, Subjects] = {}

    def run(self, part: str) -> Any:
        """What a part found, as JSON holds it."""
        made: dict[str, Callable[[], Any]] = {
            "limits": lambda: ceilings(self._clock()),
            "stages": self._stages,
            "end": self._end,
            "growth": self._growth,
            "many": lambda: Growth(None, self._clock(), self._folder, None).many(10 * self._options.many),
        }
        return made[part]()

    def _clock(self, longer: float = 1.0) -> Clock:
        torch.set_num_threads(self._options.threads)
        return Clock(self._device, self._options.threads, self._options.rounds, longer * self._options.budget)

    def _subjects(self, number: int = 0) -> Subjects:
        """The models of one size; those of another are dropped."""
        model = self._options.model[number]
        if model not in self._loaded:
            self._loaded.clear()
            given = self._options.vit[number] if number < len(self._options.vit) else None
            self._loaded[model] = load_subjects(model, weights_file(model, given, self._folder), self._device)
        return self._loaded[model]

    def _stages(self) -> dict[str, Any]:
        """All numbers of labels at the first size of the first model; else 2 labels, and other models at that size."""
        clock, options, cells = self._clock(), self._options, []
        few = [min(LABELS, max(options.labels))]
        for number in range(len(options.model)):
            for size in options.sizes if number == 0 else options.sizes[:1]:
                labels = options.labels if number == 0 and size == options.sizes[0] else few
                cells += stage_cells(self._subjects(number), clock, size, labels, self._folder, options.images)
        return {"clock": clock.kind, "cells": cells}

    def _end(self) -> dict[str, Any]:
        options, size = self._options, self._options.sizes[0]
        paths = pictures(self._folder, options.count, size, options.images)
        ids = list(range(1, LABELS + 1))
        found = EndToEnd(self._subjects(), self._clock(WHOLE[options.device]), paths, ids, self._folder).measure()
        return {"model": options.model[0], "size": list(size), **found}

    def _growth(self) -> dict[str, Any]:
        options = self._options
        growth = Growth(self._subjects(), self._clock(), self._folder, options.images)
        panels = growth.measure(options.sizes, options.labels, options.many)
        return {"model": options.model[0], "size": list(options.sizes[0]), "panels": panels}


def size_of(text: str) -> tuple[int, int]:
    """``500x375``, width and height, to (H, W)."""
    width, height = (int(part) for part in text.split("x"))
    return height, width


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas between (default: all)")
    models = ["ViT-B-16", "ViT-L-14"]
    parser.add_argument("--model", nargs="+", default=models, help="open_clip's; the first gets the full grid")
    parser.add_argument("--vit", type=Path, nargs="+", default=[], help="weights files of the models, in their order")
    sizes = ["500x375", "224x224", "640x480", "1024x1024"]
    parser.add_argument("--sizes", type=size_of, nargs="+", default=[size_of(size) for size in sizes], metavar="WxH")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 2, 4, 8, 20], help="at the first size")
    parser.add_argument("--images", type=Path, help="folder of .jpg photographs, brought to the sizes")
    parser.add_argument("--threads", type=int, help="cores to use (default: 1 on a CPU, else all)")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each time, at most")
    parser.add_argument("--budget", type=float, help="seconds for a stage's samples")
    parser.add_argument("--count", type=int, help="pictures end to end")
    parser.add_argument("--many", type=int, default=2000, help="the most pictures of a run in the growth part")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    small = {"parts": "stages,end", "model": ["ViT-S-32"], "sizes": [(60, 80)], "labels": [2]}
    options = parse_options(parser, **small, rounds=1, budget=0.1, count=2)
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; there are {', '.join(PARTS)}")
    options.threads = options.threads or THREADS[options.device]()
    options.budget = options.budget or BUDGET[options.device]
    options.count = options.count or COUNT[options.device]
    return options


def command(options: argparse.Namespace) -> str:
    """This command, with words for the paths of this machine."""
    words = {str(options.images): "FOLDER", str(options.out): "OUT", **{str(path): "FILE" for path in options.vit}}
    return " ".join(["python", "benchmarks/run.py", *(words.get(word, word) for word in sys.argv[1:])])


def main() -> None:
    """Measure the parts asked for, keep what they found beside the others', draw the report."""
    options = parsed()
    os.sched_setaffinity(0, cores()[: options.threads])  # for all that is started from here on, too
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / f"results-{options.device}.json"
    kept: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        session = Session(options, Path(name))
        for part in options.parts:
            found = session.run(part)
            torch.set_num_threads(options.threads)
            about = {"about": describe(), "command": command(options), "threads": options.threads}
            key = part if options.threads == THREADS[options.device]() else f"{part}, {options.threads} threads"
            kept[key] = about | {"pictures": "photographs" if options.images else "scenes", "found": found}
            results.write_text(json.dumps(kept, indent=1) + "\n")
    write_report(options.out)
    if options.out == Path(__file__).parent and options.device == "cpu" and {"stages", "end"} <= kept.keys():
        write_results_page(options.out.parent / "docs" / "results.md", kept)


if __name__ == "__main__":
    main()
