"""Files of an image's maps: enough to decide its mask again without the network.

``keys`` (C,) int64, class ids less one, as CLIP-ES counts them; ``patch_cams`` (C, h, w) float32 in [0, 1], the maps on
the patch grid; ``size`` (2,) int64, the image's (H, W); and, for the readers of CLIP-ES's files, ``attn_highres``
(C, H, W) float16, the maps at the image's size.
"""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .atomic import write_bytes
from .images import MAX_PIXELS, TarMember
from .npz import check_array_bytes


class PatchCams(NamedTuple):
    """The maps of one image: class ids (C,) int64, 1..K; ``patch_cams`` (C, h, w) float32 in [0, 1]; (H, W)."""

    class_ids: NDArray[np.int64]
    patch_cams: NDArray[np.float32]
    size: tuple[int, int]


def write_cams(path: str | os.PathLike[str], maps: PatchCams, cams: NDArray[np.float32] | None) -> None:
    """Write :func:`cams_npz_bytes` to a file, which is whole or absent.

    Raises ValueError if ``path`` does not end in .npz, OSError if it cannot be written.
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"maps are an .npz file, not {os.fspath(path)!r}; end its name in .npz")
    write_bytes(path, cams_npz_bytes(maps, cams))


def cams_npz_bytes(maps: PatchCams, cams: NDArray[np.float32] | None) -> bytes:
    """The .npz file of ``maps``, and of ``cams`` (C, H, W) as ``attn_highres`` unless it is None."""
    arrays: dict[str, Any] = {"keys": maps.class_ids - 1, "patch_cams": maps.patch_cams, "size": np.array(maps.size)}
    if cams is not None:
        arrays["attn_highres"] = cams.astype(np.float16)
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read_cams(path: str | os.PathLike[str] | TarMember, classes: int) -> PatchCams:
    """The maps of a file that :func:`write_cams` wrote, or of a member of a .tar.

    Raises ValueError, naming the file, for anything else, or if its ids are not in 1..``classes``.
    """
    if not isinstance(path, TarMember) and not os.path.isfile(path):  # a named pipe would wait for ever
        raise ValueError(f"{path}: not a file")
    try:
        content = BytesIO(path.read()) if isinstance(path, TarMember) else path
        with zipfile.ZipFile(content) as archive:
            for name in _READ:
                check_array_bytes(archive, name, _MAX_BYTES, "maps")
        if isinstance(content, BytesIO):
            content.seek(0)
        with np.load(content, allow_pickle=False) as file:
            keys, maps, size = (np.asarray(file[name]) for name in _READ)
    except Exception as error:  # numpy's and zipfile's parsers raise nearly anything on hostile bytes
        raise ValueError(f"{path}: no maps of `clipes generate --save-cams`: {error}") from error
    kinds = keys.dtype.kind == "i" and maps.dtype == np.float32 and size.dtype.kind == "i"
    fit = keys.ndim == 1 and maps.ndim == 3 and len(keys) == len(maps) and 0 not in maps.shape[1:]
    if not (kinds and fit and size.shape == (2,) and (size > 0).all() and int(size[0]) * int(size[1]) <= MAX_PIXELS):
        raise ValueError(f"{path}: keys {keys.shape}, patch_cams {maps.shape}, size {size} do not fit together")
    if not ((keys >= 0) & (keys < classes)).all() or not ((maps >= 0) & (maps <= 1)).all():
        raise ValueError(f"{path}: keys are not all in 0..{classes - 1}, or patch_cams not in [0, 1]")
    return PatchCams(keys.astype(np.int64) + 1, maps, (int(size[0]), int(size[1])))


_READ = ("keys", "patch_cams", "size")
_MAX_BYTES = 2**28  # of an array that is read: a thousand labels on a grid of 256 x 256 patches
