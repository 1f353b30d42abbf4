"""Runs with masks made by hand, for tests of exports; and masks that are hard to export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.ids import CLASSES
from clipes.io.atomic import write_json
from clipes.io.masks import confidence_png, mask_png
from clipes.store.manifest import create_or_verify_manifest
from clipes.store.output import Output
from clipes.store.record import Recorder
from clipes.store.row import Row
from clipes.store.writer import new_writer

NAMES = ("dog", "a:b, 'c' \"d\"", "été 日本 #%")
_DRAWN = {"x": 255, ".": 0}


def drawn(text: str) -> NDArray[np.uint8]:
    """A mask from a picture of digits, ``.`` for background and ``x`` for ignored."""
    return np.array([[_DRAWN[c] if c in _DRAWN else int(c) for c in row] for row in text.split()], np.uint8)


def hard_masks() -> dict[str, NDArray[np.uint8]]:
    """Masks of three classes by id: the ids are as hard as the masks."""
    random = np.random.default_rng(3_101_000)
    values = np.array([0, 1, 2, 3, 255], np.uint8)
    return {
        "empty": np.zeros((6, 7), np.uint8),
        "all ignored": np.full((5, 4), 255, np.uint8),
        "one,pixel": drawn("..... ..2.. ....."),
        "chess'board": (np.indices((9, 8)).sum(0) % 2).astype(np.uint8),
        'holes"in"holes': drawn(
            "111111111 1.......1 1.33333.1 1.3...3.1 1.3.1.3.1 1.3...3.1 1.33333.1 1.......1 111111111"
        ),
        "touching/diagonal": drawn("1...2 .1.2. ..1.. .2.1. 2...1"),
        "touching/border": drawn("222x3 2...3 2.1.3 1111x"),
        "images/images/x": drawn("2"),
        "test_1": drawn("1.22x..1"),
        "val/train": drawn("1 . 3 3 x 1"),
        "sub/x": drawn("11 11"),
        "sub%2Fx": drawn("22 2."),
        "line\u2028end: 100% #1": drawn("3.3 .3. 3.3"),
        "ü日本": values[random.integers(0, 5, (23, 31))],
        "rings": drawn("11111 1.1.1 11.11 1.1.1 11111"),
    }


def paint(masks: Mapping[str, NDArray[Any]], folder: Path = Path("photos")) -> None:
    """A picture of its mask's size for each, PNG and JPEG in turn."""
    random = np.random.default_rng(1)
    for number, (name, mask) in enumerate(masks.items()):
        path = folder / f"{name}{('.png', '.jpg')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)).save(path)


def saved_run(
    masks: Mapping[str, NDArray[Any]],
    class_names: Sequence[str] = NAMES,
    source: str = "photos",
    *,
    folder: str = "m",
    format: Any = "png",
    confidence: bool = False,
    labels: Sequence[str] = (),
    category_ids: Mapping[str, int] | None = None,
) -> None:
    """A run's folder as `clipes generate` leaves it, confidences 0.5 where they are saved."""
    output = Output(Path(folder), confidence=confidence, format=format, tar_size=4)
    output.folder.mkdir()
    about = {"source": source, "category_ids": category_ids}
    digest = create_or_verify_manifest(folder, {"output": output.settings()}, about)
    write_json(output.folder / CLASSES, {str(index): name for index, name in enumerate(("background", *class_names))})
    with Recorder(folder, {"settings": digest}) as recorder:
        writer = new_writer(output, f"masks-{recorder.path.stem}")
        for name, mask in masks.items():
            files = {"mask": mask_png(mask, len(class_names), "clipes run")}
            if confidence:
                files["confidence"] = confidence_png(np.full(mask.shape, 0.5, np.float32))
            checksum = hashlib.sha256(files["mask"]).hexdigest()
            writer.write_files(name, files)
            row = Row(name, "ok", labels=tuple(labels), size=mask.shape, checksum=checksum)
            recorder.add(*writer.append(row, files))
        recorder.add(*writer.flush())
