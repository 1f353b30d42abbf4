"""Which pixels each member of the committee gets right alone: ``python benchmarks/members.py``.

Masks of Softmax-GradCAM, dense, patch-text and their committee on unseen scenes, each after the same affinity and CRF,
none ignored. Nothing is tuned here. Writes benchmarks/members.md and the picture of the page on maps.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from choice_pictures import DECIDED, SCENES, SEED
from environment import describe, parse_options
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tqdm import tqdm

import clipes
from clipes.clip.weights import load_clip
from clipes.config import CommitteeConfig
from clipes.drawing.sheet import GAP, draw_sheet
from clipes.result import PseudoMask
from clipes.scenes import Scene, draw_scenes
from clipes.vocabulary import load_vocabulary

MEMBERS = ("gradcam", "dense", "patch-text")  # bits 1, 2, 4 of a pixel's pattern
BAND = 3
REGIONS = ("interior", "boundary", "background")
PATTERNS = {
    "none": (0,),
    "gradcam only": (1,),
    "dense only": (2,),
    "patch-text only": (4,),
    "two": (3, 5, 6),
    "all": (7,),
}
COLOURS = ("#26282d", "#1d6fd6", "#e8730c", "#1f9d55", "#aab0ba", "#eef0f3")
"""Of the patterns in the picture: one hue a member, greys for the rest."""


def results(scenes: list[Scene]) -> Iterator[list[PseudoMask]]:
    """Of each scene the results of the three members and of the committee."""
    clip, vocabulary = load_clip("tiny", device="cpu"), load_vocabulary("scenes")
    sources = (*CommitteeConfig().members, CommitteeConfig())
    generators = [clipes.MaskGenerator(clip, vocabulary, replace(DECIDED, map=source)) for source in sources]
    for scene in scenes:
        yield [generator(scene.image, scene.labels) for generator in generators]


def region_of(truth: np.ndarray) -> np.ndarray:
    """The place in ``REGIONS`` of each pixel (H, W): the boundary are those at most ``BAND`` from another class."""
    window = 2 * BAND + 1
    near = ndimage.maximum_filter(truth, window) != ndimage.minimum_filter(truth, window)
    return np.where(near, 1, np.where(truth > 0, 0, 2))


def patterns(masks: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Which members are right at each pixel (H, W): the sum of their bits, 1, 2, 4."""
    return sum((mask == truth).astype(int) << bit for bit, mask in enumerate(masks))


def count(scenes: list[Scene]) -> np.ndarray:
    """Pixels (regions, 8 patterns of right members, whether the committee is right)."""
    counts = np.zeros((len(REGIONS), 8, 2), np.int64)
    for scene, found in tqdm(zip(scenes, results(scenes), strict=True), total=len(scenes), disable=None):
        *members, committee = (result.mask for result in found)
        keys = region_of(scene.mask), patterns(members, scene.mask), (committee == scene.mask).astype(int)
        np.add.at(counts, keys, 1)
    return counts


def table_of_right(counts: np.ndarray) -> list[str]:
    """How many pixels of each region each member, the committee, and at least one member get right."""
    lines = ["| right | " + " | ".join((*REGIONS, "all pixels")) + " |", "| --- " * (len(REGIONS) + 2) + "|"]
    bits = np.arange(8)[:, None] >> np.arange(3) & 1  # (patterns, members)
    chosen = {name: np.stack([bits[:, place]] * 2, 1) for place, name in enumerate(MEMBERS)}
    chosen["at least two members"] = np.stack([bits.sum(1) >= 2] * 2, 1)
    chosen["at least one member"] = np.stack([bits.any(1)] * 2, 1)
    chosen["committee"] = np.tile([0, 1], (8, 1))
    for name, included in chosen.items():
        lines.append(_row(name, [(part * included).sum() / max(part.sum(), 1) for part in (*counts, counts.sum(0))]))
    return lines


