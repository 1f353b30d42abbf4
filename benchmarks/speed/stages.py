"""The stages of the path, each of the baseline's beside clipes': what ``benchmarks/run.py --parts stages`` times.

All that reaches into clipes below :class:`clipes.MaskGenerator` is here. A stage's input is made once, before it is
timed. On a GPU clipes' stages take a batch, and their times are divided by its size; the baseline takes one picture.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import baseline
import numpy as np
import torch
from baseline import Baseline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import clipes
from clipes.cams.affinity import propagate_cams
from clipes.cams.compute import encode_pixels
from clipes.cams.gradcam import softmax_gradcam
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import run_block_keeping_all
from clipes.clip.vision import Encoded
from clipes.device.matmul_precision import matmul_precision
from clipes.device.pixels import prepare
from clipes.io.images import open_image, patch_grid
from clipes.io.masks import mask_png
from clipes.refine.crf import refine_crf
from clipes.result import decide_masks
from clipes.scores import score_maps, upsample

PICTURE_STAGES = ("decode", "resize", "encode", "png")
"""They do not depend on the labels."""

LABEL_STAGES = ("cam", "affinity", "decide", "handover", "crf")

STAGES = {
    "decode": "decode the JPEG",
    "resize": "resize, normalise",
    "encode": "all blocks but the last, with maps",
    "cam": "last block and CAM",
    "affinity": "affinity",
    "decide": "upsample, score, decide",
    "handover": "maps saved and read, picture decoded again",
    "crf": "dense CRF",
    "png": "PNG",
}
"""In the order of the path. The handover, between its two passes, is the baseline's alone."""


INPUTS = {
    "encode": "pixels",
    "cam": "encoded",
    "affinity": "cams",
    "decide": "refined",
    "handover": "maps",
    "crf": "scores",
    "png": "masks",
}
"""The attribute that holds a stage's input: asked for before the stage is timed."""

OUTPUTS = {"resize": "pixels", "encode": "encoded", "cam": "cams"}
"""The attribute that a stage's result may be kept in, so that it need not be made again."""


def _forget(stages: BaselineStages | ClipesStages) -> None:
    for name in ("cams", "refined", "maps", "scores", "masks"):
        stages.__dict__.pop(name, None)


class BaselineStages:
    """The baseline's stages for one picture and its labels."""

    count = 1

    def __init__(self, subject: Baseline, path: Path, folder: Path):
        self._subject, self._path, self._folder = subject, path, folder
        self._image, self.patch = baseline.read(path), subject.patch
        self._grid, self._size = subject.grid(self._image), (self._image.height, self._image.width)

    def label(self, class_ids: list[int]) -> None:
        """Go on with these labels; what does not depend on them is kept."""
        self._ids = class_ids
        _forget(self)

    @cached_property
    def pixels(self) -> Tensor:
        return self.resize()

    @cached_property
    def encoded(self) -> tuple[Tensor, list[Tensor]]:
        return self.encode()

    @cached_property
    def cams(self) -> tuple[list[NDArray[np.float32]], Tensor]:
        return self.cam()

    @cached_property
    def refined(self) -> list[NDArray[np.float32]]:
        return self.affinity()

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        return baseline.enlarge(self.refined, self._size)

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        return baseline.stack_scores(self.maps)

    @cached_property
    def masks(self) -> NDArray[np.uint8]:
        return self.decide()

    def decode(self) -> Image.Image:
        return baseline.read(self._path)

    def resize(self) -> Tensor:
        return self._subject.prepare(self._image)

    def encode(self) -> tuple[Tensor, list[Tensor]]:
        return self._subject.encode(self.pixels)

    def cam(self) -> tuple[list[NDArray[np.float32]], Tensor]:
        return self._subject.cams(self.encoded[0], self._ids, self._grid)

    def affinity(self) -> list[NDArray[np.float32]]:
        cams, last = self.cams
        return baseline.refine(cams, [*self.encoded[1], last])

    def decide(self) -> NDArray[np.uint8]:
        scores = baseline.stack_scores(baseline.enlarge(self.refined, self._size))
        return baseline.decide(scores, self._ids, baseline.IGNORE_BELOW)

    def handover(self) -> object:
        path = self._folder / "handover.npy"
        baseline.save_maps(path, self._ids, self.maps)
        return baseline.load_maps(path), baseline.read(self._path)

    def crf(self) -> NDArray[np.float32]:
        return baseline.dense_crf(self._image, self.scores)

    def png(self) -> None:
        baseline.save_mask(self.masks, self._folder / "mask.png")


