"""Which regions belong to which image of a data set: files matched to images by name, as rows of labels are."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from clipes.datasets.catalog import add_images, catalogue
from clipes.datasets.match import add_rows, match_images
from clipes.datasets.sample import DatasetError, LabelRow, RawSample, RegionPlace, Sample
from clipes.io.images import TarMember
from clipes.io.kinds import IMAGE_SUFFIXES
from clipes.io.tempdb import decode_name, encode_name
from clipes.io.walk import walk_files

from .files import AMG_TABLE, SUFFIXES

SampleT = TypeVar("SampleT", bound=Sample)


class FoundRegions:
    """The regions of the images of a data set, on disk until they are asked for. Made by :func:`find_regions`.

    Attributes:
        source: where they are.
        matched, missing: how many images have regions there, and how many have none.
        first_missing: the id of the first image without; empty where there is none.
        unused: how many files of regions, or images of a JSON, belong to no image.
    """

    def __init__(self, database: sqlite3.Connection, source: Path):
        self._database, self.source = database, source
        total, self.matched = database.execute("SELECT count(*), count(row) FROM sample").fetchone()
        self.missing: int = total - self.matched
        first = database.execute("SELECT id FROM sample WHERE row IS NULL ORDER BY position LIMIT 1").fetchone()
        self.first_missing = decode_name(first[0]) if first else ""
        self.unused: int = database.execute("SELECT count(*) FROM row WHERE NOT used").fetchone()[0]

    @property
    def notes(self) -> list[str]:
        """What will fail, and what is not used, a sentence each."""
        notes = []
        if self.missing:
            first = f"{self.first_missing!r} the first"
            notes.append(f"{self.missing} image(s) have no regions in {self.source} and will fail, {first}")
        if self.unused:
            notes.append(f"{self.unused} of the regions in {self.source} belong to no image")
        return notes

    def of(self, sample_id: str) -> RegionPlace:
        """Where the regions of an image are; a place that does not exist where it has none."""
        query = "SELECT row.labels FROM sample JOIN row ON row.position = sample.row WHERE id = ?"
        row = self._database.execute(query, (encode_name(sample_id),)).fetchone()
        return _place(json.loads(row[0])) if row else RegionPlace(self.source / f"{sample_id}.*")

    def added_to(self, samples: Iterable[SampleT]) -> Iterable[SampleT]:
        """The samples with the places of their regions, as :meth:`of` has them, each time they are asked for."""
        return _Added(self, samples)


class _Added(Iterable[SampleT]):
    def __init__(self, found: FoundRegions, samples: Iterable[SampleT]):
        self._found, self._samples = found, samples

    def __iter__(self) -> Iterator[SampleT]:
        for sample in self._samples:
            yield replace(sample, regions=self._found.of(sample.id))


def find_regions(samples: Iterable[Sample], source: Path) -> FoundRegions:
    """Match the regions of ``source`` to the images of ``samples``.

    ``source`` is a folder with a file, or a folder of SAM's ``amg.py``, for each image; or a JSON file in COCO's form.
    A file belongs to the image whose relative path it has, without the suffixes; other rules as of
    :func:`clipes.datasets.find_samples` for labels.

    Raises FileNotFoundError where there is no ``source``; ValueError for one without regions of any of the images, and
    for two files of one image.
    """
    with catalogue() as database:
        add_rows(database, _rows(source))
        images = (RawSample(f"{one.id}{_suffix(one)}", one.image, (), "", one.origin or one.id) for one in samples)
        add_images(database, str(source), images, None)
        match_images(database)
        found = FoundRegions(database, source)
        several = "SELECT labels FROM row WHERE json_array_length(labels) > 1 ORDER BY position LIMIT 1"
        if row := database.execute(several).fetchone():
            first, second = (json.loads(place)[0] for place in json.loads(row[0])[:2])
            raise DatasetError(f"{first} and {second} are both regions of one image; remove one")
        if not found.matched:
            named = database.execute("SELECT key FROM row ORDER BY position LIMIT 1").fetchone()
            what = f"it has some of {decode_name(named[0])!r}, for example" if named else "it has none at all"
            raise DatasetError(
                f"{source} has regions of none of the images, such as {found.first_missing!r}; {what}: regions are "
                f"named as the images are, with {', '.join(sorted(SUFFIXES))}, or are folders of SAM's amg.py"
            )
    return found


def _suffix(sample: Sample) -> str:
    """The suffix of the image; that of some image where it is not known."""
    name = sample.image.name if isinstance(sample.image, TarMember) else Path(sample.image).name
    suffix = Path(name).suffix
    return suffix if suffix.lower() in IMAGE_SUFFIXES else ".png"


def _place(labels: list[str]) -> RegionPlace:
    path, entry = json.loads(labels[0])
    return RegionPlace(Path(path), entry)


def _rows(source: Path) -> Iterator[LabelRow]:
    """A row for each image that ``source`` has regions of; its only label is the place of these."""
    if source.is_dir():
        return _rows_of_folder(source)
    if source.is_file() and source.suffix.lower() == ".json" and (rows := _rows_of_json(source)) is not None:
        return rows
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return iter([_row(source.stem, source)])
    if source.is_file():
        raise DatasetError(f"{source}: regions are a folder, or a file of {', '.join(sorted(SUFFIXES))}")
    raise FileNotFoundError(f"no such folder or file of regions: {source}")


def _row(name: str, path: Path, entry: str | None = None) -> LabelRow:
    return LabelRow(name, (json.dumps([str(path.absolute()), entry]),), str(path))


def _rows_of_folder(source: Path) -> Iterator[LabelRow]:
    if (source / AMG_TABLE).is_file():
        return iter([_row(source.absolute().name, source)])
    tables = (name.rpartition("/") for name in walk_files(source, {".csv"}))
    folders = {folder for folder, _, file in tables if file == AMG_TABLE and folder}
    files = (name for name in walk_files(source, SUFFIXES) if name.rpartition("/")[0] not in folders)
    of_files = (_row(name[: -len(Path(name).suffix)], source / name) for name in files)
    return chain((_row(folder, source / folder) for folder in sorted(folders)), of_files)


def _rows_of_json(source: Path) -> Iterator[LabelRow] | None:
    """The images of a JSON in COCO's form, or of a list of results with ``image_id``; None for that of one image."""
    try:
        found: Any = json.loads(source.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: broken JSON: {error}") from error
    annotations = found.get("annotations") if isinstance(found, dict) else found
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(annotations, list):
        raise DatasetError(f"{source}: not COCO's form: an object with lists 'images' and 'annotations'")
    if images is None and not all(isinstance(one, dict) and "image_id" in one for one in annotations):
        return None
    of_image: dict[str, list[Any]] = defaultdict(list)
    for number, one in enumerate(annotations):
        if not isinstance(one, dict) or "image_id" not in one:
            raise DatasetError(f"{source}, annotation {number}: no object with an 'image_id'")
        of_image[str(one["image_id"])].append(one.get("segmentation"))
    if images is None:
        return (_row(image, source, _entry(outlines)) for image, outlines in of_image.items())
    for number, image in enumerate(images):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise DatasetError(f"{source}, image {number}: no object with an 'id' and a 'file_name'")
    named = ((image["file_name"].replace("\\", "/"), of_image.get(str(image["id"]), [])) for image in images)
    return (_row(name, source, _entry(outlines)) for name, outlines in named)


def _entry(outlines: list[Any]) -> str:
    return json.dumps([{"segmentation": one} for one in outlines])
