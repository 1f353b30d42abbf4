"""Triton kernels for CUDA. Each has a counterpart in torch, which gives the same result except for rounding.

Only the modules of this package import triton. A caller asks :func:`usable` first, and then imports the kernel.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor


def usable(tensor: Tensor) -> bool:
    """Whether the kernels run on the tensor's device: GPUs since Ampere; older ones have too little shared memory."""
    return tensor.is_cuda and _is_recent(tensor.device) and _has_triton()


@cache
def _has_triton() -> bool:
    """Whether Triton is installed and works: it needs a C compiler for its launcher."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        import triton

        return bool(triton.runtime.driver.active.utils)
    except Exception as error:  # compilers and drivers fail in many ways
        logging.getLogger("clipes").warning(
            "no kernels for the GPU (%s): the portable path gives the same masks, slower; Triton needs a C compiler",
            (str(error) or type(error).__name__).partition("\n")[0],
        )
        return False


@cache
def _is_recent(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
