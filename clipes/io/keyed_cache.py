"""Arrays cached on disk under a key: the hash of everything that they depend on.

The key names the file and is stored inside, so that a stale, foreign or broken file is never used. Any file of a cache
may be deleted at any time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic


@dataclass(frozen=True)
class KeyedCache:
    """A folder of .npz files, each named by its key.

    Attributes:
        folder: where the files are, made when the first is written; None: nothing is cached.
        kind: begins the files' names where caches of several kinds share a folder.
        ignore_write_errors: whether an array that cannot be written is left out rather than an error.
    """

    folder: Path | None
    kind: str = ""
    ignore_write_errors: bool = False

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays put under ``key``; None if there are none or their file is broken."""
        if self.folder is None or not (path := self._path(self.folder, key)).is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except Exception:  # zipfile's and numpy's readers raise nearly anything on broken bytes
            return None
        stored = arrays.pop("key", None)
        return arrays if stored is not None and stored.shape == () and str(stored) == key else None

    def put(self, key: str, arrays: dict[str, NDArray[Any]]) -> None:
        """Write the arrays under ``key``, atomically. Raises OSError unless ``ignore_write_errors``."""
        if self.folder is None:
            return
        with suppress(*([OSError] if self.ignore_write_errors else [])), atomic(self._path(self.folder, key)) as path:
            np.savez_compressed(path, key=np.array(key), **arrays)  # type: ignore[arg-type]

    def _path(self, folder: Path, key: str) -> Path:
        return folder / f"{self.kind}{'-' if self.kind else ''}{key[:32]}.npz"
