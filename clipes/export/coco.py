"""COCO's ``instances_SPLIT.json``. Annotations go through a temporary file, so that memory use does not grow."""

from __future__ import annotations

import importlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clipes._version import __version__, install_hint
from clipes.datasets.coco import read_image_ids
from clipes.io.tempdb import encode_name, temporary_database, transaction
from clipes.regions import instances

from .names import check_unicode
from .outlines import outlines
from .walk import FormatWriter, Item, new_file

Place = tuple[slice, slice]


class CocoError(ImportError):
    """pycocotools cannot be imported; the message says how to install it."""


class CocoWriter(FormatWriter):
    """``annotations/instances_SPLIT.json`` and the pictures in ``SPLIT/``.

    There is one annotation for each class of an image or, with ``instances``, for each of its instances by
    :func:`clipes.regions.instances`, as RLE or, with ``polygons``, as polygons. It has an area, a box, and the mean
    confidence if the run saved it. Ignored pixels are one RLE with ``iscrowd`` 1 and ``"ignored": true`` for each label
    of the image, because COCO's ignored regions belong to a class.

    ``category_ids`` are the source's category ids by class name. If ``source`` is a ``coco:`` source, its image ids are
    kept.
    """

    def __init__(
        self,
        root: Path,
        class_names: Sequence[str],
        split: str,
        *,
        polygons: bool,
        instances: bool,
        category_ids: Mapping[str, int],
        source: str | tuple[str, ...],
    ) -> None:
        self._masks = _pycocotools()
        self._root, self._split, self._polygons, self._instances = root, split, polygons, instances
        self._categories = number_categories(class_names, category_ids)
        self._names = class_names
        self._new = sum(name not in category_ids for name in class_names) if category_ids else 0
        path = new_file(root, f"annotations/instances_{split}.json")
        self._scratch_path = path.with_name("scratch")
        super().__init__()
        self._file = self._open.enter_context(open(path, "w", encoding="ascii"))  # noqa: SIM115
        self._scratch = self._open.enter_context(open(self._scratch_path, "w+", encoding="ascii"))  # noqa: SIM115
        self._ids = _image_ids(source)
        if self._ids is not None:
            self._open.callback(self._ids.close)
        self._renumbered = bool(category_ids) and self._ids is None
        about = {"description": "pseudo masks from image-level labels", "version": f"clipes {__version__}"}
        self._file.write(f'{{"info": {json.dumps(about)}, "licenses": [], "images": [')
        self._images = self._annotations = 0

    def check(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        check_unicode(item.id)
        self._image_id(item.id)
        above = self._root / self._split
        for folder in item.id.split("/")[:-1]:
            above /= folder
            if above.is_file():  # a .tar may hold x.png and x.png/y.png
                raise ValueError(f"{item.id!r}: its folder {folder!r} is the name of a picture, too; rename one")

    def add(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        image_id = self._image_id(item.id)
        item.picture.write(self._root / self._split / item.id)
        height, width = item.mask.shape
        name = item.id + item.picture.suffix
        row = {"id": image_id, "file_name": name, "height": height, "width": width}
        self._file.write(",\n" * bool(self._images) + json.dumps(row))
        self._images += 1
        for annotation in (*self._classes(item), *self._ignored(item)):
            self._annotations += 1
            row = {"id": self._annotations, "image_id": image_id, **annotation}
            self._scratch.write(",\n" * (self._annotations > 1) + json.dumps(row))

    def finish(self) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        self._file.write('],\n"annotations": [')
        self._scratch.seek(0)
        shutil.copyfileobj(self._scratch, self._file)
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in zip(self._categories, self._names, strict=True)
        ]
        self._file.write(f'],\n"categories": {json.dumps(categories)}}}\n')
        self.close()
        self._scratch_path.unlink()

    def notes(self) -> Iterator[str]:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        if self._renumbered:
            yield "images are numbered from 1; they keep COCO's ids where the source is COCO (--source coco:ROOT:SPLIT)"
        if self._new:
            yield f"{self._new} class(es) have no category id in the source; they follow its largest"

    def _image_id(self, image_id: str) -> int | str:
        if self._ids is None:
            return self._images + 1
        found = self._ids.execute("SELECT number FROM image WHERE id = ?", (encode_name(image_id),)).fetchone()
        if found is None:
            raise ValueError(f"{image_id!r}: no such image in the source's JSON; say which it is (--source)")
        number: int | str = json.loads(found[0])
        return number

    def _parts(self, item: Item) -> Iterator[tuple[int, Place, NDArray[np.bool_]]]:
        """Yield the class, the box and the pixels in it of each annotation."""
        if self._instances:
            found = instances(item.mask, item.regions, ignore=item.ignore)
            for index, class_id in enumerate(found.class_ids.tolist()):
                yield class_id, *found.crop(index)
            return
        for class_id in np.unique(item.mask).tolist():
            if class_id not in (0, item.ignore):
                yield class_id, *_cropped(item.mask == class_id)

    def _classes(self, item: Item) -> Iterator[dict[str, Any]]:
        for class_id, place, pixels in self._parts(item):
            shape = self._shape(place, pixels, item.mask.shape, self._polygons)
            found = {"category_id": self._categories[class_id - 1], **shape}
            if item.confidence is not None:
                found["score"] = round(float(item.confidence[place][pixels].mean()) / 255, 4)
            yield found

    def _ignored(self, item: Item) -> Iterator[dict[str, Any]]:
        ignored = item.mask == item.ignore
        if not ignored.any():
            return
        present = {self._names[number - 1] for number in np.unique(item.mask[~ignored]).tolist() if number}
        concerned = present.union(item.labels) or set(self._names)
        shape = {**self._shape(*_cropped(ignored), item.mask.shape, False), "iscrowd": 1, "ignored": True}
        for category, name in zip(self._categories, self._names, strict=True):
            if name in concerned:
                yield {"category_id": category, **shape}

    def _shape(self, place: Place, pixels: NDArray[np.bool_], size: tuple[int, ...], polygons: bool) -> dict[str, Any]:
        (top, left), (tall, wide) = (side.start for side in place), pixels.shape
        if polygons:
            found = outlines(pixels)
            segmentation: Any = [[number for x, y in one for number in (x + left, y + top)] for one in found]
        else:
            code = self._masks.frPyObjects({"size": list(size), "counts": _run_lengths(place, pixels, size)}, *size)
            segmentation = {"size": code["size"], "counts": code["counts"].decode("ascii")}
        box = [float(side) for side in (left, top, wide, tall)]
        return {"segmentation": segmentation, "area": int(pixels.sum()), "bbox": box, "iscrowd": 0}


def number_categories(class_names: Sequence[str], known: Mapping[str, int]) -> list[int]:
    """The category ids of the classes: the ``known`` ones; the other classes are numbered from the largest + 1.

    >>> number_categories(["dog", "unicorn", "toothbrush"], {"dog": 18, "toothbrush": 90, "car": 3})
    [18, 91, 90]
    >>> number_categories(["dog", "cat"], {})
    [1, 2]
    """
    free = count(max(known.values(), default=0) + 1)
    return [known[name] if name in known else next(free) for name in class_names]


def _cropped(pixels: NDArray[np.bool_]) -> tuple[Place, NDArray[np.bool_]]:
    """The bounding box of ``pixels``, of which there are some, and the pixels inside it."""
    (place,) = ndimage.find_objects(pixels.view(np.uint8))
    return place, pixels[place]


def _run_lengths(place: Place, pixels: NDArray[np.bool_], size: tuple[int, ...]) -> list[int]:
    """The run lengths of COCO's RLE: alternating runs outside and inside the region, column by column."""
    height, width = size
    columns = np.zeros((pixels.shape[1], height), bool)  # only the region's columns, because there may be many regions
    columns[:, place[0]] = pixels.T
    turns = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + place[1].start * height
    lengths: list[int] = np.diff(turns, prepend=0, append=height * width).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def _image_ids(source: str | tuple[str, ...]) -> sqlite3.Connection | None:
    """A temporary database of COCO's image ids by our ids; None if the source is not COCO."""
    if not isinstance(source, str) or not source.startswith("coco:"):
        return None
    database = temporary_database()
    database.execute("CREATE TABLE image (id BLOB PRIMARY KEY, number TEXT) WITHOUT ROWID")
    with transaction(database, "the ids of COCO's images"):
        rows = (
            (encode_name(name), json.dumps(number)) for name, number in read_image_ids(source.removeprefix("coco:"))
        )
        database.executemany("INSERT OR IGNORE INTO image VALUES (?, ?)", rows)
    return database


def _pycocotools() -> Any:
    try:
        return importlib.import_module("pycocotools.mask")
    except ImportError as error:
        raise CocoError(f"--to coco needs pycocotools ({error}): {install_hint('coco')}") from error
