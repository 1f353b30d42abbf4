"""How good tags are on unseen scenes, and the masks that they give: ``python benchmarks/tags.py``.

Writes benchmarks/tags.md and docs/tags.png. The scenes are those of benchmarks/scenes.py.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from environment import describe, parse_options
from PIL import Image
from tqdm import tqdm

import clipes
from clipes.cams.compute import encode_pixels, whole_pixels
from clipes.config import (
    CLIP_ES_SCENES,
    TAGCLIP_CODE,
    BankTagsConfig,
    FixedRuleConfig,
    GlobalTagsConfig,
    RelativeRuleConfig,
    TagClipConfig,
)
from clipes.evaluation import class_iou, confusion_matrix, mean_iou
from clipes.scenes import THINGS, draw_scenes
from clipes.tags.bank import fit_bank, unit_patches
from clipes.tags.bank_file import PatchBank
from clipes.tags.calibrate import FOLDS, average_precisions, best_threshold, calibrate, f1_scores
from clipes.tags.methods import TagInput, tag_scores
from clipes.tags.rules import is_label
from clipes.tags.views import one_view

matplotlib.use("Agg")

SEED = 7_000_000
TAGCLIP = "TagCLIP (default)"
METHODS = {
    TAGCLIP: TagClipConfig(),
    "TagCLIP, as its code has it": TAGCLIP_CODE,
    "TagCLIP, no second look": TagClipConfig(recheck=None),
    "global, class token": GlobalTagsConfig(),
    "global, mean of the patches": GlobalTagsConfig("patch"),
    "bank (PIAA), fitted to these scenes": BankTagsConfig(),
}


def score_all(generator, images: list[Image.Image]) -> tuple[dict[str, np.ndarray], float]:
    """The scores (n, K) of each method, of one encoding of each image; and the seconds of an image by the default."""
    vision, text, count = generator.clip.vision, generator._text_features, len(generator.class_names)
    config = one_view(generator.config)
    patches, found = [], {name: [] for name in METHODS}
    banks: list[PatchBank | None] = [None]
    bank = METHODS["bank (PIAA), fitted to these scenes"]

    def given(image: Image.Image) -> TagInput:
        def pixels(index: int) -> torch.Tensor:
            return whole_pixels(vision, image, config.image)

        encoded = encode_pixels(vision, [pixels(0)], config, list(METHODS.values()))
        return TagInput(vision, encoded, text, count, pixels, bank=banks[0])

    for image in tqdm(images, "patches", disable=None):
        with torch.inference_mode():
            patches += unit_patches(vision, given(image).encoded, bank)
    fitted = fit_bank(torch.cat(patches), text[:count], bank)[1]
    banks[0] = PatchBank({}, fitted.weight, fitted.bias, len(images), np.zeros(count, np.int64))
    for image in tqdm(images, "scores", disable=None):
        one = given(image)
        for name, method in METHODS.items():
            found[name].append(tag_scores(one, method)[0])
    started = time.process_time()  # that of other processes on the machine does not count
    for image in images[:50]:
        generator.tag(image)
    seconds = (time.process_time() - started) / len(images[:50])
    return {name: np.stack(rows).astype(np.float64) for name, rows in found.items()}, seconds


def by_rule(scores: np.ndarray, shown: np.ndarray) -> dict[str, np.ndarray]:
    """The labels (n, K) of each rule; fitted thresholds are those of the other folds' images."""
    fold = np.arange(len(scores)) % FOLDS
    fixed, each = np.zeros_like(shown), np.zeros_like(shown)
    for one in range(FOLDS):
        rest, own = fold != one, fold == one
        threshold = best_threshold(scores[rest].ravel(), shown[rest].ravel())
        fixed[own] = is_label(scores[own], FixedRuleConfig(min(threshold, 1.0)))
        each[own] = scores[own] > calibrate(scores[rest], shown[rest]).thresholds
    return {
        "relative, 0.5 (TagCLIP)": is_label(scores, RelativeRuleConfig()),
        "relative, 0.3": is_label(scores, RelativeRuleConfig(0.3)),
        "fixed, fitted": fixed,
        "per class, fitted": each,
    }


def micro_f1(chosen: np.ndarray, shown: np.ndarray) -> float:
    return float(f1_scores(chosen.reshape(-1, 1), shown.reshape(-1, 1))[0])


def masks(generator, scenes: list, images: list[Image.Image], labels: dict[str, list]) -> dict[str, np.ndarray]:
    """Confusion matrices (K + 1, K + 1) of the masks from each list of labels; each image is encoded once."""
    count = len(generator.class_names)
    found = {name: np.zeros((count + 1, count + 1), np.int64) for name in labels}
    for index, (scene, image) in enumerate(zip(scenes, tqdm(images, "masks", disable=None), strict=True)):
        features = generator.encode(image)
        for name, lists in labels.items():
            mask = generator.decide(features, lists[index]).mask
            found[name] += confusion_matrix(mask, scene.mask, count)
    return found


