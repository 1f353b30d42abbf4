"""The first half of the path: pictures to tokens, and tokens with labels to maps on the patch grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from clipes.affinity import refine_cams
from clipes.cam import softmax_gradcam
from clipes.config import Config
from clipes.encoder import Encoded, Encoder
from clipes.image import patch_grid, prepare
from clipes.pairs import Pairs
from clipes.products import fast_products

_PADDING = 1 / 8
"""The share of an image's patches that padding may add to it."""


def encode_images(
    encoder: Encoder, images: Sequence[Image.Image], config: Config
) -> Iterator[tuple[list[int], Encoded]]:
    """Encode RGB pictures, those of about as many patches together; yields their places in ``images``, and what they
    became.

    Each group is encoded when it is asked for. On a CPU each picture is a group: more gain nothing there, and the
    last bits of what a picture becomes would depend on the others.
    """
    patch = encoder.patch_size
    grids = [patch_grid((image.height, image.width), patch, config.image.max_patches) for image in images]
    for members in _groups(grids, alone=encoder.device.type == "cpu"):
        pixels = [prepare(images[i], grids[i], patch, encoder.mean, encoder.std, encoder.device) for i in members]
        yield members, encode_pixels(encoder, pixels, config)


def _groups(grids: Sequence[tuple[int, int]], alone: bool) -> Iterator[list[int]]:
    """The places of grids that are encoded together."""
    by_patches = sorted(range(len(grids)), key=lambda index: grids[index][0] * grids[index][1])
    group: list[int] = []
    least = 0
    for index in range(len(grids)) if alone else by_patches:
        patches = grids[index][0] * grids[index][1]
        if group and (alone or patches > (1 + _PADDING) * least):
            yield group
            group = []
        least = least if group else patches
        group.append(index)
    if group:
        yield group


def encode_pixels(encoder: Encoder, pixels: Tensor | Sequence[Tensor], config: Config) -> Encoded:
    """Encode normalised pixels, (B, 3, h * p, w * p) or a list of (3, h * p, w * p), with the attention that
    ``config`` asks for."""
    with torch.inference_mode(), fast_products(encoder.device, encoder.dtype):
        return encoder.encode(pixels, config.affinity.blocks if config.affinity else 0)


def localize(
    encoder: Encoder,
    encoded: Encoded,
    text: Tensor,
    class_ids: Sequence[Sequence[int]],
    class_count: int,
    config: Config,
) -> list[Tensor]:
    """The maps of each image's labels: (C, h, w) float32 in [0, 1], refined if the affinity is on.

    Takes a batch of images encoded with the same ``config``, the text features (K + M, V, E) of ``class_count`` = K
    classes and of M background words, and each image's distinct class ids, 1..K.

    Raises FloatingPointError for a map that is not finite.
    """
    pairs = Pairs([[i - 1 for i in ids] for ids in class_ids], text.device)
    present = torch.zeros(len(class_ids), class_count, dtype=torch.bool, device=text.device)
    present[pairs.image, pairs.label] = True
    with torch.inference_mode(), fast_products(encoder.device, encoder.dtype):
        last, head = encoder.blocks[-1], encoder.head
        cams = softmax_gradcam(last, head, encoded.trace, text, present, pairs, config.cam.pool)
        if config.affinity and encoded.attention is not None:
            cams = refine_cams(cams, encoded.attention, pairs, encoded.grids, config.affinity)
    if not cams.isfinite().all():
        raise FloatingPointError(
            "a map is not finite; if the precision is lower, load with precision='fp32', else look at the weights"
        )
    maps = torch.split(cams, [len(ids) for ids in class_ids])
    return [m[:, : h * w].reshape(-1, h, w) for m, (h, w) in zip(maps, encoded.grids, strict=True)]
