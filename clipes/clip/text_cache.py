"""Text features cached on disk, so that one model encodes the same sentences once.

There is one file per request, because batching changes the last bits of a feature: a result must not depend on earlier
runs. The key is a hash of the model's fingerprint, the tokens, and the versions of torch and open_clip. If the folder
cannot be written, nothing is cached.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipes.io.keyed_cache import KeyedCache


def cache_folder() -> Path | None:
    """``$CLIPES_CACHE``, else ``clipes`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; None if there is no home folder."""
    own = os.environ.get("CLIPES_CACHE")
    try:
        if own:
            return Path(own).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "clipes")
    except RuntimeError:  # the system does not know this user, for example in a container
        return None


def load_or_encode(encode: Callable[[], Tensor], fingerprint: str, tokens: Tensor) -> Tensor:
    """The features (n, E) float32 of ``tokens`` (n, L): from the cache, else by ``encode()``.

    ``fingerprint`` is the hash of the model that ``encode`` uses.
    """
    folder = cache_folder()
    if folder is None:
        return encode()
    cache, key = KeyedCache(folder / "text", ignore_write_errors=True), _key(fingerprint, tokens)
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
