"""The source that a folder of a known layout should be given as."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from clipes.io.kinds import IMAGE_SUFFIXES

from .sample import DatasetError


def likely_source(folder: Path) -> str:
    """`voc:ROOT`, `coco:ROOT:SPLIT`, `coco:FILE` or `folders:ROOT`, for a folder that looks like it; else empty."""
    return next(_likely(folder), "") if folder.is_dir() else ""


def check_no_voc(folder: Path) -> None:
    """Raise DatasetError for a folder of VOC, whose masks would be taken for images."""
    root = next(_voc_roots(folder), None) if folder.is_dir() else None
    if root is not None and any((root / name).is_dir() for name in ("SegmentationClass", "SegmentationObject")):
        raise DatasetError(
            f"{folder} holds PASCAL VOC, whose masks in {root / 'SegmentationClass'} would be taken for images; give "
            f"{_voc(root)}, or {root / 'JPEGImages'}"
        )


def _likely(folder: Path) -> Iterator[str]:
    yield from map(_voc, _voc_roots(folder))
    for file in sorted(folder.glob("annotations/instances_*.json")):
        yield f"coco:{folder}:{file.stem.removeprefix('instances_')}"
    for pattern in ("*.coco.json", "result.json", "*/*.coco.json"):  # Roboflow, Label Studio
        yield from (f"coco:{file}" for file in sorted(folder.glob(pattern)))
    parts = [path for path in folder.iterdir() if not path.name.startswith(".")]
    folders = [path for path in parts if path.is_dir()]
    images = [path for path in parts if path.suffix.lower() in IMAGE_SUFFIXES]
    if len(folders) > 1 and not images:
        yield f"folders:{folder}"


def _voc_roots(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as scanned:  # a million images are not asked one by one
        inside = sorted(entry.name for entry in scanned if entry.is_dir())
    places = [folder, *(folder / name for name in inside)]
    if "VOCdevkit" in inside:
        places += sorted(path.parent for path in (folder / "VOCdevkit").glob("*/JPEGImages"))
    yield from (place for place in places if (place / "JPEGImages").is_dir() and (place / "ImageSets").is_dir())


def _voc(root: Path) -> str:
    lists = sorted(path.stem for path in root.glob("ImageSets/Segmentation/*.txt"))
    return f"voc:{root}" if "train" in lists or not lists else f"voc:{root}:{lists[0]}"
