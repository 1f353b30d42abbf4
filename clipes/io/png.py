"""The chunks of a PNG file, whose lengths Pillow asks memory for before it finds that the file is shorter."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGE = 1 << 26  # bytes; a chunk of less is read, however long the file


def impossible_chunk(path: Path) -> int | None:
    """The length in bytes of a chunk that is larger than its whole file and 64 MiB; None for any other file.

    Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        return _impossible_chunk(file, path.stat().st_size)


def _impossible_chunk(file: BinaryIO, size: int) -> int | None:
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if length > max(size, _LARGE):
            return length
        file.seek(length + 4, 1)
    return None
