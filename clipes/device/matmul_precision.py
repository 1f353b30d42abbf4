"""Float32 matrix products by the fast way that a device has, for as long as it is wanted.

torch's settings are the whole process's: they are changed while a thread is inside :func:`fast_products`, and restored
when the last one has left.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

EXACT = 1e-6
"""Relative error of a product up to which it counts as computed in float32; by MKL it is 2.5e-7 (768 terms)."""


class _Precision:
    """A ``fp32_precision`` of torch.backends, changed while at least one thread is inside."""

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


def fast_products(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A context for what an encoder of ``dtype`` multiplies in float32.

    On a GPU TF32 beside a lower ``dtype``, whose rounding is as coarse. On a CPU oneDNN instead of MKL, which is
    slower on some processors; only where a product checked against float64 shows that it computes in float32.
    With a torch before 2.9, which has no such settings, nothing changes.
    """
    if not hasattr(torch.backends.mkldnn, "matmul"):
        return nullcontext()
    if device.type == "cuda":
        return nullcontext() if dtype == torch.float32 else _TF32
    return _ONEDNN if _is_exact() else nullcontext()


# "bf16" permits oneDNN to round to bfloat16, which it does where that is faster than float32: on processors with AMX,
# not on those that only have AVX-512. Any other value leaves the products to MKL.
_ONEDNN = _Precision(getattr(torch.backends.mkldnn, "matmul", None), "bf16")
_TF32 = _Precision(torch.backends.cuda.matmul, "tf32")


@cache
def _is_exact() -> bool:
    """Whether what oneDNN makes of float32 products is float32: a linear layer of a ViT, and attention scores."""
    random = torch.Generator().manual_seed(0)
    shapes = [((577, 768), (768, 768)), ((12, 577, 64), (12, 64, 577))]
    with torch.inference_mode(), _ONEDNN:
        for one, other in shapes:
            x, y = torch.randn(one, generator=random), torch.randn(other, generator=random)
            exact = x.double() @ y.double()
            if float((x @ y - exact).norm() / exact.norm()) > EXACT:
                return False
    return True
