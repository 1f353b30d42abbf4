"""The first half of the path: pictures to tokens, and tokens with labels to maps on the patch grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from clipes.clip.encoder import Encoded, Encoder
from clipes.clip.pairs import Pairs
from clipes.config import Config
from clipes.device.matmul_precision import fast_products
from clipes.device.memory import room
from clipes.device.pixels import prepare
from clipes.io.images import patch_grid

from .affinity import refine_cams
from .gradcam import softmax_gradcam

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
    patch, device = encoder.patch_size, encoder.device
    grids = [patch_grid((image.height, image.width), patch, config.image.max_patches) for image in images]
    for members in _groups([h * w for h, w in grids], encoder):
        pixels = [prepare(images[i], grids[i], patch, encoder.mean, encoder.std, device) for i in members]
        yield members, encode_pixels(encoder, pixels, config)


def _groups(patches: Sequence[int], encoder: Encoder) -> Iterator[list[int]]:
    """The places of images encoded together: of about as many ``patches``, and no more than there is memory for."""
    if encoder.device.type == "cpu":
        yield from ([index] for index in range(len(patches)))
        return
    rest = sorted(range(len(patches)), key=patches.__getitem__, reverse=True)
    while rest:
        most = patches[rest[0]]
        together = max(1, int(room(encoder.device) // bytes_of(encoder, most)))
        group = [index for index in rest[:together] if (1 + _PADDING) * patches[index] >= most]
        yield group
        rest = rest[len(group) :]


def bytes_of(encoder: Encoder, patches: int) -> int:
    """Memory that an image takes at most while its maps are made, by the largest things held at once."""
    block = encoder.blocks[-1]
    attention = 4 * block.heads * (1 + patches) ** 2
    hidden = 4 * block.fc_weight.shape[0] * (1 + patches)
    return 3 * attention + 30 * hidden  # logits, softmax, a copy; three for each of ten labels


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
