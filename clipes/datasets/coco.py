"""COCO: images and labels of an `instances_SPLIT.json`, or of any JSON of its form; polygons are dropped at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from clipes.io.paths import as_spelled

from .layouts import likely_source
from .sample import DatasetError, RawSample, clean_labels, without_suffix
from .source_spec import split_file, split_root


class _Annotation(NamedTuple):
    image_id: Any
    category_id: Any


class Coco(NamedTuple):
    """The images of a file, in its order, the ids of its categories by their names, and what was left out."""

    images: Iterator[RawSample]
    category_ids: dict[str, int]
    notes: list[str]


_KEPT = frozenset({"id", "name", "file_name", "images", "annotations", "categories"})
_LOOKED_AT = 100  # images, to find the folder that holds them


def read_coco(spec: str) -> Coco:
    """Read `ROOT[:SPLIT]` or `FILE.json[:IMAGES]`.

    Of ROOT, the file is ROOT/annotations/instances_SPLIT.json, SPLIT its only one if not given; images lie in
    ROOT/SPLIT, ROOT/images/SPLIT, ROOT/images or ROOT. FILE.json is any file of the same form; images lie in the folder
    IMAGES, by default in one of those, in FILE's folder or in `images` in that. Labels are the names of all annotations
    of an image, crowds too, in order. Ids that differ in their type alone (1, "1", 1.0) are one.
    """
    file, folders = _locate(spec)
    data = _read(file)
    categories, notes = _categories(file, data["categories"], data["annotations"])
    names = {number: name for name, number in categories.items()}
    labels = _labels(file, data["images"], data["annotations"], names)
    folder = _image_folder(folders, data["images"])
    return Coco(_images(file, folder, data["images"], labels), categories, notes)


def read_image_ids(spec: str) -> Iterator[tuple[str, int | str]]:
    """The id of each image of a `coco:` source, as a sample, and its `id` in the JSON, in the file's order."""
    file, _ = _locate(spec)
    for place, image in enumerate(_read(file)["images"]):
        number = _image_id(file, place, image)
        yield without_suffix(_name(image)), image["id"] if isinstance(image["id"], str) else number


def _locate(spec: str) -> tuple[Path, list[Path]]:
    """The file of a source, and the folders that may hold its images."""
    if found := split_file(spec):
        file, images = found
        if images is None:
            return file, [*(_usual_folders(file.parent.parent, file)), file.parent, file.parent / "images"]
        if not os.path.isdir(images):
            raise FileNotFoundError(f"coco: no such folder of images: {images!r}; write coco:{file}:IMAGES")
        return file, [Path(images), Path(images).parent]
    if not os.path.isdir(spec) and (named := re.match(r".*\.json(?=:|$)", spec)):
        raise FileNotFoundError(f"coco: no such file: {named[0]!r}; write coco:FILE.json or coco:FILE.json:IMAGES")
    root, split = split_root("coco", spec)
    file = _instances(root, split)
    return file, _usual_folders(root, file)


def _usual_folders(root: Path, file: Path) -> list[Path]:
    if file.parent != root / "annotations":
        return []
    split = file.stem.removeprefix("instances_")
    return [root / split, root / "images" / split, root / "images", root]


def _instances(root: Path, split: str | None) -> Path:
    folder = root / "annotations"
    files = sorted(folder.glob("instances_*.json"))
    if split is None and len(files) == 1:
        return files[0]
    file = folder / f"instances_{split}.json"
    if split is None or not file.is_file():
        splits = ", ".join(path.stem.removeprefix("instances_") for path in files) or "none"
        wanted = "no split is given" if split is None else f"no {file}"
        others = [] if files else [str(path) for pattern in _OTHERS for path in islice(sorted(root.glob(pattern)), 3)]
        cure = f"write coco:FILE.json, of {', '.join(others)}" if others else "write coco:ROOT:SPLIT or coco:FILE.json"
        if (likely := likely_source(root)) and not likely.startswith("coco:"):
            cure += f", or {likely}, which it looks like"
        raise FileNotFoundError(f"coco: {wanted}; splits in {folder}: {splits}; {cure}")
    return file


_OTHERS = ("annotations/*.json", "*.json", "*/*.coco.json", "*/result.json")  # of CVAT, Roboflow, Label Studio


def _kept(pairs: list[tuple[str, Any]]) -> Any:
    """Return the part of a JSON object that is used: polygons, boxes, licences and the like are dropped."""
    value = dict(pairs)
    if "image_id" in value:
        return _Annotation(value["image_id"], value.get("category_id"))
    return {name: kept for name, kept in value.items() if name in _KEPT}


