"""The files of an image's regions: id PNGs, .npz, JSON of COCO's encodings, and the folders of SAM's ``amg.py``."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.datasets.sample import RegionPlace
from clipes.io.images import MAX_PIXELS
from clipes.io.masks import read_png
from clipes.io.npz import check_array_bytes

from .arrays import join_masks, region_ids

SUFFIXES = frozenset({".png", ".npz", ".json"})
"""The suffixes, in lower case, of files of one image's regions."""

AMG_TABLE = "metadata.csv"
"""What ``amg.py`` of Segment Anything writes into an image's folder last: a row for each mask ``0.png``, ..."""

_ID_MODES = ("P", "L", "I;16", "I;16B", "I")
_NAMES = ("regions", "masks")


def read_regions(
    path: str | os.PathLike[str] | RegionPlace, size: tuple[int, int], unsegmented: int = 0
) -> NDArray[np.int32]:
    """The regions of one image from a file or folder, as :func:`clipes.regions.region_ids` gives them.

    Args:
        path: a PNG of ids, 8 or 16 bits of grey or palette; an .npz whose array ``regions`` or ``masks``, or whose only
            array, has ids (H, W) or bool masks (n, H, W); a .json with COCO's annotations or RLEs, in a list or under
            ``annotations``; a folder of SAM's ``amg.py``; or a place in a JSON of many images.
        size: (H, W) of the picture.
        unsegmented: the id that means: in no region.

    Raises:
        ValueError: a file that is missing, broken, of another size or kind; the message names it.
        OSError: a file that cannot be read.
        ImportError: polygons, which pycocotools draws, without it.
    """
    place = path if isinstance(path, RegionPlace) else RegionPlace(Path(path))
    name = str(place.path)
    if place.entry is not None:
        return _from_json(json.loads(place.entry), size, name)
    if place.path.is_dir():
        return join_masks(_amg_masks(place.path), size, name)
    _check_file(place.path)
    suffix = place.path.suffix.lower()
    if suffix == ".png":
        cure = "holds colours, not ids of regions; save palette indices, or 8-bit or 16-bit grey"
        return region_ids(read_png(place.path, _ID_MODES, cure), size, unsegmented, name)
    if suffix == ".npz":
        return region_ids(_npz_array(place.path, size), size, unsegmented, name)
    if suffix == ".json":
        return _from_json(_json(place.path), size, name)
    raise ValueError(f"{name}: regions are a file of {', '.join(sorted(SUFFIXES))} or a folder of SAM's amg.py")


def regions_checksum(place: RegionPlace) -> str:
    """SHA-256 of what an image's regions are read from. ValueError or OSError where it cannot be read."""
    digest = hashlib.sha256()
    if place.entry is not None:
        digest.update(place.entry.encode())
    elif place.path.is_dir():
        for file in (place.path / AMG_TABLE, *_amg_files(place.path)):
            _check_file(file)
            digest.update(f"{file.name}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    else:
        _check_file(place.path)
        digest.update(place.path.read_bytes())
    return digest.hexdigest()


def _check_file(path: Path) -> None:
    """Raise ValueError for what is no ordinary file: a named pipe would be waited for without an end."""
    if not path.is_file():
        raise ValueError(f"{path}: {'not a file' if os.path.lexists(path) else 'no such file'}")


def _amg_files(folder: Path) -> list[Path]:
    """The masks that the table of a folder names. ValueError for a table that is missing or names none of its own."""
    if not os.path.lexists(folder / AMG_TABLE):
        raise ValueError(f"{folder}: no {AMG_TABLE}, which amg.py writes last; run it again for this image")
    _check_file(folder / AMG_TABLE)
    try:
        with open(folder / AMG_TABLE, encoding="utf-8", newline="") as table:
            names = [row["id"] for row in csv.DictReader(table)]
    except (KeyError, ValueError, csv.Error) as error:
        raise ValueError(f"{folder / AMG_TABLE}: no table of amg.py with a column 'id': {error}") from error
    if wrong := next((name for name in names if not (name and name.isascii() and name.isdigit())), None):
        raise ValueError(f"{folder / AMG_TABLE}: the id {wrong!r} is no whole number")
    return [folder / f"{name}.png" for name in names]


def _amg_masks(folder: Path) -> Iterator[NDArray[np.bool_]]:
    for file in _amg_files(folder):
        yield read_png(file, ("1", "L", "P"), "is no mask of amg.py, which is 8-bit grey") > 0


def _npz_array(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    most = max(8 * size[0] * size[1], MAX_PIXELS)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist()]
            name = next((name for name in _NAMES if name in names), names[0] if len(names) == 1 else "")
            if not name:
                raise ValueError(f"arrays {', '.join(names) or '(none)'}; call the one of the regions 'regions'")
            check_array_bytes(archive, name, most, "regions")
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[name])
    except Exception as error:  # numpy's and zipfile's parsers raise nearly anything on hostile bytes
        raise ValueError(f"{path}: no .npz of regions: {str(error) or type(error).__name__}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: broken JSON: {error}") from error


def _from_json(found: Any, size: tuple[int, int], name: str) -> NDArray[np.int32]:
    """The regions of COCO's annotations, of RLEs, or of an object with ``annotations``."""
    if isinstance(found, dict) and isinstance(found.get("annotations"), list):
        found = found["annotations"]
    if not isinstance(found, list):
        raise ValueError(f"{name}: not a list of COCO's annotations or RLEs, nor an object with 'annotations'")
    if wrong := next((one for one in found if not isinstance(one, dict)), None):
        raise ValueError(f"{name}: {str(wrong)[:100]} is no annotation and no RLE")
    return region_ids([_drawn(one, size, name) for one in found], size, name=name)


def _drawn(annotation: dict[str, Any], size: tuple[int, int], name: str) -> dict[str, Any]:
    """The RLE of an annotation, whose polygons are drawn as pycocotools draws them."""
    outline = annotation.get("segmentation", annotation)
    if not isinstance(outline, list):
        return annotation
    from clipes._version import install_hint

    try:
        from pycocotools import mask as coco  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"{name} holds polygons, which need pycocotools: {install_hint('coco')}") from error
    try:
        rle: dict[str, Any] = coco.merge(coco.frPyObjects(outline, *size))
    except Exception as error:  # it raises nearly anything for what is no polygon
        raise ValueError(f"{name}: {str(outline)[:100]} are no polygons: {error}") from error
    return rle
