"""The labels of each image, read from a CSV or JSONL table one row at a time."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipes.ids import is_background

from .piped import PipedTable
from .sample import AnyPath, DatasetError, LabelRow, clean_labels
from .table_format import DEFAULT_FORMAT, TableFormat, find_delimiter, header_error

Table = Path | PipedTable
_BACKGROUND = object()


def read_table(path: AnyPath, table: TableFormat = DEFAULT_FORMAT) -> Iterator[LabelRow]:
    """Yield the rows of a table of labels, lazily, in order.

    `path` is a CSV (or .tsv) with the header `image,labels`, labels separated by `;`, other columns ignored;
    JSONL, one `{"image": ..., "labels": [...]}` a line; or JSON, a list of such objects or `{"a.jpg": [...], ...}`,
    which is read into memory. The content of a :class:`clipes.datasets.piped.PipedTable` says which it is. `table` says
    other columns and another separator. The cells of a CSV may be separated by `;`, tabs or `|` as well; its labels may
    be a list in brackets. UTF-8, with or without a BOM. Repeated labels count once, in order; an image may have no
    label, and several rows.
    Raises FileNotFoundError, and DatasetError with the line for anything malformed.
    """
    path, empty = path if isinstance(path, PipedTable) else Path(path), True
    suffix = path.suffix.lower() if isinstance(path, Path) else path.suffix(table)
    if suffix not in READERS:
        known = ", ".join(READERS)
        names = [part.strip() for part in re.split("[,;]", str(path)) if part.strip()]
        given = "" if suffix or len(Path(path).parts) > 1 else f": {names}"
        raise DatasetError(
            f"{path}: a labels file is {known}; to give names, pass a list{given}; cls_labels.npy is one, too"
        )
    for line, row in READERS[suffix](path, table.columns, table):
        empty = False
        where = f"{path}, {'entry' if suffix == '.json' else 'line'} {line}"
        image, labels = (row.get(column, row.get(column.lower())) for column in table.columns)
        if isinstance(labels, str):
            labels = table.split(labels)
        if not isinstance(image, str) or not isinstance(labels, list):
            form = {table.image_column: "a.jpg", table.label_column: ["dog"]}
            raise DatasetError(f"{where}: not of the form {json.dumps(form)}: {json.dumps(row)[:200]}")
        if not image.strip() or "\0" in image:
            raise DatasetError(f"{where}: the image is blank or holds a NUL; write its path")
        _check_present(row, labels, where)
        yield LabelRow(image.strip(), clean_labels(labels, where), where)
    if empty:
        raise DatasetError(f"{path}: no image in it; write one row per image")


def _check_present(row: dict[str, Any], labels: list[Any], where: str) -> None:
    """Raise DatasetError for a row of Open Images that says that its label is absent."""
    confidence = row.get("confidence", row.get("Confidence"))
    if confidence is not None and re.fullmatch(r"0+(\.0*)?", str(confidence).strip()):
        raise DatasetError(
            f"{where}: its confidence is 0, which says that the image does not show {', '.join(map(str, labels))}; "
            "remove such rows, or that column"
        )


def row_key(row: LabelRow) -> str:
    """Return the image's path as rows are looked up by it: forward slashes, no leading `./` or `../`."""
    key = posixpath.normpath(row.image)
    while key.startswith("../"):
        key = key[3:]
    if key in (".", "..", "/", "//"):
        raise DatasetError(f"{row.origin}: {row.image!r} is a folder, not an image")
    return key


