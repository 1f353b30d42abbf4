"""The first half of the path: pictures to tokens, and tokens with labels to maps on the patch grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import or_
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.clip.head import image_features, pooled_rows
from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import Config, EncodeRequest, ImageConfig, ViewsConfig
from clipes.device.inference import inference
from clipes.device.matmul_precision import matmul_precision
from clipes.device.memory import free_gpu_memory
from clipes.device.pixels import normalise, prepare

from .affinities import AFFINITIES
from .probabilities import label_probabilities
from .scope import patch_regions, scoped
from .sources import SOURCES, class_attention_maps
from .tiles import Pictures, Tile, Window, image_grid, join_windows, tent, tile_in_patches, tiles_of
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
"""A batch of encoded tiles of images, and their places among :func:`clipes.cams.tiles.tiles_of`."""

_MAX_PADDING = 1 / 8
"""Images are encoded together if padding adds at most this share of an image's patches."""


def encode_images(
    vision: VisionEncoder, images: Sequence[Image.Image], config: Config, also: Sequence[HasNeeds] = ()
) -> Iterator[Views]:
    """Yield (places, encoded batch), grouping tiles of RGB images with similar patch counts.

    The places are those in :func:`clipes.cams.tiles.tiles_of`; without ``config.views.tile`` each view of an image is
    one tile. A batch is encoded when it is asked for. On a CPU each tile is a batch of its own: larger batches would
    not be faster, and the last bits of an image's tokens would depend on the other images.

    ``also`` are other settings that the batches are to serve, too, with the same ``image`` and ``views``.
    """
    mean, std = _colours(vision, config.image)
    tiles = tiles_of(images, vision.patch_size, config)
    pictures = Pictures(images, vision, config.image.antialias)
    for places in _batches_by_size([tile.window.height * tile.window.width for tile in tiles], vision):
        pixels = [normalise(pictures.cut(tiles[place]), mean, std) for place in places]
        yield places, encode_pixels(vision, pixels, config, also)


def whole_pixels(vision: VisionEncoder, image: Image.Image, config: ImageConfig) -> Tensor:
    """The normalised pixels (3, h * p, w * p) of a whole RGB image, on the encoder's device."""
    grid = image_grid(image, vision.patch_size, Config(image=config))
    mean, std = _colours(vision, config)
    return prepare(image, grid, vision.patch_size, mean, std, vision.device, vision.interpolation, config.antialias)


