"""What each part of the method is worth on unseen scenes: ``python benchmarks/ablation.py``.

Each row is one part added. What the library has no setting for, because it is worse, is built here from its parts;
where a row is a setting of the library, its masks must be the library's own. Writes benchmarks/ablation.md.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from environment import describe
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import clipes
from clipes.affinity import box_masks, refine_cams
from clipes.cam import image_features, min_max, softmax_gradcam
from clipes.config import AffinityConfig, CrfConfig, MaskConfig, ParConfig
from clipes.decision import decide_masks
from clipes.encoder import Encoded, Encoder
from clipes.image import patch_grid, prepare
from clipes.scenes import THINGS, Scene, draw_scenes
from clipes.text import text_features
from clipes.transformer import attention_map, finish, merge_heads, project_qkv, scaled
from clipes.vocabulary import load_vocabulary
from clipes.weights import load_clip

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from train_tiny import SYNONYMS

SEED = 2_000_000  # that of benchmarks/scenes.py; the settings were chosen on another
DRAWS = 2000
FUSED = {name: ",".join((name, *SYNONYMS.get(name, ()))) for name in THINGS}
DEFAULT = replace(clipes.SCENES, mask=MaskConfig(background_power=1.0, ignore_below=None))
NO_BOXES = replace(DEFAULT.affinity, box_threshold=0.0, boxes="full")  # all sources above 1/255 of the maximum


@dataclass(frozen=True)
class Model:
    """The bundled image tower and unit text features: (K, E) by name and with synonyms, (M, E) of the background."""

    encoder: Encoder
    names: Tensor
    fused: Tensor
    background: Tensor


def load_model() -> Model:
    clip = load_clip("tiny")
    plain, fused = load_vocabulary("scenes"), load_vocabulary(FUSED, "scenes")
    sentences = (plain.class_sentences(), fused.class_sentences(), plain.background_sentences())
    return Model(clip.encoder, *(text_features(clip.encode_text, each) for each in sentences))


# Initial maps: (C, N) in [0, 1] of one encoded picture, for the positions of its labels --------------------


def logit_maps(model: Model, encoded: Encoded, labels: list[int]) -> Tensor:
    """GradCAM on each label's logit, by autograd through the last block from the output of its ``ln_1``."""
    block, head, trace = model.encoder.blocks[-1], model.encoder.head, encoded.trace
    attended = F.linear(merge_heads(trace.context), block.out_weight, block.out_bias)
    residual = trace.middle - scaled(attended, block.ls_1)
    normed = trace.normed.detach().requires_grad_()
    query, key, value = project_qkv(block, normed)
    output = finish(block, residual, attention_map(query, key) @ value)[2]
    feature = F.normalize(image_features(head, output, "patch"), dim=-1)
    maps = []
    for logit in (head.logit_scale * model.names[labels] @ feature[0]).unbind():
        (gradient,) = torch.autograd.grad(logit, normed, retain_graph=True)
        maps.append((normed.detach()[0, 1:] @ gradient[0, 1:].mean(0)).relu())
    return min_max(min_max(torch.stack(maps)))


def softmax_maps(model: Model, encoded: Encoded, labels: list[int], things: Tensor, background: Tensor) -> Tensor:
    pairs = torch.tensor([(0, label) for label in labels])
    present = torch.zeros(1, len(things), dtype=torch.bool)
    present[0, labels] = True
    block, head = model.encoder.blocks[-1], model.encoder.head
    return softmax_gradcam(block, head, encoded.trace, things, background, present, pairs)


def label_maps(model: Model, encoded: Encoded, labels: list[int]) -> Tensor:
    """The softmax of a single label is constant, without a gradient: such a picture keeps the logit's map."""
    if len(labels) == 1:
        return logit_maps(model, encoded, labels)
    return softmax_maps(model, encoded, labels, model.names, model.background[:0])


def background_maps(model: Model, encoded: Encoded, labels: list[int]) -> Tensor:
    return softmax_maps(model, encoded, labels, model.names, model.background)


def synonym_maps(model: Model, encoded: Encoded, labels: list[int]) -> Tensor:
    return softmax_maps(model, encoded, labels, model.fused, model.background)


# Affinity --------------------------------------------------------------------------------------------------


def row_shares(attention: Tensor) -> Tensor:
    """Each patch's attention to the others (N, N) float64, rows sum to 1, from the mean attention (1, N, N)."""
    return attention[0].double() / attention[0].double().sum(1, keepdim=True)


