"""The compiled mean field: ``crf.cpp`` as the installation built it, where it had a C++ compiler.

It is plain machine code behind ctypes, which releases the interpreter's lock: threads refine images side by side.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.config import CrfConfig

_KEPT_PIXELS = 2**19  # a spatial lattice takes about 60 bytes a pixel; those of larger images are not kept


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None where there is none, which is said once."""
    spec = importlib.util.find_spec("clipes.refine._crf")
    try:
        if spec is None or spec.origin is None:
            raise OSError("it was not built")
        return _declared(ctypes.CDLL(spec.origin))
    except (OSError, AttributeError) as error:
        logging.getLogger("clipes").warning(
            "no compiled CRF (%s): the portable one gives the same masks, about three times slower; "
            "with a C++ compiler, install clipes again",
            error,
        )
        return None


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    loaded.clipes_spatial.restype = ctypes.c_void_p
    loaded.clipes_spatial.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_float]
    loaded.clipes_free.restype = None
    loaded.clipes_free.argtypes = [ctypes.c_void_p]
    real, whole, address = ctypes.c_float, ctypes.c_int, ctypes.c_void_p
    loaded.clipes_mean_field.argtypes = [*[address] * 3, *[whole] * 3, address, *[real] * 4, whole]
    return loaded


class _Spatial:
    """The lattice of the smoothness kernel for one image size; freed with its last owner."""

    address: int | None = None  # also of one whose making was interrupted

    def __init__(self, code: Any, height: int, width: int, sigma: float):
        self._free = code.clipes_free
        self.address = code.clipes_spatial(height, width, sigma)
        if not self.address:
            raise _failure(1, height, width)

    def __del__(self) -> None:
        if self.address:
            self._free(self.address)


_kept_spatial = lru_cache(maxsize=8)(_Spatial)


def compiled_mean_field(
    code: Any, image: NDArray[np.uint8], scores: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.float32]:
    """As :func:`clipes.refine.crf.mean_field` by the library ``code``; image (H, W, 3), scores (R, H, W)."""
    height, width = image.shape[:2]
    image, scores = np.ascontiguousarray(image, np.uint8), np.ascontiguousarray(scores, np.float32)
    make = _kept_spatial if height * width <= _KEPT_PIXELS else _Spatial
    smooth = make(code, height, width, config.smooth_sigma)
    refined = np.empty_like(scores)
    status = code.clipes_mean_field(
        image.ctypes.data,
        scores.ctypes.data,
        refined.ctypes.data,
        height,
        width,
        len(scores),
        smooth.address,
        config.smooth_weight,
        config.bilateral_sigma,
        config.colour_sigma,
        config.bilateral_weight,
        config.iterations,
    )
    if status:
        raise _failure(status, height, width)
    return refined


def _failure(status: int, height: int, width: int) -> Exception:
    if status == 1:
        return MemoryError(f"no memory for the CRF of a picture of {height} x {width} pixels; make it smaller")
    return ValueError(f"the CRF's kernels are too narrow for {height} x {width} pixels; use larger sigmas")
