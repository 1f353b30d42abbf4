"""Faster float32 matrix products, where a device has them and they are exact enough.

torch's ``fp32_precision`` is a global setting. :func:`matmul_precision` counts the threads that are inside it, and
restores the setting when the last one leaves.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

EXACT = 1e-6
"""The largest relative error of a product that counts as float32; MKL's is 2.5e-7 for 768 terms."""


class _Precision:
    """Sets a backend's ``fp32_precision`` while at least one thread is inside."""

    def __init__(self, backend: Any, value: str):
        self._backend, self._value = backend, value
        self._lock, self._inside, self._before = threading.Lock(), 0, ""

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before, self._backend.fp32_precision = self._backend.fp32_precision, self._value
            self._inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._backend.fp32_precision = self._before


def matmul_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A context in which float32 products are as fast as an encoder of ``dtype`` allows.

    On a GPU it is TF32 if ``dtype`` is lower than float32, because its rounding is as coarse. On a CPU it is oneDNN
    instead of MKL, which is slower on some processors, if a check against float64 shows that oneDNN computes in
    float32. torch before 2.9 has no such settings; there nothing changes.
    """
    if not hasattr(torch.backends.mkldnn, "matmul"):
        return nullcontext()
    if device.type == "cuda":
        return nullcontext() if dtype == torch.float32 else _TF32
    return _ONEDNN if _is_exact() else nullcontext()


# "bf16" allows oneDNN to round to bfloat16. It does so on processors with AMX, and not on those that only have AVX-512.
# With any other value MKL computes the products.
_ONEDNN = _Precision(getattr(torch.backends.mkldnn, "matmul", None), "bf16")
_TF32 = _Precision(torch.backends.cuda.matmul, "tf32")


def _is_exact() -> bool:
    """:func:`_probe`, by one thread at a time: the probe changes the products of all threads while it runs."""
    with _PROBE:
        return _probe()


_PROBE = threading.Lock()


@cache
def _probe() -> bool:
    """Whether oneDNN's float32 products are exact enough, for a linear layer of a ViT and for attention scores."""
    random = torch.Generator().manual_seed(0)
    shapes = [((577, 768), (768, 768)), ((12, 577, 64), (12, 64, 577))]
    with torch.inference_mode(), _ONEDNN:
        for left, right in shapes:
            x, y = torch.randn(left, generator=random), torch.randn(right, generator=random)
            exact = x.double() @ y.double()
            if float((x @ y - exact).norm() / exact.norm()) > EXACT:
                return False
    return True
