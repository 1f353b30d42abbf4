"""What a choice of method declares that it reads of the encoder, so that the encoder keeps that and nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionBlocks:
    """Which blocks' patch-to-patch attention is averaged: the ``last`` ones, all if there are fewer.

    ``skip_last`` leaves out the last block of them. ``oldest_per_head`` weighs the first of them by 1 / heads.
    """

    last: int
    skip_last: bool = False
    oldest_per_head: bool = False


@dataclass(frozen=True)
class EncodeRequest:
    """What a choice of method needs of the encoder besides the last block's activations, which it always keeps.

    Attributes:
        attention: the means of attention that are wanted, each (N, N).
        class_attention: the numbers of last blocks over which the class token's attention is averaged, each (N,).
        tokens: the number of last blocks whose input tokens are kept, each (S, D).
        votes: whether, for each pair of patches, the blocks are counted whose attention is above its mean, (N, N).
        class_token: whether a class token is read, which some models lack.

    ``first | second`` is the request that serves both.
    """

    attention: frozenset[AttentionBlocks] = frozenset()
    class_attention: frozenset[int] = frozenset()
    tokens: int = 0
    votes: bool = False
    class_token: bool = False

    def __or__(self, other: EncodeRequest) -> EncodeRequest:
        return EncodeRequest(
            self.attention | other.attention,
            self.class_attention | other.class_attention,
            max(self.tokens, other.tokens),
            self.votes or other.votes,
            self.class_token or other.class_token,
        )
