"""The compiled mean field: ``crf.cpp``, which the installation builds if there is a C++ compiler.

It is called through ctypes, which releases the interpreter's lock, so that threads refine images in parallel.
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

_MAX_CACHED_PIXELS = 2**19  # of an image whose spatial lattice is cached; it takes about 60 bytes per pixel


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None if it is missing; then a warning is logged once."""
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
    float_, int_, address = ctypes.c_float, ctypes.c_int, ctypes.c_void_p
    loaded.clipes_mean_field.argtypes = [*[address] * 3, *[int_] * 3, address, *[float_] * 4, int_]
    return loaded


class _Spatial:
    """The lattice of the smoothness kernel for one image size; freed when the last reference is dropped."""

    address: int | None = None  # the default, for __del__ after an interrupted __init__

    def __init__(self, code: Any, height: int, width: int, sigma: float):
        self._free = code.clipes_free
        self.address = code.clipes_spatial(height, width, sigma)
        if not self.address:
            raise _failure(1, height, width)

    def __del__(self) -> None:
        if self.address:
            self._free(self.address)


_cached_spatial = lru_cache(maxsize=8)(_Spatial)


def compiled_mean_field(
    code: Any, image: NDArray[np.uint8], scores: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.float32]:
    """Mean field by the compiled library ``code``, for one image (H, W, 3) and its scores (R, H, W).

    The same as :func:`clipes.refine.crf.mean_field` except for rounding.
    """
    height, width = image.shape[:2]
    image, scores = np.ascontiguousarray(image, np.uint8), np.ascontiguousarray(scores, np.float32)
    make = _cached_spatial if height * width <= _MAX_CACHED_PIXELS else _Spatial
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
