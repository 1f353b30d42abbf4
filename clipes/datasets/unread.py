"""Files among the images that are of kinds that are not read: counted and named, never passed over in silence."""

from __future__ import annotations

import os
import posixpath
import sqlite3
from collections import Counter

from clipes.io.kinds import UNREAD_SUFFIXES, read_instead
from clipes.io.tempdb import decode_name, encode_name

from .sample import RawSample

TABLE = "CREATE TABLE unread (position INTEGER PRIMARY KEY, name BLOB NOT NULL, path BLOB NOT NULL);"


def is_unread(name: str) -> bool:
    """Whether a file's suffix is of a kind of image that is not read."""
    return posixpath.splitext(name)[1].lower() in UNREAD_SUFFIXES


def add_unread(database: sqlite3.Connection, image: RawSample) -> None:
    """Keep the name and the path of such a file in the catalogue."""
    path = os.path.abspath(str(image.image))
    database.execute("INSERT INTO unread (name, path) VALUES (?, ?)", (encode_name(image.name), encode_name(path)))


def unread_paths(database: sqlite3.Connection) -> list[str]:
    """The full paths of these files."""
    return [decode_name(path) for (path,) in database.execute("SELECT path FROM unread ORDER BY position")]


def unread_note(database: sqlite3.Connection, source: str) -> str:
    """What to say of these files; empty where there is none. Rows that name one are marked with 2 in `used`."""
    names = [decode_name(name) for (name,) in database.execute("SELECT name FROM unread ORDER BY position")]
    if not names:
        return ""
    kinds = Counter(posixpath.splitext(name)[1].lower() for name in names)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
    note = (
        f"{source}: {len(names)} file(s) are images of kinds that are not read, and are left out: {listed}, "
        f"{names[0]!r} the first"
    )
    keys = [key for (key,) in database.execute("SELECT key FROM row WHERE used = 2 ORDER BY position")]
    if keys:
        note += f"; {len(keys)} row(s) of the labels name them, {decode_name(keys[0])!r} the first"
    return f"{note}; {read_instead(kinds).replace('it', 'them', 1)}"
