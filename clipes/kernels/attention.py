"""Attention of CLIP's blocks on CUDA: one kernel that stores no attention map, and one that computes the heads' mean.

Axes: B images, S tokens, the last N of them patches, A heads, d head width.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (the arguments of kernels have no type annotations, because Triton interprets annotations itself)

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)  # the GPU's exponential and logarithm have base 2


_MOST_IMAGES = 65_535  # in the last axis of a grid


class Tile(NamedTuple):
    """The part of an attention map that one program computes at a time, and Triton's settings for that program."""

    rows: int
    columns: int
    num_warps: int
    num_stages: int


# The tiles were chosen by the compiler's figures for Hopper, where none of these loops spills registers. They are not
# autotuned at run time, because other tiles sum in another order, and results must repeat bit for bit. The keys are the
# bytes per number and whether a head is wider than 64.
# - 128 rows are two warp groups of Hopper's 64-row products. At d = 64 they take 125 registers per thread, so that two
#   programs share a multiprocessor and one's products overlap the other's exponentials. 769 tokens fill 13 tiles of 64
#   keys to 92 %, but 7 tiles of 128 keys to 86 %.
# - The mean reads a query tile and a key tile for each product, and is limited by the cache. A tile of 128 x 128 reads
#   two thirds as much from the cache as 128 x 64. 768 patches divide evenly by both.
# - Wider heads are padded to 128. With three stages they would need more shared memory than most GPUs have.
# - float32 does not use the tensor cores. Its tiles favour many products per number read from shared memory.
_ATTEND = {
    (2, False): Tile(128, 64, 8, 3),
    (2, True): Tile(128, 64, 8, 2),
    (4, False): Tile(64, 32, 4, 2),
    (4, True): Tile(64, 32, 4, 2),
}
_MEAN = {
    (2, False): Tile(128, 128, 8, 3),
    (2, True): Tile(128, 64, 8, 2),
    (4, False): Tile(64, 64, 4, 2),
    (4, True): Tile(64, 64, 4, 2),
}


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Softmax attention in one pass (FlashAttention-2, Dao 2023, algorithm 1); no map is written to memory.

    Args:
        query, key, value: (B, A, S, d) of one dtype, float16, bfloat16 or float32, with any strides. Scores are
            scaled by ``d ** -0.5``.
        lengths: (B,) int32, the number of tokens of each image; the tokens after them are padding. None: all S.

    Returns:
        The heads' context (B, A, S, d) of the same dtype, laid out as (B, S, A, d), so that merging the heads needs no
        copy; and each row's log-sum-exp of the scaled scores (B, A, S), float32. Both are 0 in rows of padding.

    Raises:
        TypeError: another dtype.
    """
    constants = _constants(_ATTEND, query, key, value)
    images, heads, tokens, width = query.shape
    context = query.new_empty((images, tokens, heads, width)).transpose(1, 2)
    lse = query.new_empty((images, heads, tokens), dtype=torch.float32)
    with torch.cuda.device_of(query):
        _attend[(triton.cdiv(tokens, constants["ROWS"]) * heads * images,)](
            query, key, value, lengths, context, lse, tokens, heads, width**-0.5,
            *query.stride(), *key.stride(), *value.stride(), *context.stride(),
            PADDED=_padded(width), **constants,
        )  # fmt: skip
    return context, lse


def add_head_mean(
    total: Tensor,
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    factor: float,
    lengths: Tensor | None = None,
    prefix: int = 1,
) -> None:
    """Add ``factor`` times the sum over heads of the patch-to-patch attention to ``total``, in place.

    The attention is recomputed from the log-sum-exp that :func:`attend` returned, and summed over the heads before it
    is written to memory.

    Args:
        total: (B, N, N) float32, N = S - ``prefix``. Rows and columns of padding are not changed.
        query, key: as in :func:`attend`.
        lse: (B, A, S) float32, contiguous.
        factor: 1 / A for the mean.
        lengths: as in :func:`attend`.
        prefix: how many tokens before the patches, such as a class token, have neither row nor column.

    Raises:
        TypeError: a query of another dtype.
    """
    constants = _constants(_MEAN, query, key)
    images, heads, tokens, width = query.shape
    patches = tokens - prefix
    with torch.cuda.device_of(query):
        tiles = triton.cdiv(patches, constants["COLUMNS"]), triton.cdiv(patches, constants["ROWS"])
        for first in range(0, images, _MOST_IMAGES):
            part = slice(first, first + _MOST_IMAGES)
            _add_head_mean[(*tiles, min(images - first, _MOST_IMAGES))](
                total[part], query[part], key[part], lse[part], None if lengths is None else lengths[part],
                tokens, patches, prefix, heads, width**-0.5, float(factor),
                *total.stride(), *query.stride(), *key.stride(), **constants,
            )  # fmt: skip


def _constants(tiles: dict[tuple[int, bool], Tile], query: Tensor, *others: Tensor) -> dict[str, int]:
    """The constants that both kernels are compiled with."""
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise TypeError(f"no attention kernel for {query.dtype}; use float16, bfloat16 or float32")
    width = query.shape[-1]
    tile = tiles[query.element_size(), width > 64]
    return {
        "WIDTH": width,
        # Triton detects only strides divisible by 16. Without STEP, heads 88 or 104 wide would be read one number at a
        # time.
        "STEP": math.gcd(16, width, *(x.stride(1) for x in (query, *others))),
        # Without tensor cores a product holds its operands in registers. Steps of 16 keep them from spilling.
        "DEPTH": 16 if query.dtype == torch.float32 else _padded(width),
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
        "enable_fp_fusion": True,  # explicit, because Triton warns that its default will change
    }


def _padded(width: int) -> int:
    """A head's width rounded up to a power of two, at least 16, which Triton's products require."""
    return max(16, 1 << (width - 1).bit_length())


@triton.jit
def _attend(
    query, key, value, lengths, context, lse, tokens, heads, scale,
    query_image, query_head, query_row, query_column,
    key_image, key_head, key_row, key_column,
    value_image, value_head, value_row, value_column,
    context_image, context_head, context_row, context_column,
    WIDTH: tl.constexpr, STEP: tl.constexpr, PADDED: tl.constexpr,
    DEPTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program for each tile of rows of one head of one image, in one axis: a grid's others end at 65,535."""
    program, tiles = tl.program_id(0), tl.cdiv(tokens, ROWS)
    image = (program // (tiles * heads)).to(tl.int64)  # an image's offset can exceed 2^31
    head = program // tiles % heads
    length = tokens
    if lengths is not None:
        length = tl.load(lengths + image)
    first = program % tiles * ROWS
    rows = first + tl.arange(0, ROWS)
    columns = tl.arange(0, PADDED)
    query += image * query_image + tl.multiple_of(head * query_head, STEP)
    key += image * key_image + tl.multiple_of(head * key_head, STEP)
    value += image * value_image + tl.multiple_of(head * value_head, STEP)
    scale *= LOG2_E

    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, PADDED), tl.float32)
    end = tl.where(first < length, length, 0)  # a tile that is all padding is skipped
    for start in range(0, end, COLUMNS):
        places = start + tl.arange(0, COLUMNS)
        scores = _products(
            query, rows, query_row, query_column, key, places, key_row, key_column, length, WIDTH, DEPTH, ROWS, COLUMNS
        )
        if start + COLUMNS > length:  # only the last tile has padding
            scores = tl.where((places < length)[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1) * scale)
        shares = tl.exp2(scores * scale - higher[:, None])
        shrink = tl.exp2(peak - higher)
        v = _load(value, places, columns, value_row, value_column, length, WIDTH)
        mixed = tl.dot(shares.to(v.dtype), v, mixed * shrink[:, None], input_precision="ieee")
        weight = weight * shrink + tl.sum(shares, 1)
        peak = higher

    real = rows < length
    weight = tl.where(real, weight, 1)
    mixed = tl.where(real[:, None], mixed / weight[:, None], 0)
    logarithm = tl.where(real, (peak + tl.log2(weight)) / LOG2_E, 0)
    inside = rows < tokens
    context += image * context_image + tl.multiple_of(head * context_head, STEP)
    tl.store(
        context + rows[:, None] * context_row + columns[None, :] * context_column,
        mixed.to(context.dtype.element_ty),
        mask=inside[:, None] & (columns < WIDTH)[None, :],
    )
    tl.store(lse + (image * heads + head) * tokens + rows, logarithm, mask=inside)


