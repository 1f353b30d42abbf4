"""clipes.io.keyed_cache: what is read back, and under which key. Broken files: test_text_cache, test_analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipes.io.keyed_cache import KeyedCache

ARRAYS = {"features": np.ones((2, 3), np.float32)}


def test_arrays_are_read_back_only_under_their_key(tmp_path: Path) -> None:
    cache = KeyedCache(tmp_path / "new", "features")
    assert cache.get("k" * 64) is None
    cache.put("k" * 64, ARRAYS)
    found = cache.get("k" * 64)
    assert found is not None and list(found) == ["features"] and found["features"].tolist() == [[1] * 3] * 2
    assert cache.get("k" * 32 + "x" * 32) is None
    assert KeyedCache(tmp_path / "new", "counts").get("k" * 64) is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"features-{'k' * 32}.npz"]


def test_without_a_folder_nothing_is_cached() -> None:
    cache = KeyedCache(None)
    cache.put("k" * 64, ARRAYS)
    assert cache.get("k" * 64) is None


def test_errors_of_writing_are_raised_or_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    KeyedCache(tmp_path / "file", ignore_write_errors=True).put("k" * 64, ARRAYS)
    with pytest.raises(OSError, match="file"):
        KeyedCache(tmp_path / "file").put("k" * 64, ARRAYS)
