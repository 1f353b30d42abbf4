"""clipes.io.tempdb: databases that spill to disk and vanish."""

from __future__ import annotations

import errno
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from clipes.io.tempdb import decode_name, encode_name, insert_rows, temporary_database, transaction


@pytest.mark.parametrize("name", ["", "a", "é", "日本", "caf\udce9", "a\0b", "\ud800"])
def test_any_string_is_bytes_and_back(name: str) -> None:
    assert decode_name(encode_name(name)) == name


def test_bytes_sort_as_strings_do() -> None:
    names = ["b", "é", "\U0001f600", "a", "\ud900", "z", ""]
    assert sorted(names, key=encode_name) == sorted(names)


def test_what_was_filled_is_there() -> None:
    database = temporary_database()
    database.execute("CREATE TABLE t (n INTEGER)")
    with transaction(database, "numbers"):
        database.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(1000)))
    assert database.execute("SELECT count(*), sum(n) FROM t").fetchone() == (1000, 499_500)
    database.close()


@pytest.mark.parametrize("count", [0, 1, 332, 333, 334, 1000])
def test_rows_are_inserted_in_their_order(count: int) -> None:
    """333 of three columns by one statement."""
    database = temporary_database()
    database.execute("CREATE TABLE t (n INTEGER, name TEXT, data BLOB)")
    rows = [(n, str(n), b"x" * (n % 7)) for n in range(count)]
    insert_rows(database, "t", 3, iter(rows))
    assert database.execute("SELECT * FROM t ORDER BY rowid").fetchall() == rows
    database.close()


def test_a_full_disk_is_told() -> None:
    database = temporary_database()
    database.execute("CREATE TABLE t (data BLOB)")
    database.execute("PRAGMA max_page_count = 20")
    full = pytest.raises(OSError, match="no space for numbers; free some, or set SQLITE_TMPDIR")
    with full as caught, transaction(database, "numbers"):
        database.executemany("INSERT INTO t VALUES (?)", ((bytes(1000),) for _ in range(1000)))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


def test_other_errors_stay_as_they_are() -> None:
    for error in (ValueError("mine"), KeyboardInterrupt()):
        database = temporary_database()
        with pytest.raises(type(error)), transaction(database, "numbers"):
            raise error
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            database.execute("SELECT 1")


def test_threads_may_ask_the_same_at_once() -> None:
    database = temporary_database()
    database.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    database.executemany("INSERT INTO numbers VALUES (?)", ((number,) for number in range(50)))

    def ask(number: int) -> int:
        return database.execute("SELECT number FROM numbers WHERE number = ?", (number,)).fetchone()[0]

    numbers = list(range(50)) * 100
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, numbers)) == numbers
