"""Which device and precision a model runs on."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

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


def room(device: torch.device) -> float:
    """Bytes of a GPU that one batch may take: half of what is free, since another is worked on beside it."""
    if device.type == "cpu":
        return math.inf
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + cached) / 2


class Budget:
    """A sum of bytes that threads share: each takes what it needs while it works, and waits until there is so much.

    What is more than all of it is given to a thread that is alone.
    """

    def __init__(self, total: float):
        self._total, self._changed = total, threading.Condition()
        self._taken: list[float] = []

    @contextmanager
    def taken(self, amount: float) -> Iterator[None]:
        """Wait for ``amount``, and give it back at the end. A thread that has some already may wait for itself."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or sum(self._taken) + amount <= self._total)
            self._taken.append(amount)
        try:
            yield
        finally:
            with self._changed:
                self._taken.remove(amount)
                self._changed.notify_all()


_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux tells what a container, or a job of Slurm's, may take."""


def memory(device: torch.device, processes: int = 1) -> float:
    """Bytes that batches worked on side by side may take together: on a CPU half of what ``processes`` like this one
    may have, divided among them, where the system tells; a GPU's batches look for themselves, see :func:`room`.
    """
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(Path(path).read_text()))
    return min(found) / 2 / processes


def default_jobs(device: torch.device) -> int:
    """Batches worked on side by side unless told otherwise: 1 on a CPU, else 2."""
    return 1 if device.type == "cpu" else 2


def split_threads(each: int | None, device: torch.device, images: int) -> int:
    """Give an image on a CPU ``each`` threads of torch: by default one, which wastes least, or all where there is one.

    Returns how many batches side by side keep all threads busy that torch had; on a GPU :func:`default_jobs`.
    """
    if device.type != "cpu":
        return default_jobs(device)
    threads = torch.get_num_threads()
    each = each or (threads if images == 1 else 1)
    torch.set_num_threads(each)
    return max(1, threads // each)


def begin_thread(threads: int, device: torch.device) -> None:
    """What torch remembers for each thread: how many threads it computes with, and a GPU's stream."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.synchronize()  # the weights are there
        torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]


def to_host(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Tensors as arrays; from a GPU through pinned memory, all of them with one wait."""
    if not any(tensor.is_cuda for tensor in tensors):
        return [tensor.numpy() for tensor in tensors]
    copies = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]


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
