"""What the choices of method are worth on unseen scenes: ``python benchmarks/choices.py``.

Every source of maps with every affinity, several views, and a refinement, by the bundled model, decided as the preset
for scenes does but for the ignored pixels. Nothing is tuned here. Writes benchmarks/choices.md.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from environment import describe
from tqdm import tqdm

import clipes
from clipes.clip.weights import load_clip
from clipes.config import (
    ArgmaxConfig,
    ClassAttentionConfig,
    CommitteeConfig,
    Config,
    ContrastAffinityConfig,
    DenseConfig,
    FeatureAffinityConfig,
    GetamConfig,
    GradCamConfig,
    PatchTextConfig,
    ViewsConfig,
)
from clipes.evaluation import confusion_matrix, mean_iou
from clipes.scenes import THINGS, Scene, draw_scenes
from clipes.vocabulary import load_vocabulary

SEED = 7_000_000  # that of benchmarks/scenes.py; the settings were chosen on others
DRAWS = 2000
PRESET = clipes.config.CLIP_ES_SCENES
DEFAULT = replace(PRESET, mask=ArgmaxConfig(PRESET.mask.background_power))
CLIP_ES = GradCamConfig()
TAGCLIP = DenseConfig()
EXCEL = PatchTextConfig()
THREE = CommitteeConfig((CLIP_ES, TAGCLIP, EXCEL))


@dataclass(frozen=True)
class Row:
    """A choice, and the row that it is compared with."""

    name: str
    config: Config
    over: str


def rows() -> list[Row]:
    """Every choice of the tables, the default first."""
    sources = {
        "gradcam": CLIP_ES,
        "gradcam, class token": GradCamConfig(pool="cls"),
        "dense: identity, residual (TagCLIP)": TAGCLIP,
        "dense: identity (MaskCLIP)": DenseConfig(residual=False),
        "dense: qq+kk, residual (SCLIP)": DenseConfig(attention="qq+kk"),
        "dense: qq (ClearCLIP)": DenseConfig(attention="qq", residual=False),
        "dense: kk+distance (NACLIP)": DenseConfig(attention="kk+distance", residual=False),
        "patch-text (ExCEL)": EXCEL,
        "getam, 6 blocks": GetamConfig(),
        "getam, 1 block": GetamConfig(blocks=1),
        "committee of gradcam, TagCLIP's, ExCEL's": THREE,
    }
    affinities = {
        "none": None,
        "attention": DEFAULT.affinity,
        "features": FeatureAffinityConfig(),
        "contrast": ContrastAffinityConfig(),
    }
    found = [
        Row(f"{source}; {name}", replace(DEFAULT, map=config, affinity=affinity), f"gradcam; {name}")
        for source, config in sources.items()
        for name, affinity in affinities.items()
    ]
    base = "committee of gradcam, TagCLIP's, ExCEL's; attention"
    members = {
        "geometric mean of the three": replace(THREE, rule="geometric"),
        "without gradcam": CommitteeConfig((TAGCLIP, EXCEL)),
        "without TagCLIP's": CommitteeConfig((CLIP_ES, EXCEL)),
        "without ExCEL's": CommitteeConfig((CLIP_ES, TAGCLIP)),
        "with SCLIP's as the fourth": CommitteeConfig((*THREE.members, DenseConfig(attention="qq+kk"))),
    }
    found += [Row(f"committee: {name}", replace(DEFAULT, map=config), base) for name, config in members.items()]
    views = {
        "flip": ViewsConfig(flip=True),
        "scales 1, 1.5": ViewsConfig((1.0, 1.5)),
        "scales 1, 1.5, flip": ViewsConfig((1.0, 1.5), True),
        "scales 1, 0.75, 1.25, flip": ViewsConfig((1.0, 0.75, 1.25), True),
    }
    found += [Row(f"committee, {name}", replace(DEFAULT, map=THREE, views=view), base) for name, view in views.items()]
    found += [
        Row(f"gradcam, {name}", replace(DEFAULT, views=view), "gradcam; attention") for name, view in views.items()
    ]
    for exponent in (1.0, 0.5):
        fused = replace(DEFAULT, class_attention=ClassAttentionConfig(exponent))
        found.append(Row(f"gradcam times the class token's attention, ^{exponent:g}", fused, "gradcam; attention"))
    return found


def measure(chosen: list[Row], scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices (pictures, rows, 17, 17) and processor seconds (pictures, rows)."""
    clip, vocabulary = load_clip("tiny", device="cpu"), load_vocabulary("scenes")
    generators = [clipes.MaskGenerator(clip, vocabulary, row.config) for row in chosen]
    seconds = np.zeros((len(scenes), len(chosen)))
    confusions = np.zeros((*seconds.shape, len(THINGS) + 1, len(THINGS) + 1))
    for index, scene in enumerate(tqdm(scenes, disable=None)):
        for place, generator in enumerate(generators):
            start = time.process_time()
            mask = generator(scene.image, scene.labels).mask
            seconds[index, place] = time.process_time() - start
            confusions[index, place] = confusion_matrix(mask, scene.mask, len(THINGS))
    return confusions, seconds


def bootstrap(confusions: np.ndarray) -> np.ndarray:
    """mIoU (DRAWS, rows) of as many pictures, drawn with replacement; the same pictures for every row."""
    count, number, side, _ = confusions.shape
    times_drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)
    totals = (times_drawn.astype(float) @ confusions.reshape(count, -1)).reshape(-1, number, side, side)
    return np.array([[mean_iou(total) for total in draw] for draw in totals])


def report(chosen: list[Row], confusions: np.ndarray, seconds: np.ndarray) -> list[str]:
    """The table: one row a choice."""
    draws, totals = bootstrap(confusions), confusions.sum(0)
    places = {row.name: place for place, row in enumerate(chosen)}
    lines = ["| source; affinity | mIoU | over | gain | missed | taken | ms |", "| --- " * 7 + "|"]
    for place, (row, total) in enumerate(zip(chosen, totals, strict=True)):
        low, high = np.quantile(draws[:, place], (0.025, 0.975))
        cells = [row.name, f"{mean_iou(total):.3f} [{low:.3f}, {high:.3f}]"]
        if row.over == row.name:
            cells += ["", ""]
        else:
            base = places[row.over]
            low, high = np.quantile(draws[:, place] - draws[:, base], (0.025, 0.975))
            cells += [row.over, f"{mean_iou(total) - mean_iou(totals[base]):+.3f} [{low:+.3f}, {high:+.3f}]"]
        missed, taken = total[1:, 0].sum() / total[1:].sum(), total[0, 1:].sum() / total[0].sum()
        cells += [f"{missed:.0%}", f"{taken:.1%}", f"{1000 * np.median(seconds[:, place]):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


NOTES = f"""
Scenes with labels, the bundled model, all other settings those of the preset for scenes; the winner decides at every
pixel, none is ignored. mIoU of background and 16 things from one confusion matrix; in brackets the middle 95 % of
{DRAWS:,} bootstrap draws of the pictures, the same draws for both rows of a gain. Missed: things' pixels called
background; taken: background called a thing. ms: median processor time of a picture's whole path, one thread.

The scenes are drawings, and the bundled model has learnt nothing else: which choice is best for photographs is not
to be read here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("choices.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen, scenes = rows(), [scene for scene in draw_scenes(options.count, SEED) if scene.labels]
    lines = ["# What the choices of method are worth on scenes", ""]
    lines += [f"`python benchmarks/choices.py --count {options.count}`", "", describe(), ""]
    lines += [*report(chosen, *measure(chosen, scenes)), *NOTES.split("\n")]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
