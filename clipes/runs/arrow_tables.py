"""Images on their way through the stages of the Ray engine, as Arrow tables: the form in which they travel."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipes.datasets import Sample
from clipes.io.images import TarMember
from clipes.io.tempdb import decode_name, encode_name
from clipes.store.record import Row

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Item:
    """One image between two stages.

    Attributes:
        sample: the sample.
        row: how it ended, where that is decided; a mask's row before its files are written, too.
        error: what ends the run, as it was raised in a stage; the image is not done then.
        warnings: what was warned of while it was read.
        arrays: what the next stage needs of it, by name.
    """

    sample: Sample
    row: Row | None = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def table_of(items: Sequence[Item], names: Iterable[str] = ()) -> pyarrow.Table:
    """Items as an Arrow table, a row each, with the arrays of these ``names``.

    Texts are bytes, because names of files need not be UTF-8. Arrays are copied once, into one buffer for each name.
    """
    import pyarrow as pa

    binary, samples = pa.binary(), [item.sample for item in items]
    members = [sample.image if isinstance(sample.image, TarMember) else None for sample in samples]
    files = [sample.image.tar if isinstance(sample.image, TarMember) else sample.image for sample in samples]
    columns = {
        "id": pa.array([encode_name(sample.id) for sample in samples], binary),
        "file": pa.array([os.fsencode(file) for file in files], binary),
        "member": pa.array([member and encode_name(member.name) for member in members], binary),
        "offset": pa.array([member and member.offset for member in members], pa.int64()),
        "size": pa.array([member and member.size for member in members], pa.int64()),
        "labels": pa.array([[encode_name(label) for label in sample.labels] for sample in samples], pa.list_(binary)),
        "origin": pa.array([encode_name(sample.origin) for sample in samples], binary),
        "row": pa.array([item.row and item.row.to_json() for item in items], pa.string()),
        "error": pa.array([item.error and pickle.dumps(_portable(item.error)) for item in items], binary),
        "warnings": pa.array([[encode_name(warning) for warning in item.warnings] for item in items], pa.list_(binary)),
    }
    for name in names:
        columns |= _array_columns(name, [item.arrays.get(name) for item in items])
    return pa.table(columns)


def items_of(table: pyarrow.Table, names: Iterable[str] = ()) -> list[Item]:
    """The items that :func:`table_of` made a table of. Their arrays are views of the table's memory: read-only."""
    names = tuple(names)
    columns = [_arrays(table, name) for name in names]
    plain = table.drop_columns([column for column in table.column_names if "." in column])
    return [
        Item(
            _sample(row),
            None if row["row"] is None else Row.from_json(row["row"]),
            None if row["error"] is None else pickle.loads(row["error"]),
            tuple(decode_name(warning) for warning in row["warnings"]),
            {name: array for name, array in zip(names, arrays, strict=True) if array is not None},
        )
        for row, *arrays in zip(plain.to_pylist(), *columns, strict=True)
    ]


def _sample(row: Mapping[str, Any]) -> Sample:
    file = Path(os.fsdecode(row["file"]))
    member = row["member"]
    image = file if member is None else TarMember(file, decode_name(member), row["offset"], row["size"])
    return Sample(
        decode_name(row["id"]), image, tuple(decode_name(label) for label in row["labels"]), decode_name(row["origin"])
    )


def _array_columns(name: str, arrays: Sequence[NDArray[Any] | None]) -> dict[str, Any]:
    """Arrays as three columns: data, dtype and shape; the latter two are null where there is no array."""
    import pyarrow as pa

    empty = np.empty(0, np.uint8)
    parts = [empty if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.concatenate([empty, *parts]))]
    return {
        f"{name}.data": pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(parts), buffers),
        f"{name}.dtype": pa.array([None if array is None else array.dtype.str for array in arrays], pa.string()),
        f"{name}.shape": pa.array([None if array is None else array.shape for array in arrays], pa.list_(pa.int64())),
    }


def _arrays(table: pyarrow.Table, name: str) -> list[NDArray[Any] | None]:
    kinds, shapes = table[f"{name}.dtype"].to_pylist(), table[f"{name}.shape"].to_pylist()
    data = table[f"{name}.data"]
    return [
        None if kind is None else np.frombuffer(scalar.as_buffer(), kind).reshape(shape)
        for scalar, kind, shape in zip(data, kinds, shapes, strict=True)
    ]


def _portable(error: Exception) -> Exception:
    """The error, or a RuntimeError with its text where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
