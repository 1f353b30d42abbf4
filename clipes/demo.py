"""The demonstration: scenes drawn, saved as files, masked by the bundled model, judged, and shown on one page."""

from __future__ import annotations

import html
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.config import VOC12
from clipes.generator import load
from clipes.metrics import confusion_matrix, mean_iou
from clipes.overlay import draw_maps, draw_mask
from clipes.result import PseudoMask
from clipes.scenes import THINGS, draw_scenes
from clipes.writer import atomic, write_json, write_mask

SHOWN = 24
SIZE = (112, 112)
SEED = 0
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


def run_demo(folder: Path, count: int, progress: Progress = lambda items, total, unit: items) -> dict[str, Any]:
    """Draw ``count`` scenes, make their masks, and write into ``folder``:

    ``images/*.jpg``, ``labels.csv`` and ``truth/*.png``, an ordinary data set; ``masks/*.png``; ``pictures/*.png``
    and ``index.html`` to look at; ``demo.json``, which is also returned: ``{"count", "model", "miou": {"initial",
    "refined"}}``, the mean IoU over the background and the classes that occur.

    Raises ValueError if ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; draw at least 1 scene")
    names = write_scenes(folder, count, progress)
    refined = load("tiny")
    initial = load("tiny", config=replace(VOC12, affinity=None))
    confusion = {"initial": np.zeros((17, 17), np.int64), "refined": np.zeros((17, 17), np.int64)}
    cards = []
    for name, labels in progress(names, count, "scenes"):
        truth = np.asarray(Image.open(folder / "truth" / f"{name}.png"))
        image = folder / "images" / f"{name}.jpg"
        results = {"initial": initial(image, labels), "refined": refined(image, labels)}
        for stage, result in results.items():
            confusion[stage] += confusion_matrix(result.mask, truth, len(THINGS))
        results["refined"].save(folder / "masks" / f"{name}.png")
        if len(cards) < SHOWN:
            cards.append(_card(folder, name, results, truth))
    miou = {stage: round(mean_iou(matrix), 4) for stage, matrix in confusion.items()}
    report = {"count": count, "model": "tiny", "miou": miou}
    write_json(folder / "demo.json", report)
    _write_page(folder / "index.html", report, cards)
    return report


def write_scenes(
    folder: Path, count: int, progress: Progress = lambda items, total, unit: items
) -> list[tuple[str, tuple[str, ...]]]:
    """Draw ``count`` scenes as a data set: ``images/*.jpg``, ``truth/*.png`` and ``labels.csv`` under ``folder``.

    Returns each picture's name and labels.
    """
    named = []
    for index, scene in enumerate(progress(draw_scenes(count, SEED, SIZE), count, "drawn")):
        name = f"{index:05d}"
        with atomic(folder / "images" / f"{name}.jpg") as temporary:
            Image.fromarray(scene.image).save(temporary, quality=95, subsampling=0)
        write_mask(folder / "truth" / f"{name}.png", scene.mask, len(THINGS))
        named.append((name, scene.labels))
    rows = [f"{name}.jpg,{';'.join(labels)}\n" for name, labels in named]
    with atomic(folder / "labels.csv") as temporary:
        temporary.write_text("image,labels\n" + "".join(rows), encoding="utf-8")
    return named


def _card(folder: Path, name: str, results: dict[str, PseudoMask], truth: NDArray[Any]) -> str:
    """Write one scene's pictures, enlarged; returns its part of the page."""
    result = results["refined"]
    panels = {
        "picture": result.image,
        "initial maps": draw_maps(results["initial"].cams, result.class_ids.tolist()),
        "refined maps": draw_maps(result.cams, result.class_ids.tolist()),
        "mask": draw_mask(result.mask),
        "truth": draw_mask(truth),
    }
    figures = []
    for title, picture in panels.items():
        file = folder / "pictures" / f"{name}-{title.replace(' ', '-')}.png"
        with atomic(file) as temporary:
            picture.save(temporary)
        figures.append(f'<figure><img src="pictures/{file.name}" alt="{title}"><figcaption>{title}</figcaption></figure>')
    return f"<section><h2>{html.escape(', '.join(result.labels))}</h2><div>{''.join(figures)}</div></section>"


def _write_page(path: Path, report: dict[str, Any], cards: Sequence[str]) -> None:
    template = string.Template(files("clipes").joinpath("page.html").read_text(encoding="utf-8"))
    rows = "".join(f"<tr><td>{stage}</td><td>{value:.3f}</td></tr>" for stage, value in report["miou"].items())
    page = template.substitute(count=report["count"], shown=len(cards), rows=rows, cards="\n".join(cards))
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
