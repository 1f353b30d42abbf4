"""Files of the patches of an image that a bank may keep: what the first pass of `clipes tag --tags bank` writes.

``features`` (n, E) float32, unit length; ``labels`` (n,) int32, the class index of each; ``entropies`` (n,) float32.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .images import TarMember


class PatchArrays(NamedTuple):
    """Patches of one or more images: unit features (n, E) float32, class indices (n,) int32, entropies (n,) float32."""

    features: NDArray[np.float32]
    labels: NDArray[np.int32]
    entropies: NDArray[np.float32]

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> PatchArrays:
        """Those that a mask (n,) or indices choose."""
        return PatchArrays(self.features[chosen], self.labels[chosen], self.entropies[chosen])


def patches_npz_bytes(patches: PatchArrays) -> bytes:
    """The .npz file of ``patches``."""
    file = BytesIO()
    np.savez(file, **patches._asdict())
    return file.getvalue()


def read_patches(member: TarMember) -> PatchArrays:
    """The patches of a member of a .tar. ValueError, naming it, for anything else."""
    try:
        with np.load(BytesIO(member.read()), allow_pickle=False) as file:
            features, labels, entropies = (np.asarray(file[name]) for name in PatchArrays._fields)
        fit = features.ndim == 2 and labels.shape == entropies.shape == features.shape[:1]
        if not fit or [features.dtype.str, labels.dtype.str, entropies.dtype.str] != ["<f4", "<i4", "<f4"]:
            raise ValueError(f"features {features.shape}, labels {labels.shape}, entropies {entropies.shape}")
    except OSError:
        raise
    except Exception as error:  # numpy's and zipfile's parsers raise nearly anything on broken bytes
        raise ValueError(f"{member}: no patches of `clipes tag --tags bank`: {error}") from error
    return PatchArrays(features, labels, entropies)
