"""What each part of the method is worth on unseen scenes: ``python benchmarks/ablation.py``.

Each row is one part added. What the library has no setting for, because it is worse, is built here from its parts;
where a row is a setting of the library, its masks must be the library's own. Writes benchmarks/ablation.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
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
DEFAULT = replace(clipes.SCENES, mask=MaskConfig(ignore_below=None))


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


# Affinity: maps (C, N) and mean attention (1, N, N) to maps (C, N) -----------------------------------------


def spread_by_rows(cams: Tensor, attention: Tensor, grid: tuple[int, int], config: AffinityConfig, boxed: bool):
    """CAA with the attention's rows divided by their sums in place of Sinkhorn's scaling."""
    shares = attention[0].double()
    shares = shares / shares.sum(1, keepdim=True)
    affinity = (shares + shares.T) / 2
    masks = box_masks(cams.reshape(-1, *grid), config.box_threshold, config.boxes).flatten(1) if boxed else 1
    spread = (cams * masks).double()
    for _ in range(config.steps):
        spread = spread @ affinity
    return min_max(spread).to(cams)


def spread_by_sinkhorn(cams: Tensor, attention: Tensor, grid: tuple[int, int], config: AffinityConfig):
    return refine_cams(cams, attention, torch.zeros(len(cams), dtype=torch.int64), grid, config)


# The table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    part: str
    over: int | None  # the number of the row that it adds to
    maps: Callable[..., Tensor]
    spread: Callable[..., Tensor] | None = None
    refine: CrfConfig | ParConfig | None = None
    ours: bool = True  # whether the library makes these masks, given the right settings


ROWS = {
    1: Row("GradCAM on the label's logit", None, logit_maps, ours=False),
    2: Row("softmax over the picture's labels", 1, label_maps, ours=False),
    3: Row("background words in the softmax", 2, background_maps),
    4: Row("synonyms in the sentence", 3, synonym_maps),
    5: Row("CAA, rows normalised, no boxes", 3, background_maps, partial(spread_by_rows, boxed=False), ours=False),
    6: Row("boxes", 5, background_maps, partial(spread_by_rows, boxed=True), ours=False),
    7: Row("Sinkhorn", 6, background_maps, spread_by_sinkhorn),
    8: Row("PAR", 7, background_maps, spread_by_sinkhorn, ParConfig(resolution="full")),
    9: Row("CRF", 7, background_maps, spread_by_sinkhorn, DEFAULT.refine),
}


def mask_of(model: Model, row: Row, scene: Scene) -> np.ndarray:
    """The whole path, from the picture to its mask (H, W)."""
    encoder, image = model.encoder, Image.fromarray(scene.image)
    grid = patch_grid((image.height, image.width), encoder.patch_size, DEFAULT.image.max_patches)
    pixels = prepare(image, grid, encoder.patch_size, encoder.mean, encoder.std)
    encoded = encoder.encode(torch.from_numpy(pixels)[None], DEFAULT.affinity.blocks if row.spread else 0)
    labels = [THINGS.index(label) for label in scene.labels]
    cams = row.maps(model, encoded, labels)
    if row.spread:
        cams = row.spread(cams, encoded.attention, grid, DEFAULT.affinity)
    config = replace(DEFAULT, refine=row.refine)
    (result,) = decide_masks([image], [[i + 1 for i in labels]], [cams.reshape(-1, *grid)], THINGS, config)
    return result.mask


def library_of(row: Row) -> clipes.MaskGenerator:
    """The library's generator with the settings that the row stands for; those of row 9 are the default."""
    classes = {"classes": FUSED, "background": "scenes"} if row.maps is synonym_maps else {}
    affinity = DEFAULT.affinity if row.spread else None
    return clipes.load(**classes, config=replace(DEFAULT, affinity=affinity, refine=row.refine), device="cpu")


def measure(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices (pictures, rows, 17, 17) and processor seconds (pictures, rows)."""
    model = load_model()
    libraries = {number: library_of(row) for number, row in ROWS.items() if row.ours}
    side = len(THINGS) + 1
    confusions = np.zeros((len(scenes), len(ROWS), side, side))
    seconds = np.zeros((len(scenes), len(ROWS)))
    for index, scene in enumerate(tqdm(scenes, disable=None)):
        for place, (number, row) in enumerate(ROWS.items()):
            start = time.process_time()
            mask = mask_of(model, row, scene)
            seconds[index, place] = time.process_time() - start
            confusions[index, place] = clipes.confusion_matrix(mask, scene.mask, len(THINGS))
            if row.ours and not np.array_equal(mask, libraries[number](scene.image, scene.labels).mask):
                raise RuntimeError(f"row {number}, scene {index}: not the library's mask; mend this benchmark's path")
    return confusions, seconds


def bootstrap(confusions: np.ndarray, seed: int = 0) -> np.ndarray:
    """mIoU (DRAWS, rows) of as many pictures, drawn with replacement; the same pictures for every row."""
    count, rows, side, _ = confusions.shape
    times_drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    totals = (times_drawn.astype(float) @ confusions.reshape(count, -1)).reshape(-1, rows, side, side)
    return np.array([[clipes.mean_iou(total) for total in draw] for draw in totals])


def middle_95(values: np.ndarray, form: str) -> str:
    low, high = np.quantile(values, (0.025, 0.975))
    return f"[{low:{form}}, {high:{form}}]"


def table(confusions: np.ndarray, seconds: np.ndarray) -> list[str]:
    miou = [clipes.mean_iou(total) for total in confusions.sum(0)]
    draws = bootstrap(confusions)

    def gain(row: int, over: int) -> str:
        found = miou[row - 1] - miou[over - 1]
        return f"{found:+.3f} {middle_95(draws[:, row - 1] - draws[:, over - 1], '+.3f')}"

    lines = ["| row | part | over row | mIoU | gain | ms per picture |", "| --- | --- | --- | --- | --- | --- |"]
    for place, (number, row) in enumerate(ROWS.items()):
        own = f"{miou[place]:.3f} {middle_95(draws[:, place], '.3f')}"
        added = "" if row.over is None else gain(number, row.over)
        time_taken = f"{1000 * np.median(seconds[:, place]):.1f}"
        lines.append(f"| {number} | {row.part} | {row.over or ''} | {own} | {added} | {time_taken} |")
    lines += ["", f"Whole stages: softmax and background words (row 3 over row 1) {gain(3, 1)}; CAA (row 7 over row 3)"]
    lines += [f"{gain(7, 3)}; CRF (row 9 over row 7) {gain(9, 7)}; CRF over PAR (row 9 over row 8) {gain(9, 8)}."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("ablation.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = [scene for scene in draw_scenes(options.count, SEED) if scene.labels]
    command = f"`python benchmarks/ablation.py --count {options.count}`"
    lines = ["# What each part is worth on scenes", "", command, "", describe(), ""]
    lines += table(*measure(scenes))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
