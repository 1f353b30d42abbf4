"""Which row of a labels file belongs to which image."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from clipes.io.images import TarMember
from clipes.io.tempdb import decode_name, encode_name

from .respelled import match_respelled
from .sample import AnyImage, DatasetError, LabelRow, Unlabelled, without_suffix
from .tables import row_key
from .unread import unread_paths


def add_rows(database: sqlite3.Connection, rows: Iterable[LabelRow]) -> None:
    """Fill the catalogue with rows; several of one image, one for each label for example, are joined."""
    insert = "INSERT INTO row (key, labels, origin) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
    for row in rows:
        key, labels = encode_name(row_key(row)), json.dumps(row.labels)
        if database.execute(insert, (key, labels, encode_name(row.origin))).rowcount != 1:
            (position,) = database.execute("SELECT position FROM row WHERE key = ?", (key,)).fetchone()
            _join_labels(database, position, labels)


def _join_labels(database: sqlite3.Connection, position: int, other: str) -> None:
    """Add the labels `other`, as JSON, to those of a row."""
    (own,) = database.execute("SELECT labels FROM row WHERE position = ?", (position,)).fetchone()
    joined = list(dict.fromkeys((*json.loads(own), *json.loads(other))))
    if len(joined) > min(len(json.loads(own)), len(json.loads(other))):
        database.execute("UPDATE row SET labels = ?, joined = 1 WHERE position = ?", (json.dumps(joined), position))


def is_named(database: sqlite3.Connection, name: str, image: AnyImage) -> bool:
    """Whether a row names an image with its suffix: by its relative path, or by the end of its full path."""
    if database.execute("SELECT 1 FROM row LIMIT 1").fetchone() is None:
        return False
    place = f"{image.tar}/{name}" if isinstance(image, TarMember) else str(image)
    keys = (encode_name(key) for key in dict.fromkeys([name, *_path_suffixes(place)]))
    return any(database.execute("SELECT 1 FROM row WHERE key = ?", (key,)).fetchone() for key in keys)


def match_images(database: sqlite3.Connection) -> None:
    """Give each image its row, if it has one.

    A row belongs to the image whose relative path it is; otherwise to the image whose full path ends with it, if
    only one does, and at last to the one that it names in another spelling. The suffix may be left out.
    """
    _join_spellings(database)
    database.execute(
        "UPDATE sample SET row = coalesce((SELECT position FROM row WHERE key = name),"
        " (SELECT position FROM row WHERE key = id))"
    )
    _mark_used(database)
    _match_by_path_suffix(database)
    match_respelled(database)
    _mark_used(database)


def match_rows(database: sqlite3.Connection, unlabelled: Unlabelled = "refuse") -> tuple[int, str, str]:
    """Give each image its row as :func:`match_images` does; return the number of unused rows, the image that the first
    of them names, and a note.

    Raises DatasetError when an image has no row; with "skip", such images are left out, and the note says so; with
    "tag", they have no labels.
    """
    match_images(database)
    total, matched = database.execute("SELECT count(*), count(row) FROM sample").fetchone()
    note = ""
    if matched < total:
        note = _unmatched(database, total - matched)
        if unlabelled == "refuse" or not matched:
            raise DatasetError(note)
        note = _leave_out_unmatched(database, total - matched) if unlabelled == "skip" else ""
    _mark_unread(database)
    (unused,) = database.execute("SELECT count(*) FROM row WHERE NOT used").fetchone()
    first = database.execute("SELECT key FROM row WHERE NOT used ORDER BY position LIMIT 1").fetchone()
    return unused, decode_name(first[0]) if first else "", note


def _leave_out_unmatched(database: sqlite3.Connection, missing: int) -> str:
    """Remove the images without a row; the others are renumbered."""
    (first,) = database.execute("SELECT name FROM sample WHERE row IS NULL ORDER BY position LIMIT 1").fetchone()
    database.execute("CREATE TABLE kept AS SELECT * FROM sample WHERE row IS NOT NULL ORDER BY position")
    columns = "id, name, path, member, start, size, labels, origin, row, joined, clash"
    database.execute("DELETE FROM sample")
    database.execute(f"INSERT INTO sample ({columns}) SELECT {columns} FROM kept ORDER BY position")
    database.execute("DROP TABLE kept")
    return f"{missing} image(s) without a row in the labels file are left out, {decode_name(first)!r} the first"


def _mark_used(database: sqlite3.Connection) -> None:
    database.execute("UPDATE row SET used = 1 WHERE position IN (SELECT row FROM sample WHERE row IS NOT NULL)")


def _mark_unread(database: sqlite3.Connection) -> None:
    """Mark the rows that name a file of a kind that is not read: the file is there."""
    for path in unread_paths(database):
        for name in (path, os.path.splitext(path)[0]):
            row, used = _row_of_longest_suffix(database, name) or (0, True)
            if not used:
                database.execute("UPDATE row SET used = 2 WHERE position = ?", (row,))


def _join_spellings(database: sqlite3.Connection) -> None:
    """Join the two rows of an image that one of them names with its suffix, the other without."""
    both = (
        "SELECT a.position, b.position, b.labels FROM sample JOIN row AS a ON a.key = name"
        " JOIN row AS b ON b.key = id WHERE name != id"
    )
    for position, other, labels in database.execute(both).fetchall():
        _join_labels(database, position, labels)
        database.execute("UPDATE row SET used = 1 WHERE position = ?", (other,))


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


def _path_suffixes(path: str) -> list[str]:
    """The full path and what follows each of its slashes, the longest first."""
    full = Path(os.path.abspath(path)).as_posix()
    return [full[start:] for start in [0, *(place + 1 for place, letter in enumerate(full) if letter == "/")]]


def _row_of_longest_suffix(database: sqlite3.Connection, path: str) -> tuple[int, bool] | None:
    """Return the row that matches the longest suffix of `path`, and whether an image already uses it."""
    for name in _path_suffixes(path):
        rows = [
            row
            for key in dict.fromkeys([name, without_suffix(name)])
            for row in database.execute("SELECT position, used, labels FROM row WHERE key = ?", (encode_name(key),))
        ]
        if len(rows) == 2:
            _join_labels(database, rows[0][0], rows[1][2])
            database.execute("UPDATE row SET used = 1 WHERE position = ?", (rows[1][0],))
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
        near = "SELECT origin, key FROM row, (SELECT name, id FROM sample WHERE row IS NULL ORDER BY position LIMIT 1)"
        like = " WHERE lower(CAST(key AS TEXT)) IN (lower(CAST(name AS TEXT)), lower(CAST(id AS TEXT))) LIMIT 1"
        some = database.execute(near + like).fetchone()
        first = database.execute("SELECT origin, key FROM row ORDER BY position LIMIT 1").fetchone()
        origin, key = map(decode_name, some or first)
        cure = f"add rows, or spell the names as they are ({origin} names {key!r})"
    return (
        f"{missing} image(s) without a row in the labels file: {names}; {cure}, or leave such images out "
        "(--unlabelled skip)"
    )
