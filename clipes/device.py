"""Which device and precision a model runs on."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str | torch.device | None) -> torch.device:
    """``device``, by default CUDA where there is one, else the CPU; ValueError for another or one that is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}; use 'cpu', 'cuda' or 'cuda:0'") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is not supported; use 'cpu', 'cuda' or 'cuda:0'")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return chosen


def default_batch_size(device: torch.device) -> int:
    """Images encoded together unless told otherwise: 1 on a CPU, where more gains nothing, else 16."""
    return 1 if device.type == "cpu" else 16


def choose_dtype(precision: str | None, device: torch.device) -> torch.dtype:
    """The type of ``precision``, by default fp16 on CUDA and fp32 elsewhere; ValueError for fp16 on a CPU."""
    if precision is None:
        precision = "fp16" if device.type == "cuda" else "fp32"
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; it is one of {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 is about ten times slower than fp32 on a CPU; use 'bf16' or 'fp32'")
    return DTYPES[precision]


def dtype_name(precision: str | None, kind: str) -> str:
    """The name of :func:`choose_dtype`'s type on a device of a kind that need not be here: ``float16`` on ``cuda``."""
    return str(choose_dtype(precision, torch.device(kind))).removeprefix("torch.")


def gpu_of(local_rank: int) -> str | None:
    """The GPU of one of several processes of a machine; None where torch sees none."""
    return f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else None


def use_threads(count: int | None) -> None:
    """Let torch compute with ``count`` threads; None: as many as it likes."""
    if count is not None:
        torch.set_num_threads(count)


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
