"""How a table of labels is written: its columns, its delimiter, and what separates the labels of a cell."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from .sample import DatasetError, without_suffix

DELIMITERS = ",;\t|"
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_IMAGE_COLUMNS = """
image images file filename file_name file_path filepath image_name imagename image_path imagepath image_id imageid
img img_name img_path path name id
"""
_LABEL_COLUMNS = """
labels label label_name labelname class classes class_name classname tag tags category categories category_name target
"""


@dataclass(frozen=True)
class TableFormat:
    """How tables of labels are written.

    Attributes:
        image_column: the column, or the key of a line of JSON, that names the image; letter case makes no difference
            in a CSV.
        label_column: the one that holds its labels.
        separator: what stands between the labels of a cell; white space around them is left out.
    """

    image_column: str = "image"
    label_column: str = "labels"
    separator: str = ";"

    def __post_init__(self) -> None:
        for name in ("image_column", "label_column", "separator"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or (name != "separator" and not value.strip()):
                raise ValueError(f"{name} is {value!r}; give a text that is not blank")
        if self.image_column.lower() == self.label_column.lower():
            raise ValueError(f"image_column and label_column are both {self.image_column!r}; give two columns")

    @property
    def columns(self) -> tuple[str, str]:
        """The columns of the image and of its labels."""
        return self.image_column, self.label_column

    def split(self, cell: str) -> list[str]:
        """Return the labels of a cell, which may be a list as Python or JSON write it; a blank cell has none.

        >>> TableFormat().split("cat; dog"), TableFormat().split("['cat', 'dog']"), TableFormat().split("")
        (['cat', ' dog'], ['cat', 'dog'], [])
        """
        cell = cell.strip()
        inner = cell[1:-1].strip() if cell and cell[-1] == _BRACKETS.get(cell[0]) else None
        if inner == "":
            return []
        if inner and not _QUOTED.sub("", inner).strip(" ,\n"):
            return [re.sub(r"\\(.)", r"\1", one[1] or one[2] or "") for one in _QUOTED.finditer(inner)]
        if not self.separator.strip():
            return cell.split()
        return cell.split(self.separator) if cell else []


DEFAULT_FORMAT = TableFormat()


def find_delimiter(header: str, columns: Sequence[str]) -> str:
    """Return the delimiter of a table by the line of its header: the first by which the columns are there."""
    for delimiter in DELIMITERS:
        cells = split_header(header, delimiter)
        if all(cells.count(column) == 1 for column in columns):
            return delimiter
    return max(DELIMITERS, key=lambda delimiter: len(split_header(header, delimiter)))


def split_header(header: str, delimiter: str) -> list[str]:
    """Return the names of the columns, in lower case."""
    try:
        cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip().lower() for cell in cells]


def header_error(where: str, cells: Sequence[str], columns: Sequence[str]) -> DatasetError:
    """The error for a header that has not each of `columns` once, with the flags that name those it has."""
    given = [cell.strip() for cell in cells]
    if any(without_suffix(cell) != cell for cell in given):
        return DatasetError(
            f"{where}: the header is {given}, which names an image; write {','.join(columns)!r} above it"
        )
    twice = next((column for column in columns if [cell.lower() for cell in given].count(column.lower()) > 1), None)
    if twice:
        return DatasetError(f"{where}: the header is {given}, with {twice!r} twice; rename one")
    write = f"{where}: the header is {given}; write {','.join(columns)!r}"
    if len(columns) == 1:
        return DatasetError(write)
    image = _like(given, _IMAGE_COLUMNS) or "COLUMN"
    label = _like([cell for cell in given if cell != image], _LABEL_COLUMNS) or "COLUMN"
    if image != "COLUMN" and label == "COLUMN" and len(given) > 2:
        write += "; a column for each class is not read: write the names of an image's classes into one, with ; between"
    flags = shlex.join(["--image-column", image, "--label-column", label])
    python = f"TableFormat(image_column={image!r}, label_column={label!r})"
    return DatasetError(f"{write}, or say which columns they are: {flags} (in Python table={python})")


def _like(cells: Sequence[str], names: str) -> str | None:
    by_name = {cell.lower().replace(" ", "_"): cell for cell in cells}
    return next((by_name[name] for name in names.split() if name in by_name), None)
