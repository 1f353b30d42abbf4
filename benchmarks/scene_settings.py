"""Which settings of the affinity suit the scenes: ``python benchmarks/scene_settings.py``.

Tries them on scenes with their truth; the seed is neither of training, demonstration, test nor of benchmarks/scenes.py,
which judges the choice (``clipes.SCENES``). Writes benchmarks/scene_settings.md.
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from environment import describe
from tqdm import tqdm

import clipes
from clipes.config import AffinityConfig
from clipes.scenes import THINGS, draw_scenes

SEED = 4_000_000


def mean_iou(scenes: list, config: clipes.Config, model: str) -> float:
    generator = clipes.load(model, classes="scenes", config=config, device="cpu")
    confusion = np.zeros((17, 17), np.int64)
    for scene in scenes:
        result = generator(scene.image, scene.labels)
        confusion += clipes.confusion_matrix(result.mask, scene.mask, len(THINGS))
    return clipes.mean_iou(confusion)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scene_settings.md"))
    options = parser.parse_args()
    scenes = list(draw_scenes(options.count, SEED))
    command = f"`python benchmarks/scene_settings.py --count {options.count}`"
    lines = ["# Settings of the affinity on scenes", "", command, "", describe(), ""]
    initial = mean_iou(scenes, replace(clipes.VOC12, affinity=None), options.model)
    lines += [f"Initial maps, no affinity: {initial:.3f} mIoU.", "", "| box_threshold | boxes | steps | mIoU |"]
    lines.append("| --- | --- | --- | --- |")
    tried = list(product((0.4, 0.5, 0.6, 0.7, 0.8), ("reference", "full"), (1, 2)))
    for threshold, boxes, steps in tqdm(tried, disable=None):
        affinity = AffinityConfig(box_threshold=threshold, boxes=boxes, steps=steps)
        found = mean_iou(scenes, replace(clipes.VOC12, affinity=affinity), options.model)
        lines.append(f"| {threshold} | {boxes} | {steps} | {found:.3f} |")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
