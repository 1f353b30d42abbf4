"""Float32 products by the fast way: exact where it is used, and torch's settings as they were afterwards."""

from __future__ import annotations

import threading

import pytest
import torch

from clipes.device import matmul_precision as products
from clipes.device.matmul_precision import EXACT, matmul_precision

if not hasattr(torch.backends.mkldnn, "matmul"):
    pytest.skip("torch before 2.9 has no such settings", allow_module_level=True)

CPU = torch.device("cpu")
MATMUL = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def _anew() -> None:
    products._probe.cache_clear()


@pytest.mark.parametrize("shapes", [((769, 768), (768, 3072)), ((4, 12, 70, 64), (4, 12, 64, 70)), ((3, 5), (5, 7))])
def test_products_are_those_of_float32(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    random = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape, generator=random) for shape in shapes)
    exact = x.double() @ y.double()
    with matmul_precision(CPU, torch.float32):
        assert float((x @ y - exact).norm() / exact.norm()) < EXACT


def test_a_processor_that_rounds_keeps_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """As oneDNN does on one with AMX: products in bfloat16."""
    real = torch.Tensor.__matmul__

    def rounding(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if MATMUL.fp32_precision == "bf16" and x.dtype == torch.float32:
            return real(x.bfloat16(), y.bfloat16()).float()
        return real(x, y)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "__matmul__", rounding)
        context = matmul_precision(CPU, torch.float32)
    before = MATMUL.fp32_precision
    with context:
        assert MATMUL.fp32_precision == before


def test_no_thread_multiplies_while_another_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe's precision holds for all threads: on a processor that rounds, all products would be rounded."""
    real, probing, multiplied = torch.Tensor.__matmul__, threading.Event(), threading.Event()

    def rounding(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if MATMUL.fp32_precision != "bf16" or x.dtype != torch.float32:
            return real(x, y)
        if threading.current_thread() is first:
            probing.set()
            multiplied.wait(0.5)
        return real(x.bfloat16(), y.bfloat16()).float()

    def probe() -> None:
        with matmul_precision(CPU, torch.float32):
            pass

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    first = threading.Thread(target=probe)
    first.start()
    assert probing.wait(60)
    with matmul_precision(CPU, torch.float32):
        product = x @ x
        multiplied.set()
    first.join(60)
    assert torch.equal(product, real(x, x))


def test_settings_are_restored_by_the_last_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_is_exact", lambda: True)
    before = MATMUL.fp32_precision
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with matmul_precision(CPU, torch.float32):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(KeyError), matmul_precision(CPU, torch.float32):
        assert MATMUL.fp32_precision == "bf16"
        raise KeyError
    assert MATMUL.fp32_precision == "bf16"
    leave.set()
    thread.join()
    assert MATMUL.fp32_precision == before


def test_a_gpu_has_tf32_beside_lower_precisions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    before = torch.backends.cuda.matmul.fp32_precision
    with matmul_precision(cuda, torch.float32):
        assert torch.backends.cuda.matmul.fp32_precision == before
    with matmul_precision(cuda, torch.float16):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_an_older_torch_has_no_such_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    monkeypatch.setattr(torch.backends, "mkldnn", object())
    for kind in ("cpu", "cuda"):
        with matmul_precision(torch.device(kind), torch.float16):
            assert (torch.backends.cuda.matmul.fp32_precision, MATMUL.fp32_precision) == (before, "none")
