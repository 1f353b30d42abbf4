"""The first half of the path: pictures to tokens, and tokens with labels to maps on the patch grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import Config, ImageConfig
from clipes.device.inference import inference
from clipes.device.matmul_precision import matmul_precision
from clipes.device.memory import free_gpu_memory
from clipes.device.pixels import prepare
from clipes.io.images import patch_grid

from .affinities import AFFINITIES
from .sources import SOURCES, class_attention_maps

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's RGB in [0, 1]."""

_MAX_PADDING = 1 / 8
"""Images are encoded together if padding adds at most this share of an image's patches."""


def encode_images(
    vision: VisionEncoder, images: Sequence[Image.Image], config: Config
) -> Iterator[tuple[list[int], Encoded]]:
    """Yield (indices, encoded batch), grouping RGB images with similar patch counts.

    A batch is encoded when it is asked for. On a CPU each image is a batch of its own: larger batches would not be
    faster, and the last bits of an image's tokens would depend on the other images.
    """
    patch, device = vision.patch_size, vision.device
    mean, std = _IMAGENET if config.image.normalisation == "imagenet" else (vision.mean, vision.std)
    grids = [image_grid(image, patch, config.image) for image in images]
    for indices in _batches_by_size([h * w for h, w in grids], vision):
        pixels = [
            prepare(images[i], grids[i], patch, mean, std, device, vision.interpolation, config.image.antialias)
            for i in indices
        ]
        yield indices, encode_pixels(vision, pixels, config)


def image_grid(image: Image.Image, patch: int, config: ImageConfig) -> tuple[int, int]:
    """The patches (h, w) that an image is resized to."""
    if config.square is not None:
        return patch_grid((config.square, config.square), patch, config.max_patches)
    return patch_grid((image.height, image.width), patch, config.max_patches)


def _batches_by_size(patches: Sequence[int], vision: VisionEncoder) -> Iterator[list[int]]:
    """Indices of images encoded together, from their numbers of ``patches``: of similar size, limited by memory."""
    if vision.device.type == "cpu":
        yield from ([index] for index in range(len(patches)))
        return
    remaining = sorted(range(len(patches)), key=patches.__getitem__, reverse=True)
    while remaining:
        largest = patches[remaining[0]]
        limit = max(1, int(free_gpu_memory(vision.device) // estimate_memory(vision, largest)))
        batch = [index for index in remaining[:limit] if (1 + _MAX_PADDING) * patches[index] >= largest]
        yield batch
        remaining = remaining[len(batch) :]


def estimate_memory(vision: VisionEncoder, patches: int) -> int:
    """Upper estimate of the bytes that one image takes while it is encoded and its maps are computed."""
    block = vision.blocks[-1]
    attention = 4 * block.heads * (1 + patches) ** 2
    hidden = 4 * block.fc_weight.shape[0] * (1 + patches)
    # 3 attention-sized buffers (logits, softmax, copy); 3 MLP-sized buffers for each of up to 10 labels.
    return 3 * attention + 30 * hidden


@inference()
def encode_pixels(vision: VisionEncoder, pixels: Tensor | Sequence[Tensor], config: Config) -> Encoded:
    """Encode normalised pixels, (B, 3, h * p, w * p) or a list of (3, h * p, w * p), as ``config`` needs it."""
    with matmul_precision(vision.device, vision.dtype):
        return vision.encode(pixels, config.needs, config.image.positions)


@inference()
def compute_cams(
    vision: VisionEncoder,
    encoded: Encoded,
    text: Tensor,
    class_ids: Sequence[Sequence[int]],
    num_classes: int,
    config: Config,
) -> list[Tensor]:
    """The maps of each image's labels, (C, h, w) float32 in [0, 1], propagated if the affinity is on.

    Takes a batch that was encoded with the needs of ``config``, the text features (K + M, V, E) of ``num_classes`` = K
    classes and of M background words, and each image's distinct class ids, 1..K.

    Raises FloatingPointError for a map that is not finite, ValueError for a batch encoded for other settings.
    """
    encoded.check(config.needs)
    pairs = Pairs([[i - 1 for i in ids] for ids in class_ids], text.device)
    label_mask = torch.zeros(len(class_ids), num_classes, dtype=torch.bool, device=text.device)
    label_mask[pairs.image, pairs.label] = True
    with matmul_precision(vision.device, vision.dtype):
        cams = SOURCES[type(config.map)](vision, encoded, text, label_mask, pairs, config.map)
        if config.class_attention.exponent:
            cams = class_attention_maps(cams, encoded, pairs, config.class_attention)
        if config.affinity:
            cams = AFFINITIES[type(config.affinity)](cams, vision, encoded, pairs, config.affinity)
    if not cams.isfinite().all():
        raise FloatingPointError(
            "a map is not finite; if the precision is lower, load with precision='fp32', else look at the weights"
        )
    maps = torch.split(cams, [len(ids) for ids in class_ids])
    return [m[:, : h * w].reshape(-1, h, w) for m, (h, w) in zip(maps, encoded.grids, strict=True)]
