"""Classification of torch's errors: out of memory, or a device that has failed."""

from __future__ import annotations

import torch

_LOST = (  # of CUDA's errors those after which nothing runs on the GPU any more
    *("illegal memory access", "misaligned address", "illegal instruction", "invalid program counter"),
    *("device-side assert", "unspecified launch failure", "launch timed out", "hardware stack error", "uncorrectable"),
)


class DeviceLost(RuntimeError):
    """The GPU has failed: the image is not the cause, and other images would fail as well."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is torch's out-of-memory error, of a GPU or of the CPU allocator."""
    kinds = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return any(kind in str(error).lower() for kind in kinds)


def is_device_error(error: BaseException) -> bool:
    """Whether ``error`` says that the GPU itself has failed. Triton's may also be that of one launch."""
    text = str(error)
    if text.startswith("Triton Error [CUDA]"):
        return any(kind in text for kind in _LOST)
    return isinstance(error, torch.AcceleratorError) or text.startswith(
        ("CUDA error", "CUDA driver error", "cuDNN error")
    )
