"""Runs written by hand, for the tests of reports, and what a report's data files hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.io.atomic import write_json
from clipes.io.masks import write_mask
from clipes.store.manifest import create_or_verify_manifest
from clipes.store.record import Recorder
from clipes.store.row import Row

NAMES = ("cat", "dog", "bus")


def hand_run(
    folder: Path,
    masks: Mapping[str, tuple[Sequence[str], NDArray[Any]]],
    others: Sequence[Row] = (),
    names: Sequence[str] = NAMES,
    confidence: Mapping[str, NDArray[np.uint8]] | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    **about: Any,
) -> Path:
    """folder/m: the run; folder/photos: a picture for every mask, unless ``about`` has another source."""
    run, photos = folder / "m", folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    settings = {"clipes": "0", "output": {"confidence": confidence is not None, "format": "png"}}
    told = {"source": str(photos), "model": "tiny", "command": "clipes generate photos", **about}
    digest = create_or_verify_manifest(run, settings, told)
    write_json(run / "classes.json", {str(index): name for index, name in enumerate(("background", *names))})
    with Recorder(run, {"settings": digest, "total": len(masks) + len(others) + 1}) as recorder:
        for place, (id, (labels, mask)) in enumerate(masks.items()):
            write_mask(run / f"{id}.png", mask, len(names))
            sure = None if confidence is None else round(float(confidence[id].mean()) / 255, 4)
            row = Row(id, "ok", "", tuple(labels), mask.shape[:2], 0.5 + place, confidence=sure)
            recorder.add(replace(row, scores=(scores or {}).get(id)))
            picture = np.full((*mask.shape, 3), 40 * (place + 1) % 256, np.uint8)
            (photos / f"{id}.png").parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(photos / f"{id}.png")
        recorder.add(*others)
    for id, grey in (confidence or {}).items():
        path = run / "confidence" / f"{id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(path)
    return run


def overview(report: Path) -> dict[str, Any]:
    """What data/overview.js holds."""
    text = (report / "data" / "overview.js").read_text(encoding="ascii")
    value: dict[str, Any] = json.loads(text.removeprefix("window.report = ").removesuffix(";\n"))
    return value


def rows(report: Path) -> list[list[Any]]:
    """What data/rows.js holds."""
    text = (report / "data" / "rows.js").read_text(encoding="ascii")
    value: list[list[Any]] = json.loads(text.removeprefix("window.rows = ").removesuffix(",\n];\n") + "]")
    return value
