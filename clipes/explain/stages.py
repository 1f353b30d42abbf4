"""Every stage of one image's way to its mask, kept: to look at, to explain the method, to see where a mask went wrong.

The path is that of :class:`clipes.MaskGenerator`, walked with its last stages switched off and on again; what it never
forms, the affinity as a matrix, is its operator applied to the identity. Nothing here computes a stage anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.cams.affinity import above_threshold, affinity_matrix, box_masks, region_boxes
from clipes.cams.gradcam import label_probabilities
from clipes.cams.localization import encode_images, localize
from clipes.clip.encoder import Encoded
from clipes.clip.head import image_features
from clipes.config import AffinityConfig, Config
from clipes.decision import decide_masks
from clipes.device.matmul_precision import fast_products
from clipes.device.pixels import prepare
from clipes.generator import ImageLike, MaskGenerator
from clipes.io.images import open_image, patch_grid
from clipes.result import PseudoMask

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in patches; bottom and right are exclusive."""


@dataclass(frozen=True, eq=False)
class Spreading:
    """How the affinity refines the initial maps (CLIP-ES section 3.4): ``refined = A ... A (inside * initial)``.

    Attributes:
        attention: (N, N) float32 in [0, 1], the mean over the heads and over the last blocks of the attention that
            each patch (row) pays to each (column). What it pays to the class token is missing from the row's sum.
        matrix: (N, N) float64 in [0, 1], the affinity A: the attention after Sinkhorn's scaling, symmetrised. Its rows
            sum to 1, about; without scaling (``sinkhorn_rounds=0``) they sum to the attention's.
        above: (C, h, w) bool, the patches above ``box_threshold`` of each map's maximum.
        boxes: for each label the boxes around the 8-connected regions of ``above``, in no order.
        inside: (C, h, w) bool, the patches in any of a label's boxes.
        steps: how often A is applied.
    """

    attention: NDArray[np.float32]
    matrix: NDArray[np.float64]
    above: NDArray[np.bool_]
    boxes: tuple[tuple[Box, ...], ...]
    inside: NDArray[np.bool_]
    steps: int

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        h, w = self.inside.shape[1:]
        return h, w

    def attention_of(self, row: int, column: int) -> NDArray[np.float32]:
        """What the patch attends to: its row of ``attention``, (h, w). ValueError for a patch outside the grid."""
        attended: NDArray[np.float32] = self.attention[self._index(row, column)]
        return attended.reshape(self.grid)

    def affinity_of(self, row: int, column: int) -> NDArray[np.float64]:
        """From where the patch's refined value comes: its row of A to the power of ``steps``, (h, w).

        The refined value, before it is scaled, is the sum over the patches of this times ``inside`` times the initial
        map. ValueError for a patch outside the grid.
        """
        shares: NDArray[np.float64] = self.matrix[self._index(row, column)]
        for _ in range(self.steps - 1):
            shares = self.matrix @ shares  # A is symmetric
        return shares.reshape(self.grid)

    def _index(self, row: int, column: int) -> int:
        h, w = self.grid
        if not (0 <= row < h and 0 <= column < w):
            raise ValueError(f"patch {row},{column} is outside the grid; rows are 0..{h - 1}, columns 0..{w - 1}")
        return row * w + column


@dataclass(frozen=True, eq=False)
class Stages:
    """What one image with its labels became, stage by stage. Axes: C labels, M background words, (h, w) patches.

    Attributes:
        config: the settings that all of this was made with.
        patch_size: p, the side of a patch in pixels.
        resized: (h * p, w * p, 3) uint8, the picture as the encoder sees it, before it is normalised.
        words: (C + M,) what competes in the softmax: the labels in their order, then all background words.
        probabilities: (C + M,) float32 in [0, 1], the softmax over ``words`` for the whole image; sums to 1.
        initial: what the initial maps alone give: no affinity, no refinement by colours. (A generator without them
            encodes by other products: there the maps move by rounding.)
        spreading: the affinity's stage, or None where it is off.
        refined: what the maps give after the affinity, without the refinement by colours; of the initial ones where
            the affinity is off.
        result: bit for bit what the generator gives (on a GPU but for rounding).

    The last three are :class:`clipes.PseudoMask` and hold ``patch_cams`` (C, h, w), ``cams`` (C, H, W), ``scores``
    (C + 1, H, W), ``mask`` and ``confidence`` (H, W) of their stage: ``refined.scores`` is what the CRF or PAR is
    given, ``result.scores`` what comes out. An ``ignore_below`` that is a number holds at every stage.
    """

    config: Config
    patch_size: int
    resized: NDArray[np.uint8]
    words: tuple[str, ...]
    probabilities: NDArray[np.float32]
    initial: PseudoMask
    spreading: Spreading | None
    refined: PseudoMask
    result: PseudoMask

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, as in the result."""
        return self.result.labels

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w): how many patches."""
        h, w = self.result.patch_cams.shape[1:]
        return h, w


