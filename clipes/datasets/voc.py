"""PASCAL VOC: a split's list of ids, labels from the annotations' XML or from the lists of each class.

Labels are never read from masks, because weak supervision may only see image-level labels.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from clipes.io.kinds import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from clipes.io.paths import as_spelled

from .layouts import likely_source
from .sample import DatasetError, RawSample, check_id, clean_labels
from .source_spec import split_root
from .tables import read_lines

_LISTS = ("Segmentation", "Main", "SegmentationAug")
_SUFFIXES = [
    written
    for suffix in (".jpg", ".jpeg", ".png", *sorted(IMAGE_SUFFIXES), *sorted(UNREAD_SUFFIXES))
    for written in (suffix, suffix.upper())
]
_LARGEST_XML = 10_000_000  # bytes; VOC's largest has 20,000


def read_voc(spec: str, labelled: bool) -> Iterator[RawSample]:
    """Yield the images of `ROOT[:SPLIT]`; labels are read if `labelled`.

    ROOT holds JPEGImages, or one folder that does; an image is ID.jpg, else ID with another suffix. SPLIT (default
    `train`) names a list under ImageSets, or is the path of one: a line is an id, or begins with the path of an image
    under JPEGImages. Labels are those of all objects of Annotations/ID.xml, difficult ones too, in order; where there
    is none, the classes whose list ImageSets/Main/CLASS_SPLIT.txt (else CLASS_trainval.txt) says 1, or 0, which is
    difficult.
    """
    root, split = split_root("voc", spec)
    root = find_voc(root)
    listed = find_list(root, split or "train")
    labels = _labels(root, listed.stem)
    for line, content in enumerate(read_lines(listed), start=1):
        if not content.strip():
            continue
        where = f"{listed}, line {line}"
        name, voc_id = _image(root / "JPEGImages", content, where)
        own_labels, origin = labels(voc_id, where) if labelled else (None, "")
        yield RawSample(name, root / "JPEGImages" / name, own_labels, origin, where)


def find_voc(root: Path) -> Path:
    """The folder that holds JPEGImages: `root`, or the only one in it. Raises DatasetError where there is none."""
    if (root / "JPEGImages").is_dir():
        return root
    inside = sorted(path.parent for path in root.glob("*/JPEGImages") if path.is_dir())
    if len(inside) != 1:
        names = f"the folders {', '.join(path.name for path in inside)} do" if inside else "no folder in it does"
        likely = likely_source(root)
        other = f", or {likely}, which it looks like" if likely else ""
        raise DatasetError(
            f"voc: {root} holds no JPEGImages, and {names}; give the one folder that does (VOC2012){other}"
        )
    return inside[0]


def find_list(root: Path, split: str) -> Path:
    """The list of a split: one under ImageSets, else the path `split`. Raises FileNotFoundError for neither."""
    places = [root / "ImageSets" / folder / f"{split}.txt" for folder in _LISTS]
    file = next((path for path in (*places, Path(split)) if os.path.isfile(path)), None)
    if file is None:
        known = ", ".join(sorted(path.stem for path in places[0].parent.glob("*.txt"))) or "none"
        raise FileNotFoundError(
            f"voc: no split {split!r}: neither a file of that path nor a list in ImageSets/{{{','.join(_LISTS)}}}; "
            f"in {_LISTS[0]}: {known}"
        )
    return file


def _image(folder: Path, line: str, where: str) -> tuple[str, str]:
    """The image's path under JPEGImages, and its id, of an id or of SBD's `/JPEGImages/x.jpg /SegmentationClass/x.png`.

    Where the file is not there, one with another suffix is taken; where there is none, the name is that of a .jpg.
    """
    first = line.split()[0].rpartition("JPEGImages/")[2].lstrip("/")
    stem, suffix = os.path.splitext(first)
    voc_id = stem if suffix.lower() in IMAGE_SUFFIXES | UNREAD_SUFFIXES else first
    check_id(voc_id, where)
    named = first if voc_id != first else f"{first}.jpg"
    places = (named, *(f"{voc_id}{suffix}" for suffix in _SUFFIXES))
    return next((name for name in places if os.path.isfile(as_spelled(str(folder / name)))), named), voc_id


def _labels(root: Path, split: str) -> Callable[[str, str], tuple[tuple[str, ...] | None, str]]:
    """Return a function from an id, and where it is named, to its labels and where they are from.

    Where there are none, it returns None and what was looked for.
    """
    lists: dict[str, list[str]] | None = None

    def labels(voc_id: str, where: str) -> tuple[tuple[str, ...] | None, str]:
        nonlocal lists
        xml = Path(as_spelled(str(root / "Annotations" / f"{voc_id}.xml")))
        if os.path.isfile(xml):
            return _xml_labels(xml), str(xml)
        if lists is None:
            lists = _class_lists(root / "ImageSets" / "Main", split)
        if voc_id not in lists:
            return None, (
                f"{where}: no labels of {voc_id!r}: neither {xml} nor lists of classes in "
                f"{root / 'ImageSets' / 'Main'} that name it; give a labels file"
            )
        return tuple(lists[voc_id]), str(root / "ImageSets" / "Main")

    return labels


def _xml_labels(path: Path) -> tuple[str, ...]:
    if path.stat().st_size > _LARGEST_XML:
        raise DatasetError(f"{path}: {path.stat().st_size} bytes are too many for a VOC annotation; remove it")
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two for strange encodings
        raise DatasetError(f"{path}: broken XML: {error}") from error
    if root.tag != "annotation":
        raise DatasetError(f"{path}: its root is <{root.tag}>, not <annotation>; it is not a VOC annotation")
    return clean_labels([element.findtext("name") or "" for element in root.iterfind("object")], str(path))


def _class_lists(folder: Path, split: str) -> dict[str, list[str]]:
    """Return the labels of every id in the lists of classes, in the classes' order; empty without lists."""
    files = next(filter(None, (sorted(folder.glob(f"*_{glob.escape(one)}.txt")) for one in (split, "trainval"))), [])
    labels: dict[str, list[str]] = {}
    for file in files:
        name = file.stem.removesuffix(f"_{split}").removesuffix("_trainval")
        for line, content in enumerate(read_lines(file), start=1):
            cells = content.split()
            if not cells:
                continue
            if len(cells) != 2 or cells[1] not in ("1", "0", "-1"):
                raise DatasetError(f"{file}, line {line}: {content.strip()!r} is not an id and 1, 0 or -1")
            present = labels.setdefault(cells[0], [])
            if cells[1] != "-1" and name not in present:
                present.append(name)
    return labels
