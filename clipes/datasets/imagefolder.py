"""A folder with `metadata.jsonl` or `metadata.csv`, as Hugging Face's `imagefolder` has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .sample import DatasetError, RawSample, check_text
from .table_format import DEFAULT_FORMAT, TableFormat
from .tables import READERS, to_names

_NO_LABELS = (
    "no labels; they are {!r} (a list of names, or one string with {!r} between them), 'label' or "
    "'objects': {{'categories': [...]}}"
)
_NAMES = ("metadata.csv", "metadata.jsonl")


def find_metadata(folder: Path) -> list[Path]:
    """The metadata files in a folder and below it, sorted; DatasetError for two kinds in one folder."""
    tables = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = [Path(parent, name) for name in _NAMES if name in files]
        if len(here) > 1:
            raise DatasetError(f"{here[0]} and {here[1]}: only one of them can count; remove the other")
        tables += here
    return tables


def read_metadata(
    folder: Path, tables: Sequence[Path], class_names: Sequence[str] | None, form: TableFormat = DEFAULT_FORMAT
) -> Iterator[RawSample]:
    """Yield the images of the rows; `file_name` is relative to its table, ids to `folder`.

    Labels are those of `form.label_column` (names, or one string with `form.separator` between them), `label` (a name),
    or `objects.categories` or `objects.category` (names); whole numbers are indices in `class_names`.
    """
    for table in tables:
        prefix = table.parent.relative_to(folder).as_posix()
        for line, row in READERS[table.suffix](table, ("file_name",), form):
            where = f"{table}, line {line}"
            name = row.get("file_name")
            if not isinstance(name, str) or not name.strip():
                raise DatasetError(f"{where}: the file_name is {name!r}; write the image's path")
            name = name.strip()
            check_text(name, where)
            values = _values(row, where, form)
            labels = None if values is None else to_names(values, class_names, where)
            full = os.path.normpath(name if prefix == "." else f"{prefix}/{name}").replace(os.sep, "/")
            origin = where if labels is not None else f"{where}: {_NO_LABELS.format(form.label_column, form.separator)}"
            yield RawSample(full, table.parent / name, labels, origin, where)


def _values(row: dict[str, Any], where: str, form: TableFormat) -> list[Any] | None:
    """The values of a row's labels; None where it has none. Raises DatasetError for those of another form."""
    labels: Any = row.get(form.label_column, row.get(form.label_column.lower()))
    if labels is None and row.get("label") is not None:
        labels = [row["label"]] if row["label"] != "" else []
    if labels is None and isinstance(objects := row.get("objects"), dict):
        labels = next((objects[name] for name in ("categories", "category") if name in objects), None)
    if isinstance(labels, str):
        labels = form.split(labels)
    if labels is not None and not isinstance(labels, list):
        raise DatasetError(f"{where}: {_NO_LABELS.format(form.label_column, form.separator)}")
    return labels
