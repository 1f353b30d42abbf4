"""What an index of rows needs of each: a fifth of the time that reading the whole row takes, and a million is read so.

A line in the form of :meth:`clipes.store.row.Row.to_json` is recognised by a regular expression; any other is read as a
row, so that the same lines are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from clipes.io.tempdb import encode_name
from clipes.label_rules import LEAST_FOREGROUND

from .row import Row, Status

_TEXT = r"[ !#-\[\]-~]*"  # without what JSON escapes
_COUNT = r"(?:0|[1-9][0-9]{0,9})"
_NUMBER = rf"{_COUNT}(?:\.[0-9]{{1,20}})?(?:e-[0-9]{{1,2}})?"
_SHARE = r"(?:0(?:\.[0-9]{1,20})?|1(?:\.0)?|[1-9](?:\.[0-9]{1,20})?e-[0-9]{1,2})"
_TEXTS = rf'\["{_TEXT}"(?:, "{_TEXT}")*\]'
_FILE = rf'"{_TEXT}": \[{_COUNT}, "{_TEXT}"\]'
_LINE = re.compile(
    rf'\{{"id": "(?P<id>{_TEXT})", "status": "(?P<status>ok|skipped|failed)"'
    rf'(?:, "reason": "{_TEXT}")?'
    rf'(?P<labels>, "labels": {_TEXTS})?'
    rf'(?:, "size": \[{_COUNT}, {_COUNT}\])?'
    rf'(?:, "seconds": {_NUMBER})?'
    rf'(?:, "checksum": "{_TEXT}")?'
    rf'(?:, "saved": \{{{_FILE}(?:, {_FILE})*\}})?'
    rf'(?:, "shard": "(?P<shard>{_TEXT})")?'
    rf'(?:, "confidence": {_SHARE})?'
    rf'(?P<missing>, "missing": {_TEXTS})?'
    rf'(?:, "foreground": (?P<foreground>{_SHARE}))?'
    rf'(?:, "regions": "{_TEXT}")?'
    rf'(?:, "scores": \{{(?:"{_TEXT}": {_SHARE}(?:, "{_TEXT}": {_SHARE})*)?\}})?'
    rf'(?:, "time": (?P<time>{_COUNT}(?:\.[0-9]{{1,20}})?))?\}}\n?'
)


class RowKey(NamedTuple):
    """The part of a :class:`clipes.store.row.Row` that is counted, or tells which row of an image counts; its line.

    ``lacks_label`` is whether the row has missing labels, ``id`` is that of :func:`clipes.io.tempdb.encode_name`.
    """

    id: bytes
    status: Status
    time: float
    shard: str | None
    line: str
    lacks_label: bool = False
    little_foreground: bool = False

    @classmethod
    def from_json(cls, text: bytes) -> RowKey:
        """The key of a line. Raises ValueError as :meth:`clipes.store.row.Row.from_json`."""
        line = text.decode("ascii", "replace")
        if match := _LINE.fullmatch(line):
            status: Status = match["status"]  # type: ignore[assignment]  # one of three
            name, shard, time = match.group("id", "shard", "time")
            little = match["labels"] is not None and float(match["foreground"] or 1) < LEAST_FOREGROUND
            lacks_label = match["missing"] is not None
            return cls(name.encode("ascii"), status, float(time or 0), shard, line, lacks_label, little)
        row = Row.from_json(text)
        suspicions = bool(row.missing), row.little_foreground
        return cls(encode_name(row.id), row.status, row.time, row.shard, row.to_json(), *suspicions)
