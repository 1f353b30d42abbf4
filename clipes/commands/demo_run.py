"""The demonstration: scenes drawn, saved, masked by the bundled model, judged, and shown on one page."""

from __future__ import annotations

import html
import json
import os
import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.config import SCENES, MaskConfig
from clipes.drawing.overlay import draw_maps, draw_mask
from clipes.evaluation.metrics import confusion_matrix, mean_iou
from clipes.generator import load
from clipes.ids import voc_palette
from clipes.io.atomic import atomic, write_json
from clipes.io.masks import write_mask
from clipes.result import PseudoMask
from clipes.scenes import THINGS, draw_scenes

# Every pixel is decided, to be judged; the initial maps are at their best with a background power of 1.
_DECIDED = replace(SCENES, mask=replace(SCENES.mask, ignore_below=None))
STAGES = {
    "initial": replace(_DECIDED, affinity=None, refine=None, mask=MaskConfig(ignore_below=None)),
    "refined": replace(_DECIDED, refine=None),
    "crf": _DECIDED,
}
SHOWN = 24
SIZE = (112, 112)
SEED = 0
FOLDERS = ("images", "truth", "masks", "pictures")
FILES = ("labels.csv", "index.html")
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
Named = tuple[str, tuple[str, ...]]


def run_demo(
    folder: str | os.PathLike[str], count: int, progress: Progress = lambda items, total, unit: items
) -> dict[str, Any]:
    """Draw ``count`` scenes, make their masks, and write into ``folder``:

    ``images/*.jpg``, ``labels.csv`` and ``truth/*.png``, an ordinary data set; ``masks/*.png``;
    ``pictures/*.png`` and ``index.html`` to look at; ``demo.json``, which is also returned: ``{"count",
    "model", "miou": {"initial", "refined", "crf"}}``, the mean IoU over the background and the classes that occur,
    every pixel decided; ``miou`` is empty until all is done.

    What an earlier demo wrote is replaced. Raises ValueError if ``count`` is below 1, or if ``folder`` holds
    files of these names that no demo wrote.
    """
    if count < 1:
        raise ValueError(f"count is {count}; draw at least 1 scene")
    folder = Path(folder)
    _make_room(folder)
    report: dict[str, Any] = {"count": count, "model": "tiny", "miou": {}}
    write_json(folder / "demo.json", report)
    initial, refined = (load("tiny", config=STAGES[stage]) for stage in ("initial", "refined"))
    confusion = {stage: np.zeros((len(THINGS) + 1, len(THINGS) + 1), np.int64) for stage in STAGES}
    cards: list[str] = []
    for name, labels in progress(write_scenes(folder, count, progress), count, "masks"):
        truth = np.asarray(Image.open(folder / "truth" / f"{name}.png"))
        image = folder / "images" / f"{name}.jpg"
        results = {"initial": initial(image, labels), "refined": refined(image, labels)}
        results["crf"] = results["refined"].decide(STAGES["crf"])
        for stage, result in results.items():
            confusion[stage] += confusion_matrix(result.mask, truth, len(THINGS))
        results["crf"].save(folder / "masks" / f"{name}.png")
        if len(cards) < SHOWN:
            cards.append(_card(folder, name, results, truth))
    report["miou"] = {stage: round(mean_iou(matrix), 4) for stage, matrix in confusion.items()}
    _write_page(folder / "index.html", report, cards)
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
    _write_text(folder / "labels.csv", "image,labels\n" + "".join(rows))
    return named


def _make_room(folder: Path) -> None:
    """Remove what an earlier demo wrote; ValueError if the names are taken by something else."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder for the demo")
    taken = [name for name in (*FOLDERS, *FILES, "demo.json") if os.path.lexists(folder / name)]
    linked = any((folder / name).is_symlink() for name in taken)
    if taken and (linked or not _is_report(folder / "demo.json")):
        raise ValueError(f"{folder} has {taken[0]} and is no folder of a demo; choose another folder")
    ours = re.compile(r"\d{5,}(-[A-Za-z-]+)?\.(jpg|png)")
    for name in FOLDERS:
        for file in (folder / name).glob("*"):
            if ours.fullmatch(file.name):
                file.unlink()


def _is_report(file: Path) -> bool:
    """Whether a demo wrote ``file``."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(report, dict) and set(report) == {"count", "model", "miou"}


def _card(folder: Path, name: str, results: dict[str, PseudoMask], truth: NDArray[Any]) -> str:
    """Write one scene's pictures; returns its part of the page."""
    result = results["crf"]
    panels = {
        "picture": result.image,
        "initial maps": draw_maps(results["initial"].cams, result.class_ids.tolist()),
        "refined maps": draw_maps(result.cams, result.class_ids.tolist()),
        "mask without CRF": draw_mask(results["refined"].mask),
        "mask": draw_mask(result.mask),
        "truth": draw_mask(truth),
    }
    figures = []
    for title, picture in panels.items():
        file = folder / "pictures" / f"{name}-{title.replace(' ', '-')}.png"
        with atomic(file) as temporary:
            picture.save(temporary)
        source = html.escape(f"pictures/{file.name}")
        figures.append(
            f'<figure><a href="{source}"><img src="{source}" alt="{title} of scene {name}"></a>'
            f"<figcaption>{title}</figcaption></figure>"
        )
    colours = [bytes(voc_palette()[index]).hex() for index in result.class_ids]
    named = zip(colours, result.labels, strict=True)
    legend = " ".join(f'<i style="background:#{colour}"></i>{html.escape(label)}' for colour, label in named)
    return f"<section><h2>{legend}</h2><div>{''.join(figures)}</div></section>"


def _write_page(path: Path, report: dict[str, Any], cards: Sequence[str]) -> None:
    template = string.Template(files("clipes").joinpath("page.html").read_text(encoding="utf-8"))
    rows = "".join(f"<tr><td>{stage}</td><td>{value:.3f}</td></tr>" for stage, value in report["miou"].items())
    _write_text(path, template.substitute(count=report["count"], shown=len(cards), rows=rows, cards="\n".join(cards)))


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