def _colours(vision: VisionEncoder, config: ImageConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that colours are normalised by."""
    return _IMAGENET if config.normalisation == "imagenet" else (vision.mean, vision.std)


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
    hidden = 4 * block.mlp.fc_weight.shape[0] * (1 + patches)
    # 3 attention-sized buffers (logits, softmax, copy); 3 MLP-sized buffers for each of up to 10 labels.
    return 3 * attention + 30 * hidden


def check_model(vision: VisionEncoder, config: Config) -> None:
    """ValueError for settings that do not suit the model."""
    vision.check(config.needs)
    pooled_rows(vision.head, vision.layout, config.pool)
    if config.views.tile:
        tile_in_patches(config.views.tile, vision.patch_size, config.image.max_patches)


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
    pairs, label_mask = _pairs(class_ids, num_classes, text)
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


def _pairs(class_ids: Sequence[Sequence[int]], num_classes: int, text: Tensor) -> tuple[Pairs, Tensor]:
    """The pairs of images and labels, and the labels as (B, K) bool, on the device of ``text``."""
    pairs = Pairs([[i - 1 for i in ids] for ids in class_ids], text.device)
    label_mask = torch.zeros(len(class_ids), num_classes, dtype=torch.bool, device=text.device)
    label_mask[pairs.image, pairs.label] = True
    return pairs, label_mask


class ImageMaps:
    """Makes the maps of images, batch by batch of :func:`encode_images`. Arguments as of :func:`compute_cams`."""

    def __init__(
        self,
        vision: VisionEncoder,
        images: Sequence[Image.Image],
        text: Tensor,
        class_ids: Sequence[Sequence[int]],
        num_classes: int,
        config: Config,
        regions: Sequence[NDArray[np.int32] | None] | None = None,
    ) -> None:
        self._regions = regions
        self._vision, self._text, self._class_ids = vision, text, class_ids
        self._num_classes, self._config = num_classes, config
        self._grids = [image_grid(image, vision.patch_size, config) for image in images]
        self._tiles = tiles_of(images, vision.patch_size, config)
        self._maps: dict[int, Tensor] = {}
        self._patch_regions: dict[tuple[object, ...], NDArray[np.int32]] = {}  # by image and view

    @inference()
    def add(self, places: Sequence[int], encoded: Encoded) -> None:
        """Add the maps of a batch. Errors as of :func:`compute_cams`."""
        tiles = [self._tiles[place] for place in places]
        ids = [self._class_ids[tile.image] for tile in tiles]
        context = self._vision, encoded, self._text, ids, self._num_classes, self._config
        own = None if self._regions is None else [self._regions_of(tile, self._regions[tile.image]) for tile in tiles]
        maps = compute_cams(*context, own)
        if not all(tile.whole for tile in tiles):
            shares = zip(tiles, maps, label_presence(*context), strict=True)
            maps = [one if tile.whole else one * share[:, None, None] for tile, one, share in shares]
        self._maps |= zip(places, maps, strict=True)

    def _regions_of(self, tile: Tile, regions: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
        """An image's regions as its tile shows them: of a part, those of its patches, found once for all parts."""
        own = np.fliplr(regions) if regions is not None and tile.view.mirrored else regions
        if own is None or tile.whole:
            return own
        if (key := tile[:2]) not in self._patch_regions:
            self._patch_regions[key] = patch_regions(own, tile.grid).reshape(tile.grid).astype(np.int32)
        top, left, height, width = tile.window
        return self._patch_regions[key][top : top + height, left : left + width]

    def joined(self) -> list[Tensor]:
        """The maps of each image, (C, h, w) on the grid of its own size, when all batches are there."""
        views: list[list[Tensor]] = [[] for _ in self._grids]
        for (image, _), members in groupby(enumerate(self._tiles), lambda item: item[1][:2]):
            places, tiles = zip(*members, strict=True)
            maps, windows = [self._maps[place] for place in places], [tile.window for tile in tiles]
            views[image].append(join_tiles(maps, windows, tiles[0].grid))
        return [join_views(maps, grid, self._config.views) for maps, grid in zip(views, self._grids, strict=True)]


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
    maps = ImageMaps(vision, images, text, class_ids, num_classes, config, regions)
    for places, encoded in batches:
        maps.add(places, encoded)
        del encoded
    return maps.joined()


@inference()
def label_presence(
    vision: VisionEncoder,
    encoded: Encoded,
    text: Tensor,
    class_ids: Sequence[Sequence[int]],
    num_classes: int,
    config: Config,
) -> list[Tensor]:
    """How likely each image of a batch shows each of its labels, (C,) float32 in [0, 1] of each.

    The softmax over the image's labels and the background words that Softmax-GradCAM has, too. Arguments as of
    :func:`compute_cams`.
    """
    pairs, label_mask = _pairs(class_ids, num_classes, text)
    with matmul_precision(vision.device, vision.dtype):
        features = image_features(vision.head, encoded.last_block, config.pool)
        probabilities = label_probabilities(features, text, label_mask, vision.head.logit_scale)
    return list(torch.split(probabilities[pairs.image, pairs.label], [len(ids) for ids in class_ids]))


def no_maps(image: Image.Image, vision: VisionEncoder, config: Config) -> Tensor:
    """The maps of an image without labels, (0, h, w)."""
    grid = image_grid(image, vision.patch_size, config)
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


@inference()
def join_tiles(maps: Sequence[Tensor], windows: Sequence[Window], grid: tuple[int, int]) -> Tensor:
    """The maps (C, h, w) of a view on its ``grid`` from those of its windows, (C, height, width) each, min-max scaled.

    Those of a single window are returned as they are.
    """
    if len(maps) == 1:
        return maps[0]
    weight = tent(windows[0].height, windows[0].width, maps[0])
    return scale_min_max(join_windows(maps, windows, grid, weight), _EPSILON)