def trace_stages(generator: MaskGenerator, image: ImageLike, labels: Iterable[str]) -> Stages:
    """Make the mask of one image as ``generator(image, labels)`` does, and keep every stage.

    The matrices of N x N, which the generator never holds in float64, take some 40 bytes for each of N * N entries: at
    4096 patches 700 MB. Raises as a call of the generator does.

    >>> import clipes
    >>> scene = clipes.scenes.draw_scene(seed=7)
    >>> stages = trace_stages(clipes.load(), scene.image, scene.labels)
    >>> stages.grid, stages.resized.shape, round(float(stages.probabilities.sum()), 3)
    ((14, 14), (112, 112, 3), 1.0)
    >>> stages.spreading.affinity_of(3, 5).shape
    (14, 14)
    """
    encoder, text, config = generator.encoder, generator.text_features, generator.config
    picture, ids = open_image(image), generator.vocabulary.ids(labels)
    ((_, encoded),) = encode_images(encoder, [picture], config)
    names, plain = generator.class_names, replace(config, affinity=None)
    first, refined = (localize(encoder, encoded, text, [ids], len(names), c)[0] for c in (plain, config))

    def decided(maps: Tensor, colours: bool) -> PseudoMask:
        chosen = config if colours else replace(config, refine=None)
        return decide_masks([picture], [ids], [maps], names, chosen)[0]

    grid = patch_grid((picture.height, picture.width), encoder.patch_size, config.image.max_patches)
    unit = prepare(picture, grid, encoder.patch_size, (0, 0, 0), (1, 1, 1), encoder.device)
    return Stages(
        config=config,
        patch_size=encoder.patch_size,
        resized=(unit * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy(),
        words=(*(names[i - 1] for i in ids), *generator.background_names),
        probabilities=_probabilities(generator, encoded, ids),
        initial=decided(first, colours=False),
        spreading=_spreading(encoded, first, config.affinity),
        refined=decided(refined, colours=False),
        result=decided(refined, colours=True),
    )


def _probabilities(generator: MaskGenerator, encoded: Encoded, ids: tuple[int, ...]) -> NDArray[np.float32]:
    """The softmax over the labels, in their order, and all background words."""
    encoder, text, count = generator.encoder, generator.text_features, len(generator.class_names)
    own = torch.tensor([i - 1 for i in ids], dtype=torch.int64, device=text.device)
    present = torch.zeros(1, count, dtype=torch.bool, device=text.device).index_fill(1, own, True)
    with torch.inference_mode(), fast_products(encoder.device, encoder.dtype):
        features = image_features(encoder.head, encoded.trace, generator.config.cam.pool)
        shares = label_probabilities(features, text, present, encoder.head.logit_scale)[0]
        return torch.cat([shares[own], shares[count:]]).cpu().numpy()


def _spreading(encoded: Encoded, maps: Tensor, config: AffinityConfig | None) -> Spreading | None:
    if config is None or encoded.attention is None:
        return None
    with torch.inference_mode():
        matrix = affinity_matrix(encoded.attention, config.sinkhorn_rounds)[0]
        found = region_boxes(maps, config.box_threshold, config.boxes)
        return Spreading(
            attention=encoded.attention[0].float().cpu().numpy(),
            matrix=matrix.cpu().numpy(),
            above=above_threshold(maps, config.box_threshold).cpu().numpy(),
            boxes=tuple(tuple(boxes) for boxes in found),
            inside=box_masks(maps, config.box_threshold, config.boxes).bool().cpu().numpy(),
            steps=config.steps,
        )
