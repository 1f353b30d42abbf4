"""clipes.kernels.fallback: a kernel that the compiler refuses is left out, and the result is that of torch."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from clipes import kernels
from clipes.cams.boxes import _regions
from clipes.clip.transformer import Block, run_block_with_map
from clipes.clip.weights import load_clip
from clipes.config import CrfConfig
from clipes.refine import crf, lattice

pytest.importorskip("triton")
from triton.compiler.errors import CompilationError

REFUSALS = [
    CompilationError("source", None, "mask type matches ptr type"),
    RuntimeError("PassManager::run failed"),
    subprocess.CalledProcessError(1, ["ptxas"]),
]


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there for the kernels alone, and has refused none."""
    monkeypatch.setattr(kernels, "_refused", set())
    monkeypatch.setattr(kernels, "usable", lambda tensor, kernel: kernel not in kernels._refused)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_what_does_not_compile_is_left_out_and_said_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def call() -> str:
        with kernels.fallback("lattice"):
            raise error
        return "torch"

    assert [call(), call()] == ["torch", "torch"]
    assert kernels._refused == {"lattice"} and len(caplog.records) == 1
    assert "'lattice' does not compile" in caplog.text and caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("Triton Error [CUDA]: invalid argument")]
)
def test_other_errors_are_raised(error: Exception) -> None:
    with pytest.raises(type(error)), kernels.fallback("lattice"):
        raise error
    assert not kernels._refused


def _filter() -> Tensor:
    torch.manual_seed(0)
    return lattice.build_lattice(torch.rand(2, 40), [40]).filter(torch.rand(40, 3))


def _mean_field() -> Tensor:
    torch.manual_seed(0)
    crf._cached_spatial.cache_clear()
    return crf.mean_field([torch.zeros(6, 8, 3, dtype=torch.uint8)], [torch.rand(3, 6, 8)], CrfConfig(iterations=2))[0]


def _label() -> Tensor:
    torch.manual_seed(0)
    return _regions(torch.rand(2, 5, 7) > 0.5)


CALLS: dict[str, Callable[[], Tensor]] = {
    "lattice.filter_values": _filter,
    "links.link": _filter,
    "lattice.iterate": _mean_field,
    "regions.label_regions": _label,
}


def _refuse(*arguments: Any) -> None:
    raise CompilationError("source", None, "refused")


@pytest.mark.parametrize("name", CALLS)
def test_torch_does_the_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _without_kernels(CALLS[name], monkeypatch)
    monkeypatch.setattr(f"clipes.kernels.{name}", _refuse)
    got = CALLS[name]()
    assert kernels._refused == {name.partition(".")[0]}
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # the other kernels round in another order


def test_torch_attends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the totals are not added to twice."""
    encoder = load_clip("tiny", device="cpu").vision
    block: Block = encoder.blocks[-1]
    x = torch.rand(2, 10, encoder.prefix.shape[1])

    def run() -> Tensor:
        total = torch.zeros(2, 9, 9)
        out = run_block_with_map(block, x, [(total, 0.5)])
        return torch.cat([out.flatten(), total.flatten()])

    expected = _without_kernels(run, monkeypatch)
    monkeypatch.setattr("clipes.kernels.attention.attend", _refuse)
    assert run().equal(expected) and kernels._refused == {"attention"}


def _without_kernels(call: Callable[[], Tensor], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "usable", lambda tensor, kernel: False)
        return call()
