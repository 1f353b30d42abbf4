"""Where the encoded files of images go: each a file of its own, or members of .tar files."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

from clipes.datasets import Sample
from clipes.io.atomic import atomic, owned, write_bytes
from clipes.io.retry import check_there, retried

from .layout import RESERVED, Kind, check_id, file_path, member_name
from .output import Output
from .row import Row

Files = Mapping[str, bytes]
"""The contents of an image's files by their :data:`clipes.store.layout.Kind`."""


class NotOurs(ValueError):
    """A file of others, or one that was edited, is where a mask would be written."""


class Writer:
    """Takes the files of images; this one those of images that have none.

    :meth:`check` and :meth:`write_files` may be called in threads, the rest in one.
    """

    def check(self, sample: Sample) -> None:
        """Raise ValueError if the sample's files would be outside the folder, or replace a file that is not ours."""
        check_id(sample.id)

    def write_files(self, image_id: str, files: Files) -> None:
        """Write the files of an image that are not members of a .tar; called in any order."""

    def append(self, row: Row, files: Files) -> list[Row]:
        """Add an image to the .tar, in the order of the calls; returns the rows of all images now complete on disk."""
        return [row]

    def discard(self, image_id: str) -> None:
        """Remove the separate files of an earlier run for an image that now has no mask."""

    def flush(self) -> list[Row]:
        """Close the .tar; returns the rows of its images."""
        return []


def new_writer(output: Output, name: str) -> Writer:
    """The writer of ``output``; the names of its .tar files start with ``name``."""
    if output.format == "none":
        return Writer()
    return FolderWriter(output) if output.format == "png" else TarWriter(output, name)  # .tar files of patches, too


class FolderWriter(Writer):
    """Writes separate files. The mask is written last, so that where it is, the other files of the image are."""

    def __init__(self, output: Output):
        self.folder, self._saved = output.folder, output.saved

    def check(self, sample: Sample) -> None:
        """As :class:`Writer` says."""
        first, _, rest = sample.id.partition("/")
        if rest and first in RESERVED:
            raise ValueError(
                f"in the output, {first}/ is for what is saved beside the masks; rename the folder, or run it by itself"
            )
        path, image = file_path(self.folder, sample.id), sample.image
        for kind in self._saved:
            file_path(self.folder, sample.id, kind)
        if not os.path.lexists(path):
            return
        if isinstance(image, Path) and path.exists() and image.exists() and path.samefile(image):
            raise ValueError(f"its mask would replace it; choose another folder than {self.folder}")
        if not owned(path, "mask"):
            raise NotOurs(f"{path} exists and is no mask of an earlier run; move it away, or choose another folder")

    def write_files(self, image_id: str, files: Files) -> None:
        """As :class:`Writer` says."""
        for kind in (*self._saved, "mask"):
            retried(partial(self._write, image_id, kind, files[kind]))

    def _write(self, image_id: str, kind: Kind, data: bytes) -> None:
        check_there(self.folder)  # write_bytes would create it again, on another disk
        try:
            write_bytes(file_path(self.folder, image_id, kind), data)
        except FileNotFoundError:
            check_there(self.folder)
            raise

    def discard(self, image_id: str) -> None:
        """As :class:`Writer` says."""
        for kind in ("mask", *self._saved):
            with suppress(OSError):  # there is none, or what is there is no file
                file_path(self.folder, image_id, kind).unlink()


class TarWriter(Writer):
    """Writes ``tar_size`` images to each ``folder/NAME-000000.tar``: ``KEY.json`` (id, labels, size), ``KEY.png`` and,
    if they are saved, ``KEY.confidence.png`` and ``KEY.cams.npz``; or, for a bank, ``KEY.patches.npz`` alone.

    A .tar gets its name when it is complete, and only then are its rows returned. Earlier .tar files stay as they are.
    """

    def __init__(self, output: Output, name: str):
        self.folder, self.name, self.size = output.folder, name, output.tar_size
        self._count = 0
        self._rows: list[Row] = []
        self._open: tuple[ExitStack, IO[bytes], str] | None = None

    def append(self, row: Row, files: Files) -> list[Row]:
        """Append the image's members to the open .tar, which is closed when it is full."""
        if self._open is None:
            self._open = retried(self._new)
        _, file, name = self._open
        about = json.dumps({"id": row.id, "labels": row.labels, "size": row.size}).encode("ascii")
        members = [(member_name(row.id, "about"), about)]
        members += [(member_name(row.id, kind), data) for kind, data in files.items()]
        _append(file, b"".join(_member(*member) for member in members))
        self._rows.append(replace(row, shard=name))
        return self.flush() if len(self._rows) >= self.size else []

    def flush(self) -> list[Row]:
        """As :class:`Writer` says."""
        if self._open is None:
            return []
        (stack, file, _), self._open = self._open, None
        rows, self._rows = self._rows, []
        with stack:
            _append(file, bytes(2 * tarfile.BLOCKSIZE))
            file.close()
        return rows

    def _new(self) -> tuple[ExitStack, IO[bytes], str]:
        name = f"{self.name}-{self._count:06}.tar"
        check_there(self.folder)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic(self.folder / name))
            # unbuffered: a write that fails is this image's, not a later one's
            file = stack.enter_context(open(temporary, "xb", buffering=0))
            self._count += 1
            return stack.pop_all(), file, name


def _member(name: str, data: bytes) -> bytes:
    """A tar member: header, data, padding; the same bytes at any time, for any user."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _append(file: IO[bytes], data: bytes) -> None:
    """Write all of ``data`` at the end of an unbuffered file, again after a passing trouble, or nothing of it."""
    end = file.tell()

    def write() -> None:
        try:
            file.seek(end)
            if os.fstat(file.fileno()).st_size > end:  # the rest of an image which could not even be cut off
                file.truncate()
            _write_all(file, data)
        except BaseException:  # a full disk, or Ctrl-C: the members before stay complete
            file.seek(end)
            file.truncate()
            raise

    retried(write)


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
