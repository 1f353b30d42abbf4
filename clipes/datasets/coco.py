"""COCO: images and labels of an `instances_SPLIT.json`; polygons are dropped while it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .sample import DatasetError, RawSample, clean_labels, without_suffix
from .source_spec import split_root


class _Annotation(NamedTuple):
    image_id: Any
    category_id: Any


_KEPT = frozenset({"id", "name", "file_name", "images", "annotations", "categories"})


def read_coco(spec: str) -> tuple[Iterator[RawSample], dict[str, int]]:
    """The images of `ROOT[:SPLIT]`, in the file's order, and the categories' ids by their names.

    The file is ROOT/annotations/instances_SPLIT.json, SPLIT its only one if not given; images lie in ROOT/SPLIT,
    ROOT/images/SPLIT, ROOT/images or ROOT. Labels are the names of all annotations of an image, crowds too, in order.
    """
    root, split = split_root("coco", spec)
    file = _instances(root, split)
    data = _read(file)
    names = _category_names(file, data["categories"])
    labels = _labels(file, data["images"], data["annotations"], names)
    folder = _image_folder(root, file.stem.removeprefix("instances_"), data["images"][:1])
    return _images(file, folder, data["images"], labels), {name: category for category, name in names.items()}


def read_image_ids(spec: str) -> Iterator[tuple[str, int | str]]:
    """The id of each image of `ROOT[:SPLIT]`, as a sample, and its `id` in the JSON, in the file's order."""
    root, split = split_root("coco", spec)
    file = _instances(root, split)
    for place, image in enumerate(_read(file)["images"]):
        number = _image_id(file, place, image)
        yield without_suffix(image["file_name"].strip()), number


def _instances(root: Path, split: str | None) -> Path:
    folder = root / "annotations"
    files = sorted(folder.glob("instances_*.json"))
    if split is None and len(files) == 1:
        return files[0]
    file = folder / f"instances_{split}.json"
    if split is None or not file.is_file():
        splits = ", ".join(path.stem.removeprefix("instances_") for path in files) or "none"
        wanted = "no split is given" if split is None else f"no {file}"
        raise FileNotFoundError(f"coco: {wanted}; splits in {folder}: {splits}; write coco:ROOT:SPLIT")
    return file


def _kept(pairs: list[tuple[str, Any]]) -> Any:
    """Return the part of a JSON object that is used: polygons, boxes, licences and the like are dropped."""
    value = dict(pairs)
    if "image_id" in value:
        return _Annotation(value["image_id"], value.get("category_id"))
    return {name: value[name] for name in _KEPT & value.keys()}


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


def _category_names(file: Path, categories: list[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for place, category in enumerate(categories):
        where = f"{file}, category {place}"
        number = category.get("id") if isinstance(category, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or "name" not in category:
            raise DatasetError(f"{where}: not an object with a whole 'id' and a 'name'")
        (name,) = clean_labels([category["name"]], where)
        if number in names or name in names.values():
            raise DatasetError(f"{where}: the id {number} or the name {name!r} comes twice; rename one")
        names[number] = name
    return names


def _labels(
    file: Path, images: list[Any], annotations: list[Any], names: dict[int, str]
) -> dict[int | str, dict[str, None]]:
    """Return the labels of each image that has any, by its id; a dict holds each label once, in order."""
    known: dict[int | str, str] = {}
    for place, image in enumerate(images):
        number = _image_id(file, place, image)
        if known.setdefault(number, image["file_name"]) != image["file_name"]:
            raise DatasetError(
                f"{file}, image {place}: the id {number!r} is that of {known[number]!r}, too; change one"
            )
    labels: dict[int | str, dict[str, None]] = {}
    for place, annotation in enumerate(annotations):
        where = f"{file}, annotation {place}"
        if not isinstance(annotation, _Annotation) or not isinstance(annotation.image_id, int | str):
            raise DatasetError(f"{where}: not an object with 'image_id' and 'category_id'")
        if annotation.image_id not in known:
            raise DatasetError(f"{where}: there is no image of id {annotation.image_id!r}")
        if not isinstance(annotation.category_id, int) or annotation.category_id not in names:
            raise DatasetError(f"{where}: there is no category of id {annotation.category_id!r}")
        labels.setdefault(annotation.image_id, {})[names[annotation.category_id]] = None
    return labels


def _image_id(file: Path, place: int, image: Any) -> int | str:
    if not isinstance(image, dict) or not isinstance(image.get("id"), int | str) or not _is_name(image):
        raise DatasetError(f"{file}, image {place}: not an object with an 'id' and a 'file_name'")
    image_id: int | str = image["id"]
    return image_id


def _is_name(image: dict[str, Any]) -> bool:
    name = image.get("file_name")
    return isinstance(name, str) and bool(name.strip())


def _image_folder(root: Path, split: str, first: list[Any]) -> Path:
    """The first of the usual folders that holds the first image."""
    places = [root / split, root / "images" / split, root / "images", root]
    for image in first:
        for folder in places:
            if os.path.isfile(folder / image["file_name"]):
                return folder
    return next(folder for folder in places if folder.is_dir())


def _images(
    file: Path, folder: Path, images: Iterable[Any], labels: dict[int | str, dict[str, None]]
) -> Iterator[RawSample]:
    for place, image in enumerate(images):
        where = f"{file}, image {place}"
        name = image["file_name"].strip()
        yield RawSample(name, folder / name, tuple(labels.get(image["id"], ())), where, where)
