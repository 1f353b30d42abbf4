"""What an index of rows needs of each: a fifth of the time that reading the whole row takes, and a million is read so.

A line in the form of :meth:`clipes.store.row.Row.to_json` is recognised by a regular expression; any other is read as a
row, so that the same lines are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .row import Row, Status

_TEXT = r"[ !#-\[\]-~]*"  # without what JSON escapes
_COUNT = r"(?:0|[1-9][0-9]{0,9})"
_NUMBER = rf"{_COUNT}(?:\.[0-9]{{1,20}})?(?:e-[0-9]{{1,2}})?"
_FILE = rf'"{_TEXT}": \[{_COUNT}, "{_TEXT}"\]'
_LINE = re.compile(
    rf'\{{"id": "(?P<id>{_TEXT})", "status": "(?P<status>ok|skipped|failed)"'
    rf'(?:, "reason": "{_TEXT}")?'
    rf'(?:, "labels": \["{_TEXT}"(?:, "{_TEXT}")*\])?'
    rf'(?:, "size": \[{_COUNT}, {_COUNT}\])?'
    rf'(?:, "seconds": {_NUMBER})?'
    rf'(?:, "checksum": "{_TEXT}")?'
    rf'(?:, "saved": \{{{_FILE}(?:, {_FILE})*\}})?'
    rf'(?:, "shard": "(?P<shard>{_TEXT})")?'
    r'(?:, "confidence": (?:0(?:\.[0-9]{1,20})?|1(?:\.0)?))?'
    rf'(?:, "time": (?P<time>{_COUNT}(?:\.[0-9]{{1,20}})?))?\}}\n?'
)


class RowKey(NamedTuple):
    """The part of a :class:`clipes.store.row.Row` that tells which row of an image counts, and its line."""

    id: str
    status: Status
    time: float
    shard: str | None
    line: str

    def to_json(self) -> str:
        """The whole row, as it was read."""
        return self.line

    @classmethod
    def from_json(cls, text: bytes) -> RowKey:
        """The key of a line. Raises ValueError as :meth:`clipes.store.row.Row.from_json`."""
        line = text.decode("ascii", "replace")
        if match := _LINE.fullmatch(line):
            status: Status = match["status"]  # type: ignore[assignment]  # one of three
            return cls(match["id"], status, float(match["time"] or 0), match["shard"], line)
        row = Row.from_json(text)
        return cls(row.id, row.status, row.time, row.shard, row.to_json())