def to_names(values: Iterable[Any], class_names: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return names of classes: strings as they are; whole numbers, also as digits, as indices from 0 in `class_names`.

    Where `class_names` begins with the background, the number 0 stands for it and is left out.
    Raises DatasetError for a number without `class_names` or beyond them, and for anything else.

    >>> to_names(["dog", 0, "1"], ["cat", "fox"], "labels.json")
    ('dog', 'cat', 'fox')
    """
    labels = [_name(value, class_names, where) for value in values]
    return clean_labels([label for label in labels if label is not _BACKGROUND], where)


def _name(value: Any, class_names: Sequence[str] | None, where: str) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if (class_names is not None and text in class_names) or not (text.isascii() and text.isdigit()):
            return value
        value = int(text[:20])
    if not isinstance(value, int) or isinstance(value, bool):
        return value  # clean_labels refuses it
    if class_names is None:
        raise DatasetError(f"{where}: the label {value} is the index of a class, but no classes are given; give them")
    if value == 0 and class_names and is_background(class_names[0]):
        return _BACKGROUND
    if not 0 <= value < len(class_names):
        raise DatasetError(f"{where}: the label {value} is not an index of {len(class_names)} classes, counted from 0")
    return class_names[value]


def read_lines(path: Path | PipedTable, newline: str = "\n") -> Iterator[str]:
    """Yield the lines of a table or list, UTF-8 with or without a BOM; DatasetError with the line where it is not."""
    if isinstance(path, PipedTable):
        yield from io.StringIO(path.text, newline)
        return
    if not path.is_file():
        raise FileNotFoundError(
            f"no such file: {path}; a labels file is .csv, .tsv, .jsonl or .json, an image list .txt"
        )
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield from file
    except UnicodeDecodeError as error:
        raise _wrong_bytes(path) from error


def _wrong_bytes(path: Path) -> DatasetError:
    """The error for a file that is not UTF-8, with the line: text is decoded in blocks, which know of none."""
    with open(path, "rb") as file:
        for line, content in enumerate(file, start=1):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"byte 0x{content[error.start]:02x}"
                return DatasetError(f"{path}, line {line}: {byte} is not UTF-8; save the file as UTF-8")
    return DatasetError(f"{path}: not UTF-8; save the file as UTF-8")


def csv_rows(path: Table, columns: tuple[str, ...], table: TableFormat) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, cells by column in lower case) of each row; a quoted cell may run over several lines.

    The delimiter is that of the header. Blank rows are left out.
    Raises DatasetError with the line for broken CSV, and for a header that has not each of `columns` once.
    """
    needed = [column.strip().lower() for column in columns]
    delimiter = find_delimiter(next((line for line in read_lines(path, "") if line.strip()), ""), needed)
    reader = csv.reader(read_lines(path, ""), delimiter=delimiter, strict=True, skipinitialspace=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DatasetError(f"{path}, line {line}: broken CSV: {error}") from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip().lower() for cell in cells]
            if any(header.count(column) != 1 for column in needed):
                raise header_error(f"{path}, line {line}", cells, columns)
            continue
        labels_last = len(needed) > 1 and header[-1] == needed[1]
        if len(cells) > len(header) and labels_last and table.separator.strip() == delimiter.strip():
            cells[len(header) - 1 :] = [delimiter.join(cells[len(header) - 1 :])]
        if len(cells) != len(header):
            raise DatasetError(f"{path}, line {line}: {_wrong_count(cells, header, delimiter, table, labels_last)}")
        yield line, dict(zip(header, cells, strict=True))


def _wrong_count(
    cells: Sequence[str], header: Sequence[str], delimiter: str, table: TableFormat, labels_last: bool
) -> str:
    separator = table.separator if table.separator.strip() != delimiter.strip() else "; "[delimiter == ";"]
    found = f"{len(cells)} columns where the header has {len(header)}"
    if len(cells) < len(header):
        return f"{found}; end the row of an image without labels in {delimiter!r}"
    flag = f", or say --label-separator {delimiter!r}" if labels_last else ""
    return f"{found}; separate labels with {separator!r}, put them between quotation marks{flag}"


def jsonl_rows(path: Table, columns: tuple[str, ...], table: TableFormat) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of each line that is not blank. Raises DatasetError with the line for what is no object."""
    for line, content in enumerate(read_lines(path), start=1):
        if not content.strip():
            continue
        where = f"{path}, line {line}"
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: broken JSON: {error}") from error
        if not isinstance(value, dict):
            form = ", ".join(f'"{column}": ...' for column in columns)
            raise DatasetError(f"{where}: not of the form {{{form}}}: {content.strip()[:200]}")
        yield line, value


def json_rows(path: Table, columns: tuple[str, ...], table: TableFormat) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, object) of each entry of a list, or of a mapping from images to labels.

    Raises DatasetError for anything else.
    """
    try:
        content = json.loads("".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: broken JSON: {error}") from error
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        raise DatasetError(f"{path}: a file of COCO's form, which is a source: give coco:{path}")
    if isinstance(content, dict):
        content = [dict(zip(columns, pair, strict=True)) for pair in content.items()]
    for number, entry in enumerate(content if isinstance(content, list) else [content], start=1):
        if not isinstance(entry, dict):
            form = ", ".join(f'"{column}": ...' for column in columns)
            raise DatasetError(f"{path}, entry {number}: not of the form {{{form}}}: {json.dumps(entry)[:200]}")
        yield number, entry


READERS: dict[str, Callable[[Table, tuple[str, ...], TableFormat], Iterator[tuple[int, dict[str, Any]]]]] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".jsonl": jsonl_rows,
    ".json": json_rows,
}
"""The readers of rows by a table's suffix: each takes the file, the columns that it must have, and its format."""