def table_of_patterns(counts: np.ndarray) -> list[str]:
    """For each region, how many pixels which members get right, and of how many of those the committee is right."""
    heads = [f"{region}, {what}" for region in (*REGIONS, "all pixels") for what in ("share", "committee right")]
    lines = ["| members right | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    for name, members in PATTERNS.items():
        cells = []
        for part in (*counts, counts.sum(0)):
            wrong, right = part[list(members)].sum(0)
            cells += [(wrong + right) / max(part.sum(), 1), right / max(wrong + right, 1)]
        lines.append(_row(name, cells))
    return lines


def table_of_votes(counts: np.ndarray) -> list[str]:
    """Of the pixels that the committee gets right, and of those that it gets wrong, how many members are right."""
    votes = np.array([bin(pattern).count("1") for pattern in range(8)])
    lines = ["| committee | " + " | ".join(f"{number} members right" for number in range(4)) + " |"]
    lines.append("| --- " * 5 + "|")
    for right, name in ((1, "right"), (0, "wrong")):
        part = counts.sum(0)[:, right]
        lines.append(_row(name, [part[votes == number].sum() / max(part.sum(), 1) for number in range(4)]))
    return lines


def _row(name: str, shares: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def picture(scenes: list[Scene], side: int = 190) -> Image.Image:
    """A row for each scene: its picture, the truth, who is right, the masks of the members and of the committee."""
    rows = []
    for scene, found in zip(scenes, results(scenes), strict=True):
        pattern = patterns([result.mask for result in found[:3]], scene.mask)
        colours = np.zeros((8, 3), np.uint8)
        for members, colour in zip(PATTERNS.values(), COLOURS, strict=True):
            colours[list(members)] = tuple(bytes.fromhex(colour[1:]))
        right = Image.fromarray(colours[pattern]).resize((2 * side, 2 * side), Image.Resampling.NEAREST)
        truth = replace(found[0], mask=scene.mask).overlay()
        rows.append([Image.fromarray(scene.image), truth, right, *(result.overlay() for result in found)])
    titles = ("picture", "truth", "members that are right", *MEMBERS, "committee")
    return _with_legend(draw_sheet(titles, rows, side), side)


def _with_legend(sheet: Image.Image, side: int) -> Image.Image:
    """The sheet with a square and a name for each pattern below it, from the third column on, which they explain."""
    size = side // 10
    whole = Image.new("RGB", (sheet.width, sheet.height + 3 * size), "white")
    whole.paste(sheet, (0, 0))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size)
    left, top = 2 * (side + GAP), sheet.height + size
    for name, colour in zip(PATTERNS, COLOURS, strict=True):
        draw.rectangle((left, top, left + size, top + size), fill=colour, outline="#606468")
        draw.text((left + 1.5 * size, top + size / 2), name, fill="black", font=font, anchor="lm")
        left += round(3.5 * size + font.getlength(name))
    return whole


NOTES = f"""
Scenes with labels, the bundled model; the committee's members are its default ones, each also alone, with the affinity,
the CRF and the background of the preset for scenes, and no pixel ignored. Boundary: at most {BAND} pixels (in rows and
columns) from a pixel of another class in the truth; interior: the rest of the things; background: the rest. The shares
are over all pixels of all scenes together. The scenes are drawings, and the bundled model has learnt nothing else."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("members.md"))
    docs = Path(__file__).parents[1] / "docs" / "choices"
    parser.add_argument("--picture", type=Path, default=docs / "members.jpg")
    options = parse_options(parser, count=2)
    torch.set_num_threads(1)
    number = options.count
    drawn = list(draw_scenes(max(number, max(SCENES) + 1), SEED))
    counts = count([scene for scene in drawn[:number] if scene.labels])
    lines = ["# Which pixels the members of a committee get right", ""]
    lines += [f"`python benchmarks/members.py --count {number}`", "", describe(), ""]
    for title, table in (
        ("Pixels that are right", table_of_right),
        ("Which members are right, and whether the committee is right there", table_of_patterns),
        ("How many members are right where the committee is right or wrong", table_of_votes),
    ):
        lines += [f"## {title}", "", *table(counts), ""]
    lines += NOTES.strip().split("\n")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    picture([drawn[place] for place in SCENES]).save(options.picture, quality=85, optimize=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
