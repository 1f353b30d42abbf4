"""Triton kernels for CUDA. Each has a counterpart in torch, which gives the same result except for rounding.

Only the modules of this package import triton. A caller asks :func:`usable` first, then imports and calls the kernel in
a block of :func:`fallback`; behind it is what does the same in torch.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

_refused: set[str] = set()  # kernels that did not compile


def usable(tensor: Tensor, kernel: str) -> bool:
    """Whether a kernel, a name for :func:`fallback`, runs on the tensor's device and has compiled so far.

    The kernels run on GPUs since Ampere; older ones have too little shared memory.
    """
    return tensor.is_cuda and _is_recent(tensor.device) and _has_triton() and kernel not in _refused


@contextmanager
def fallback(kernel: str) -> Iterator[None]:
    """Leave the block where the compiler refuses a kernel that is called in it, without an error.

    A warning is logged once; from then on the kernel is not :func:`usable`. A kernel is compiled before it runs, so
    nothing has been changed. Other errors are raised.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_compiler(error):
            raise
        if kernel not in _refused:
            _refused.add(kernel)
            _warn(f"the kernel {kernel!r} does not compile for this GPU", error)


def _is_of_compiler(error: Exception) -> bool:
    """Whether a kernel could not be compiled. Triton's classes, its passes' error, or that of ptxas or a C compiler."""
    names = {kind.__name__ for kind in type(error).__mro__}  # the module of Triton's base class has changed
    return "TritonError" in names or isinstance(error, subprocess.CalledProcessError) or "PassManager" in str(error)


def _warn(what: str, error: Exception) -> None:
    reason = (str(error) or type(error).__name__).partition("\n")[0]
    text = "%s (%s): the portable path gives the same masks, slower"
    logging.getLogger("clipes").warning(text, what, reason)


@cache
def _has_triton() -> bool:
    """Whether Triton is installed and works: it needs a C compiler for its launcher."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        import triton

        return bool(triton.runtime.driver.active.utils)
    except Exception as error:  # compilers and drivers fail in many ways
        _warn("no kernels for the GPU: Triton needs a C compiler", error)
        return False


@cache
def _is_recent(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
