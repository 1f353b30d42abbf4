"""The precision of float32 matrix products: as fast as is exact enough, whatever other threads and the host set.

torch's ``fp32_precision`` is one setting for all threads of a process. Threads that want the same value share it; a
thread that wants another one waits until they have left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import torch

from .inference import inference

EXACT = 1e-6
"""The largest relative error of a product that counts as float32; MKL's is 2.5e-7 for 768 terms."""

# "bf16" allows oneDNN to round to bfloat16. It does so on processors with AMX, and not on those that only have AVX-512.
# With any other value MKL computes the products.
_ONEDNN, _MKL, _TF32, _FLOAT32 = "bf16", "ieee", "tf32", "ieee"


class _SharedSetting:
    """A backend's ``fp32_precision``, which any number of threads hold at one value and none at another."""

    def __init__(self, backend: Any):
        self._backend = backend
        self._turn = threading.Lock()  # who waits for another value has it: threads that come later wait behind
        self._changed = threading.Condition()
        self._held = threading.local()
        self._inside, self._value, self._before = 0, "", ""

    @contextmanager
    def hold(self, value: str) -> Iterator[None]:
        """Wait until no thread holds another value, and hold this one. RuntimeError if this thread holds another."""
        own = getattr(self._held, "value", None)
        if own is not None:
            if own != value:
                raise RuntimeError(f"this thread computes with the precision {own!r} and asks for {value!r}")
            yield
            return
        self._enter(value)
        self._held.value = value
        try:
            yield
        finally:
            self._held.value = None
            self._leave()

    def _enter(self, value: str) -> None:
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._inside or self._value == value)
            if not self._inside:
                self._before, self._value = self._backend.fp32_precision, value
                self._backend.fp32_precision = value
            self._inside += 1

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            if not self._inside:
                self._backend.fp32_precision = self._before
                self._changed.notify_all()


_CPU = _SharedSetting(torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
_CUDA = _SharedSetting(torch.backends.cuda.matmul)


def matmul_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A context in which float32 products are as fast as an encoder of ``dtype`` allows.

    On a GPU it is TF32 if ``dtype`` is lower than float32, because its rounding is as coarse. On a CPU it is oneDNN
    instead of MKL, which is slower on some processors, if a check against float64 shows that oneDNN computes in
    float32.
    """
    if device.type == "cuda":
        return _CUDA.hold(_FLOAT32 if dtype == torch.float32 else _TF32)
    return _CPU.hold(_ONEDNN) if onednn_is_exact() else float32_products()


def float32_products() -> AbstractContextManager[None]:
    """A context in which the CPU's float32 products are MKL's, on every processor. Without it they are torch's own."""
    return _CPU.hold(_MKL)


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN's float32 products are exact enough, for a linear layer of a ViT and for attention scores.

    The check changes the products of all threads while it runs, so it waits for those in :func:`matmul_precision`, and
    they wait for it. A process finds out once, when it loads a model.
    """
    random = torch.Generator().manual_seed(0)
    shapes = [((577, 768), (768, 768)), ((12, 577, 64), (12, 64, 577))]
    with inference(), _CPU.hold(_ONEDNN):
        for left, right in shapes:
            x, y = (torch.randn(shape, generator=random, dtype=torch.float32) for shape in (left, right))
            exact = x.double() @ y.double()
            if float((x @ y - exact).norm() / exact.norm()) > EXACT:
                return False
    return True
