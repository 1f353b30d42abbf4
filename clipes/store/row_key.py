"""What an index of rows needs of each: a fifth of the time that reading the whole row takes, and a million is read so.

A line in the form of :meth:`clipes.store.row.Row.to_json` is recognised by a regular expression; any other is read as a
row, so that the same lines are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple, get_args

from clipes.io.tempdb import encode_name
from clipes.label_rules import LEAST_FOREGROUND

from .row import Row, Status

LACKS_LABEL, LITTLE_FOREGROUND, NOTHING_FOUND = 1, 2, 4  # bits of RowKey.flags
SUSPECT = LACKS_LABEL | LITTLE_FOREGROUND

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
    rf'(?:(?P<nothing>, "scores": \{{\}})|, "scores": \{{"{_TEXT}": {_SHARE}(?:, "{_TEXT}": {_SHARE})*\}})?'
    rf'(?:, "time": (?P<time>{_COUNT}(?:\.[0-9]{{1,20}})?))?\}}'.encode()
)
_STATUSES = {status.encode(): status for status in get_args(Status)}


class RowKey(NamedTuple):
    """The part of a :class:`clipes.store.row.Row` that is counted, or tells which row of an image counts; its line.

    ``id`` is that of :func:`clipes.io.tempdb.encode_name`. ``flags`` are ``LACKS_LABEL``, if the row has missing
    labels, plus ``LITTLE_FOREGROUND``, plus ``NOTHING_FOUND``.
    """

    id: bytes
    status: Status
    time: float
    shard: str | None
    line: bytes
    flags: int = 0

    @classmethod
    def from_json(cls, text: bytes) -> RowKey:
        """The key of a line. Raises ValueError as :meth:`clipes.store.row.Row.from_json`."""
        if match := _LINE.fullmatch(text):
            name, status, labels, shard, missing, foreground, nothing, time = match.groups()
            little = labels is not None and foreground is not None and float(foreground) < LEAST_FOREGROUND
            tar_file = None if shard is None else shard.decode("ascii")
            some = little or missing is not None or nothing is not None
            flags = _flags(missing is not None, little, nothing is not None) if some else 0
            return cls(name, _STATUSES[status], float(time or 0), tar_file, text, flags)
        row = Row.from_json(text)
        flags = _flags(bool(row.missing), row.little_foreground, row.nothing_found)
        return cls(encode_name(row.id), row.status, row.time, row.shard, row.to_json().encode("ascii"), flags)


def _flags(lacks_label: bool, little_foreground: bool, nothing_found: bool) -> int:
    return lacks_label * LACKS_LABEL | little_foreground * LITTLE_FOREGROUND | nothing_found * NOTHING_FOUND
