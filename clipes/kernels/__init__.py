"""Triton kernels for CUDA: each has a portable counterpart in torch, to which it is equal but for rounding.

Only the modules of this package import triton; who uses one asks :func:`usable` first, and imports it then.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor


def usable(tensor: Tensor) -> bool:
    """Whether there are kernels for the tensor's device: for a GPU since Ampere; on older ones they do not fit."""
    return tensor.is_cuda and _has_triton() and _is_recent(tensor.device)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def _is_recent(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
