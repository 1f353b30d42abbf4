"""Images on their way through the stages of the Ray engine, as Arrow tables: the form in which they travel."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clipes.datasets import Sample
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
        content: what the next stage needs of it: its pixels, its result or its files; None where it
            needs no more work.
    """

    sample: Sample
    row: Row | None = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()
    content: Any = None


def table_of(items: Sequence[Item]) -> pyarrow.Table:
    """Items as an Arrow table of one column: a row each, pickled."""
    import pyarrow as pa

    return pa.table({"item": pa.array([_pickled(item) for item in items], pa.large_binary())})


def items_of(table: pyarrow.Table) -> list[Item]:
    """The items that :func:`table_of` made a table of."""
    return [pickle.loads(data.as_buffer()) for data in table["item"]]


def _pickled(item: Item) -> bytes:
    """The item; an error that does not pickle is a RuntimeError with its text."""
    if item.error:
        try:
            pickle.loads(pickle.dumps(item.error))
        except Exception:
            item = replace(item, error=RuntimeError(f"{type(item.error).__name__}: {item.error}"))
    return pickle.dumps(item, protocol=5)
