"""The demonstration: scenes are drawn, masked by the bundled model as any data set is, judged, and reported."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from clipes.config import SCENES, ArgmaxConfig, another_choice
from clipes.evaluation import evaluate
from clipes.io.atomic import atomic, write_json, write_text
from clipes.io.masks import write_mask
from clipes.report import write_report
from clipes.runs.api import run_plan
from clipes.runs.plan import Faults, Plan
from clipes.scenes import THINGS, draw_scenes
from clipes.store.output import Output

DECIDED = replace(SCENES, mask=another_choice(SCENES.mask, ArgmaxConfig))
"""The settings of the demonstration: every pixel is decided, because every pixel is judged."""

SIZE = (112, 112)
SEED = 0
FOLDERS = ("images", "truth", "masks", "report")
FILES = ("labels.csv",)
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Named = tuple[str, tuple[str, ...]]


def run_demo(
    folder: str | os.PathLike[str], count: int, progress: Progress = lambda items, total, unit: items
) -> dict[str, Any]:
    """Draw ``count`` scenes, make their masks, judge them, and write into ``folder``:

    ``images/*.jpg``, ``labels.csv`` and ``truth/*.png``, an ordinary data set; ``masks/``, the run over it;
    ``report/index.html`` to look at; ``demo.json``, which is also returned: ``{"count", "model", "miou"}``, the mean
    IoU over the background and the classes that occur, every pixel decided; None until all is done.

    What an earlier demo wrote is replaced. Raises ValueError if ``count`` is below 1, or if ``folder`` holds
    files of these names that no demo wrote.
    """
    if count < 1:
        raise ValueError(f"count is {count}; draw at least 1 scene")
    folder = Path(folder)
    _make_room(folder)
    report: dict[str, Any] = {"count": count, "model": "tiny", "miou": None}
    write_json(folder / "demo.json", report)
    write_scenes(folder, count, progress)
    masks, truth = folder / "masks", folder / "truth"
    ticks = iter(progress(range(count + 1), count, "masks"))  # one more, so that the bar is at its end after the last
    next(ticks)
    output = Output(masks, confidence=True)
    labels = str(folder / "labels.csv")
    plan = Plan(str(folder / "images"), output, labels, config=DECIDED, preset="scenes", faults=Faults(overwrite=True))
    run_plan(plan, lambda outcome: next(ticks, None))
    report["miou"] = round(evaluate(masks, truth).miou, 4)
    write_report(masks, folder / "report", truth=truth, progress=progress)
    write_json(folder / "demo.json", report)
    return report


def write_scenes(folder: Path, count: int, progress: Progress = lambda items, total, unit: items) -> list[Named]:
    """Draw ``count`` scenes as data: ``images/*.jpg``, ``truth/*.png``, ``labels.csv`` under ``folder``.

    Returns each picture's name and labels.
    """
    named: list[Named] = []
    for index, scene in enumerate(progress(draw_scenes(count, SEED, SIZE), count, "scenes")):
        name = f"{index:05d}"
        with atomic(folder / "images" / f"{name}.jpg") as temporary:
            Image.fromarray(scene.image).save(temporary, quality=95, subsampling=0)
        write_mask(folder / "truth" / f"{name}.png", scene.mask, len(THINGS))
        named.append((name, scene.labels))
    rows = [f"{name}.jpg,{';'.join(labels)}\n" for name, labels in named]
    write_text(folder / "labels.csv", "image,labels\n" + "".join(rows))
    return named


def _make_room(folder: Path) -> None:
    """Remove the scenes of an earlier demo; ValueError if the names are taken by something else."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder for the demo")
    taken = [name for name in (*FOLDERS, *FILES, "demo.json") if os.path.lexists(folder / name)]
    linked = any((folder / name).is_symlink() for name in taken)
    if taken and (linked or not _is_of_a_demo(folder / "demo.json")):
        raise ValueError(f"{folder / taken[0]} was not written by `clipes demo`; choose another folder")
    scenes = [file for name in ("images", "truth") for file in sorted((folder / name).glob("*"))]
    if foreign := [file for file in scenes if not re.fullmatch(r"\d{5,}\.(jpg|png)", file.name)]:
        raise ValueError(f"{foreign[0]} was not written by `clipes demo`; move it away, or choose another folder")
    for file in scenes:
        file.unlink()


def _is_of_a_demo(file: Path) -> bool:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(report, dict) and set(report) == {"count", "model", "miou"}
