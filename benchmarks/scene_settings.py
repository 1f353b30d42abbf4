"""Which settings of the affinity and of the CRF suit the scenes: ``python benchmarks/scene_settings.py``.

Tries them on scenes with their truth; the seed is neither of training, demonstration, test nor of benchmarks/scenes.py,
which judges the choice (``clipes.config.CLIP_ES_SCENES``). Writes benchmarks/scene_settings.md.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from environment import describe, parse_options
from tqdm import tqdm

import clipes
from clipes import evaluation
from clipes.config import ArgmaxConfig, AttentionAffinityConfig, CrfConfig
from clipes.result import PseudoMask
from clipes.scenes import THINGS, draw_scenes

SEED = 4_000_000
POWERS = (1.0, 1.5, 2.0, 3.0)
BARE = replace(clipes.config.CLIP_ES_SCENES, refine=None, mask=ArgmaxConfig())


def maps(scenes: list, affinity: AttentionAffinityConfig | None, model: str) -> list[PseudoMask]:
    generator = clipes.load(model, classes="scenes", config=replace(BARE, affinity=affinity), device="cpu")
    return [generator(scene.image, scene.labels) for scene in scenes]


def mean_iou(scenes: list, results: list[PseudoMask], power: float, refine: CrfConfig | None = None) -> float:
    """Of the masks that the results' maps give with these settings, every pixel decided."""
    config = replace(BARE, refine=refine, mask=ArgmaxConfig(power))
    confusion = np.zeros((17, 17), np.int64)
    for scene, result in zip(scenes, results, strict=True):
        confusion += evaluation.confusion_matrix(result.decide(config).mask, scene.mask, len(THINGS))
    return evaluation.mean_iou(confusion)


def affinity_table(scenes: list, model: str) -> Iterator[str]:
    heads = " | ".join(f"mIoU, background_power {power:g}" for power in POWERS)
    yield f"| sinkhorn_iterations | box_threshold | hops | {heads} |"
    yield "| --- " * (3 + len(POWERS)) + "|"
    settings = product((3, 1, 0), (0.4, 0.5, 0.6, 0.7, 0.8), (1, 2))
    tried = [
        AttentionAffinityConfig(sinkhorn_iterations=rounds, box_threshold=box, hops=n) for rounds, box, n in settings
    ]
    for affinity in tqdm([None, *tried], disable=None):
        results = maps(scenes, affinity, model)
        found = " | ".join(f"{mean_iou(scenes, results, power):.3f}" for power in POWERS)
        if affinity:
            yield f"| {affinity.sinkhorn_iterations} | {affinity.box_threshold} | {affinity.hops} | {found} |"
        else:
            yield f"| no affinity | | | {found} |"


def crf_table(scenes: list, model: str) -> Iterator[str]:
    results = maps(scenes, clipes.config.CLIP_ES_SCENES.affinity, model)
    heads = " | ".join(f"mIoU, background_power {power:g}" for power in POWERS)
    yield f"| bilateral_sigma | colour_sigma | bilateral_weight | {heads} |"
    yield "| --- " * (3 + len(POWERS)) + "|"
    settings = product((5.0, 10.0, 20.0), (10.0, 15.0, 20.0), (4.0, 10.0))
    tried = [CrfConfig(bilateral_sigma=reach, colour_sigma=colour, bilateral_weight=w) for reach, colour, w in settings]
    for crf in tqdm([CrfConfig(), *tried], disable=None):
        found = " | ".join(f"{mean_iou(scenes, results, power, crf):.3f}" for power in POWERS)
        yield f"| {crf.bilateral_sigma:g} | {crf.colour_sigma:g} | {crf.bilateral_weight:g} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scene_settings.md"))
    options = parse_options(parser, count=2)
    scenes = list(draw_scenes(options.count, SEED))
    command = f"`python benchmarks/scene_settings.py --count {options.count}`"
    lines = ["# Settings of the affinity and the CRF on scenes", "", command, "", describe(), ""]
    lines += ["The affinity, without refinement by colours:", "", *affinity_table(scenes, options.model), ""]
    lines += ["The CRF, with the affinity of `clipes.config.CLIP_ES_SCENES`; the published settings first:", ""]
    lines += crf_table(scenes, options.model)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
