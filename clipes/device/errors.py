"""What an error says of a device: out of memory, or lost."""

from __future__ import annotations

import torch


class DeviceLost(RuntimeError):
    """The GPU does not work any more: no image is to blame, and no other would do better."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is torch's, of a GPU or of its allocator on a CPU, for want of memory."""
    kinds = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return any(kind in str(error).lower() for kind in kinds)


def is_device_error(error: BaseException) -> bool:
    """Whether ``error`` says that the GPU itself does not work any more."""
    lost = getattr(torch, "AcceleratorError", ())
    return isinstance(error, lost) or str(error).startswith(("CUDA error", "CUDA driver error", "cuDNN error"))
