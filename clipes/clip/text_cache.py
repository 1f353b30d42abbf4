"""Text features kept on disk, so that the same words are encoded once by the same model.

A file holds the features of one list of token sequences by one model, as the last bits of a feature may depend on what
was encoded with it: what a run gives must not depend on what ran before. Its name is a hash of the model's fingerprint,
the tokens, and the versions of torch and open_clip, and the hash stands in it again; a file that does not say the
same, is broken, or holds what is no unit feature is not used but written anew. Where the folder cannot be written,
nothing is kept. Any of it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from clipes.io.atomic import atomic


class _Fingerprinted(Protocol):
    @property
    def fingerprint(self) -> str: ...


def cache_folder() -> Path | None:
    """``$CLIPES_CACHE``, else ``clipes`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; None where there is no home."""
    own = os.environ.get("CLIPES_CACHE")
    try:
        if own:
            return Path(own).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "clipes")
    except RuntimeError:  # a user whom the system does not know, in a container say
        return None


def cached(encode: Callable[[], Tensor], tower: _Fingerprinted, tokens: Tensor) -> Tensor:
    """The features (n, E) float32 of ``tokens`` (n, L) by ``tower``: from disk, else by ``encode()``."""
    folder = cache_folder()
    if folder is None:
        return encode()
    key = _key(tower.fingerprint, tokens)
    path = folder / "text" / f"{key[:32]}.npz"
    found = _read(path, key, len(tokens))
    if found is not None:
        return found
    features = encode()
    with suppress(OSError), atomic(path) as temporary:
        np.savez(temporary, key=np.array(key), features=features.cpu().numpy())
    return features


def _key(fingerprint: str, tokens: Tensor) -> str:
    made_by = f"{fingerprint} torch {torch.__version__} open_clip {version('open_clip_torch')} {tuple(tokens.shape)} "
    return hashlib.sha256(made_by.encode() + tokens.cpu().to(torch.int64).numpy().tobytes()).hexdigest()


def _read(path: Path, key: str, count: int) -> Tensor | None:
    """The features of a file if it is whole and says ``key``, else None."""
    try:
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["key"]) != key:
                return None
            features = arrays["features"]
    except Exception:  # zipfile's and numpy's readers raise nearly anything on broken bytes
        return None
    if features.dtype != np.float32 or features.ndim != 2 or len(features) != count:
        return None
    good = np.abs(np.linalg.norm(features, axis=1) - 1) < 1e-3
    return torch.from_numpy(features) if good.all() else None
