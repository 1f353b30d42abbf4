"""clipes.device.backoff: which items fail, which errors are nobody's fault, and how batches shrink."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipes.device.backoff import Backoff, Failure
from clipes.device.errors import DeviceLost


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 8))
def test_only_the_items_at_fault_fail(good: list[bool], size: int) -> None:
    def work(batch: Sequence[int]) -> list[int]:
        bad = [index for index in batch if not good[index]]
        if bad:
            raise ValueError(f"bad {bad[0]}")
        assert len(batch) <= size
        return [10 * index for index in batch]

    expected = [10 * index if ok else Failure(f"bad {index}") for index, ok in enumerate(good)]
    assert Backoff(size).run(range(len(good)), work) == expected


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_batch_stays_small_once_memory_was_short(error: Exception) -> None:
    """And no other batch does, of which the images may be smaller. It is said once."""
    sizes, backoff = [], Backoff(7)

    def work(batch: Sequence[int]) -> Sequence[int]:
        sizes.append(len(batch))
        if len(batch) > 2 and batch[0] < 100:
            raise error
        return batch

    with pytest.warns(UserWarning, match="out of memory with 7 images; making them 4 at a time") as said:
        assert backoff.run(range(7), work) == list(range(7))
        assert backoff.run(range(100, 107), work) == list(range(100, 107))
        assert backoff.run(range(4), work) == list(range(4))
    assert sizes == [7, 3, 1, 2, 2, 2, 7, 4, 2, 2] and len(said) == 1


def test_what_is_wrong_is_said() -> None:
    def work(batch: Sequence[Exception]) -> list[None]:
        raise batch[0]

    errors = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), FloatingPointError("nan"), ValueError("x")]
    expected = [Failure("out of memory"), Failure("CUDA out of memory"), Failure("nan", True), Failure("x")]
    assert Backoff(1).run(errors, work) == expected


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("shapes do not fit"), RuntimeError),
        (RuntimeError("CUDA error: an illegal memory access"), DeviceLost),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("Triton Error [CUDA]: invalid argument"), RuntimeError),
        (ZeroDivisionError(), ZeroDivisionError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_error_that_no_item_is_to_blame_for_is_raised(error: BaseException, raised: type[BaseException]) -> None:
    def work(batch: Sequence[int]) -> list[int]:
        raise error

    with pytest.raises(raised) as caught:
        Backoff(2).run([1, 2], work)
    assert type(caught.value) is raised


@pytest.mark.filterwarnings("ignore:out of memory")
def test_the_failed_batchs_tensors_are_released_before_the_halves_are_tried() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def work(batch: Sequence[int]) -> Sequence[int]:
        gc.collect()
        assert not any(reference() is not None for reference in alive)
        held = torch.zeros(3)
        alive.append(weakref.ref(held))
        if len(batch) > 1:
            raise MemoryError
        return batch

    assert Backoff(3).run([1, 2, 3], work) == [1, 2, 3]
