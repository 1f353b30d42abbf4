"""Pairs of an image and one of its labels, laid out by image, so that an image's large matrices are never copied."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Pairs:
    """All pairs of B images and their labels, image by image, made from the labels' indices (0..K-1) of each image.

    Attributes:
        image: (P,) int64, each pair's image.
        label: (P,) int64, its label.
        owners: each pair's image, once more, where no device needs to be asked for it.

    >>> pairs = Pairs([[4], [0, 7]])
    >>> pairs.image.tolist(), pairs.label.tolist()
    ([0, 1, 1], [4, 0, 7])
    >>> pairs.by_image(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [[1.0, 0.0], [2.0, 3.0]]
    >>> pairs.of_pairs(pairs.by_image(torch.tensor([1.0, 2.0, 3.0]))).tolist()
    [1.0, 2.0, 3.0]
    """

    def __init__(self, labels: Sequence[Sequence[int]], device: torch.device | str | None = None):
        self.owners = [image for image, row in enumerate(labels) for _ in row]
        self._images, self._most = len(labels), max(map(len, labels), default=0)
        flat = [label for row in labels for label in row]
        slots = [slot for row in labels for slot in range(len(row))]
        table = torch.tensor([self.owners, flat, slots], dtype=torch.int64).to(device)
        self.image, self.label, self._slot = table.unbind(0)

    def __len__(self) -> int:
        return len(self.owners)

    def each(self, values: Tensor) -> Tensor:
        """What is an image's (B, ...), for each of its pairs: (P, ...); a view where there is one image."""
        return values.expand(len(self), *values.shape[1:]) if len(values) == 1 else values[self.image]

    def by_image(self, values: Tensor) -> Tensor:
        """Per-pair values (P, ...) as (B, C, ...), C the most labels of an image, zeros where one has fewer."""
        padded = values.new_zeros((self._images, self._most, *values.shape[1:]))
        padded[self.image, self._slot] = values
        return padded

    def of_pairs(self, padded: Tensor) -> Tensor:
        """What :meth:`by_image` laid out, back: (B, C, ...) to (P, ...)."""
        return padded[self.image, self._slot]
