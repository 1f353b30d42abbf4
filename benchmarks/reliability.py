"""What the confidence is worth: ``python benchmarks/reliability.py``.

Masks of drawn scenes, every pixel decided, against the truth: how many pixels are right at which confidence, before the
CRF (``map_confidence``) and after it (``confidence``); and the same of a model whose weights are shuffled, which knows
nothing. Writes benchmarks/reliability.md and docs/reliability.png.
"""

import argparse
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import describe, parse_options
from numpy.typing import NDArray
from scipy.stats import spearmanr
from tqdm import tqdm

import clipes
from clipes.clip.weights import CLIP, load_clip
from clipes.drawing.figure import drawing
from clipes.generator import MaskGenerator
from clipes.scenes import Scene, draw_scenes
from clipes.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[1]
SEED = 7_000_000  # that of benchmarks/scenes.py
BINS = 10
DECIDED = replace(clipes.config.SCENES, mask=clipes.config.ArgmaxConfig(clipes.config.SCENES.mask.background_power))
KINDS = {"before the CRF": "map_confidence", "after the CRF": "confidence"}


@dataclass
class Bins:
    """Pixels by their confidence: how many, the sum of their confidence, how many are right."""

    count: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> None:
        """Count pixels, (n,) each."""
        place = (confidence * BINS).astype(np.int64).clip(0, BINS - 1)
        self.count += np.bincount(place, minlength=BINS)
        self.total += np.bincount(place, confidence, minlength=BINS)
        self.right += np.bincount(place, right, minlength=BINS).astype(np.int64)

    @property
    def accuracy(self) -> float:
        """The share of the pixels that is right."""
        return float(self.right.sum() / max(self.count.sum(), 1))

    @property
    def mean(self) -> float:
        """The mean confidence."""
        return float(self.total.sum() / max(self.count.sum(), 1))

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017): the mean distance of confidence and share right."""
        return float(np.abs(self.total - self.right).sum() / max(self.count.sum(), 1))


@dataclass
class Measured:
    """The pixels of classes by confidence; for each image its mean confidence, of each kind, and its mean IoU."""

    bins: dict[str, Bins] = field(default_factory=lambda: {kind: Bins() for kind in KINDS})
    images: list[tuple[float, float, float]] = field(default_factory=list)

    def correlation(self, kind: int) -> float:
        """Spearman's rank correlation over the images of the confidence (0: before, 1: after the CRF) and mean IoU."""
        values = np.array(self.images)
        return float(spearmanr(values[:, kind], values[:, 2]).statistic)


def measure(generator: MaskGenerator, scenes: list[Scene]) -> Measured:
    """Make the masks of the scenes and compare them with the truth."""
    measured = Measured()
    for scene in tqdm(scenes, disable=None):
        result = generator(scene.image, scene.labels)
        shown, right = result.mask > 0, result.mask == scene.mask
        for kind, name in KINDS.items():
            measured.bins[kind].add(getattr(result, name)[shown], right[shown])
        if shown.any():
            means = (float(getattr(result, name)[shown].mean()) for name in KINDS.values())
            measured.images.append((*means, _mean_iou(result.mask, scene.mask, result.class_ids.tolist())))
    return measured


def _mean_iou(mask: NDArray[Any], truth: NDArray[Any], ids: list[int]) -> float:
    pairs = [(mask == index, truth == index) for index in (0, *ids)]
    return float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs]))


def shuffled(clip: CLIP) -> CLIP:
    """The model with the numbers of each of its vision side's tensors in random order."""
    vision, generator = copy.deepcopy(clip.vision), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for tensor in _tensors(vision):
            order = torch.randperm(tensor.numel(), generator=generator)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
    return CLIP(vision, clip.text)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif is_dataclass(value):
        for item in fields(value):
            yield from _tensors(getattr(value, item.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)


def plot(path: Path, measured: Measured) -> None:
    """The reliability diagram: the share of pixels that is right over their confidence, and where the pixels are."""
    with drawing(path, (6.9, 3.4)) as figure:
        for axis, (kind, bins) in zip(figure.subplots(1, 2, sharey=True), measured.bins.items(), strict=True):
            some = bins.count > 0
            axis.bar((np.arange(BINS) + 0.5) / BINS, bins.count / bins.count.sum(), 0.09, color="#c9d6ea")
            axis.plot([0, 1], [0, 1], color="#767676", linewidth=0.8, linestyle="--")
            axis.plot(bins.total[some] / bins.count[some], bins.right[some] / bins.count[some], "o-", color="#0b5394")
            axis.set(title=f"{kind}: calibration error {bins.error:.3f}", xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
            axis.spines[["top", "right"]].set_visible(False)
        figure.axes[0].set_ylabel("right (line), share of pixels (bars)")


def table(measured: Measured, blind: Measured) -> list[str]:
    """The page's tables."""
    rows = ["| confidence | " + " | ".join(f"pixels, {kind} | right" for kind in KINDS) + " |", "| --- " * 5 + "|"]
    for place in range(BINS):
        cells = []
        for bins in measured.bins.values():
            count = bins.count[place]
            cells += [f"{count / bins.count.sum():.1%}", f"{bins.right[place] / count:.1%}" if count else ""]
        rows.append(f"| {place / BINS:.1f} to {(place + 1) / BINS:.1f} | {' | '.join(cells)} |")
    rows += [
        "",
        "| | mean confidence | right | calibration error | rank correlation with mIoU, by image |",
        "| --- " * 5 + "|",
    ]
    for name, model in (("bundled model", measured), ("its weights shuffled", blind)):
        for number, (kind, bins) in enumerate(model.bins.items()):
            figures = f"{bins.mean:.3f} | {bins.accuracy:.3f} | {bins.error:.3f} | {model.correlation(number):.2f}"
            rows.append(f"| {name}, {kind} | {figures} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="scenes")
    parser.add_argument("--out", type=Path, default=ROOT, help="where benchmarks/ and docs/ are")
    options = parse_options(parser, count=4)
    scenes = list(draw_scenes(options.count, SEED, (112, 112)))
    clip, vocabulary = load_clip("tiny", device="cpu"), load_vocabulary("scenes")
    measured = measure(MaskGenerator(clip, vocabulary, DECIDED), scenes)
    blind = measure(MaskGenerator(shuffled(clip), vocabulary, DECIDED), scenes)
    for name in ("benchmarks", "docs"):
        (options.out / name).mkdir(parents=True, exist_ok=True)
    plot(options.out / "docs" / "reliability.png", measured)
    lines = [
        "# Confidence",
        "",
        f"`python benchmarks/reliability.py{'' if options.count == 500 else f' --count {options.count}'}`",
        "",
        describe(),
        "",
        f"{options.count} scenes with the bundled model; the pixels that a mask gives to a class, against the truth.",
        "",
        *table(measured, blind),
        "",
        "![Share of pixels that is right over the confidence, before and after the CRF](../docs/reliability.png)",
    ]
    (options.out / "benchmarks" / "reliability.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