@triton.jit
def _add_head_mean(
    total, query, key, lse, lengths, tokens, patches, prefix, heads, scale, factor,
    total_image, total_row, total_column,
    query_image, query_head, query_row, query_column,
    key_image, key_head, key_row, key_column,
    WIDTH: tl.constexpr, STEP: tl.constexpr, DEPTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program for each tile of one image's map; the sum over the heads stays in registers."""
    image = tl.program_id(2).to(tl.int64)
    if lengths is not None:
        patches = tl.load(lengths + image) - prefix
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    places = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total += image * total_image
    query += image * query_image + prefix * query_row  # skips what is before the patches, as do key and lse
    key += image * key_image + prefix * key_row
    lse += image * heads * tokens + prefix
    scale *= LOG2_E

    added = tl.zeros((ROWS, COLUMNS), tl.float32)
    for head in range(heads):
        scores = _products(
            query + tl.multiple_of(head * query_head, STEP), rows, query_row, query_column,
            key + tl.multiple_of(head * key_head, STEP), places, key_row, key_column,
            patches, WIDTH, DEPTH, ROWS, COLUMNS,
        )  # fmt: skip
        logarithm = tl.load(lse + head * tokens + rows, mask=rows < patches, other=0)
        added += tl.exp2(scores * scale - (logarithm * LOG2_E)[:, None])

    spots = total + rows[:, None] * total_row + places[None, :] * total_column
    real = (rows < patches)[:, None] & (places < patches)[None, :]
    tl.store(spots, tl.load(spots, mask=real) + factor * added, mask=real)


@triton.jit
def _products(
    query, rows, query_row, query_column, key, places, key_row, key_column, length,
    WIDTH: tl.constexpr, DEPTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Unscaled scores (ROWS, COLUMNS) of queries and keys, computed in steps of DEPTH along the head's width."""
    scores = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in tl.static_range(0, WIDTH, DEPTH):
        columns = first + tl.arange(0, DEPTH)
        q = _load(query, rows, columns, query_row, query_column, length, WIDTH)
        k = _load(key, places, columns, key_row, key_column, length, WIDTH)
        scores = tl.dot(q, tl.trans(k), scores, input_precision="ieee")
    return scores


@triton.jit
def _load(base, rows, columns, row_stride, column_stride, length, WIDTH: tl.constexpr):
    """A tile of tokens (rows, columns), with 0 in the padding of either axis."""
    real = (rows < length)[:, None] & (columns < WIDTH)[None, :]
    return tl.load(base + rows[:, None] * row_stride + columns[None, :] * column_stride, mask=real, other=0)
