"""The pictures of the pages on choices of method: ``python benchmarks/choice_pictures.py``.

Each sheet shows the same three scenes, unseen by the bundled model: a row for each scene, a column for each choice.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from environment import parse_options
from PIL import Image

import clipes
from clipes import config as c
from clipes.clip.weights import load_clip
from clipes.drawing.masks import draw_maps
from clipes.drawing.sheet import draw_sheet
from clipes.scenes import Scene, draw_scenes
from clipes.vocabulary import load_vocabulary

SEED = 7_000_000  # that of choices.py
SCENES = (2, 9, 15)
PRESET = c.CLIP_ES_SCENES
DECIDED = replace(PRESET, mask=c.ArgmaxConfig(PRESET.mask.background_power))  # none ignored
JOINED = replace(DECIDED, map=c.SCENES.map)  # what benchmarks/regions.py measures
BARE = replace(DECIDED, affinity=None, refine=None)
SOURCES = {
    "gradcam\nCLIP-ES": replace(BARE, map=c.GradCamConfig()),
    "dense: identity\nTagCLIP": replace(BARE, map=c.DenseConfig()),
    "dense: qq+kk\nSCLIP": replace(BARE, map=c.DenseConfig(attention="qq+kk")),
    "patch-text\nExCEL": replace(BARE, map=c.PatchTextConfig()),
    "getam\nGETAM": replace(BARE, map=c.GetamConfig()),
    "committee\n1st, 2nd and 4th": replace(BARE, map=c.CommitteeConfig()),
}
AFFINITIES = {
    "none\ninitial map": BARE,
    "attention\nCLIP-ES": replace(BARE, affinity=DECIDED.affinity),
    "features\nSEAM, SSA": replace(BARE, affinity=c.FeatureAffinityConfig()),
    "contrast\nSPA": replace(BARE, affinity=c.ContrastAffinityConfig()),
}
DECISIONS = {
    "no refinement\nnone ignored": replace(DECIDED, refine=None),
    "par\nnone ignored": replace(DECIDED, refine=c.ParConfig()),
    "pamr\nnone ignored": replace(DECIDED, refine=c.PamrConfig()),
    "crf\nnone ignored": DECIDED,
    "crf\nconfidence": PRESET,
    "crf\nagreement": replace(DECIDED, mask=c.AgreementConfig(levels=(1, 4))),
}
FINER = c.FelzenszwalbConfig(scale=20.0, sigma=0.5, min_size=10)
REGIONS = {
    "no refinement\nno regions": replace(JOINED, refine=None),
    "no refinement\nslic": replace(JOINED, refine=None, regions=c.SlicConfig()),
    "no refinement\nfelzenszwalb": replace(JOINED, refine=None, regions=c.FelzenszwalbConfig()),
    "no refinement\nthe same, finer": replace(JOINED, refine=None, regions=FINER),
    "crf\nno regions": JOINED,
    "crf\nthe finer ones": replace(JOINED, regions=FINER),
}
"""Superpixels that vote on the mask; the finer ones are of benchmarks/regions.py."""


def sheet(scenes: list[Scene], choices: Mapping[str, c.Config], maps: bool, side: int) -> Image.Image:
    """A row for each scene: its picture, its maps or its mask by each choice, the truth."""
    clip, vocabulary = load_clip("tiny", device="cpu"), load_vocabulary("scenes")
    generators = [clipes.MaskGenerator(clip, vocabulary, config) for config in choices.values()]
    rows = []
    for scene in scenes:
        results = [generator(scene.image, scene.labels) for generator in generators]
        shown = [draw_maps(one.cams, one.class_ids.tolist()) if maps else one.overlay() for one in results]
        truth = replace(results[0], mask=scene.mask).overlay()
        rows.append([Image.fromarray(scene.image), *shown, truth])
    return draw_sheet(("picture", *choices, "truth"), rows, side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, nargs="+", default=SCENES, help="their numbers")
    parser.add_argument("--side", type=int, default=150, help="of a panel, in pixels")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "choices")
    options = parse_options(parser, scenes=[0], side=40)
    drawn = list(draw_scenes(max(options.scenes) + 1, SEED))
    scenes = [drawn[number] for number in options.scenes]
    sheets = {"maps": SOURCES, "affinities": AFFINITIES, "decisions": DECISIONS, "regions": REGIONS}
    for name, choices in sheets.items():
        picture = sheet(scenes, choices, name in ("maps", "affinities"), options.side)
        picture.save(options.out / f"{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
