"""Samples as Arrow tables: the form in which they travel between machines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes.datasets import Sample
from clipes.io.images import TarMember
from clipes.io.tempdb import blob, text

if TYPE_CHECKING:
    import pyarrow


def table_of(samples: Sequence[Sample]) -> pyarrow.Table:
    """Samples as an Arrow table, a row each. Texts are bytes: names of files need not be UTF-8."""
    import pyarrow as pa

    members = [sample.image if isinstance(sample.image, TarMember) else None for sample in samples]
    files = [sample.image.tar if isinstance(sample.image, TarMember) else sample.image for sample in samples]
    name = pa.binary()
    columns = {
        "id": pa.array([blob(sample.id) for sample in samples], name),
        "file": pa.array([os.fsencode(file) for file in files], name),
        "member": pa.array([member and blob(member.name) for member in members], name),
        "offset": pa.array([member and member.offset for member in members], pa.int64()),
        "size": pa.array([member and member.size for member in members], pa.int64()),
        "labels": pa.array([[blob(label) for label in sample.labels] for sample in samples], pa.list_(name)),
        "origin": pa.array([blob(sample.origin) for sample in samples], name),
    }
    return pa.table(columns)


def samples_of(table: pyarrow.Table) -> list[Sample]:
    """The samples that :func:`table_of` made a table of."""
    return [_sample(row) for row in table.to_pylist()]


def _sample(row: Mapping[str, Any]) -> Sample:
    file = Path(os.fsdecode(row["file"]))
    member = row["member"]
    image = file if member is None else TarMember(file, text(member), row["offset"], row["size"])
    return Sample(text(row["id"]), image, tuple(text(label) for label in row["labels"]), text(row["origin"]))