def spread_by_rows(cams: Tensor, attention: Tensor, grid: tuple[int, int], config: AffinityConfig) -> Tensor:
    """What ``refine_cams`` does for one picture, with the attention's row shares in place of Sinkhorn's scaling."""
    shares = row_shares(attention)
    masks = box_masks(cams.reshape(-1, *grid), config.box_threshold, config.boxes).flatten(1)
    spread = (cams * masks).double()
    for _ in range(config.steps):
        spread = spread @ (shares + shares.T) / 2
    return min_max(spread).to(cams)


# The table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    part: str
    over: int | None  # the number of the row that it adds to
    maps: Callable[[Model, Encoded, list[int]], Tensor]
    affinity: AffinityConfig | None = None
    sinkhorn: bool = True
    refine: CrfConfig | ParConfig | None = None

    @property
    def in_library(self) -> bool:
        """Whether the library makes these masks, given the right settings."""
        return self.maps in (background_maps, synonym_maps) and self.sinkhorn


ROWS = {
    1: Row("GradCAM on the label's logit", None, logit_maps),
    2: Row("softmax over the picture's labels", 1, label_maps),
    3: Row("background words in the softmax", 2, background_maps),
    4: Row("synonyms in the sentence", 3, synonym_maps),
    5: Row("CAA, rows normalised, no boxes", 3, background_maps, NO_BOXES, sinkhorn=False),
    6: Row("boxes", 5, background_maps, DEFAULT.affinity, sinkhorn=False),
    7: Row("Sinkhorn", 6, background_maps, DEFAULT.affinity),
    8: Row("PAR", 7, background_maps, DEFAULT.affinity, refine=ParConfig(resolution="full")),
    9: Row("CRF", 7, background_maps, DEFAULT.affinity, refine=DEFAULT.refine),
    10: Row("aside: Sinkhorn, no boxes", 5, background_maps, NO_BOXES),
    11: Row("aside: row 9 with synonyms", 9, synonym_maps, DEFAULT.affinity, refine=DEFAULT.refine),
}


def encode(model: Model, image: Image.Image, blocks: int) -> Encoded:
    encoder = model.encoder
    grid = patch_grid((image.height, image.width), encoder.patch_size, DEFAULT.image.max_patches)
    pixels = prepare(image, grid, encoder.patch_size, encoder.mean, encoder.std)
    return encoder.encode(torch.from_numpy(pixels)[None], blocks)


def mask_of(model: Model, row: Row, scene: Scene) -> np.ndarray:
    """The whole path, from the picture to its mask (H, W)."""
    image, labels = Image.fromarray(scene.image), [THINGS.index(label) for label in scene.labels]
    encoded = encode(model, image, row.affinity.blocks if row.affinity else 0)
    cams = row.maps(model, encoded, labels)
    if row.affinity and row.sinkhorn:
        of_image = torch.zeros(len(cams), dtype=torch.int64)
        cams = refine_cams(cams, encoded.attention, of_image, encoded.grid, row.affinity)
    elif row.affinity:
        cams = spread_by_rows(cams, encoded.attention, encoded.grid, row.affinity)
    config, maps = replace(DEFAULT, refine=row.refine), cams.reshape(-1, *encoded.grid)
    return decide_masks([image], [[label + 1 for label in labels]], [maps], THINGS, config)[0].mask


def library_of(row: Row) -> clipes.MaskGenerator:
    """The library's generator with the settings that the row stands for; those of row 9 are the default."""
    classes = {"classes": FUSED, "background": "scenes"} if row.maps is synonym_maps else {}
    return clipes.load(**classes, config=replace(DEFAULT, affinity=row.affinity, refine=row.refine), device="cpu")


def measure(model: Model, scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices (pictures, rows, 17, 17) and processor seconds (pictures, rows)."""
    libraries = {number: library_of(row) for number, row in ROWS.items() if row.in_library}
    side = len(THINGS) + 1
    confusions = np.zeros((len(scenes), len(ROWS), side, side))
    seconds = np.zeros((len(scenes), len(ROWS)))
    for index, scene in enumerate(tqdm(scenes, disable=None)):
        for place, (number, row) in enumerate(ROWS.items()):
            start = time.process_time()
            mask = mask_of(model, row, scene)
            seconds[index, place] = time.process_time() - start
            confusions[index, place] = clipes.confusion_matrix(mask, scene.mask, len(THINGS))
            if row.in_library and not np.array_equal(mask, libraries[number](scene.image, scene.labels).mask):
                raise RuntimeError(f"row {number}, scene {index}: not the library's mask; mend this benchmark's path")
    return confusions, seconds
