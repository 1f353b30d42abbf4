"""Float32 products by the fast way: exact where it is used, and torch's settings as they were afterwards."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from clipes.clip.weights import load_clip
from clipes.device import matmul_precision as products
from clipes.device.matmul_precision import EXACT, float32_products, matmul_precision

CPU = torch.device("cpu")
MATMUL, TF32 = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def _not_found_out_yet() -> None:
    products.onednn_is_exact.cache_clear()


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
        assert MATMUL.fp32_precision == "ieee"
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
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)
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


def test_text_is_encoded_by_mkl_while_no_thread_uses_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)
    seen = []

    def encode() -> None:
        with float32_products():
            seen.append(MATMUL.fp32_precision)

    with matmul_precision(CPU, torch.float32):
        thread = threading.Thread(target=encode)
        thread.start()
        thread.join(0.2)
        assert not seen and MATMUL.fp32_precision == "bf16"
    thread.join(60)
    assert seen == ["ieee"]


def test_a_gpu_has_tf32_beside_lower_precisions_only() -> None:
    cuda, before = torch.device("cuda"), TF32.fp32_precision
    with matmul_precision(cuda, torch.float32):
        assert TF32.fp32_precision == "ieee"
    with matmul_precision(cuda, torch.float16):
        assert TF32.fp32_precision == "tf32"
        with matmul_precision(cuda, torch.bfloat16):
            assert TF32.fp32_precision == "tf32"
        with pytest.raises(RuntimeError, match="computes with the precision 'tf32' and asks for 'ieee'"):
            matmul_precision(cuda, torch.float32).__enter__()
    assert TF32.fp32_precision == before


def test_threads_of_either_precision_take_turns() -> None:
    """Float32 images of one thread, lower precisions of others, which never leave a gap of their own."""
    cuda, before = torch.device("cuda"), TF32.fp32_precision
    wrong, turns = [], []

    def work(dtype: torch.dtype, value: str, count: int) -> None:
        for _ in range(count):
            with matmul_precision(cuda, dtype):
                turns.append(value)
                time.sleep(0.002)
                if TF32.fp32_precision != value:
                    wrong.append(value)

    kinds = [(torch.float16, "tf32", 60)] * 3 + [(torch.float32, "ieee", 20)]
    threads = [threading.Thread(target=work, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and len(turns) == 200 and TF32.fp32_precision == before
    assert turns.index("ieee") < 150, "float32 does not wait for all the others to end"


def test_a_model_finds_out_before_any_thread_computes() -> None:
    load_clip("tiny", device="cpu")
    assert products.onednn_is_exact.cache_info().currsize == 1
