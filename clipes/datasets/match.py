"""Which row of a labels file belongs to which image."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from clipes.io.tempdb import decode_name, encode_name

from .respelled import match_respelled
from .sample import DatasetError, LabelRow, without_suffix
from .tables import row_key
from .unread import unread_paths


def add_rows(database: sqlite3.Connection, rows: Iterable[LabelRow]) -> None:
    """Fill the catalogue with rows. Raises DatasetError for an image whose rows disagree."""
    insert = "INSERT INTO row (key, labels, origin) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
    for row in rows:
        key = encode_name(row_key(row))
        if database.execute(insert, (key, json.dumps(row.labels), encode_name(row.origin))).rowcount != 1:
            labels, origin = database.execute("SELECT labels, origin FROM row WHERE key = ?", (key,)).fetchone()
            if set(json.loads(labels)) != set(row.labels):
                raise DatasetError(
                    f"{row.origin}: other labels for {row.image!r} than {decode_name(origin)}; remove one"
                )


def match_rows(database: sqlite3.Connection) -> tuple[int, str]:
    """Give each image its row; return the number of unused rows and the image that the first of them names.

    A row belongs to the image whose relative path it is; otherwise to the image whose full path ends with it, if
    only one does, and at last to the one that it names in another spelling. The suffix may be left out. Raises
    DatasetError when an image has no row.
    """
    _check_spellings(database)
    database.execute(
        "UPDATE sample SET row = coalesce((SELECT position FROM row WHERE key = name),"
        " (SELECT position FROM row WHERE key = id))"
    )
    _mark_used(database)
    _match_by_path_suffix(database)
    match_respelled(database)
    (missing,) = database.execute("SELECT count(*) FROM sample WHERE row IS NULL").fetchone()
    if missing:
        raise DatasetError(_unmatched(database, missing))
    _mark_used(database)
    _mark_unread(database)
    (unused,) = database.execute("SELECT count(*) FROM row WHERE NOT used").fetchone()
    first = database.execute("SELECT key FROM row WHERE NOT used ORDER BY position LIMIT 1").fetchone()
    return unused, decode_name(first[0]) if first else ""


def _mark_used(database: sqlite3.Connection) -> None:
    database.execute("UPDATE row SET used = 1 WHERE position IN (SELECT row FROM sample WHERE row IS NOT NULL)")


def _mark_unread(database: sqlite3.Connection) -> None:
    """Mark the rows that name a file of a kind that is not read: the file is there."""
    for path in unread_paths(database):
        for name in (path, os.path.splitext(path)[0]):
            row, used = _row_of_longest_suffix(database, name) or (0, True)
            if not used:
                database.execute("UPDATE row SET used = 2 WHERE position = ?", (row,))


def _check_spellings(database: sqlite3.Connection) -> None:
    """Raise DatasetError for an image with two rows, with and without its suffix, that disagree."""
    both = (
        "SELECT name, a.labels, a.origin, b.labels, b.origin FROM sample JOIN row AS a ON a.key = name"
        " JOIN row AS b ON b.key = id WHERE name != id AND a.labels != b.labels"
    )
    for name, *rows in database.execute(both):
        _check_same(decode_name(name), *rows)


def _check_same(name: str, labels: str, origin: bytes, other_labels: str, other_origin: bytes) -> None:
    if set(json.loads(labels)) != set(json.loads(other_labels)):
        where = f"{decode_name(origin)} and {decode_name(other_origin)}"
        raise DatasetError(f"{where}: different labels for {name!r}; remove one of the rows")


def _match_by_path_suffix(database: sqlite3.Connection) -> None:
    """Give images without a row the row that is a suffix of their path and of no other image's."""
    database.execute("CREATE TEMP TABLE claim (row INTEGER NOT NULL, sample INTEGER NOT NULL)")
    images = database.execute(
        "SELECT position, CASE WHEN member IS NULL THEN path ELSE CAST(path || '/' || name AS BLOB) END"
        " FROM sample WHERE row IS NULL"
    )
    for position, path in images:
        path = path if isinstance(path, bytes) else path.encode()
        row, used = _row_of_longest_suffix(database, decode_name(path)) or (0, True)
        if not used:
            database.execute("INSERT INTO claim VALUES (?, ?)", (row, position))
    database.execute("CREATE INDEX temp.claims ON claim (row)")
    database.execute("CREATE TEMP TABLE once (sample INTEGER PRIMARY KEY, row INTEGER NOT NULL)")
    database.execute("INSERT INTO once SELECT min(sample), row FROM claim GROUP BY row HAVING count(*) = 1")
    database.execute(
        "UPDATE sample SET row = (SELECT once.row FROM once WHERE once.sample = position) WHERE row IS NULL"
    )


def _row_of_longest_suffix(database: sqlite3.Connection, path: str) -> tuple[int, bool] | None:
    """Return the row that matches the longest suffix of `path`, and whether an image already uses it."""
    full = Path(os.path.abspath(path)).as_posix()
    for start in [0, *(place + 1 for place, letter in enumerate(full) if letter == "/")]:
        name = full[start:]
        rows = [
            row
            for key in dict.fromkeys([name, without_suffix(name)])
            for row in database.execute(
                "SELECT position, used, labels, origin FROM row WHERE key = ?", (encode_name(key),)
            )
        ]
        if len(rows) == 2:
            _check_same(name, *rows[0][2:], *rows[1][2:])
        if rows:
            return rows[0][0], bool(rows[0][1])
    return None


def _unmatched(database: sqlite3.Connection, missing: int) -> str:
    rows = database.execute("SELECT name FROM sample WHERE row IS NULL ORDER BY position LIMIT 5")
    names = ", ".join(decode_name(name) for (name,) in rows) + (", ..." if missing > 5 else "")
    several = "SELECT row FROM claim GROUP BY row HAVING count(*) > 1 ORDER BY min(sample) LIMIT 1"
    shared = database.execute(f"SELECT origin, key FROM row WHERE position = ({several})").fetchone()
    if shared:
        cure = f"{decode_name(shared[0])}, {decode_name(shared[1])!r}, fits several of them: write the folders too"
    else:
        origin, key = database.execute("SELECT origin, key FROM row ORDER BY position LIMIT 1").fetchone()
        cure = f"add rows, or spell the names as they are ({decode_name(origin)} names {decode_name(key)!r})"
    return f"{missing} image(s) without a row in the labels file: {names}; {cure}"
