"""How far maps and masks are from those of float64: ``python benchmarks/precision.py --vit FILE --images FOLDER``.

Writes benchmarks/precision.md. The bundled model on scenes that nobody has looked at, and a ViT-B/16 (random weights
will do) on photographs. Float32 is computed twice: with the products as torch multiplies by itself, and as clipes does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from environment import describe, parse_options
from PIL import Image
from tqdm import tqdm

import clipes
from clipes.cams import compute
from clipes.clip.weights import CLIP, load_clip
from clipes.evaluation.metrics import confusion_matrix, mean_iou
from clipes.generator import MaskGenerator
from clipes.scenes import draw_scenes
from clipes.vocabulary import load_vocabulary

SEED = 10_500_000
IGNORED = 255


class Picture(NamedTuple):
    """An image, its labels, and its truth if there is one."""

    image: Image.Image
    labels: Sequence[str]
    truth: np.ndarray | None


@contextmanager
def products_by_torch() -> Iterator[None]:
    with mock.patch.object(compute, "matmul_precision", lambda device, dtype: nullcontext()):
        yield


def generators(model: str, pretrained: Path | None, classes: str) -> dict[str, MaskGenerator]:
    vocabulary = load_vocabulary(classes)
    clip = load_clip(model, pretrained, device="cpu")
    config = clipes.config.CLIP_ES_SCENES if model == "tiny" else clipes.VOC12
    exact = MaskGenerator(CLIP(clip.vision.to(dtype=torch.float64), clip.text), vocabulary, config)
    lower = MaskGenerator(CLIP(clip.vision.to(dtype=torch.bfloat16), clip.text), vocabulary, config)
    plain = MaskGenerator(clip, vocabulary, config)
    return {"float64": exact, "float32, torch's products": plain, "float32": plain, "bf16": lower}


def compare(subjects: dict[str, MaskGenerator], pictures: Sequence[Picture], what: str) -> list[str]:
    """A row for each precision."""
    masks: dict[str, list[np.ndarray]] = {}
    cams: dict[str, list[np.ndarray]] = {}
    for name, generator in subjects.items():
        context = products_by_torch() if "torch" in name else nullcontext()
        with context:
            for picture in tqdm(pictures, desc=f"{what}, {name}", disable=None):
                result = generator(picture.image, picture.labels)
                masks.setdefault(name, []).append(result.mask)
                cams.setdefault(name, []).append(result.patch_cams)
    lines = []
    for name in subjects:
        pairs = list(zip(masks[name], masks["float64"], strict=True))
        far = [np.abs(one - other) for one, other in zip(cams[name], cams["float64"], strict=True)]
        equal = np.concatenate([(a == b).ravel() for a, b in pairs])
        decided = np.concatenate([((a != IGNORED) & (b != IGNORED)).ravel() for a, b in pairs])
        mean, worst = np.mean([f.mean() for f in far]), max(f.max() for f in far)
        lines.append(f"| {what} | {name} | {mean:.1e} | {worst:.1e} | {100 * equal.mean():.3f} %")
        lines[-1] += f" | {100 * equal[decided].mean():.4f} % | {quality(masks[name], pictures)} |"
    return lines


def quality(masks: list[np.ndarray], pictures: Sequence[Picture]) -> str:
    """mIoU, ignored pixels as background."""
    if pictures[0].truth is None:
        return ""
    classes = len(clipes.scenes.THINGS) + 1
    total = sum(
        confusion_matrix(np.where(mask == IGNORED, 0, mask), picture.truth, classes - 1)
        for mask, picture in zip(masks, pictures, strict=True)
    )
    return f"{mean_iou(total):.4f}"


def main() -> None:
    """Compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vit", type=Path, help="weights of a ViT-B/16")
    parser.add_argument("--images", type=Path, help="folder of .jpg photographs for it")
    parser.add_argument("--count", type=int, default=200, help="scenes")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parse_options(parser, count=2)
    torch.set_num_threads(1)
    scenes = draw_scenes(options.count, SEED, (112, 112))
    drawn = [Picture(Image.fromarray(scene.image), scene.labels, scene.mask) for scene in scenes]
    lines = compare(generators("tiny", None, "scenes"), drawn, f"bundled model, {options.count} scenes")
    if options.vit and options.images:
        files = sorted(options.images.glob("*.jpg"))
        sets = [("person",), ("dog", "person"), ("aeroplane", "cat", "sofa", "train")]
        photos = [Picture(Image.open(path), labels, None) for path in files for labels in sets]
        what = f"ViT-B/16, random weights, {len(files)} photographs with 1, 2 and 4 labels"
        lines += compare(generators("ViT-B-16", options.vit, "voc12"), photos, what)
    text = [
        "# Precision",
        "",
        f"`python benchmarks/precision.py --vit FILE --images FOLDER`: {describe()}",
        "",
        "Beside the same path in float64: differences of the maps on the patch grid, and pixels of equal label",
        "after the CRF.",
        "",
        "| | precision | maps, mean | maps, most | equal, all pixels | equal, those that both decide | mIoU |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *lines,
    ]
    options.out.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
