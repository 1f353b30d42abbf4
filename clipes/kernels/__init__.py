"""Triton kernels for CUDA: each has a portable counterpart in torch, to which it is equal but for rounding.

Only the modules of this package import triton; who uses one asks :func:`usable` first, and imports it then.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor


def usable(tensor: Tensor) -> bool:
    """Whether there are kernels for the tensor's device: for a GPU since Ampere; on older ones they do not fit."""
    return tensor.is_cuda and _is_recent(tensor.device) and _has_triton()


@cache
def _has_triton() -> bool:
    """Whether Triton is there and works: it compiles its launcher by a C compiler, which not every machine has."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        import triton

        return bool(triton.runtime.driver.active.utils)
    except Exception as error:  # whatever a compiler or a driver may do
        logging.getLogger("clipes").warning(
            "no kernels for the GPU (%s): the portable path gives the same masks, slower; Triton needs a C compiler",
            (str(error) or type(error).__name__).partition("\n")[0],
        )
        return False


@cache
def _is_recent(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
