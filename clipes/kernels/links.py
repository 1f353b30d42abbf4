"""The neighbours of a lattice's vertices on a GPU, looked up in a hash table.

Axes: K axes of the lattice, V vertices, the last of which is a dummy for missing neighbours.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (the arguments of kernels have no type annotations, because Triton interprets annotations itself)

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 128  # vertices per program, one per thread


def link(keys: Tensor, moves: Sequence[int]) -> Tensor:
    """The neighbours (K, V, 2) int32 of the vertices with the distinct ``keys`` (V - 1,) int64, in any order.

    The neighbours along axis k of a vertex are those whose keys differ from its own by plus and minus ``moves[k]``.
    :func:`clipes.refine.lattice.build_lattice` computes the same by bisection of sorted keys.
    """
    count = len(keys)
    bits = max(count.bit_length() + 1, 2)  # two to four slots per key
    table = torch.full(((1 << bits) + _BLOCK,), -1, dtype=torch.int32, device=keys.device)
    table[1 << bits :] = 0  # never free: lanes that have inserted their key try to insert here until the others have
    pairs = torch.full((len(moves), count + 1, 2), count, dtype=torch.int32, device=keys.device)
    steps = torch.tensor(moves, device=keys.device)
    blocks = triton.cdiv(count, _BLOCK)
    with torch.cuda.device_of(keys):
        _insert[(blocks,)](keys, table, count, bits, _BLOCK)
        _find[(blocks, len(moves))](keys, table, steps, pairs, count, bits, _BLOCK)
    return pairs


@triton.jit
def _hash(key, bits):
    """Fibonacci hashing: the key's first slot in a table of 2^bits."""
    return ((key.to(tl.uint64) * 0x9E3779B97F4A7C15) >> (64 - bits).to(tl.uint64)).to(tl.int32)


@triton.jit(do_not_specialize=["count", "bits"])
def _insert(keys, table, count, bits, BLOCK: tl.constexpr):
    """Insert the index of every key into the table (2^bits + BLOCK,), in which -1 marks a free slot.

    Linear probing; the order of insertion is not deterministic, but lookups do not depend on it.
    """
    lane = tl.arange(0, BLOCK)
    number = tl.program_id(0) * BLOCK + lane
    waiting = number < count
    slots = 1 << bits
    slot = _hash(tl.load(keys + number, mask=waiting, other=0), bits)
    free = tl.full([BLOCK], -1, tl.int32)
    while tl.max(waiting.to(tl.int32), 0) > 0:
        held = tl.atomic_cas(table + tl.where(waiting, slot, slots + lane), free, number)
        waiting = waiting & (held != -1)
        slot = (slot + 1) & (slots - 1)


@triton.jit(do_not_specialize=["count", "bits"])
def _find(keys, table, moves, pairs, count, bits, BLOCK: tl.constexpr):
    """Look up each vertex's next neighbour along one axis, and store the link in both directions.

    ``pairs`` (axes, count + 1, 2) is filled with ``count``, the index of the dummy vertex.
    """
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    axis = tl.program_id(1)
    live = number < count
    wanted = tl.load(keys + number, mask=live, other=0) + tl.load(moves + axis)
    slot = _hash(wanted, bits)
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
