"""The reader of each kind of source."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clipes.io.paths import as_spelled, list_sources

from .class_folders import read_class_folders
from .coco import read_coco
from .files import find_files
from .imagefolder import find_metadata, read_metadata
from .sample import AnySource, RawSample
from .several import find_several
from .source_spec import split_file, split_root
from .table_format import DEFAULT_FORMAT, TableFormat
from .tar import is_tar, read_shards
from .voc import find_list, find_voc, read_voc


class Source(NamedTuple):
    """The images of a source, COCO's ids of its classes, and what of it is left out, a sentence each."""

    images: Iterator[RawSample]
    category_ids: dict[str, int] | None = None
    notes: Sequence[str] = ()


def open_source(
    source: AnySource, labelled: bool, class_names: Sequence[str] | None, table: TableFormat = DEFAULT_FORMAT
) -> Source:
    """Return the images of a source, lazily; if `labelled`, with the labels that the source has.

    A listed image that does not exist as it is spelled is found where its name in another form of Unicode does.
    """
    sources = list_sources(source)
    if len(sources) == 1:
        opened = _opened(sources[0], labelled, class_names, table)
    elif all(map(is_tar, sources)):
        shards = (read_shards(one, labelled, class_names, table) for one in sources)
        opened = Source(itertools.chain.from_iterable(shards))
    else:
        opened = Source(find_several(sources))
    return opened._replace(images=map(_as_spelled, opened.images))


def _as_spelled(image: RawSample) -> RawSample:
    if not image.listed or str(image.image).isascii() or not isinstance(image.image, Path):
        return image
    return image._replace(image=Path(as_spelled(str(image.image))))


def _opened(given: str, labelled: bool, class_names: Sequence[str] | None, table: TableFormat) -> Source:
    if given.startswith("voc:"):
        return Source(read_voc(given.removeprefix("voc:"), labelled))
    if given.startswith("coco:"):
        return Source(*read_coco(given.removeprefix("coco:")))
    if given.startswith("folders:"):
        return Source(read_class_folders(given.removeprefix("folders:")))
    if is_tar(given):
        return Source(read_shards(given, labelled, class_names, table))
    if labelled and (tables := find_metadata(Path(given))):
        return Source(read_metadata(Path(given), tables, class_names, table))
    return Source(find_files(Path(given), table))


def absolute_source(source: AnySource) -> str | tuple[str, ...]:
    """Return the source independent of the working directory: ROOT of `voc:ROOT:SPLIT`, and SPLIT if a path, absolute;
    so are FILE and IMAGES of `coco:FILE:IMAGES`, and ROOT of `folders:ROOT`.

    Raises FileNotFoundError for a ROOT or a SPLIT that does not exist.
    """
    sources = tuple(map(_absolute, list_sources(source)))
    return sources[0] if len(sources) == 1 else sources


def _absolute(given: str) -> str:
    kind, colon, rest = given.partition(":")
    if f"{kind}{colon}" == "folders:":
        return f"folders:{os.path.abspath(rest)}"
    if f"{kind}{colon}" not in ("voc:", "coco:"):
        return os.path.abspath(given)
    if kind == "coco" and (found := split_file(rest)):
        return ":".join(("coco", *(os.path.abspath(path) for path in found if path is not None)))
    root, split = split_root(kind, rest)
    if kind == "voc" and split is not None and find_list(find_voc(root), split) == Path(split):
        split = os.path.abspath(split)
    return ":".join((kind, os.path.abspath(root), *([] if split is None else [split])))
