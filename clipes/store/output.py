"""What a run writes, and where: a mask for each image and what is saved beside it, in folders or in .tar shards."""

from __future__ import annotations

import json
import os
import re
import tarfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from clipes.datasets import Sample
from clipes.ids import CLASSES
from clipes.io.atomic import atomic, write_bytes
from clipes.io.cams_npz import maps_npz
from clipes.io.masks import confidence_png, mask_png
from clipes.result import PseudoMask

from .manifest import NAME as MANIFEST
from .record import FOLDER as RECORDS
from .record import NAME as RECORD_NAME
from .record import Row

SAVED = {"confidence": ".png", "cams": ".npz"}
"""The folders beside the masks, of confidences and maps, and their files' suffixes."""

RESERVED = (MANIFEST, CLASSES, RECORDS, *SAVED)
"""The names of what runs write beside the masks."""

SHARD = re.compile(rf"masks-(?P<record>{RECORD_NAME})-\d{{6}}\.tar")
"""The names of shards: each process's have that of its record."""

_MARK = "clipes run"

MapsKind = Literal["patch", "full"]
Format = Literal["png", "tar"]


@dataclass(frozen=True)
class Output:
    """What a run saves for every image.

    Attributes:
        folder: where to.
        confidence: the winning scores, too, as grey PNGs, 255 for 1.
        cams: the maps, too (:mod:`clipes.io.cams_npz`): on the patch grid, or ``"full"``, at the image's size as well.
        format: ``"png"``, a file each; or ``"tar"``, shards in the layout of WebDataset.
        tar_size: images in a shard; a run that is killed repeats those of the shard it was writing.
    """

    folder: Path
    confidence: bool = False
    cams: MapsKind | None = None
    format: Format = "png"
    tar_size: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if self.cams not in (None, "patch", "full"):
            raise ValueError(f"cams is {self.cams!r}; it is 'patch', 'full' or None")
        if self.format not in ("png", "tar"):
            raise ValueError(f"format is {self.format!r}; it is 'png' or 'tar'")
        if self.tar_size < 1:
            raise ValueError(f"tar_size is {self.tar_size}; it must be at least 1")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of :data:`SAVED` that are saved, too."""
        return tuple(name for name in SAVED if getattr(self, name))

    def settings(self) -> dict[str, Any]:
        """What two runs into one folder must agree on."""
        return {"confidence": self.confidence, "cams": self.cams, "format": self.format}

    def encode(self, result: PseudoMask) -> dict[str, bytes]:
        """The contents of a result's files, by kind: ``mask``, and those of :data:`SAVED` that are asked for."""
        files = {"mask": run_mask(result)}
        if self.confidence:
            files["confidence"] = confidence_png(result.confidence)
        if self.cams:
            files["cams"] = maps_npz(result.maps, result.cams if self.cams == "full" else None)
        return files


def mask_path(image_id: str, folder: str | os.PathLike[str]) -> Path:
    """``folder/ID.png``; ValueError if that is outside the folder."""
    path = Path(folder, f"{image_id}.png")
    if os.path.isabs(image_id) or "\0" in image_id or ".." in path.relative_to(folder).parts:
        raise ValueError(f"the id {image_id!r} leads out of the output folder; use a relative one")
    return inside(path, folder)


def inside(path: Path, folder: str | os.PathLike[str]) -> Path:
    """``path`` itself; ValueError if a link leads it out of ``folder``."""
    if not path.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{path} leads out of the output folder through a link; remove the link")
    return path


def run_mask(result: PseudoMask) -> bytes:
    """The PNG of a result's mask, with the mark of masks that runs write."""
    return mask_png(result.mask, result.class_count, _MARK)


def is_run_mask(path: Path) -> bool:
    """Whether a run wrote the file: nothing else is ever replaced or removed. An empty file is nobody's."""
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(2048)  # IHDR, text and palette
    return not head or b"tEXtSoftware\0" + _MARK.encode() in head


class Sink(Protocol):
    """Where encoded files go. :meth:`check` and :meth:`prepare` may be called in threads, the rest in one."""

    def check(self, sample: Sample) -> None:
        """Raise ValueError if the sample's files would be outside the folder, or replace its image."""

    def prepare(self, image_id: str, files: dict[str, bytes]) -> None:
        """What can be done for an image out of order."""

    def commit(self, row: Row, files: dict[str, bytes]) -> list[Row]:
        """Take an image's files; returns the rows of all images that are now safe on the disk."""

    def discard(self, image_id: str) -> None:
        """Remove what an earlier run wrote for an image that now has no mask."""

    def flush(self) -> list[Row]:
        """Bring everything to the disk; returns the rows that are now safe."""


