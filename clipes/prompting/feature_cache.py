"""Which images an analysis of templates looks at, in chunks, and what is kept of each chunk on disk.

A chunk's file holds what was found for its images, under a key: the hash of all that it depends on, the images' sizes
and times among it. The key is its name and stands in it, too, so that a stale, foreign or broken file is never used. An
image that failed is not in it and is tried again. Any of these files may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes._version import __version__
from clipes.datasets import Sample
from clipes.io.atomic import atomic
from clipes.io.images import TarMember
from clipes.io.walk import walk_files
from clipes.vocabulary import Vocabulary, check_labels

SIZE = 64
"""Images in a chunk: what a run that is killed loses at most."""


@dataclass(frozen=True)
class Row:
    """An image, its labels' ids 1..K, and its truth file if it has one."""

    sample: Sample
    class_ids: tuple[int, ...]
    truth: Path | None

    @property
    def several(self) -> bool:
        """Whether it has the two labels or more without which there is no sharpness."""
        return len(self.class_ids) > 1

    @property
    def wanted(self) -> bool:
        """Whether it is looked at at all."""
        return self.several or self.truth is not None


def select_rows(
    samples: Iterable[Sample], vocabulary: Vocabulary, truth: str | os.PathLike[str] | None = None
) -> list[Row]:
    """Every sample with what is to be done with it; ``truth`` is a folder of PNG masks named by the images' ids.

    Without a background word nothing can be decided for a single label: such an image's truth is left out.

    Raises:
        ValueError: an unknown label; no image with two labels or more; no truth file with an image's name.
        FileNotFoundError, NotADirectoryError: ``truth`` is not there, or no folder.
    """
    samples = list(samples)
    decided = bool(vocabulary.background_names)
    known = (
        vocabulary if decided else replace(vocabulary, background_names=("any",))
    )  # one label alone is no error here
    check_labels(samples, known)
    truths = {} if truth is None else _truth_files(Path(truth))
    rows = []
    for sample in samples:
        ids = known.ids(sample.labels)
        rows.append(Row(sample, ids, truths.get(sample.id) if decided or len(ids) != 1 else None))
    if not any(row.several for row in rows):
        raise ValueError(
            f"none of {len(rows)} images has two labels or more, and the sharpness is how they share the probability; "
            "give images with more labels"
        )
    if truth is not None:
        _check_truth(Path(truth), rows)
    return rows


def chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in chunks of :data:`SIZE`; those without an image that is wanted are left out."""
    for start in range(0, len(rows), SIZE):
        chunk = rows[start : start + SIZE]
        if any(row.wanted for row in chunk):
            yield chunk


def features_key(chunk: Sequence[Row], settings: Any) -> str:
    """What image features depend on: the images and ``settings``, which JSON must hold."""
    return _digest("features", settings, [[row.sample.id, _stat(row.sample.image)] for row in chunk])


def counts_key(chunk: Sequence[Row], settings: Any) -> str:
    """What counts by the truth depend on, the templates apart: images, labels, truth files, ``settings``."""
    parts = [[row.sample.id, _stat(row.sample.image), row.class_ids, _stat(row.truth)] for row in chunk]
    return _digest("counts", settings, parts)


def read_chunk(folder: Path | None, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
    """The arrays that :func:`write_chunk` wrote under ``kind`` and ``key``; None if there are none, or not whole."""
    if folder is None or not (path := _path(folder, kind, key)).is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:  # zipfile's and numpy's readers raise nearly anything on broken bytes
        return None
    found = arrays.pop("key", None)
    return arrays if found is not None and found.shape == () and str(found) == key else None


def write_chunk(folder: Path | None, kind: str, key: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write the arrays of a chunk, whole or not at all; nothing without a folder."""
    if folder is not None:
        with atomic(_path(folder, kind, key)) as temporary:
            np.savez_compressed(temporary, key=np.array(key), **arrays)  # type: ignore[arg-type]


def _path(folder: Path, kind: str, key: str) -> Path:
    return folder / f"{kind}-{key[:32]}.npz"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([__version__, *parts], sort_keys=True).encode()).hexdigest()


def _stat(path: Path | TarMember | None) -> list[int] | None:
    """Size and time of a file, the place in its .tar if it is in one; None where there is none."""
    if isinstance(path, TarMember):
        return [*(_stat(path.tar) or ()), path.offset, path.size]
    try:
        found = os.stat(path) if path is not None else None
    except (OSError, ValueError):  # the reader will say what is wrong
        return None
    return found and [found.st_size, found.st_mtime_ns]


def _truth_files(truth: Path) -> dict[str, Path]:
    """The PNG files of a folder, by the ids of the images they belong to."""
    if not truth.exists():
        raise FileNotFoundError(f"no such folder of truth masks: {truth}")
    if not truth.is_dir():
        raise NotADirectoryError(f"{truth} is a file; give the folder of the truth masks")
    return {os.path.splitext(name)[0]: truth / name for name in walk_files(truth, (".png",))}


def _check_truth(truth: Path, rows: Sequence[Row]) -> None:
    if not any(row.truth for row in rows):
        raise ValueError(
            f"no truth mask has the name of an image: there is no {rows[0].sample.id}.png in {truth}, nor any other's; "
            "give the folder below which the names agree"
        )
