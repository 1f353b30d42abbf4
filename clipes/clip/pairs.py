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
        image_indices: ``image`` as a list, so that reading it does not wait for a GPU.

    >>> pairs = Pairs([[4], [0, 7]])
    >>> pairs.image.tolist(), pairs.label.tolist()
    ([0, 1, 1], [4, 0, 7])
    >>> pairs.pad_per_image(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [[1.0, 0.0], [2.0, 3.0]]
    >>> pairs.unpad(pairs.pad_per_image(torch.tensor([1.0, 2.0, 3.0]))).tolist()
    [1.0, 2.0, 3.0]
    """

    def __init__(self, labels: Sequence[Sequence[int]], device: torch.device | str | None = None):
        self.image_indices = [image for image, row in enumerate(labels) for _ in row]
        self._images, self._most_labels = len(labels), max(map(len, labels), default=0)
        flat = [label for row in labels for label in row]
        columns = [column for row in labels for column in range(len(row))]
        table = torch.tensor([self.image_indices, flat, columns], dtype=torch.int64).to(device)
        self.image, self.label, self._column = table.unbind(0)

    def __len__(self) -> int:
        return len(self.image_indices)

    def gather_images(self, values: Tensor) -> Tensor:
        """Per-image values (B, ...) repeated for each of the image's pairs: (P, ...); a view if B is 1."""
        return values.expand(len(self), *values.shape[1:]) if len(values) == 1 else values[self.image]

    def pad_per_image(self, values: Tensor) -> Tensor:
        """Per-pair values (P, ...) as (B, C, ...), C the most labels of an image; zeros where an image has fewer."""
        padded = values.new_zeros((self._images, self._most_labels, *values.shape[1:]))
        padded[self.image, self._column] = values
        return padded

    def unpad(self, padded: Tensor) -> Tensor:
        """The inverse of :meth:`pad_per_image`: (B, C, ...) to (P, ...)."""
        return padded[self.image, self._column]
