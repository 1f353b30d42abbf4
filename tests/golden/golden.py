"""What other methods' own code gave on small random inputs, as arrays, and how the library is compared with it.

The arrays lie beside this file, in ``before/`` and ``after/``. Where the environment variable ``CLIPES_GOLDEN`` names a
folder with ``before/`` and ``after/``, they are read from there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FOLDER = Path(os.environ.get("CLIPES_GOLDEN") or Path(__file__).parent)


def arrays(side: str, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of ``golden_NAME.npz`` by key; ``side`` is "before" or "after"."""
    with np.load(FOLDER / side / f"golden_{name}.npz") as file:
        return dict(file)


def close(key: str, got: ArrayLike, want: ArrayLike, tolerance: float = 1e-4) -> None:
    """The largest difference is at most ``tolerance`` as a share of the largest golden value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, key
    gap = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-300))
    assert gap <= tolerance, f"{key}: {gap:.1e}"


def same(key: str, got: ArrayLike, want: ArrayLike, most: int = 0) -> None:
    """At most ``most`` labels differ: 0 where no number is near a tie."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, key
    count = int((got != want).sum())
    assert count <= most, f"{key}: {count} of {want.size} differ"


def softmax(values: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    """Softmax along an axis."""
    exponentials = np.exp(values - values.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)
