"""How good the bundled model and each stage are on unseen scenes: ``python benchmarks/scenes.py``.

Writes benchmarks/scenes.md. The scenes' seed is neither the demo's nor one of the training's.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from environment import describe, parse_options
from PIL import Image
from torch.nn import functional as F
from tqdm import tqdm

import clipes
from clipes.clip.head import image_features
from clipes.clip.text import text_features
from clipes.clip.weights import load_clip
from clipes.device.pixels import prepare
from clipes.evaluation import class_iou, confusion_matrix, mean_iou
from clipes.scenes import GROUNDS, THINGS, draw_scenes
from clipes.vocabulary import load_vocabulary

SEED = 7_000_000


def average_precision(similarity: np.ndarray, shown: np.ndarray) -> float:
    """Mean over the words of the average precision of ranking the pictures (n, words) by similarity."""
    scores = []
    for column, truth in zip(similarity.T, shown.T, strict=True):
        hits = truth[np.argsort(-column, kind="stable")]
        if hits.any():
            scores.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    return float(np.mean(scores))


def recognition(scenes: list, model: str) -> dict[str, float]:
    """mAP of finding the pictures that show a thing, or a ground, by its word, for both ways to pool the image."""
    clip = load_clip(model)
    encoder = clip.vision
    vocabulary = load_vocabulary("scenes")
    text = text_features(clip.text, vocabulary.sentences())[:, 0].numpy()
    shown = np.array([[w in {*s.labels, *s.grounds} for w in THINGS + GROUNDS] for s in scenes])
    found = {}
    for pool in ("cls", "patch"):
        rows = []
        for scene in tqdm(scenes, desc=f"recognition, {pool}", disable=None):
            grid = (scene.mask.shape[0] // encoder.patch_size, scene.mask.shape[1] // encoder.patch_size)
            image = prepare(Image.fromarray(scene.image), grid, encoder.patch_size, encoder.mean, encoder.std)
            with torch.inference_mode():
                trace = encoder.encode(image[None]).last_block
                rows.append(F.normalize(image_features(encoder.head, trace, pool), dim=-1)[0].numpy())
        similarity = np.stack(rows) @ text.T
        found[f"things, {pool}"] = average_precision(similarity[:, :16], shown[:, :16])
        found[f"grounds, {pool}"] = average_precision(similarity[:, 16:], shown[:, 16:])
    return found


def segmentation(scenes: list, model: str) -> dict[str, np.ndarray]:
    """Confusion matrices (17, 17) of every stage; without background words, only pictures of several labels."""
    several = [scene for scene in scenes if len(scene.labels) > 1]
    voc, own, best = (
        replace(config, mask=clipes.config.ArgmaxConfig(config.mask.background_power))
        for config in (clipes.VOC12, clipes.config.CLIP_ES_SCENES, clipes.config.SCENES)
    )
    initial = replace(voc, affinity=None, refine=None)
    joined = replace(initial, map=best.map)
    stages = {
        "initial, no background words (several labels)": (initial, [], several),
        "initial (several labels)": (initial, None, several),
        "initial": (initial, None, scenes),
        "with affinity, VOC's settings": (replace(voc, refine=None), None, scenes),
        "with affinity and CRF, VOC's settings": (voc, None, scenes),
        "with affinity, the scenes' settings": (replace(own, refine=None), None, scenes),
        "with affinity and CRF, the scenes' settings": (own, None, scenes),
        "committee, initial": (joined, None, scenes),
        "committee, with affinity": (replace(best, refine=None), None, scenes),
        "committee, with affinity and CRF": (best, None, scenes),
    }
    matrices = {}
    for stage, (config, background, pictures) in stages.items():
        generator = clipes.load(model, classes="scenes", background=background, config=config, device="cpu")
        matrices[stage] = np.zeros((17, 17), np.int64)
        results = generator.generate([s.image for s in pictures], [s.labels for s in pictures])
        for scene, result in zip(pictures, tqdm(results, stage, len(pictures), disable=None), strict=True):
            matrices[stage] += confusion_matrix(result.mask, scene.mask, len(THINGS))
    return matrices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scenes.md"))
    options = parse_options(parser, count=4)
    scenes = [s for s in draw_scenes(options.count, SEED, (options.size, options.size)) if s.labels]
    command = f"`python benchmarks/scenes.py --count {options.count}`"
    lines = ["# The bundled model on unseen scenes", "", command, "", describe(), ""]
    lines += ["| recognition by word, image pooled by | mAP |", "| --- | --- |"]
    lines += [f"| {name} | {value:.3f} |" for name, value in recognition(scenes, options.model).items()]
    lines += ["", "| stage | mIoU | background IoU |", "| --- | --- | --- |"]
    for stage, matrix in segmentation(scenes, options.model).items():
        lines.append(f"| {stage} | {mean_iou(matrix):.3f} | {class_iou(matrix)[0]:.3f} |")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
