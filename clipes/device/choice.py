"""Which device and precision a model runs on."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str | torch.device | None) -> torch.device:
    """``device`` as torch's; by default CUDA if available, else the CPU.

    Raises ValueError for a device that is neither a CPU nor CUDA, or that torch does not see.
    """
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
    """The number of images read and encoded together: 1 on a CPU, where larger batches are not faster, else 32.

    A GPU encodes them in smaller groups if its memory is too small, see :func:`clipes.device.memory.free_gpu_memory`.
    """
    return 1 if device.type == "cpu" else 32


def choose_dtype(precision: str | None, device: torch.device) -> torch.dtype:
    """The dtype of ``precision``, by default fp16 on CUDA and fp32 elsewhere.

    Raises ValueError for an unknown precision and for fp16 on a CPU. Warns of bf16 on a CPU without bf16 instructions.
    """
    if precision is None:
        precision = "fp16" if device.type == "cuda" else "fp32"
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; it is one of {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 is about ten times slower than fp32 on a CPU; use 'bf16' or 'fp32'")
    if precision == "bf16" and device.type == "cpu" and not _has_bf16():
        warnings.warn("this CPU emulates bf16 in fp32, which is slower than fp32 itself", stacklevel=2)
    return DTYPES[precision]


def _has_bf16() -> bool:
    """Whether the CPU has bfloat16 instructions; True if torch cannot tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities[name] for name in capabilities if "bf16" in name) or not capabilities


def dtype_name(precision: str | None, kind: str) -> str:
    """The name of the dtype that :func:`choose_dtype` chooses on a kind of device, such as ``float16`` on ``cuda``.

    The device need not exist on this machine.
    """
    return str(choose_dtype(precision, torch.device(kind))).removeprefix("torch.")


def gpu_of(local_rank: int) -> str | None:
    """The GPU for one of several processes on a machine, such as ``cuda:1``; None if torch sees no GPU."""
    return f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else None
