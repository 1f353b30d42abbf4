"""The first half of the path: pictures to tokens, and tokens with labels to maps on the patch grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import Config, EncodeRequest, ImageConfig, View, ViewsConfig
from clipes.device.inference import inference
from clipes.device.matmul_precision import matmul_precision
from clipes.device.memory import free_gpu_memory
from clipes.device.pixels import prepare
from clipes.io.images import patch_grid

from .affinities import AFFINITIES
from .scope import scoped
from .sources import SOURCES, class_attention_maps
from .views import fuse_views, scale_min_max

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's RGB in [0, 1]."""

_EPSILON = 1e-7
"""In the min-max scaling, as in the code of CLIP-ES."""


class HasNeeds(Protocol):
    """Settings that read something of the encoder."""

    @property
    def needs(self) -> EncodeRequest:
        """What they read of it."""


Views = tuple[list[int], Encoded]
"""A batch of encoded views of images, and which they are, as :func:`encode_images` counts them."""

_MAX_PADDING = 1 / 8
"""Images are encoded together if padding adds at most this share of an image's patches."""


def encode_images(
    vision: VisionEncoder, images: Sequence[Image.Image], config: Config, also: Sequence[HasNeeds] = ()
) -> Iterator[Views]:
    """Yield (indices, encoded batch), grouping views of RGB images with similar patch counts.

    View v of image i has the index i * views + v, in the order of ``config.views.all``. A batch is encoded when it is
    asked for. On a CPU each view is a batch of its own: larger batches would not be faster, and the last bits of an
    image's tokens would depend on the other images.

    ``also`` are other settings that the batches are to serve, too; a Config among them has the same ``image`` and
    ``views``.
    """
    views = [(image, view) for image in images for view in config.views.all]
    grids = [image_grid(image, vision.patch_size, config.image, view.scale) for image, view in views]
    for indices in _batches_by_size([h * w for h, w in grids], vision):
        pixels = [view_pixels(vision, *views[index], config.image) for index in indices]
        yield indices, encode_pixels(vision, pixels, config, also)


def view_pixels(vision: VisionEncoder, image: Image.Image, view: View, config: ImageConfig) -> Tensor:
    """The normalised pixels (3, h * p, w * p) of a view of an RGB image, on the encoder's device."""
    mean, std = _IMAGENET if config.normalisation == "imagenet" else (vision.mean, vision.std)
    grid = image_grid(image, vision.patch_size, config, view.scale)
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.mirrored else image
    return prepare(image, grid, vision.patch_size, mean, std, vision.device, vision.interpolation, config.antialias)


def image_grid(image: Image.Image, patch: int, config: ImageConfig, scale: float = 1.0) -> tuple[int, int]:
    """The patches (h, w) that an image, or its view of another ``scale``, is resized to."""
    size = (image.height, image.width) if config.square is None else (config.square, config.square)
    if scale != 1:
        size = max(1, round(scale * size[0])), max(1, round(scale * size[1]))
    return patch_grid(size, patch, config.max_patches)


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
def encode_pixels(
    vision: VisionEncoder, pixels: Tensor | Sequence[Tensor], config: Config, also: Sequence[HasNeeds] = ()
) -> Encoded:
    """Encode normalised pixels, (B, 3, h * p, w * p) or a list of (3, h * p, w * p), as ``config`` needs it.

    ``also`` are other settings with the same ``image`` that the result is to serve, too.
    """
    needs = reduce(or_, (other.needs for other in also), config.needs)
    with matmul_precision(vision.device, vision.dtype):
        return vision.encode(pixels, needs, config.image.positions)


@inference()
def compute_cams(
    vision: VisionEncoder,
    encoded: Encoded,
    text: Tensor,
    class_ids: Sequence[Sequence[int]],
    num_classes: int,
    config: Config,
    regions: Sequence[NDArray[np.int32] | None] | None = None,
) -> list[Tensor]:
    """The maps of each image's labels, (C, h, w) float32 in [0, 1], propagated if the affinity is on.

    Takes a batch that was encoded with the needs of ``config``, the text features (K + M, V, E) of ``num_classes`` = K
    classes and of M background words, each image's distinct class ids, 1..K, and ids (H, W) of each image's regions,
    which ``config.scope`` needs.

    Raises FloatingPointError for a map that is not finite, ValueError for a batch encoded for other settings.
    """
    encoded.check(config.needs)
    if config.scope is not None:
        encoded = scoped(vision, encoded, regions, config.scope)
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


def image_maps(
    vision: VisionEncoder,
    batches: Iterable[Views],
    images: Sequence[Image.Image],
    text: Tensor,
    class_ids: Sequence[Sequence[int]],
    num_classes: int,
    config: Config,
    regions: Sequence[NDArray[np.int32] | None] | None = None,
) -> list[Tensor]:
    """The maps of each image, (C, h, w) on the grid of its own size, from the batches of :func:`encode_images`.

    Arguments and errors as of :func:`compute_cams`. A batch's memory is free before the next one is asked for.
    """
    views = len(config.views.all)
    of_view: dict[int, Tensor] = {}
    for members, encoded in batches:
        ids = [class_ids[member // views] for member in members]
        own = None if regions is None else [_seen(regions, member, config.views) for member in members]
        of_view |= zip(members, compute_cams(vision, encoded, text, ids, num_classes, config, own), strict=True)
        del encoded
    grids = [image_grid(image, vision.patch_size, config.image) for image in images]
    return [
        join_views([of_view[views * index + view] for view in range(views)], grid, config.views)
        for index, grid in enumerate(grids)
    ]


def _seen(regions: Sequence[NDArray[np.int32] | None], member: int, config: ViewsConfig) -> NDArray[np.int32] | None:
    """The regions of a member of :func:`encode_images` as its view shows them."""
    image, view = divmod(member, len(config.all))
    own = regions[image]
    return np.fliplr(own) if own is not None and config.all[view].mirrored else own


def no_maps(image: Image.Image, vision: VisionEncoder, config: Config) -> Tensor:
    """The maps of an image without labels, (0, h, w)."""
    grid = image_grid(image, vision.patch_size, config.image)
    return torch.zeros(0, *grid, dtype=torch.float32, device=vision.device)


@inference()
def join_views(maps: Sequence[Tensor], grid: tuple[int, int], config: ViewsConfig) -> Tensor:
    """The maps (C, h, w) of an image on the ``grid`` of its own size, from those of its views, (C, h_v, w_v) each.

    Those of a single view are returned as they are. CLIP-ES has one view. The others' rule, the sum of maps that are
    not scaled, suits maps of a common scale; that of a gradient depends on a view's probability, so each view's maps
    are min-max scaled first.
    """
    if len(maps) == 1 and tuple(maps[0].shape[1:]) == grid:
        return maps[0]
    per_scale = 1 + config.flip
    scales = [tuple(maps[start : start + per_scale]) for start in range(0, len(maps), per_scale)]
    return scale_min_max(fuse_views(scales, grid), _EPSILON)
