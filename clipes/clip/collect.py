"""What is kept of the blocks while images are encoded: what a request asks for, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipes.config import AttentionBlocks, EncodeRequest

from .layout import Layout
from .transformer import (
    Block,
    BlockActivations,
    class_attention,
    run_block,
    run_block_keeping_all,
    run_block_with_map,
)


def block_weights(request: AttentionBlocks, heads: Sequence[int]) -> dict[int, float]:
    """The blocks whose attention a request averages, by index, and the weight of the sum over each block's heads.

    ``heads`` are the numbers of heads of all blocks.

    >>> block_weights(AttentionBlocks(last=3, skip_last=True), heads=[4] * 12)
    {9: 0.125, 10: 0.125}
    """
    end = len(heads) - request.skip_last
    blocks = range(max(0, min(len(heads) - request.last, end - 1)), end)
    weights = {index: 1 / (len(blocks) * heads[index]) for index in blocks}
    if request.oldest_per_head:
        weights[blocks[0]] /= heads[blocks[0]]
    return weights


class Collector:
    """Runs the blocks one after the other and keeps what an :class:`EncodeRequest` asks for.

    Attributes:
        attention: for each mean that is asked for, (B, N, N) float32 or float64, 0 on padding. Rows do not sum to 1
            where there is a class token, because it is left out.
        class_attention: for each number of last blocks, the class token's mean attention to the patches, (B, N).
        tokens: the tokens that enter the last blocks, each (B, S, D), the last block's at the end.
        votes: (B, N, N) uint8, in how many of all blocks the mean of the heads is above its mean over all pairs; None
            if it is not asked for.
    """

    def __init__(self, request: EncodeRequest, blocks: Sequence[Block], x: Tensor, layout: Layout):
        self._blocks, self._layout, self._request = blocks, layout, request
        count = x.shape[1] - layout.prefix
        self._shape = (len(x), count, count)
        self._dtype, self._device = torch.promote_types(x.dtype, torch.float32), x.device
        heads = [block.heads for block in blocks]
        self._weights = {mean: block_weights(mean, heads) for mean in request.attention}
        self.attention = {mean: self._zeros() for mean in request.attention}
        self.class_attention = {
            last: torch.zeros(self._shape[:2], dtype=self._dtype, device=x.device) for last in request.class_attention
        }
        self.tokens: list[Tensor] = []
        self.votes = torch.zeros(self._shape, dtype=torch.uint8, device=x.device) if request.votes else None

    def _zeros(self) -> Tensor:
        return torch.zeros(self._shape, dtype=self._dtype, device=self._device)

    def run(self, index: int, x: Tensor) -> Tensor:
        """The output (B, S, D) of block ``index``, which is not the last one."""
        block = self._blocks[index]
        self._enter(index, x)
        totals, map_of_block = self._totals(index), self._zeros() if self.votes is not None else None
        if map_of_block is not None:
            totals.append((map_of_block, 1 / block.heads))
        if not totals:
            return run_block(block, x, self._layout)
        x = run_block_with_map(block, x, totals, self._layout)
        self._vote(map_of_block)
        return x

    def run_last(self, x: Tensor) -> BlockActivations:
        """Everything that the last block computes from tokens (B, S, D), in the dtype of its weights."""
        index, block = len(self._blocks) - 1, self._blocks[-1]
        x = x.to(block.in_proj_weight.dtype)
        self._enter(index, x)
        activations = run_block_keeping_all(block, x, self._layout)
        heads = activations.attention[:, :, self._layout.patches, self._layout.patches]
        for total, weight in self._totals(index):
            total.add_(heads.sum(1), alpha=weight)
        if self.votes is not None:
            self._vote(heads.mean(1))
        for total in self.attention.values():
            total.mul_(activations.patch_mask[..., None])
        return activations

    def _enter(self, index: int, x: Tensor) -> None:
        """Keep what is asked for of the tokens that enter a block."""
        remaining = len(self._blocks) - index
        if remaining <= self._request.tokens:
            self.tokens.append(x)
        wanted = [last for last in self.class_attention if remaining <= last]
        if wanted:
            row = class_attention(self._blocks[index], x, self._layout)
            for last in wanted:
                self.class_attention[last].add_(row, alpha=1 / min(last, len(self._blocks)))

    def _totals(self, index: int) -> list[tuple[Tensor, float]]:
        found = ((self.attention[mean], weights.get(index)) for mean, weights in self._weights.items())
        return [(total, weight) for total, weight in found if weight is not None]

    def _vote(self, block_map: Tensor | None) -> None:
        """Count the pairs of patches above the mean of one block's attention (B, N, N)."""
        if block_map is None or self.votes is None:
            return
        if self._layout.token_mask is None:
            self.votes += block_map > block_map.mean((1, 2), keepdim=True)
            return
        patches = self._layout.token_mask[:, self._layout.patches]
        pairs = patches[:, :, None] & patches[:, None]
        mean = (block_map * pairs).sum((1, 2), keepdim=True) / pairs.sum((1, 2), keepdim=True)
        self.votes += (block_map > mean) & pairs
