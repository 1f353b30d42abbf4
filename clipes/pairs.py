"""Pairs of an image and one of its labels, laid out by image, so that an image's large matrices are never copied."""

from __future__ import annotations

from torch import Tensor


def slots(image: Tensor) -> Tensor:
    """The place (P,) of each pair among those of its image, in order, for the pairs' image indices (P,).

    >>> import torch
    >>> slots(torch.tensor([0, 0, 2, 0, 2])).tolist()
    [0, 1, 0, 2, 1]
    """
    same = image[:, None] == image[None, :]
    return same.tril(-1).sum(1)


def by_image(values: Tensor, image: Tensor, slot: Tensor, images: int) -> Tensor:
    """Per-pair values (P, ...) as (B, C, ...), C the most pairs of an image, zeros where an image has fewer.

    ``padded[image, slot]`` gives the pairs back.
    """
    most = int(slot.max()) + 1 if len(slot) else 0
    padded = values.new_zeros((images, most, *values.shape[1:]))
    padded[image, slot] = values
    return padded