def _read(file: Path) -> dict[str, list[Any]]:
    try:
        with open(file, encoding="utf-8-sig") as opened:
            data = json.load(opened, object_pairs_hook=_kept)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DatasetError(f"{file}: broken JSON: {error}") from error
    if not isinstance(data, dict) or not all(
        isinstance(data.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DatasetError(f"{file}: not COCO's form: an object with lists 'images', 'annotations' and 'categories'")
    return data


def _categories(file: Path, categories: list[Any], annotations: list[Any]) -> tuple[dict[str, int], list[str]]:
    """The ids by their names, and a note on each category that is left out.

    Of several categories of one name, those that no annotation uses are left out: Roboflow's root category.
    """
    used = {_one_id(one.category_id) for one in annotations if isinstance(one, _Annotation) and _is_id(one.category_id)}
    found: dict[int, str] = {}
    for place, category in enumerate(categories):
        where = f"{file}, category {place}"
        number = _one_id(category.get("id")) if isinstance(category, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or "name" not in category:
            raise DatasetError(f"{where}: not an object with a whole 'id' and a 'name': {_shown(category)}")
        (name,) = clean_labels([category["name"]], where)
        if found.setdefault(number, name) != name:
            raise DatasetError(f"{where}: the id {number} is that of {found[number]!r}, too; change one")
    ids: dict[str, int] = {}
    notes = []
    for number, name in found.items():
        other = ids.setdefault(name, number)
        if other == number:
            continue
        if {other, number} <= used:
            raise DatasetError(f"{file}: the categories {other} and {number} are both called {name!r}; rename one")
        ids[name], unused = (other, number) if other in used else (number, other)
        notes.append(
            f"{file}: the category {unused}, which no annotation uses, is left out: {ids[name]} is {name!r}, too"
        )
    return ids, notes


def _labels(
    file: Path, images: list[Any], annotations: list[Any], names: dict[int, str]
) -> dict[int | str, dict[str, None]]:
    """Return the labels of each image that has any, by its id; a dict holds each label once, in order."""
    known: dict[int | str, str] = {}
    for place, image in enumerate(images):
        number = _image_id(file, place, image)
        if known.setdefault(number, image["file_name"]) != image["file_name"]:
            raise DatasetError(
                f"{file}, image {place}: the id {image['id']!r} is that of {known[number]!r}, too; change one"
            )
    labels: dict[int | str, dict[str, None]] = {}
    for place, annotation in enumerate(annotations):
        where = f"{file}, annotation {place}"
        if not isinstance(annotation, _Annotation) or not _is_id(annotation.image_id):
            raise DatasetError(f"{where}: not an object with 'image_id' and 'category_id': {_shown(annotation)}")
        number = _one_id(annotation.image_id)
        if number not in known:
            raise DatasetError(f"{where}: there is no image of id {_unlike(annotation.image_id, known)}")
        if not _is_id(annotation.category_id) or _one_id(annotation.category_id) not in names:
            raise DatasetError(f"{where}: there is no category of id {_unlike(annotation.category_id, names)}")
        labels.setdefault(number, {})[names[_one_id(annotation.category_id)]] = None
    return labels


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str | float)


def _one_id(value: Any) -> Any:
    """The same value for ids that differ in their type alone: 1 of 1, "1" and 1.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 and str(int(value)) == value:
        return int(value)
    return value


def _unlike(value: Any, known: Iterable[Any]) -> str:
    """An id that is not among those known, with its type where theirs is another."""
    kinds = sorted({type(one).__name__ for one in known})
    if not kinds or type(_one_id(value)).__name__ in kinds:
        return repr(value)
    return f"{value!r}, of type {type(value).__name__}; theirs are of type {' and '.join(kinds)}"


def _shown(value: Any) -> str:
    return (repr(value._asdict()) if isinstance(value, _Annotation) else repr(value))[:200]


def _image_id(file: Path, place: int, image: Any) -> int | str:
    number = _one_id(image.get("id")) if isinstance(image, dict) else None
    if not isinstance(number, int | str) or not _is_name(image):
        raise DatasetError(f"{file}, image {place}: not an object with an 'id' and a 'file_name': {_shown(image)}")
    return number


def _is_name(image: dict[str, Any]) -> bool:
    name = image.get("file_name")
    return isinstance(name, str) and bool(name.strip())


def _name(image: dict[str, Any]) -> str:
    """The name of an image's file, with forward slashes: files written on Windows have others."""
    name: str = image["file_name"].strip()
    return name if "/" in name else name.replace("\\", "/")


def _image_folder(folders: list[Path], images: list[Any]) -> Path:
    """The first of the folders that holds one of the first images; where none does, the first that is there."""
    names = [_name(image) for image in images[:_LOOKED_AT]]
    held = (folder for name in names for folder in folders if os.path.isfile(as_spelled(str(folder / name))))
    return next(held, None) or next(folder for folder in folders if folder.is_dir())


def _images(
    file: Path, folder: Path, images: Iterable[Any], labels: dict[int | str, dict[str, None]]
) -> Iterator[RawSample]:
    for place, image in enumerate(images):
        where = f"{file}, image {place}"
        name = _name(image)
        yield RawSample(name, folder / name, tuple(labels.get(_one_id(image["id"]), ())), where, where)
