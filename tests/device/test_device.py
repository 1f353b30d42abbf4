"""Sharing a machine's memory and threads, and bringing results to the host."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clipes.device import memory
from clipes.device.choice import choose_device, choose_dtype
from clipes.device.memory import MemoryBudget, cpu_memory_limit, free_gpu_memory
from clipes.device.pixels import to_host
from clipes.device.threads import configure_threads

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("each", "images", "jobs", "left"), [(None, 9, 6, 1), (None, 1, 1, 6), (2, 9, 3, 2), (4, 1, 1, 4), (9, 9, 1, 9)]
)
def test_threads_are_split_among_images(each: int | None, images: int, jobs: int, left: int) -> None:
    assert configure_threads(each, CPU, images) == jobs
    assert torch.get_num_threads() == left


def test_a_gpu_has_two_batches_and_leaves_the_threads() -> None:
    assert configure_threads(3, GPU, 100) == 2
    assert torch.get_num_threads() == 6


def test_a_budget_is_never_exceeded_but_by_one_alone() -> None:
    budget, lock, inside, most = MemoryBudget(10), threading.Lock(), [], []

    def work(amount: int) -> None:
        for _ in range(20):
            with budget.reserve(amount):
                with lock:
                    inside.append(amount)
                    most.append(tuple(inside))
                time.sleep(0.0005)
                with lock:
                    inside.remove(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (3, 4, 6, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 80 and not inside
    assert all(sum(some) <= 10 or some == (25,) for some in most)
    assert any(len(some) > 1 for some in most)


def test_a_budget_comes_back_after_an_error() -> None:
    budget = MemoryBudget(1)
    for _ in range(3):
        with pytest.raises(KeyError), budget.reserve(1):
            raise KeyError


@pytest.mark.parametrize("total", [1.0, math.inf])
def test_a_budget_leaves_no_residue(total: float) -> None:
    """Fractions and infinities: when nobody has any, everybody gets what he asks for."""
    budget = MemoryBudget(total)
    with budget.reserve(0.1), budget.reserve(0.2), budget.reserve(0.3):
        pass
    for amount in (5, math.inf, math.nan, 5):
        with budget.reserve(amount):
            pass


def test_a_container_may_have_less_than_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("1000000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", [str(tmp_path / name) for name in ("none", "limit", "missing")])
    assert cpu_memory_limit(CPU) == 500_000 and cpu_memory_limit(CPU, 2) == 250_000


def test_there_is_one_cpu() -> None:
    assert choose_device("cpu:0").type == "cpu"
    with pytest.raises(ValueError, match="device 'cpu:7': there is one CPU; use 'cpu'"):
        choose_device("cpu:7")


def test_memory_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", ())
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.__getitem__, raising=False)
    assert cpu_memory_limit(CPU) == 2**31 and cpu_memory_limit(CPU, 4) == 2**29
    assert cpu_memory_limit(GPU) == free_gpu_memory(CPU) == math.inf


def test_arrays_of_a_cpu_are_the_tensors_themselves() -> None:
    tensors = [torch.arange(3), torch.ones(2, 2)]
    arrays = to_host(tensors)
    arrays[0][0] = 7
    assert tensors[0].tolist() == [7, 1, 2] and arrays[1].shape == (2, 2)
    assert to_host([]) == []


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [({"avx512_bf16": False, "amx_bf16": False}, True), ({"avx512_bf16": True, "amx_bf16": False}, False), ({}, False)],
)
def test_bf16_without_arithmetic_for_it(monkeypatch: pytest.MonkeyPatch, capabilities: Any, warned: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert choose_dtype("bf16", CPU) == torch.bfloat16
        assert choose_dtype("bf16", GPU) == torch.bfloat16
    assert [str(one.message) for one in caught] == [
        "this CPU emulates bf16 in fp32, which is slower than fp32 itself"
    ] * warned
