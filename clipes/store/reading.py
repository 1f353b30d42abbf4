"""The files of a row, read and compared with it. A folder that is gone for a while is waited for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.io.cams_npz import PatchCams, read_cams
from clipes.io.images import TarMember, file_of
from clipes.io.masks import check_size, read_ids, read_png
from clipes.io.retry import read_retried

from .checksums import verified
from .row import Row

_GREY = ("L",), "is no confidence, which is 8-bit grey"


def read_mask(path: Path | TarMember, row: Row, folder: Path, classes: int) -> NDArray[Any]:
    """The ids (H, W) of the mask of a row in the run of ``folder``; ValueError where it is broken or of another size.

    This and the others raise :class:`clipes.io.retry.LastingTrouble` where the folder does not answer.
    """
    ids = read_retried(partial(read_ids, path, classes), file_of(path), [folder.absolute()])
    _check_size(ids.shape, path, row)
    return ids


def read_confidence(path: Path | TarMember, row: Row, folder: Path) -> NDArray[np.uint8]:
    """The confidence (H, W) of a row; errors as of :func:`read_mask`, and for one that has changed."""

    def read() -> NDArray[np.uint8]:
        return read_png(verified(path, row, "confidence"), *_GREY)

    grey = read_retried(read, file_of(path), [folder.absolute()])
    _check_size(grey.shape, path, row)
    return grey


def read_maps(path: Path | TarMember, row: Row, folder: Path, classes: int) -> PatchCams:
    """The maps of a row; errors as of :func:`read_mask`, and for those that have changed."""

    def read() -> PatchCams:
        return read_cams(verified(path, row, "cams"), classes)

    maps = read_retried(read, file_of(path), [folder.absolute()])
    _check_size(maps.size, path, row)
    return maps


def _check_size(size: tuple[int, ...], path: Path | TarMember, row: Row) -> None:
    if row.size is not None:
        check_size(size, path, row.size, "its record")
