"""Several sources at once, as the shell makes them of a pattern without quotation marks: images, folders or shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from clipes.io.kinds import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from clipes.io.paths import as_spelled
from clipes.io.walk import walk_files

from .sample import DatasetError, RawSample

_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES


def find_several(sources: Sequence[str]) -> Iterator[RawSample]:
    """Yield the images of `sources`, images and folders, in their order, named relative to the folder of them all.

    Raises FileNotFoundError for one that does not exist, DatasetError for one that is neither.
    """
    sources = [as_spelled(one) for one in sources]
    for one in sources:
        if not os.path.lexists(one):
            raise FileNotFoundError(f"no such image or folder: {one!r}, one of {len(sources)} sources")
        if not os.path.isdir(one) and os.path.splitext(one)[1].lower() not in _SUFFIXES:
            raise DatasetError(
                f"{one}: one of {len(sources)} sources, and neither an image by its suffix nor a folder; leave it out, "
                "or put a pattern between quotation marks, which takes images alone"
            )
    return _images([os.path.abspath(one) for one in sources])


def _images(places: Sequence[str]) -> Iterator[RawSample]:
    root = os.path.commonpath([os.path.dirname(place) for place in dict.fromkeys(places)])
    for place in places:
        name = os.path.relpath(place, root).replace(os.sep, "/")
        if os.path.isdir(place):
            for file in walk_files(place, _SUFFIXES):
                yield RawSample(f"{name}/{file}", Path(place, file))
        else:
            yield RawSample(name, Path(place))
