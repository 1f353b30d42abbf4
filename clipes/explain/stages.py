"""Every stage of one image's path to its mask, kept to explain the method and to find where a mask went wrong.

The stages are those of :class:`clipes.MaskGenerator`, run with its last stages switched off and on. The affinity
matrix is formed, which the generator's default never does. No stage is implemented a second time here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.cams.affinities import scoped_attention
from clipes.cams.affinity import affinity_matrix
from clipes.cams.boxes import above_threshold, box_masks, region_boxes
from clipes.cams.compute import encode_images, image_maps
from clipes.cams.probabilities import label_probabilities
from clipes.cams.scope import scoped
from clipes.cams.tiles import image_grid
from clipes.clip.head import image_features
from clipes.clip.vision import Encoded
from clipes.config import AffinityConfig, AttentionAffinityConfig, Config, ViewsConfig
from clipes.device.inference import inference
from clipes.device.matmul_precision import matmul_precision
from clipes.device.pixels import prepare
from clipes.generator import ImageLike, MaskGenerator
from clipes.regions import regions_of
from clipes.result import PseudoMask, decide_masks

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in patches; bottom and right are exclusive."""


@dataclass(frozen=True, eq=False)
class AffinityTrace:
    """How the affinity propagates the initial maps (CLIP-ES section 3.4): ``A ... A (inside * initial)``.

    Attributes:
        attention: (N, N) float32 in [0, 1], the mean over the heads and over the last blocks of the attention that
            each patch (row) pays to each (column). Attention to the class token is not included in a row's sum.
        matrix: (N, N) float64, not negative, the affinity A: by default the attention after Sinkhorn scaling,
            symmetrised. Its rows then sum to approximately 1; without scaling (``sinkhorn_iterations=0``) to the sums
            of the attention.
        above: (C, h, w) bool, the patches above ``box_threshold`` of each map's maximum.
        boxes: for each label the boxes around the 8-connected regions of ``above``, in any order.
        inside: (C, h, w) bool, the patches in any of a label's boxes.
        hops: how often A is applied.
    """

    attention: NDArray[np.float32]
    matrix: NDArray[np.float64]
    above: NDArray[np.bool_]
    boxes: tuple[tuple[Box, ...], ...]
    inside: NDArray[np.bool_]
    hops: int

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        h, w = self.inside.shape[1:]
        return h, w

    def attention_of(self, row: int, column: int) -> NDArray[np.float32]:
        """What the patch attends to: its row of ``attention``, (h, w). ValueError for a patch outside the grid."""
        weights: NDArray[np.float32] = self.attention[self._index(row, column)]
        return weights.reshape(self.grid)

    def affinity_of(self, row: int, column: int) -> NDArray[np.float64]:
        """The weights of all patches in the patch's propagated value: its row of A to the power of ``hops``, (h, w).

        The propagated value, before it is scaled, is the sum over the patches of weight times ``inside`` times initial
        map. ValueError for a patch outside the grid.
        """
        weights: NDArray[np.float64] = self.matrix[self._index(row, column)]
        for _ in range(self.hops - 1):
            weights = self.matrix @ weights  # A is symmetric
        return weights.reshape(self.grid)

    def _index(self, row: int, column: int) -> int:
        h, w = self.grid
        if not (0 <= row < h and 0 <= column < w):
            raise ValueError(f"patch {row},{column} is outside the grid; rows are 0..{h - 1}, columns 0..{w - 1}")
        return row * w + column


@dataclass(frozen=True, eq=False)
class Stages:
    """All stages of one image with its labels. Axes: C labels, M background words, (h, w) patches.

    Attributes:
        config: the settings of all stages.
        patch_size: p, the side of a patch in pixels.
        resized: (h * p, w * p, 3) uint8, the picture as the encoder sees it, before it is normalised.
        words: (C + M,) the names that compete in the softmax: the labels in their order, then all background words.
        probabilities: (C + M,) float32 in [0, 1], the softmax over ``words`` for the image as a whole; sums to 1.
        initial: the result of the initial maps: without affinity and without refinement. (A generator without an
            affinity encodes by other matrix products; there the maps differ by rounding.)
        affinity: how the affinity propagates the maps; None if it is off, another than that of attention, or
            one for each tile.
        propagated: the result of the propagated maps, without refinement; equal to ``initial`` if the affinity is off.
        result: bit for bit the generator's result (on a GPU except for rounding).

    ``initial``, ``propagated`` and ``result`` are :class:`clipes.PseudoMask`, with ``patch_cams`` (C, h, w), ``cams``
    (C, H, W), ``scores`` (C + 1, H, W), ``mask`` and ``confidence`` (H, W) of their stage. ``propagated.scores`` are
    the input of the CRF or PAR, ``result.scores`` its output. A number for ``ignore_below`` holds at every stage.
    """

    config: Config
    patch_size: int
    resized: NDArray[np.uint8]
    words: tuple[str, ...]
    probabilities: NDArray[np.float32]
    initial: PseudoMask
    affinity: AffinityTrace | None
    propagated: PseudoMask
    result: PseudoMask

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the result."""
        return self.result.labels

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w): how many patches."""
        h, w = self.result.patch_cams.shape[1:]
        return h, w