class ClipesStages:
    """clipes' stages for pictures of one size and number of labels; a call takes all ``count`` of them."""

    def __init__(self, generator: clipes.MaskGenerator, paths: list[Path]):
        self._names, self._config = generator.class_names, replace(generator.config, refine=None)
        self._crf = generator.config.refine
        self._encoder, self._text = generator.clip.vision, generator._text_features
        self._paths, self.count = paths, len(paths)
        self._images = [open_image(path) for path in paths]
        self._arrays = [torch.from_numpy(np.array(image)).to(self._text.device) for image in self._images]
        self._size = self._images[0].height, self._images[0].width
        self.grid = patch_grid(self._size, self._encoder.patch_size, self._config.image.max_patches)

    def label(self, class_ids: list[int]) -> None:
        """Go on with these labels for every picture; what does not depend on them is kept."""
        self._ids = [class_ids] * self.count
        _forget(self)
        self._pairs = Pairs([[i - 1 for i in class_ids]] * self.count, self._text.device)
        self._present = torch.zeros(self.count, len(self._names), dtype=torch.bool, device=self._text.device)
        self._present[self._pairs.image, self._pairs.label] = True

    @cached_property
    def pixels(self) -> list[Tensor]:
        return self.resize()

    @cached_property
    def encoded(self) -> Encoded:
        return self.encode()

    @cached_property
    def cams(self) -> Tensor:
        return self.cam()

    @cached_property
    def refined(self) -> list[Tensor]:
        return [maps.reshape(-1, *self.grid) for maps in self.affinity().split(len(self._ids[0]))]

    @cached_property
    def scores(self) -> list[Tensor]:
        return [score_maps(upsample(maps, self._size)) for maps in self.refined]

    @cached_property
    def masks(self) -> list[NDArray[Any]]:
        return [result.mask for result in self.decide()]

    def decode(self) -> list[Image.Image]:
        return [open_image(path) for path in self._paths]

    def resize(self) -> list[Tensor]:
        tower = self._encoder
        return [prepare(i, self.grid, tower.patch_size, tower.mean, tower.std, tower.device) for i in self._images]

    def encode(self) -> Encoded:
        """All blocks, the last one too, whose :meth:`last` is taken off."""
        return encode_pixels(self._encoder, self.pixels, self._config)

    def last(self) -> object:
        """The last block's pass, over tokens of any value."""
        block, tokens = self._encoder.blocks[-1], self.encoded.last_block.output
        with torch.inference_mode(), matmul_precision(self._encoder.device, self._encoder.dtype):
            return run_block_keeping_all(block, tokens)

    def cam(self) -> Tensor:
        """The last block's pass and the maps."""
        encoder, pool = self._encoder, self._config.pool
        self.last()
        with torch.inference_mode(), matmul_precision(encoder.device, encoder.dtype):
            trace = self.encoded.last_block
            return softmax_gradcam(
                encoder.blocks[-1], encoder.head, trace, self._text, self._present, self._pairs, pool
            )

    def affinity(self) -> Tensor:
        with torch.inference_mode(), matmul_precision(self._encoder.device, self._encoder.dtype):
            encoded, affinity = self.encoded, self._config.affinity
            attention = encoded.attention[affinity.attention]
            return propagate_cams(self.cams, attention, self._pairs, encoded.grids, affinity)

    def decide(self) -> list[clipes.PseudoMask]:
        return decide_masks(self._images, self._ids, self.refined, self._names, self._config)

    def crf(self) -> list[Tensor]:
        return refine_crf(self._arrays, self.scores, self._crf)

    def png(self) -> list[bytes]:
        return [mask_png(mask, len(self._names)) for mask in self.masks]
