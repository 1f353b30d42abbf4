"""The README's pictures, from the scenes of a demo: ``python examples/readme_picture.py clipes-demo``."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import clipes
from clipes.commands.demo_run import DECIDED
from clipes.datasets import find_samples
from clipes.drawing.masks import draw_maps
from clipes.drawing.sheet import draw_sheet

TITLES = ("picture", "initial maps", "propagated maps", "mask", "truth")


def panels(demo: Path, scenes: list[int]) -> Iterator[dict[str, Image.Image]]:
    """Every stage of some scenes, by title."""
    generator = clipes.load(config=DECIDED)
    initial = clipes.load(config=replace(DECIDED, affinity=None, refine=None))
    samples = list(find_samples(demo / "images", demo / "labels.csv"))
    for sample in map(samples.__getitem__, scenes):
        result = generator(sample.image, sample.labels)
        ids = result.class_ids.tolist()
        yield {
            "picture": result.image,
            "initial maps": draw_maps(initial(sample.image, sample.labels).cams, ids),
            "propagated maps": draw_maps(result.cams, ids),
            "mask without CRF": result.decide(replace(DECIDED, refine=None)).overlay(),
            "mask": result.overlay(),
            "truth": replace(result, mask=np.asarray(Image.open(demo / "truth" / f"{sample.id}.png"))).overlay(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder that `clipes demo --out` wrote")
    parser.add_argument("--scenes", type=int, nargs="+", default=[0, 1, 2, 3], help="which of its pictures")
    parser.add_argument("--panels", nargs="+", default=TITLES, help="which panels of each")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"))
    options = parser.parse_args()

    rows = [[scene[title] for title in options.panels] for scene in panels(options.demo, options.scenes)]
    draw_sheet(options.panels, rows).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
