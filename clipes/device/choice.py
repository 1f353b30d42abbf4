"""Which device and precision a model runs on."""

from __future__ import annotations

import warnings
from typing import Any, Literal

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
    if chosen.type == "cpu" and chosen.index:
        raise ValueError(f"device {device!r}: there is one CPU; use 'cpu'")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return chosen


def default_batch_size(device: torch.device) -> int:
    """Images read and encoded together unless told otherwise: 1 on a CPU, where more gains nothing, else 32.

    What the memory has no room for is encoded in smaller groups, see :func:`room`.
    """
    return 1 if device.type == "cpu" else 32


def choose_dtype(precision: str | None, device: torch.device) -> torch.dtype:
    """The type of ``precision``, by default fp16 on CUDA and fp32 elsewhere; ValueError for fp16 on a CPU.

    Warns of bf16 on a CPU without such arithmetic.
    """
    if precision is None:
        precision = "fp16" if device.type == "cuda" else "fp32"
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; it is one of {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 is about ten times slower than fp32 on a CPU; use 'bf16' or 'fp32'")
    if precision == "bf16" and device.type == "cpu" and not _has_bf16():
        warnings.warn("this CPU computes bf16 by way of fp32, which takes longer than fp32 alone", stacklevel=2)
    return DTYPES[precision]


def _has_bf16() -> bool:
    """Whether the CPU has arithmetic for bfloat16; True where torch cannot tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities[name] for name in capabilities if "bf16" in name) or not capabilities


def dtype_name(precision: str | None, kind: str) -> str:
    """The name of :func:`choose_dtype`'s type on a device of a kind that need not be here: ``float16`` on ``cuda``."""
    return str(choose_dtype(precision, torch.device(kind))).removeprefix("torch.")


def gpu_of(local_rank: int) -> str | None:
    """The GPU of one of several processes of a machine; None where torch sees none."""
    return f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else None