def trace_stages(generator: MaskGenerator, image: ImageLike, labels: Iterable[str]) -> Stages:
    """Make the mask of one image as ``generator(image, labels)`` does, and keep every stage.

    The N x N matrices, which the generator never holds in float64, take some 40 bytes for each of N * N entries: 700 MB
    for 4096 patches. Raises as a call of the generator does.

    >>> import clipes
    >>> scene = clipes.scenes.draw_scene(seed=7)
    >>> stages = trace_stages(clipes.load(), scene.image, scene.labels)
    >>> stages.grid, stages.resized.shape, round(float(stages.probabilities.sum()), 3)
    ((14, 14), (112, 112, 3), 1.0)
    >>> stages.affinity.affinity_of(3, 5).shape
    (14, 14)
    """
    vision, config, names = generator.clip.vision, generator.config, generator.class_names
    features, ids = generator.encode(image), generator.vocabulary.ids(labels)
    picture, one_view = features.image, replace(config, views=ViewsConfig())
    ((_, encoded),) = features.batches if config.views.single else encode_images(vision, [picture], one_view)
    unrefined, regions = replace(config, refine=None, vote=None), [regions_of(picture, config.regions)]
    configs = [replace(unrefined, affinity=None), unrefined]
    text, count = generator._text_features, len(names)
    maps = [image_maps(vision, features.batches, [picture], text, [ids], count, c, regions)[0] for c in configs]
    initial, propagated = (decide_masks([picture], [ids], [m], names, unrefined, regions)[0] for m in maps)
    if config.scope is not None:
        encoded = scoped(vision, encoded, regions, config.scope)
    grid = image_grid(picture, vision.patch_size, config)
    unit = prepare(picture, grid, vision.patch_size, (0, 0, 0), (1, 1, 1), vision.device, vision.interpolation)
    return Stages(
        config=config,
        patch_size=vision.patch_size,
        resized=(unit * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy(),
        words=(*(names[i - 1] for i in ids), *generator.background_names),
        probabilities=_probabilities(generator, encoded, ids),
        initial=initial,
        affinity=None if config.views.tile else _affinity_trace(encoded, maps[0], config.affinity),
        propagated=propagated,
        result=propagated.decide(config),
    )


def _probabilities(generator: MaskGenerator, encoded: Encoded, ids: tuple[int, ...]) -> NDArray[np.float32]:
    """The softmax over the labels, in their order, and all background words."""
    vision, text, count = generator.clip.vision, generator._text_features, len(generator.class_names)
    own = torch.tensor([i - 1 for i in ids], dtype=torch.int64, device=text.device)
    label_mask = torch.zeros(1, count, dtype=torch.bool, device=text.device).index_fill(1, own, True)
    with inference(), matmul_precision(vision.device, vision.dtype):
        features = image_features(vision.head, encoded.last_block, generator.config.pool)
        probabilities = label_probabilities(features, text, label_mask, vision.head.logit_scale)[0]
        return torch.cat([probabilities[own], probabilities[count:]]).cpu().numpy()


def _affinity_trace(encoded: Encoded, maps: Tensor, config: AffinityConfig | None) -> AffinityTrace | None:
    if not isinstance(config, AttentionAffinityConfig):
        return None
    attention = scoped_attention(encoded, config)
    with inference():
        matrix = affinity_matrix(attention, encoded.grids, config, encoded.votes)[0]
        boxes = region_boxes(maps, config.box_threshold, config.boxes)
        return AffinityTrace(
            attention=attention[0].float().cpu().numpy(),
            matrix=matrix.cpu().numpy(),
            above=above_threshold(maps, config.box_threshold).cpu().numpy(),
            boxes=tuple(map(tuple, boxes)),
            inside=box_masks(maps, config.box_threshold, config.boxes).bool().cpu().numpy(),
            hops=config.hops,
        )
