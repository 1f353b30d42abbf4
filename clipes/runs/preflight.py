"""What is checked before the first image: labels, ids, and that nothing foreign in the output folder is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from clipes.datasets import Sample
from clipes.ids import CLASSES
from clipes.io.atomic import HOST, is_alive
from clipes.io.paths import source_would_match
from clipes.store.manifest import NAME, read_manifest
from clipes.store.output import RESERVED, SAVED, SHARD, Output, is_run_mask, new_sink
from clipes.store.record import FOLDER as RECORDS
from clipes.store.record import NAME as RECORD_NAME

_RECORD = re.compile(rf"{RECORD_NAME}\.jsonl")
_ANY = "masks-20261122T000000.000000-00000000-1-00000000"


def check_folder(
    source: str | os.PathLike[str], samples: Iterable[Sample], output: Output, overwrite: bool = False
) -> None:
    """Raise ValueError if masks in the folder would replace what no run wrote, or later be taken for images of
    ``source``, or if two of them cannot be there together; NotADirectoryError if the folder is a file. With
    ``overwrite``, what a run wrote there may be broken, but none may be writing now.
    """
    folder = output.folder
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder} is a file; give a folder for the masks")
    check_ours(folder, overwrite)
    root, would_be_found = folder.resolve(), source_would_match(Path(source))
    sink = new_sink(output, _ANY)
    inner: set[str] = set()  # ids of masks in whose place a folder is needed: of a.png/b that is a
    for sample in samples:
        if would_be_found(root / (f"{sample.id}.png" if output.format == "png" else f"{_ANY}-000000.tar")):
            raise ValueError(
                f"the output folder {folder} lies in the source {source}, so that the next run would take "
                "the masks for images; choose a folder outside it"
            )
        try:
            sink.check(sample)
        except (ValueError, OSError) as error:
            raise ValueError(f"{sample.image}: {error}") from error
        if ".png/" in sample.id and output.format == "png":
            inner.update(sample.id[: match.start()] for match in re.finditer(r"\.png/", sample.id))
    clash = next((sample for sample in samples if sample.id in inner), None) if inner else None
    if clash:
        raise ValueError(f"{clash.image}: its mask {clash.id}.png would have to be a folder, too; rename it")


def check_ours(folder: Path, overwrite: bool = False) -> None:
    """ValueError if something that no run wrote has the name of what runs write, or, to ``overwrite``, if a process
    of this machine is writing there.
    """
    taken = [name for name in RESERVED if os.path.lexists(folder / name)]
    if overwrite and RECORDS in taken:
        _check_quiet(folder)
    elif os.path.lexists(folder / NAME):  # asked last: a run that begins just now writes it first
        read_manifest(folder)
    elif taken:
        raise ValueError(f"{folder / taken[0]} is not of an earlier run; choose another folder for the masks")


def _check_quiet(folder: Path) -> None:
    for match in map(_RECORD.fullmatch, os.listdir(folder / RECORDS)):
        if match and match["host"] == HOST and int(match["pid"]) != os.getpid() and is_alive(int(match["pid"])):
            raise ValueError(f"{folder}: process {match['pid']} is writing there; stop it before --overwrite")


def clear(folder: Path) -> None:
    """Remove what runs have written to ``folder``: their masks and .tar shards, what is beside the masks, records.

    Masks are known by their mark, so that none is forgotten whose run was killed before its row. Stopped half-way, it
    can be called again. Other files stay.
    """
    for path in folder.rglob("*.png"):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name.partition("/")[0] not in SAVED and is_run_mask(path):
            for kind, suffix in SAVED.items():
                (folder / kind / f"{name}{suffix}").unlink(missing_ok=True)
            path.unlink()
    for path in folder.glob("masks-*.tar"):
        if SHARD.fullmatch(path.name):
            path.unlink()
    for name in os.listdir(folder / RECORDS) if os.path.isdir(folder / RECORDS) else ():
        if _RECORD.fullmatch(name):
            (folder / RECORDS / name).unlink()
    for name in (NAME, CLASSES):
        (folder / name).unlink(missing_ok=True)
    for name in (RECORDS, *SAVED):
        for inner, _, _ in os.walk(folder / name, topdown=False):
            with suppress(OSError):  # not empty: others' files stay
                os.rmdir(inner)