def recall_and_precision(scores: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all pairs of an image and a class, ranked by score."""
    hits = np.cumsum(shown.ravel()[np.argsort(-scores.ravel(), kind="stable")])
    return hits / shown.sum(), hits / np.arange(1, shown.size + 1)


def draw(path: Path, scores: dict[str, np.ndarray], shown: np.ndarray) -> None:
    """Precision against recall of the methods, and where the rules lie on the default's curve."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.9, 4.2), layout="constrained")
    styles = {
        TAGCLIP: ("#0b4f9e", "-"),
        "global, class token": ("#c2570c", "--"),
        "bank (PIAA), fitted to these scenes": ("#2d7d46", "-."),
    }
    for name, (colour, line) in styles.items():
        axis.plot(*recall_and_precision(scores[name], shown), colour, linestyle=line, label=name, linewidth=1.8)
    for (rule, chosen), marker in zip(by_rule(scores[TAGCLIP], shown).items(), "osD^", strict=True):
        hits = (chosen & shown).sum()
        place = hits / shown.sum(), hits / chosen.sum()
        axis.plot(*place, marker, color="#0b4f9e", markersize=7, markeredgecolor="white", label=f"rule: {rule}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower left", fontsize=8)
    figure.savefig(path, dpi=144)
    plt.close(figure)


def report(options: argparse.Namespace) -> Iterator[str]:
    drawn = draw_scenes(options.count, SEED, (options.size, options.size))
    scenes = [scene for scene in drawn if scene.labels]
    generator = clipes.load(options.model, classes="scenes", config=CLIP_ES_SCENES, device="cpu")
    images = [Image.fromarray(scene.image) for scene in scenes]
    shown = np.array([[name in scene.labels for name in THINGS] for scene in scenes])
    scores, seconds = score_all(generator, images)
    yield from ("# Tags on unseen scenes", "", f"`python benchmarks/tags.py --count {options.count}`", "", describe())
    yield f"{len(scenes)} scenes with {shown.sum() / len(scenes):.2f} of {len(THINGS)} things on average."
    yield f"Tagging took {seconds:.3f} CPU seconds for a picture of {options.size} x {options.size} pixels."
    yield from ("", "F1 is the mean over the classes; fitted thresholds are judged on images of other folds.", "")
    rules = list(by_rule(scores[TAGCLIP], shown))
    yield f"| method | mAP | {' | '.join(f'F1 {rule}' for rule in rules)} |"
    yield f"| --- |{' --- |' * (1 + len(rules))}"
    for name, values in scores.items():
        figures = [np.nanmean(average_precisions(values, shown))]
        figures += [np.nanmean(f1_scores(chosen, shown)) for chosen in by_rule(values, shown).values()]
        yield f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |"
    yield from per_class(scores[TAGCLIP], shown)
    yield from of_masks(generator, scenes, images, scores[TAGCLIP], shown)
    draw(options.picture, scores, shown)


def per_class(scores: np.ndarray, shown: np.ndarray) -> Iterator[str]:
    chosen = by_rule(scores, shown)
    yield from ("", "## The default, class by class", "", f"| class | images | AP | {' | '.join(chosen)} |")
    yield f"| --- | --- | --- |{' --- |' * len(chosen)}"
    precisions, f1 = average_precisions(scores, shown), [f1_scores(one, shown) for one in chosen.values()]
    for index, name in enumerate(THINGS):
        row = [precisions[index], *(one[index] for one in f1)]
        yield f"| {name} | {shown[:, index].sum()} | {' | '.join(f'{value:.3f}' for value in row)} |"
    total = " | ".join(f"{micro_f1(one, shown):.3f}" for one in chosen.values())
    yield f"| all pairs of image and class | {shown.sum()} | | {total} |"


def of_masks(generator, scenes: list, images: list, scores: np.ndarray, shown: np.ndarray) -> Iterator[str]:
    names = np.array(THINGS, dtype=object)
    rules = by_rule(scores, shown)
    labels = {"the true labels": [names[row].tolist() for row in shown]}
    for rule in ("relative, 0.5 (TagCLIP)", "per class, fitted"):
        labels[f"tags, {rule}"] = [names[row].tolist() for row in rules[rule]]
    config = replace(CLIP_ES_SCENES, mask=clipes.config.ArgmaxConfig(CLIP_ES_SCENES.mask.background_power))
    plain = clipes.MaskGenerator(generator.clip, generator.vocabulary, config)
    yield from (
        "",
        "## Masks by CLIP-ES, no pixel ignored",
        "",
        "| labels | mIoU | background IoU |",
        "| --- | --- | --- |",
    )
    for name, matrix in masks(plain, scenes, images, labels).items():
        yield f"| {name} | {mean_iou(matrix):.3f} | {class_iou(matrix)[0]:.3f} |"


def peak(classes: int) -> str:
    """The most memory that this process took to tag one picture of 500 x 375 pixels against so many classes."""
    names = [f"thing {number}" for number in range(classes)]
    generator = clipes.load("tiny", classes=names, device="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    generator.tag(clipes.scenes.draw_scene(7, (375, 500)).image)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{classes} classes: {after / 1024:.0f} MB, {(after - before) / 1024:.0f} MB more than with the model loaded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=int, metavar="K", help="print the memory that K classes take, and end")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("tags.md"))
    parser.add_argument("--picture", type=Path, default=Path(__file__).parents[1] / "docs" / "tags.png")
    options = parse_options(parser, count=12, size=64)
    if options.peak:
        print(peak(options.peak))
        return
    text = "\n".join(report(options)) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
