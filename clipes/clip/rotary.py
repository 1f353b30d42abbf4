"""Rotary positions: queries and keys of a patch are turned by angles of its place (Su et al., RoFormer, 2021).

Axes: B images, S tokens, N = h * w patches, d head width. A head's numbers are turned in pairs (0, 1), (2, 3), ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """The turns of a batch's tokens: ``cos`` and ``sin`` (B, 1, S, d), equal in both numbers of a pair; B may be 1."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Queries or keys (B, A, S, d), turned."""
        return (x * self.cos + _quarter_turn(x) * self.sin).to(x.dtype)

    def inverse(self, x: Tensor) -> Tensor:
        """(B, A, S, d) turned back: also the gradient before a turn, from that after it."""
        return (x * self.cos - _quarter_turn(x) * self.sin).to(x.dtype)


def _quarter_turn(x: Tensor) -> Tensor:
    """Each pair (a, b) as (-b, a)."""
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


@dataclass(frozen=True)
class RotaryPositions:
    """Angles of patches: the first half of a head's pairs turns by one coordinate, the second half by the other.

    Attributes:
        bands: the d / 4 frequencies of a coordinate.
        reference: the (h, w) whose coordinates every grid is stretched to; None: coordinates count patches.
        offset: the coordinate of the first row and column, before that.
        columns_first: whether the first half turns by the column.
    """

    bands: tuple[float, ...]
    reference: tuple[int, int] | None
    offset: float
    columns_first: bool

    def angles(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """(N, d) for the patches of a grid, equal in both numbers of a pair; of the dtype and device of ``like``."""
        axes = [torch.arange(side, dtype=like.dtype, device=like.device) + self.offset for side in grid]
        if self.reference is not None:
            axes = [at / side * own for at, side, own in zip(axes, grid, self.reference, strict=True)]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (h, w, 2)
        places = places.flip(-1) if self.columns_first else places
        bands = torch.tensor(self.bands, dtype=like.dtype).to(like.device)
        return (places[..., None] * bands).flatten(2).flatten(0, 1).repeat_interleave(2, -1)

    def rotation(self, grids: Sequence[tuple[int, int]], prefix: int, like: Tensor) -> Rotation:
        """The turns of images of these grids, none for the ``prefix`` tokens before the patches and for padding.

        In float32 or wider, on the device of ``like``.
        """
        like = like.new_empty(0, dtype=torch.promote_types(like.dtype, torch.float32))
        shown = grids[:1] if len(set(grids)) == 1 else grids
        own = {grid: torch.nn.functional.pad(self.angles(grid, like), (0, 0, prefix, 0)) for grid in set(shown)}
        angles = torch.nn.utils.rnn.pad_sequence([own[grid] for grid in shown], batch_first=True)[:, None]
        return Rotation(angles.cos(), angles.sin())