class FolderSink:
    """A file for each mask, ``folder/ID.png``; the mask comes last, so that where it is, all is."""

    def __init__(self, output: Output):
        self.folder = output.folder
        self._kinds = output.kinds

    def check(self, sample: Sample) -> None:
        """As :class:`Sink` says."""
        first, _, rest = sample.id.partition("/")
        if rest and first in RESERVED:
            raise ValueError(
                f"in the output, {first}/ is for what is saved beside the masks; rename the folder, or run it by itself"
            )
        path, image = mask_path(sample.id, self.folder), sample.image
        self._beside(sample.id)
        if not os.path.lexists(path):
            return
        if isinstance(image, Path) and path.exists() and image.exists() and path.samefile(image):
            raise ValueError(f"its mask would replace it; choose another folder than {self.folder}")
        if not is_run_mask(path):
            raise ValueError(f"{path} exists and is no mask of an earlier run; move it away, or choose another folder")

    def prepare(self, image_id: str, files: dict[str, bytes]) -> None:
        """Write the files."""
        for name, place in self._beside(image_id).items():
            write_bytes(place, files[name])
        write_bytes(mask_path(image_id, self.folder), files["mask"])

    def commit(self, row: Row, files: dict[str, bytes]) -> list[Row]:
        """The row itself: the files are there."""
        return [row]

    def discard(self, image_id: str) -> None:
        """As :class:`Sink` says; the mask goes first."""
        for path in (mask_path(image_id, self.folder), *self._beside(image_id).values()):
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()

    def flush(self) -> list[Row]:
        """Nothing is open."""
        return []

    def whole(self, image_id: str) -> bool:
        """Whether what is saved beside an image's mask is there."""
        return all(path.is_file() for path in self._beside(image_id).values())

    def _beside(self, image_id: str) -> dict[str, Path]:
        places = {name: self.folder / name / f"{image_id}{SAVED[name]}" for name in self._kinds}
        return {name: inside(path, self.folder) for name, path in places.items()}


def tar_key(image_id: str) -> str:
    """The key of an image's members: WebDataset ends it at the first dot of the name, so that dots are escaped.

    >>> tar_key("cats.v2/photo.1")
    'cats.v2/photo%2E1'
    """
    folder, slash, name = image_id.rpartition("/")
    return f"{folder}{slash}{name.replace('%', '%25').replace('.', '%2E')}"


MEMBERS = {"mask": "png", "confidence": "confidence.png", "cams": "cams.npz"}
"""The endings of an image's members in a shard, by kind."""


class TarSink:
    """Shards of ``tar_size`` images, ``folder/NAME-000000.tar``: ``KEY.png``, ``KEY.json`` (id, labels, size) and,
    if asked for, ``KEY.confidence.png`` and ``KEY.cams.npz``.

    A shard has its name only when it is whole, and only then are its rows safe.
    """

    def __init__(self, output: Output, name: str):
        self.folder, self.name, self.size = output.folder, name, output.tar_size
        self._shards = 0
        self._rows: list[Row] = []
        self._open: tuple[ExitStack, IO[bytes], str] | None = None

    def check(self, sample: Sample) -> None:
        """As :class:`Sink` says; whoever unpacks a shard must not be led astray, either."""
        mask_path(sample.id, self.folder)

    def prepare(self, image_id: str, files: dict[str, bytes]) -> None:
        """Nothing: members are in order."""

    def commit(self, row: Row, files: dict[str, bytes]) -> list[Row]:
        """Append the image's members to the open shard, which is closed when it is full."""
        if self._open is None:
            self._open = self._new()
        _, file, name = self._open
        key, about = tar_key(row.id), {"id": row.id, "labels": row.labels, "size": row.size}
        members = {f"{key}.json": json.dumps(about).encode("ascii")}
        members |= {f"{key}.{MEMBERS[kind]}": data for kind, data in files.items()}
        end = file.tell()
        try:
            _write_all(file, b"".join(_member(*member) for member in members.items()))
        except BaseException:  # the disk is full, or Ctrl-C: what was whole stays whole
            file.seek(end)
            file.truncate()
            raise
        self._rows.append(replace(row, shard=name))
        return self.flush() if len(self._rows) >= self.size else []

    def discard(self, image_id: str) -> None:
        """Nothing: an earlier shard is as it is, and the newest row of an image counts."""

    def flush(self) -> list[Row]:
        """Close the open shard."""
        if self._open is None:
            return []
        (stack, file, _), self._open = self._open, None
        rows, self._rows = self._rows, []
        with stack:
            _write_all(file, bytes(2 * tarfile.BLOCKSIZE))
            file.close()
        return rows

    def _new(self) -> tuple[ExitStack, IO[bytes], str]:
        name = f"{self.name}-{self._shards:06}.tar"
        self._shards += 1
        stack = ExitStack()
        temporary = stack.enter_context(atomic(self.folder / name))
        # unbuffered: a write that fails is this image's, not a later one's
        return stack, stack.enter_context(open(temporary, "xb", buffering=0)), name


def new_sink(output: Output, name: str) -> Sink:
    """Where the files of ``output`` go; ``name`` begins those of its shards."""
    return FolderSink(output) if output.format == "png" else TarSink(output, name)


def _member(name: str, data: bytes) -> bytes:
    """A tar member: header, data, padding; the same bytes at any time, for any user."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
