"""Which labels each image has, read from a table: CSV or JSONL."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

AnyPath: TypeAlias = str | os.PathLike[str]


class DatasetError(ValueError):
    """Images or labels that do not make a data set; the message names the file and the line."""


class LabelRow(NamedTuple):
    """The labels of one row of a labels file, and where it begins: `labels.csv, line 7`."""

    labels: tuple[str, ...]
    origin: str


Rows: TypeAlias = Mapping[str, LabelRow]


def read_labels(path: AnyPath) -> dict[str, tuple[str, ...]]:
    """Return the labels of each image of a labels file, by the image's name; see :func:`read_rows`."""
    return {image: row.labels for image, row in read_rows(path).items()}


def read_rows(path: AnyPath) -> dict[str, LabelRow]:
    """Return the rows of a labels file, by the image's name (forward slashes, no leading `./` or `../`).

    `path` is a CSV with the header `image,labels`, labels separated by `;`, other columns ignored; or
    JSONL, one `{"image": ..., "labels": [...]}` a line. UTF-8, with or without a BOM. Repeated labels count
    once, in order; no label at all is allowed. An image may come twice when its labels agree.
    Raises FileNotFoundError, and DatasetError with the line for anything malformed.
    """
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise DatasetError(f"{path}: a labels file is {' or '.join(readers)}; to give names, pass a list")
    rows: dict[str, LabelRow] = {}
    for line, image, labels in reader(read_text(Path(path)), str(path)):
        where = f"{path}, line {line}"
        key = _key(image, where)
        row = LabelRow(clean_labels(labels, where), where)
        first = rows.setdefault(key, row)
        if set(first.labels) != set(row.labels):
            raise DatasetError(f"{where}: other labels for {image!r} than {first.origin}; remove one")
    if not rows:
        raise DatasetError(f"{path}: no image in it; write one row per image")
    return rows


def read_text(path: Path) -> str:
    """The text of a table or list, UTF-8 with or without a BOM; DatasetError with the line where it is not."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; a labels file is .csv or .jsonl, an image list .txt")
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise DatasetError(f"{path}, line {line}: {byte} is not UTF-8; save the file as UTF-8") from error


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line, image, labels) of each row; a quoted cell may run over several lines."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DatasetError(f"{name}, line {line}: broken CSV: {error}") from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip().lower() for cell in cells]
            if header.count("image") != 1 or header.count("labels") != 1:
                raise DatasetError(f"{name}, line {line}: the header is {cells}; write 'image,labels'")
            continue
        if len(cells) != len(header):
            raise DatasetError(
                f"{name}, line {line}: {len(cells)} columns where the header has {len(header)}; "
                "separate labels with ';' and end the row of an image without labels in ','"
            )
        labels = cells[header.index("labels")]
        yield line, cells[header.index("image")], labels.split(";") if labels.strip() else []


def _jsonl_rows(text: str, name: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line, image, labels) of each line that is not blank."""
    for line, content in enumerate(text.split("\n"), start=1):  # splitlines() also splits inside JSON strings
        if not content.strip():
            continue
        where = f"{name}, line {line}"
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: broken JSON: {error}") from error
        image, labels = (value.get("image"), value.get("labels")) if isinstance(value, dict) else (None, None)
        if not isinstance(image, str) or not isinstance(labels, list):
            raise DatasetError(f'{where}: not of the form {{"image": "a.jpg", "labels": ["dog"]}}: {content}')
        yield line, image, labels


def clean_labels(labels: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the labels without surrounding space or repeats, in order."""
    labels = list(labels)
    if not all(isinstance(label, str) for label in labels):
        raise DatasetError(f"{where}: {labels!r} is not a list of strings")
    stripped = [label.strip() for label in labels]
    if "" in stripped:
        raise DatasetError(f"{where}: label {stripped.index('') + 1} of {len(stripped)} is blank; remove it")
    return tuple(dict.fromkeys(stripped))


def _key(image: str, where: str) -> str:
    """Return the name that a row gives its image in the form in which images are looked up."""
    if not image.strip() or "\0" in image:
        raise DatasetError(f"{where}: the image is blank or holds a NUL; write its path")
    key = posixpath.normpath(image.strip())
    while key.startswith("../"):
        key = key[3:]
    if key in (".", "..", "/", "//"):
        raise DatasetError(f"{where}: {image!r} is a folder, not an image")
    return key
