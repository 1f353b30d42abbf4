"""What ``benchmarks/run.py`` compares: the baseline and clipes over one file of weights, and the pictures for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import open_clip
import torch
from baseline import Baseline
from PIL import Image
from safetensors.torch import save_file

import clipes
from clipes.clip.attributes import vocabulary_features
from clipes.scenes import draw_scenes

SEED = 10_000_000
DRAWN = 64
BASELINE = "baseline"
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16")}
NAMES = {"fp32": "clipes float32", "bf16": "clipes bf16", "fp16": "clipes fp16"}


@dataclass(frozen=True)
class Subjects:
    """The baseline and clipes in two precisions, by name, over the same weights and words (VOC's)."""

    model: str
    baseline: Baseline
    clipes: dict[str, clipes.MaskGenerator]


def load_subjects(model: str, weights: Path, device: torch.device) -> Subjects:
    """All three with a weights file of ``model``."""
    generators = {
        NAMES[precision]: clipes.load(model, weights, classes="voc12", device=device, precision=precision)
        for precision in PRECISIONS[device.type]
    }
    exact = generators[NAMES["fp32"]]
    clip = open_clip.create_model(model, pretrained=str(weights)).eval().float()
    mean, std = exact.settings["mean"], exact.settings["std"]
    features = vocabulary_features(exact.clip.text, exact.vocabulary)[:, 0]  # one name for each class
    text = features.to(exact.clip.vision.head.projection)
    return Subjects(model, Baseline(clip, text, len(exact.class_names), mean, std, device), generators)


def weights_file(model: str, given: Path | None, folder: Path) -> Path:
    """The weights given, or random ones: what the model costs does not depend on them."""
    if given is not None:
        return given
    path = folder / f"{model}.safetensors"
    torch.manual_seed(SEED)
    state = open_clip.create_model(model).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def pictures(folder: Path, count: int, size: tuple[int, int], photos: Path | None) -> list[Path]:
    """``count`` JPEGs of (H, W) in ``folder``: photographs in turn, brought to that size, or else drawn scenes,
    of which no more than DRAWN differ.
    """
    made = folder / f"{size[0]}x{size[1]}"
    made.mkdir(exist_ok=True)
    paths = [made / f"{number:05}.jpg" for number in range(count)]
    if all(path.exists() for path in paths):
        return paths
    if photos is None:
        images = [Image.fromarray(scene.image) for scene in draw_scenes(min(count, DRAWN), SEED, size)]
    else:
        images = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.jpg"))[:count]]
        images = [image.resize(size[::-1], Image.Resampling.BICUBIC) for image in images]
    if not images:
        raise SystemExit(f"{photos} has no .jpg; give a folder of photographs")
    for path, image in zip(paths, cycle(images), strict=False):
        image.save(path, quality=95)
    return paths


def cores() -> list[int]:
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0))
