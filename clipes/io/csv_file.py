"""CSV files, written whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

from .atomic import AnyPath, atomic


def write_csv(path: AnyPath, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, row by row as ``rows`` gives them. Names that are no Unicode are written as the bytes they are.

    OSError where it cannot be written; then, and where ``rows`` raises, what was there stays.
    """
    with (
        atomic(path) as temporary,
        open(temporary, "x", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
