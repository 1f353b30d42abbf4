"""Temporary databases on disk, for indexes that are larger than the memory.

`sqlite3.connect("")` is a database that SQLite keeps in a bounded cache and spills to an anonymous file in
SQLITE_TMPDIR, TMPDIR, /var/tmp or /tmp. Names are stored as bytes, because file names need not be Unicode.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice

_CACHE_KIB = 16384
_MOST_VALUES = 999  # of one statement, where SQLite is old


def temporary_database() -> sqlite3.Connection:
    """A new, empty database, deleted when it is closed. It may be used from any thread, and outlives a fork."""
    # Without a cache of statements: two threads that ask the same would share one, and lose rows (seen in Python 3.13).
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False, cached_statements=0)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    for pragma in ("temp_store = FILE", "journal_mode = OFF", "synchronous = OFF"):  # nothing outlives a crash
        database.execute(f"PRAGMA {pragma}")
    return database


@contextmanager
def transaction(database: sqlite3.Connection, what: str) -> Iterator[None]:
    """Run the block as one transaction; the database is closed if it fails.

    Raises OSError, which names ``what`` is stored, when the disk is full.
    """
    try:
        database.execute("BEGIN")
        yield
        database.execute("COMMIT")
    except BaseException as error:
        database.close()
        if not isinstance(error, sqlite3.OperationalError) or "full" not in str(error):
            raise
        cure = "free some, or set SQLITE_TMPDIR to a folder with space"
        raise OSError(errno.ENOSPC, f"no space for {what}; {cure}") from error


def insert_rows(database: sqlite3.Connection, table: str, columns: int, rows: Iterable[Sequence[object]]) -> None:
    """Insert rows into a table of so many columns, many by one statement: a fourth less time than one by one."""
    together = _MOST_VALUES // columns
    row = f"({', '.join('?' * columns)})"
    short: list[Sequence[object]] = []

    def full_batches() -> Iterator[list[object]]:
        rest = iter(rows)
        while len(batch := list(islice(rest, together))) == together:
            yield list(chain.from_iterable(batch))
        short.extend(batch)

    database.executemany(f"INSERT INTO {table} VALUES {', '.join([row] * together)}", full_batches())
    database.executemany(f"INSERT INTO {table} VALUES {row}", short)


def encode_name(name: str) -> bytes:
    """A name as bytes that sort as it does; file names that are not Unicode are kept."""
    return name.encode("utf-8", "surrogatepass")


def decode_name(data: bytes) -> str:
    """The name of :func:`encode_name`."""
    return data.decode("utf-8", "surrogatepass")
