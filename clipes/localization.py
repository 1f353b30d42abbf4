"""The first half of the path: pictures to tokens, and tokens with labels to maps on the patch grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipes.affinity import refine_cams
from clipes.cam import softmax_gradcam
from clipes.config import Config
from clipes.encoder import Encoded, Encoder
from clipes.image import patch_grid, prepare


def encode_images(
    encoder: Encoder, images: Sequence[Image.Image], config: Config
) -> Iterator[tuple[list[int], Encoded]]:
    """Encode RGB pictures, those of one patch grid together; yields their places in ``images``, and what they became.

    Each group is encoded when it is asked for. On a CPU each picture is a group: more gain nothing there, and the
    last bits of what a picture becomes would depend on the others.
    """
    groups: dict[tuple[tuple[int, int], int], list[int]] = {}
    for index, image in enumerate(images):
        grid = patch_grid((image.height, image.width), encoder.patch_size, config.image.max_patches)
        groups.setdefault((grid, index if encoder.device.type == "cpu" else 0), []).append(index)
    for (grid, _), members in groups.items():
        pixels = [prepare(images[i], grid, encoder.patch_size, encoder.mean, encoder.std) for i in members]
        yield members, encode_pixels(encoder, torch.from_numpy(np.stack(pixels)), config)


def encode_pixels(encoder: Encoder, pixels: Tensor, config: Config) -> Encoded:
    """Encode normalised pixels (B, 3, h * p, w * p), with the attention that ``config`` asks for."""
    with torch.inference_mode():
        return encoder.encode(pixels, config.affinity.blocks if config.affinity else 0)


def localize(
    encoder: Encoder,
    encoded: Encoded,
    text: Tensor,
    class_ids: Sequence[Sequence[int]],
    class_count: int,
    config: Config,
) -> Tensor:
    """The maps of all pairs of an image and one of its labels, image by image: (P, h, w) float32 in [0, 1].

    Takes a batch of images encoded with the same ``config``, the text features (K + M, V, E) of ``class_count`` = K
    classes and of M background words, and each image's distinct class ids, 1..K. The maps are refined if the
    affinity is on.

    Raises FloatingPointError for a map that is not finite.
    """
    chosen = [(image, i - 1) for image, ids in enumerate(class_ids) for i in ids]
    pairs = torch.tensor(chosen, dtype=torch.int64, device=text.device).reshape(-1, 2)
    present = torch.zeros(len(class_ids), class_count, dtype=torch.bool, device=text.device)
    present[pairs[:, 0], pairs[:, 1]] = True
    with torch.inference_mode():
        last, head = encoder.blocks[-1], encoder.head
        cams = softmax_gradcam(last, head, encoded.trace, text, present, pairs, config.cam.pool)
        if config.affinity and encoded.attention is not None:
            cams = refine_cams(cams, encoded.attention, pairs[:, 0], encoded.grid, config.affinity)
    if not cams.isfinite().all():
        raise FloatingPointError(
            "a map is not finite; if the precision is lower, load with precision='fp32', else look at the weights"
        )
    return cams.reshape(len(pairs), *encoded.grid)
