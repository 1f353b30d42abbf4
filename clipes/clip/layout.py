"""Which of a batch's tokens are patches, and where these are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .rotary import Rotation


@dataclass(frozen=True)
class Layout:
    """The order of a batch's tokens: those before the patches, the patches row by row, padding.

    Attributes:
        prefix: how many tokens stand before the patches; the first of them is the class token.
        token_mask: (B, S) bool, False on padding; None where no image has padding.
        rotation: what queries and keys are turned by; None: nothing.
    """

    prefix: int = 1
    token_mask: Tensor | None = None
    rotation: Rotation | None = None

    @property
    def patches(self) -> slice:
        """The places of the patches, and of padding, among the tokens."""
        return slice(self.prefix, None)


CLASS_TOKEN_FIRST = Layout()
"""A class token, then patches, no padding: a plain CLIP's image."""
