"""Which settings of the affinity and of the CRF suit the scenes: ``python benchmarks/scene_settings.py``.

Tries them on scenes with their truth; the seed is neither of training, demonstration, test nor of benchmarks/scenes.py,
which judges the choice (``clipes.SCENES``). Writes benchmarks/scene_settings.md.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from environment import describe
from tqdm import tqdm

import clipes
from clipes.config import AffinityConfig, CrfConfig, MaskConfig
from clipes.decision import decide_masks
from clipes.result import PseudoMask
from clipes.scenes import THINGS, draw_scenes

SEED = 4_000_000
BARE = replace(clipes.SCENES, refine=None, mask=MaskConfig(ignore_below=None))


def masks(scenes: list, config: clipes.Config, model: str) -> Iterator[PseudoMask]:
    generator = clipes.load(model, classes="scenes", config=config, device="cpu")
    return (generator(scene.image, scene.labels) for scene in scenes)


def mean_iou(scenes: list, results: Iterator[PseudoMask]) -> float:
    confusion = np.zeros((17, 17), np.int64)
    for scene, result in zip(scenes, results, strict=True):
        confusion += clipes.confusion_matrix(result.mask, scene.mask, len(THINGS))
    return clipes.mean_iou(confusion)


def affinity_table(scenes: list, model: str) -> Iterator[str]:
    initial = mean_iou(scenes, masks(scenes, replace(BARE, affinity=None), model))
    yield f"Affinity, without refinement by colours. Initial maps, no affinity: {initial:.3f} mIoU."
    yield from ("", "| box_threshold | boxes | steps | mIoU |", "| --- | --- | --- | --- |")
    for threshold, boxes, steps in tqdm(
        list(product((0.4, 0.5, 0.6, 0.7, 0.8), ("reference", "full"), (1, 2))), disable=None
    ):
        affinity = AffinityConfig(box_threshold=threshold, boxes=boxes, steps=steps)
        found = mean_iou(scenes, masks(scenes, replace(BARE, affinity=affinity), model))
        yield f"| {threshold} | {boxes} | {steps} | {found:.3f} |"


def crf_table(scenes: list, model: str) -> Iterator[str]:
    bare = list(masks(scenes, BARE, model))

    def refined(config: CrfConfig) -> Iterator[PseudoMask]:
        for result in bare:
            maps = torch.from_numpy(result.patch_cams)
            settings = replace(BARE, refine=config)
            yield from decide_masks([result.image], [result.class_ids.tolist()], [maps], THINGS, settings)

    yield f"CRF, with the affinity of `clipes.SCENES`: {mean_iou(scenes, iter(bare)):.3f} mIoU without it; the"
    yield f"published settings (67, 3, 4): {mean_iou(scenes, refined(CrfConfig())):.3f}."
    yield from ("", "| bilateral_sigma | colour_sigma | bilateral_weight | mIoU |", "| --- | --- | --- | --- |")
    for reach, colour, weight in tqdm(list(product((5.0, 10.0, 20.0, 40.0), (5.0, 10.0, 15.0, 20.0), (4.0, 10.0)))):
        config = CrfConfig(bilateral_sigma=reach, colour_sigma=colour, bilateral_weight=weight)
        yield f"| {reach:g} | {colour:g} | {weight:g} | {mean_iou(scenes, refined(config)):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scene_settings.md"))
    options = parser.parse_args()
    scenes = list(draw_scenes(options.count, SEED))
    command = f"`python benchmarks/scene_settings.py --count {options.count}`"
    lines = ["# Settings of the affinity and the CRF on scenes", "", command, "", describe(), ""]
    lines += [*affinity_table(scenes, options.model), "", *crf_table(scenes, options.model)]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
