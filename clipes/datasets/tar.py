"""Shards in WebDataset's layout: uncompressed .tar files, a sample the neighbouring members of one key."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from clipes.io.images import TarMember
from clipes.io.kinds import IMAGE_SUFFIXES
from clipes.io.paths import split_pattern

from .sample import DatasetError, RawSample, check_id
from .table_format import DEFAULT_FORMAT, TableFormat
from .tables import to_names
from .unread import is_unread

_TAR = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst)(\.\w+)?$", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LABELS = ("json", "cls", "txt")
_LARGEST = 1_000_000  # bytes of a member with labels


def is_tar(source: str) -> bool:
    """Whether a source is .tar files by its name, compressed ones too, which are refused when they are read."""
    return bool(_TAR.search(source)) and not os.path.isdir(source)


def read_shards(
    source: str, labelled: bool, class_names: Sequence[str] | None, table: TableFormat = DEFAULT_FORMAT
) -> Iterator[RawSample]:
    """Yield the images of shards, in their order. `source` is a file, a glob, or has ranges: `s-{000..012}.tar`.

    A key is a path up to the first dot of its last part. Its image has one of the known suffixes. Labels, read if
    `labelled`, are in `json` (a list, or an object with the list `labels`), else `cls` (indices or names, separated
    by `table.separator` or space), else `txt` (names, separated by it or by lines).
    """
    for path in _shards(source):
        if not path.is_file():  # a named pipe would wait for ever
            raise DatasetError(f"{path} is a folder, a pipe or a device; give a .tar file")
        with open(path, "rb") as file:
            for key, members in itertools.groupby(_members(path, file), key=lambda member: _key(member.name)):
                if key:
                    yield from _sample(key, list(members), file, labelled, class_names, table)


def _shards(source: str) -> Iterator[Path]:
    """Yield the files that a source names. Raises FileNotFoundError for one that does not exist."""
    for name in [source] if os.path.exists(source) else _expanded(source):
        if os.path.exists(name):
            yield Path(name)
            continue
        base, rest = split_pattern(Path(name))
        pattern = os.path.join(glob.escape(str(base)) if base.parts else "", *rest)
        files = sorted(glob.glob(pattern, recursive=True)) if rest else []
        if not files:
            raise FileNotFoundError(f"no such .tar file: {name}")
        yield from map(Path, files)


def _expanded(source: str) -> Iterator[str]:
    """Yield the names that ranges stand for: `s-{08..10}.tar` is s-08.tar, s-09.tar, s-10.tar."""
    match = _RANGE.search(source)
    if match is None:
        yield source
        return
    first, last = match.groups()
    if int(first) > int(last):
        raise DatasetError(f"{source}: the range {match[0]} runs backwards; write the smaller number first")
    for number in range(int(first), int(last) + 1):
        for rest in _expanded(source[match.end() :]):
            yield f"{source[: match.start()]}{number:0{len(first)}}{rest}"


def _members(path: Path, file: BinaryIO) -> Iterator[TarMember]:
    """Yield the files in a tar. Raises DatasetError for a tar that is compressed, damaged or cut off."""
    magic = file.read(6)
    file.seek(0)
    for start, kind in _MAGIC.items():
        if magic.startswith(start):
            raise DatasetError(f"{path}: compressed with {kind}, so that no image can be read by itself; decompress it")
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            empty = getattr(tar, "firstmember", tar) is None  # in Python 3.10 next() would seek to -1 then
            while not empty and (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # they would fill the memory
                if not info.isdir():
                    yield _member(path, info)
            end = tar.offset
    except (tarfile.TarError, ValueError, OSError, OverflowError, RecursionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: broken tar: {error}") from error
    file.seek(end)
    if file.read(512) != bytes(512):  # tarfile takes a broken header for the end
        raise DatasetError(f"{path}: broken tar: no end mark at byte {end}; it is cut off or damaged, make it again")


def _member(path: Path, info: tarfile.TarInfo) -> TarMember:
    where = f"{path}/{info.name}"
    if not info.isreg() or info.sparse is not None:
        kind = "sparse" if info.isreg() else "a link or a device"
        raise DatasetError(f"{where!r}: {kind}, not a plain file; pack the tar again, with --dereference")
    try:
        info.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where!r}: its name is not UTF-8; rename it") from error
    return TarMember(path, info.name, info.offset_data, info.size)


def _key(name: str) -> str:
    """`a/b` of `./a/b.seg.png`; empty for hidden files."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem = base.partition(".")[0]
    return stem and f"{folder}{slash}{stem}"


def _sample(
    key: str,
    members: list[TarMember],
    file: BinaryIO,
    labelled: bool,
    class_names: Sequence[str] | None,
    table: TableFormat,
) -> Iterator[RawSample]:
    """Yield the sample of one key, if one of its members is an image."""
    by_suffix: dict[str, TarMember] = {}
    for member in members:
        suffix = member.name.rpartition("/")[2].partition(".")[2].lower()
        if suffix in by_suffix:
            raise DatasetError(f"{member} comes twice; remove one")
        by_suffix[suffix] = member
    images = [suffix for suffix in by_suffix if f".{suffix}" in IMAGE_SUFFIXES]
    if not images:
        dotted = next((m for suffix, m in by_suffix.items() if f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES), None)
        if dotted:  # the shard's names have further dots: all its images would silently be left out
            raise DatasetError(f"{dotted}: its key ends at the first dot, {key!r}, and that has no image; rename it")
        yield from (RawSample(member.name, member) for member in by_suffix.values() if is_unread(member.name))
        return
    check_id(key, str(by_suffix[images[0]]))
    labels, origin = _labels(key, by_suffix, file, class_names, table) if labelled else (None, "")
    for suffix in images:  # several would become one mask: a row may say which is meant
        yield RawSample(f"{key}.{suffix}", by_suffix[suffix], labels, origin)


def _labels(
    key: str,
    members: Mapping[str, TarMember],
    file: BinaryIO,
    class_names: Sequence[str] | None,
    table: TableFormat,
) -> tuple[tuple[str, ...] | None, str]:
    """The labels of a sample and the member that holds them; None and what was looked for where there is none."""
    for suffix in _LABELS:
        if suffix in members:
            where = str(members[suffix])
            values = _values(suffix, _text(members[suffix], file), class_names, where, table)
            if values is not None:
                return to_names(values, class_names, where), where
    image = next(member for suffix, member in members.items() if f".{suffix}" in IMAGE_SUFFIXES)
    return None, f"{image}: no labels beside it; add {key}.json, .cls or .txt, or give a labels file"


def _text(member: TarMember, file: BinaryIO) -> str:
    if member.size > _LARGEST:
        raise DatasetError(f"{member}: {member.size} bytes are too many for labels; at most {_LARGEST} are read")
    file.seek(member.offset)
    data = file.read(member.size)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{member}: not UTF-8; save it as UTF-8") from error


def _values(
    suffix: str, text: str, class_names: Sequence[str] | None, where: str, table: TableFormat
) -> list[Any] | None:
    """The labels in a member; None for JSON about other things."""
    if suffix == "json":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: broken JSON: {error}") from error
        labels = value.get("labels") if isinstance(value, dict) else value
        if isinstance(labels, str):
            labels = table.split(labels)
        if labels is not None and not isinstance(labels, list):
            raise DatasetError(f"{where}: the labels are {labels!r}; write a list")
        return labels
    if suffix == "txt":
        return [name for line in re.split("[\r\n]", text) for name in table.split(line) if name.strip()]
    known = class_names or ()
    parts = [part.strip() for part in text.split(table.separator)]
    return [word for part in parts for word in ([part] if part in known else part.split())]
