"""Computing in a host's process: its autocast, default device, default dtype and grad mode change no result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def inference() -> Iterator[None]:
    """``torch.inference_mode``, with autocast off and the CPU as default device. A context, or a decorator.

    The default dtype is one for all threads, so it is not switched here: code inside states its dtypes.
    """
    with torch.inference_mode(), _without_autocast(), _default_device():
        yield


@contextmanager
def loading() -> Iterator[None]:
    """The CPU as default device and float32 as default dtype, in which open_clip builds a model."""
    before = torch.get_default_dtype()
    if before != torch.float32:
        torch.set_default_dtype(torch.float32)
    try:
        with _without_autocast(), _default_device():
            yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


@contextmanager
def _without_autocast() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _default_device() -> Iterator[None]:
    """The CPU as default device; where it is, nothing is done, because torch's context slows every call down."""
    if torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"):
            yield
