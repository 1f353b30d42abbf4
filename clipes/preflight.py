"""What is checked before the first image: labels, ids, and that nothing foreign in the output folder is touched."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from clipes.datasets import Sample
from clipes.manifest import NAME, read_manifest
from clipes.output import SAVED, FolderSink, Output, beside, inside, mask_path
from clipes.record import FOLDER, read_records
from clipes.vocabulary import Vocabulary

CLASSES = "classes.json"
OURS = (NAME, CLASSES, FOLDER, *SAVED)
"""What a run writes beside the masks."""


def check_labels(samples: Iterable[Sample], vocabulary: Vocabulary, skip_unknown: bool = False) -> tuple[int, str]:
    """Raise ValueError for the first label that is no class, with near names and where it was read.

    With ``skip_unknown`` such images are counted; returns how many there are, and what is wrong with the first.
    """
    known, count, first = frozenset(vocabulary.class_names), 0, ""
    for sample in samples:
        try:
            vocabulary.ids(sample.labels)
        except ValueError as error:
            message = f"{sample.origin}: {error}" if sample.origin else str(error)
            if not skip_unknown or known.issuperset(sample.labels):
                raise ValueError(message) from error
            count, first = count + 1, first or message
    return count, first


def check_folder(
    source: str | os.PathLike[str], samples: Iterable[Sample], folder: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Raise ValueError if masks in ``folder`` would replace what no run wrote, or later be taken for images of
    ``source``; NotADirectoryError if ``folder`` is a file. With ``overwrite``, what a run wrote there may be broken.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder} is a file; give a folder for the masks")
    ours = is_ours(Path(folder), overwrite)
    root, would_be_found = Path(folder).resolve(), finder(Path(source))
    sink = FolderSink(Output(Path(folder)))
    empty = not os.path.isdir(folder) or not any(os.scandir(folder))
    for sample in samples:
        first, _, rest = sample.id.partition("/")
        if first in (*SAVED, FOLDER) and rest:
            raise ValueError(
                f"{sample.image}: in the output, {first}/ is for what is saved beside the masks; rename the folder, or "
                "run it by itself"
            )
        if would_be_found(root / f"{sample.id}.png"):
            raise ValueError(
                f"the output folder {folder} lies in the source {source}, so that the next run would take "
                "the masks for images; choose a folder outside it"
            )
        if not empty:
            try:
                sink.check(sample)
            except ValueError as error:
                raise ValueError(f"{sample.image}: {error}") from error
            path = mask_path(sample.id, folder)
            if os.path.lexists(path):
                ours = ours or is_ours(Path(folder), overwrite)  # a run may have begun since
                if path.is_symlink() or not path.is_file() or not ours:
                    raise ValueError(f"{path} exists and is no mask of an earlier run; choose another folder")


def is_ours(folder: Path, overwrite: bool = False) -> bool:
    """Whether a run has written to ``folder``; ValueError if something else has the name of what runs write."""
    taken = [name for name in OURS if os.path.lexists(folder / name)]
    if os.path.lexists(folder / NAME):  # asked last: a run that begins just now writes it first
        try:
            read_manifest(folder)
        except ValueError:
            if not overwrite or not os.path.isdir(folder / FOLDER):
                raise
        return True
    if taken and not (overwrite and FOLDER in taken):
        raise ValueError(f"{folder / taken[0]} is not of an earlier run; choose another folder for the masks")
    return bool(taken)


def finder(source: Path) -> Callable[[Path], bool]:
    """Return a function that says whether a resolved path would be among the images of a folder or a pattern."""
    if source.is_dir():
        root = source.resolve()
        return lambda path: path.is_relative_to(root)
    if source.exists() or not glob.has_magic(str(source)):
        return lambda path: False
    fixed = list(takewhile(lambda part: not glob.has_magic(part), source.parts))
    base, rest = Path(*fixed).resolve(), source.parts[len(fixed) :]
    if "**" in rest:
        return lambda path: path.is_relative_to(base) and path.match(rest[-1])
    pattern = os.sep.join((glob.escape(str(base)), *rest))
    return lambda path: path.match(pattern)


def clear(folder: str | os.PathLike[str]) -> None:
    """Remove what runs have written to ``folder``: the masks that their records name, what is beside them, the
    records themselves. Stopped half-way, it can be called again.

    Raises ValueError for a broken record, or one that names files outside the folder.
    """
    folder = Path(folder)
    for record in read_records(folder):
        for row in record.rows():
            if row.shard is not None:
                places = [inside(folder / Path(row.shard).name, folder)]
            else:
                places = [mask_path(row.id, folder), *beside(row.id, folder).values()]
            for place in places if row.status == "ok" else ():
                place.unlink(missing_ok=True)
    for record in read_records(folder):
        record.path.unlink()
    for name in (NAME, CLASSES):
        (folder / name).unlink(missing_ok=True)
    for name in (FOLDER, *SAVED):
        for inner, _, _ in os.walk(folder / name, topdown=False):
            with suppress(OSError):  # not empty: others' files stay
                os.rmdir(inner)
