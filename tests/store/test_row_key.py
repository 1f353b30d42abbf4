"""RowKey, the short way to read a row, against the whole row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipes.io.tempdb import encode_name
from clipes.store import row_key
from clipes.store.row import Row
from clipes.store.row_key import LACKS_LABEL, LITTLE_FOREGROUND, NOTHING_FOUND, RowKey

SCORES = {"a dog": 0.53121, "bus": 2e-06}
TEXTS = st.text(max_size=8) | st.sampled_from(["a/b", 'quote "', "back\\slash", "é", "\udcff", "line\nbreak"])
NUMBERS = st.integers(0, 10**11) | st.floats(0, 1e10)
ROWS = st.builds(
    Row,
    TEXTS,
    st.sampled_from(["ok", "skipped", "failed"]),
    TEXTS,
    st.lists(TEXTS, max_size=3).map(tuple),
    st.none() | st.tuples(st.integers(), st.integers()),
    st.none() | NUMBERS,
    st.none() | TEXTS,
    st.none() | st.dictionaries(TEXTS, st.tuples(st.integers(), TEXTS), max_size=2),
    st.none() | TEXTS,
    st.none() | st.floats(0, 1),
    st.lists(TEXTS, max_size=2).map(tuple),
    st.none() | st.floats(0, 0.02) | st.floats(0, 1),
    st.none() | TEXTS,
    st.none() | st.dictionaries(TEXTS, st.floats(0, 1), max_size=2),
    NUMBERS,
)


def _of(row: Row) -> tuple[object, ...]:
    flags = bool(row.missing), row.little_foreground, row.nothing_found
    return encode_name(row.id), row.status, row.time, row.shard, *flags


def _parts(key: RowKey) -> tuple[object, ...]:
    flags = (bool(key.flags & flag) for flag in (LACKS_LABEL, LITTLE_FOREGROUND, NOTHING_FOUND))
    return key.id, key.status, key.time, key.shard, *flags


@given(ROWS)
def test_the_key_of_any_row(row: Row) -> None:
    key = RowKey.from_json(row.to_json().encode())
    assert _parts(key) == _of(row) and Row.from_json(key.line) == Row.from_checked_json(key.line) == row


@given(ROWS, st.data())
def test_damaged_lines_are_refused_as_rows_are(row: Row, data: st.DataObject) -> None:
    line = bytearray(row.to_json().encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(line) - 1))
        line[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2) | st.sampled_from([b"0", b",", b'"'])
        )
        if not line:
            break
    try:
        expected = _of(Row.from_json(bytes(line)))
    except ValueError:
        with pytest.raises(ValueError):
            RowKey.from_json(bytes(line))
    else:
        assert _parts(RowKey.from_json(bytes(line))) == expected


def test_the_rows_of_a_run_take_the_short_way() -> None:
    """Those with all attributes, too."""
    saved = {"confidence": (70, "b" * 64), "cams": (900, "c" * 64)}
    labels, missing = ("a dog", "cat", "bus"), ("cat", "bus")
    mask = ("a" * 64, saved, "m-0.tar", 0.9731, missing, 0.271828)
    full = Row("sub/a", "ok", "", labels, (375, 500), 0.0123, *mask, "d" * 64, SCORES, 1.7e9)
    nothing = Row("b", "ok", labels=("cat",), missing=("cat",), foreground=0.0)
    speck = Row("c", "ok", labels=("cat",), foreground=2e-06)
    for row in (
        full,
        nothing,
        speck,
        Row("a", "failed", "[Errno 5] Input/output error", ("dog",), time=1700000000.123),
    ):
        assert row_key._LINE.fullmatch(row.to_json().encode())
