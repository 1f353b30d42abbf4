"""Rows, images and labels whose names agree but for their spelling: Unicode's forms, and the numbers of COCO's images.

These are tried where no name agrees as it is written. macOS writes an accent as a character of its own (NFD), most
others as a part of the letter (NFC).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from unicodedata import normalize

from clipes.io.tempdb import decode_name, encode_name

from .sample import without_suffix

_COCO_IMAGE = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})")
_COCO_ROW = re.compile(rf"{_COCO_IMAGE.pattern}|(\d{{1,12}})")


def match_respelled(database: sqlite3.Connection) -> None:
    """Give images that have no row the row that names them in another spelling, if both fit no other.

    A row `9` or `000000000009` is that of `000000000009.jpg` and of `COCO_train2014_000000000009.jpg`, and the other
    way round.
    """
    database.execute("CREATE TEMP TABLE spelling (key BLOB NOT NULL, row INTEGER NOT NULL)")
    free = "SELECT position, key FROM row WHERE position NOT IN (SELECT row FROM sample WHERE row IS NOT NULL)"
    database.executemany("INSERT INTO spelling VALUES (?, ?)", _spellings(database.execute(free)))
    database.execute("CREATE INDEX temp.spellings ON spelling (key)")
    database.execute("CREATE TEMP TABLE respelled (sample INTEGER NOT NULL, row INTEGER NOT NULL)")
    place = "CASE WHEN member IS NULL THEN path ELSE CAST(path || '/' || name AS BLOB) END"
    for position, path in database.execute(f"SELECT position, {place} FROM sample WHERE row IS NULL"):
        rows = _rows(database, decode_name(path if isinstance(path, bytes) else path.encode()))
        database.executemany("INSERT INTO respelled VALUES (?, ?)", ((position, row) for row in rows))
    for column in ("row", "sample"):
        once = f"SELECT {column} FROM respelled GROUP BY {column} HAVING count(*) = 1"
        database.execute(f"DELETE FROM respelled WHERE {column} NOT IN ({once})")
    database.execute(
        "UPDATE sample SET row = (SELECT respelled.row FROM respelled WHERE respelled.sample = position)"
        " WHERE row IS NULL"
    )


def _spellings(rows: sqlite3.Cursor) -> Iterator[tuple[bytes, int]]:
    """Yield the spelling that all forms of a row's name share, for rows that have several forms."""
    for position, key in rows:
        name = decode_name(key)
        if not name.isascii():
            yield encode_name(normalize("NFC", name)), position
        elif number := _COCO_ROW.fullmatch(_stem(name)):
            yield _number(number[1] or number[2]), position


def _rows(database: sqlite3.Connection, path: str) -> list[int]:
    """The rows that name an image in another spelling, by the longest end of its path that is named."""
    keys = []
    if not path.isascii():
        full = normalize("NFC", path)
        ends = [full[start:] for start in [0, *(place + 1 for place, one in enumerate(full) if one == "/")]]
        keys = [[encode_name(end), encode_name(without_suffix(end))] for end in ends]
    if number := _COCO_IMAGE.fullmatch(_stem(path)):
        keys.append([_number(number[1])])
    for both in keys:
        places = ", ".join("?" * len(both))
        found = database.execute(f"SELECT DISTINCT row FROM spelling WHERE key IN ({places})", both).fetchall()
        if found:
            return [row for (row,) in found]
    return []


def _stem(name: str) -> str:
    return without_suffix(name).rpartition("/")[2]


def _number(digits: str) -> bytes:
    return f"COCO {int(digits)}".encode()


def label_spelling(class_names: Sequence[str] | None) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Return a function that spells labels as the classes do, where none is spelled as the label is.

    It can be pickled, as what holds it is sent to other processes.
    """
    exact = frozenset(class_names or ())
    return partial(_as_classes, exact, {normalize("NFC", name): name for name in exact if not name.isascii()})


def _as_classes(exact: frozenset[str], forms: Mapping[str, str], labels: tuple[str, ...]) -> tuple[str, ...]:
    if all(label in exact or label.isascii() for label in labels):
        return labels
    own = (label if label in exact else forms.get(normalize("NFC", label), label) for label in labels)
    return tuple(dict.fromkeys(own))
