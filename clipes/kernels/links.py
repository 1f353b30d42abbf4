"""The links between a lattice's vertices on a GPU, by a hash table.

Axes: K axes of the lattice, V vertices, the last of which is none.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (a kernel's arguments bear no types: Triton reads annotations itself)

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 128  # vertices of a program: a thread each


def link(found: Tensor, moves: Sequence[int]) -> Tensor:
    """The neighbours (K, V, 2) int32 among the vertices of the keys ``found`` (V - 1,) int64, no two alike.

    What :func:`clipes.refine.lattice.build_lattice` finds by bisection, for keys in any order.
    """
    count = len(found)
    bits = max(count.bit_length() + 1, 2)  # two to four slots for a key
    table = torch.full(((1 << bits) + _BLOCK,), -1, dtype=torch.int32, device=found.device)
    table[1 << bits :] = 0  # where lanes knock that wait for others: never free
    pairs = torch.full((len(moves), count + 1, 2), count, dtype=torch.int32, device=found.device)
    steps = torch.tensor(moves, device=found.device)
    blocks = triton.cdiv(count, _BLOCK)
    with torch.cuda.device_of(found):
        _insert[(blocks,)](found, table, count, bits, _BLOCK)
        _find[(blocks, len(moves))](found, table, steps, pairs, count, bits, _BLOCK)
    return pairs


@triton.jit
def _home(key, bits):
    return ((key.to(tl.uint64) * 0x9E3779B97F4A7C15) >> (64 - bits).to(tl.uint64)).to(tl.int32)


@triton.jit(do_not_specialize=["count", "bits"])
def _insert(keys, table, count, bits, BLOCK: tl.constexpr):
    """Into the table (2^bits + BLOCK,), -1 where free, the number of every key; by whom first is left to chance."""
    lane = tl.arange(0, BLOCK)
    number = tl.program_id(0) * BLOCK + lane
    waiting = number < count
    slots = 1 << bits
    slot = _home(tl.load(keys + number, mask=waiting, other=0), bits)
    free = tl.full([BLOCK], -1, tl.int32)
    while tl.max(waiting.to(tl.int32), 0) > 0:
        held = tl.atomic_cas(table + tl.where(waiting, slot, slots + lane), free, number)
        waiting = waiting & (held != -1)
        slot = (slot + 1) & (slots - 1)


@triton.jit(do_not_specialize=["count", "bits"])
def _find(keys, table, moves, pairs, count, bits, BLOCK: tl.constexpr):
    """For one axis: found from one side, linked from both. The pairs (axes, count + 1, 2) hold ``count``, none."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    axis = tl.program_id(1)
    live = number < count
    wanted = tl.load(keys + number, mask=live, other=0) + tl.load(moves + axis)
    slot = _home(wanted, bits)
    after = tl.full([BLOCK], 0, tl.int32) + count
    waiting = live
    while tl.max(waiting.to(tl.int32), 0) > 0:
        held = tl.load(table + slot, mask=waiting, other=-1)
        waiting = waiting & (held != -1)
        hit = waiting & (tl.load(keys + held, mask=waiting, other=0) == wanted)
        after = tl.where(hit, held, after)
        waiting = waiting & (hit == 0)
        slot = (slot + 1) & ((1 << bits) - 1)
    pairs += axis.to(tl.int64) * 2 * (count + 1)
    tl.store(pairs + 2 * number.to(tl.int64), after, mask=live)
    tl.store(pairs + 2 * after.to(tl.int64) + 1, number, mask=live & (after < count))
