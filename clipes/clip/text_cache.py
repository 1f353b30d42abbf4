"""Text features kept on disk, so that the same words are encoded once by the same model.

There is one file per list of token sequences, because batching changes the last bits of a feature: what a run gives
must not depend on what ran before. The key is a hash of the model's fingerprint, the tokens, and the versions of torch
and open_clip. Where the folder cannot be written, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from clipes.io.keyed_cache import KeyedCache


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


def load_or_encode(encode: Callable[[], Tensor], tower: _Fingerprinted, tokens: Tensor) -> Tensor:
    """The features (n, E) float32 of ``tokens`` (n, L) by ``tower``: from disk, else by ``encode()``."""
    folder = cache_folder()
    if folder is None:
        return encode()
    cache, key = KeyedCache(folder / "text", ignore_write_errors=True), _key(tower.fingerprint, tokens)
    cached = _checked(cache.get(key) or {}, len(tokens))
    if cached is not None:
        return cached
    features = encode()
    cache.put(key, {"features": features.cpu().numpy()})
    return features


def _key(fingerprint: str, tokens: Tensor) -> str:
    made_by = f"{fingerprint} torch {torch.__version__} open_clip {version('open_clip_torch')} {tuple(tokens.shape)} "
    return hashlib.sha256(made_by.encode() + tokens.cpu().to(torch.int64).numpy().tobytes()).hexdigest()


def _checked(arrays: dict[str, np.ndarray], count: int) -> Tensor | None:
    """The features of a cached file if they are ``count`` unit vectors, else None."""
    features = arrays.get("features")
    if features is None or features.dtype != np.float32 or features.ndim != 2 or len(features) != count:
        return None
    is_unit = np.abs(np.linalg.norm(features, axis=1) - 1) < 1e-3
    return torch.from_numpy(features) if is_unit.all() else None
