"""Classification of torch's errors: out of memory, or a device that has failed."""

from __future__ import annotations

import torch


class DeviceLost(RuntimeError):
    """The GPU has failed: the image is not the cause, and other images would fail as well."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is torch's out-of-memory error, of a GPU or of the CPU allocator."""
    kinds = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return any(kind in str(error).lower() for kind in kinds)


def is_device_error(error: BaseException) -> bool:
    """Whether ``error`` says that the GPU itself has failed."""
    lost = getattr(torch, "AcceleratorError", ())
    return isinstance(error, lost) or str(error).startswith(("CUDA error", "CUDA driver error", "cuDNN error"))
