"""Which images a process has in hand: what a killed process was doing is known to the next start.

``OUT/records/NAME.hand`` is JSON: the digest of the settings, the memory that the process may have, and the ids in
hand. It is written before an image is worked on and removed at the end, so that one of a dead process names the images
that may have killed it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from .layout import HAND_FILE, RECORDS
from .lease import owners
from .record import read_records
from .rows import LatestRows

DEATHS = 2
"""An image in hand at so many deaths of its process is tried last: the others are done, whatever becomes of it."""


class InHand:
    """The images that this process works on; for several threads.

    Args:
        record: the path of the process's record; the file lies beside it.
        digest: of the settings.
        memory: bytes that this process may have.

    Attributes:
        deaths: how often a process with these settings, and no less memory than this one, died with an image in hand.
    """

    def __init__(self, record: Path, digest: str, memory: float):
        self.path, self.deaths = record.with_suffix(".hand"), deaths(record.parent.parent, digest, memory)
        self._about = {"settings": digest, "memory": min(memory, 2.0**60)}
        self._ids: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def hold(self, ids: Collection[str]) -> Iterator[None]:
        """Say that images are in hand while the block runs."""
        self._change(ids, 1)
        try:
            yield
        finally:
            self._change(ids, -1)

    def suspicion(self, image_id: str) -> str:
        """Why an image is to be tried last, which is also why it has failed if its process dies again; empty if not."""
        if self.deaths[image_id] < DEATHS:
            return ""
        times = self.deaths[image_id]
        return f"its process was killed {times} times while it was worked on, perhaps for want of memory; give it more"

    def close(self) -> None:
        """Remove the file: the process has not died."""
        with suppress(OSError):
            self.path.unlink()

    def _change(self, ids: Collection[str], by: int) -> None:
        with self._lock:
            self._ids.update(dict.fromkeys(ids, by))
            data = json.dumps({**self._about, "ids": sorted(+self._ids)}).encode("ascii")
            with suppress(OSError):  # the writer of masks reports a full disk
                _write_in_place(self.path, data)


def deaths(folder: Path, digest: str, memory: float) -> Counter[str]:
    """How often dead processes of settings ``digest``, with no less than ``memory`` bytes, had each image in hand."""
    found: Counter[str] = Counter()
    for _, ids, held in _hands_of_the_dead(folder, digest):
        if held >= min(memory, 2.0**60):
            found.update(ids)
    return found


def remove_stale_hands(folder: Path, digest: str, rows: LatestRows) -> None:
    """Remove the files of dead processes that say nothing more: of other settings, or whose images were made since."""
    hands = list(_hands_of_the_dead(folder, digest))
    starts = {record.path.stem: record.start for record in read_records(folder)} if hands else {}
    for path, ids, _ in hands:
        if all(_is_made(rows, image_id, starts.get(path.stem, 0)) for image_id in ids):
            with suppress(OSError):  # another process removes it, too
                path.unlink()


def _is_made(rows: LatestRows, image_id: str, start: int) -> bool:
    """Whether an image has a mask that a start of this number or a later one made."""
    row, order = rows.get(image_id), rows.order(image_id)
    return row is not None and order is not None and row.status == "ok" and order[0] >= start


def _hands_of_the_dead(folder: Path, digest: str) -> Iterator[tuple[Path, set[str], float]]:
    """The file of each dead process, the ids that it had in hand with settings ``digest``, the memory it might have."""
    living = owners(folder) if folder.is_dir() else {}
    for path in sorted((folder / RECORDS).glob("*.hand")):
        match = HAND_FILE.fullmatch(path.name)
        if match is None or (match["machine"], match["pid"]) in living or not path.is_file():
            continue
        try:
            value = json.loads(path.read_bytes())
            ids = set(map(str, value["ids"])) if value["settings"] == digest else set()
            yield path, ids, float(value["memory"])
        except (OSError, ValueError, TypeError, KeyError):
            yield path, set(), 0.0  # killed while it wrote the file


def _write_in_place(path: Path, data: bytes) -> None:
    """Write a small file often, without syncing it: the death of a process loses nothing that it has written."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        os.pwrite(file, data, 0) if hasattr(os, "pwrite") else os.write(file, data)
        os.ftruncate(file, len(data))
    finally:
        os.close(file)
