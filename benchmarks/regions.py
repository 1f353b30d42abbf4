"""What regions are worth on unseen scenes: ``python benchmarks/regions.py``.

Superpixels, which no trained model has seen, and the truth's own regions as the upper bound: as the scope of the
affinity, as voters on the finished mask, and both, with and without the CRF. The finer superpixels were chosen among
several settings on 100 of these scenes. Writes a section of benchmarks/regions.md.

``--memory`` measures another one: the memory of runs with regions from files, and of what reads these runs. The masks
come from a source that returns at once, as in benchmarks/load.py.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from environment import describe, parse_options, write_section
from load import PIXELS, SIDE, KnownMasks, command, lay_out, table_of, write
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

import clipes
from clipes.cams.compute import encode_images
from clipes.cams.encoded import EncodedImage
from clipes.clip.weights import load_clip
from clipes.config import (
    ArgmaxConfig,
    FelzenszwalbConfig,
    ModeVoteConfig,
    ScopeConfig,
    SeplVoteConfig,
    SlicConfig,
    VoteConfig,
)
from clipes.datasets import Sample, find_samples
from clipes.evaluation.bootstrap import DRAWS, ImageCounts, bootstrap_miou, interval
from clipes.evaluation.metrics import boundary_counts, class_counts, intersection_over_union
from clipes.regions import region_ids, superpixels
from clipes.regions.folder import find_regions
from clipes.regions.vote import vote
from clipes.result import PseudoMask
from clipes.runs.decoding import Loaded, with_regions
from clipes.scenes import THINGS, Scene, draw_scenes
from clipes.store.output import Output
from clipes.vocabulary import load_vocabulary

SEED = 7_000_000  # that of benchmarks/scenes.py; the settings were chosen on others
PRESET = clipes.config.SCENES
TITLE = "What regions are worth on scenes"
TRUTH = "truth's own"
SOURCES = {
    "slic": SlicConfig(),
    "felzenszwalb": FelzenszwalbConfig(),
    "felzenszwalb, finer": FelzenszwalbConfig(scale=20.0, sigma=0.5, min_size=10),
}


@dataclass(frozen=True)
class Row:
    """A choice of regions and of what they do; the one without regions is what the others are compared with."""

    regions: str = ""
    scope: ScopeConfig | None = None
    vote: VoteConfig | None = None

    @property
    def scoped(self) -> tuple[str, ScopeConfig | None]:
        """What the maps depend on."""
        return (self.regions if self.scope else "", self.scope)

    @property
    def name(self) -> str:
        """``felzenszwalb: scope, mode vote``"""
        votes = {ModeVoteConfig: "vote", SeplVoteConfig: "SEPL's vote"}
        parts = ["scope"] if self.scope else []
        parts += ["joined"] if self.scope and self.scope.join is not None else []
        parts += [votes[type(self.vote)]] if self.vote else []
        return f"{self.regions}: {', '.join(parts)}" if parts else "no regions"


def rows() -> list[Row]:
    """Every row of a table, the one without regions first."""
    found, mode, sepl = [Row()], ModeVoteConfig(), SeplVoteConfig()
    for source in (*SOURCES, TRUTH):
        found += [Row(source, vote=mode), Row(source, vote=sepl)]
        found += [Row(source, ScopeConfig()), Row(source, ScopeConfig(), mode)]
    joined = ScopeConfig(join=0.2)
    return [*found, Row("felzenszwalb, finer", joined), Row("felzenszwalb, finer", joined, mode)]


def truth_regions(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The connected parts of every object and of the background."""
    parts = [ndimage.label(mask == index)[0] == number for index in np.unique(mask) for number in _parts(mask, index)]
    return region_ids(np.stack(parts), mask.shape)


def _parts(mask: NDArray[np.uint8], index: int) -> range:
    return range(1, 1 + ndimage.label(mask == index)[1])


def measure(chosen: list[Row], scenes: list[Scene]) -> dict[str, tuple[list[ImageCounts], list[ImageCounts]]]:
    """The pixels and the boundary pixels of each scene, of every row, with the CRF and without."""
    plain = replace(PRESET, mask=ArgmaxConfig(PRESET.mask.background_power), vote=None)
    bases = {"With the CRF": plain, "Without a refinement": replace(plain, refine=None)}
    scopes = list(dict.fromkeys(row.scoped for row in chosen))
    clip, vocabulary = load_clip("tiny", device="cpu"), load_vocabulary("scenes")
    makers = {
        (name, scope): clipes.MaskGenerator(clip, vocabulary, replace(base, scope=scope))
        for name, base in bases.items()
        for scope in {scope for _, scope in scopes}
    }
    configs = [maker.config for maker in makers.values()]
    found: dict[str, tuple[list[ImageCounts], list[ImageCounts]]] = {name: ([], []) for name in bases}
    for scene in tqdm(scenes, disable=None):
        picture = Image.fromarray(scene.image)
        features = EncodedImage(picture, tuple(encode_images(clip.vision, [picture], configs[0], configs)))
        regions = {name: superpixels(picture, config) for name, config in SOURCES.items()}
        regions[TRUTH] = truth_regions(scene.mask)
        for name, parts in found.items():
            masks = {
                (source, scope): makers[name, scope].decide(features, scene.labels, regions.get(source)).mask
                for source, scope in scopes
            }
            made = [
                vote(masks[row.scoped], regions[row.regions], 255, row.vote) if row.vote else masks[row.scoped]
                for row in chosen
            ]
            for part, counts in zip(parts, counts_of(made, scene.mask), strict=True):
                part.append(counts)
    return found


def counts_of(masks: list[NDArray[np.uint8]], truth: NDArray[np.uint8]) -> Iterator[ImageCounts]:
    """What the masks of a scene add to IoU and to boundary IoU."""
    number = len(THINGS)
    yield ImageCounts(np.arange(number + 1), np.stack([_counts(mask, truth) for mask in masks]))
    boundaries = [boundary_counts(mask, truth, number) for mask in masks]  # both, either; a mask of `both` adds nothing
    yield ImageCounts(np.arange(number + 1), np.stack([[either, both, both] for both, either in boundaries]))


def _counts(mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    counted = class_counts(mask, truth, len(THINGS))
    return np.stack([counted.truth, counted.mask, counted.both])


def figures(images: list[ImageCounts]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean IoU of every row, over all scenes (rows,) and of every draw (DRAWS, rows)."""
    total = np.sum([image.counts for image in images], axis=0)
    truth, mask, both = np.moveaxis(total, 1, 0)
    return np.nanmean(intersection_over_union(both, truth + mask - both), axis=1), bootstrap_miou(images)


def table(chosen: list[Row], pixels: list[ImageCounts], boundaries: list[ImageCounts]) -> list[str]:
    """A row for each choice."""
    lines = ["| regions | mIoU | gain | boundary IoU | gain |", "| --- " * 5 + "|"]
    cells = []
    for values, draws in (figures(pixels), figures(boundaries)):
        gains = interval(draws - draws[:, :1])
        for value, (low, high) in zip(values - values[0], gains, strict=True):
            cells.append(f"{value:+.3f} [{low:+.3f}, {high:+.3f}]")
        cells += [
            f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, (low, high) in zip(values, interval(draws), strict=True)
        ]
    columns = np.array(cells).reshape(4, len(chosen))[[1, 0, 3, 2]]
    for row, (miou, gain, boundary, boundary_gain) in zip(chosen, columns.T, strict=True):
        shown = [row.name, miou, gain, boundary, boundary_gain] if row.regions else [row.name, miou, "", boundary, ""]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


NOTES = f"""
Scenes with labels, the bundled model, all other settings those of the preset for scenes; the winner decides at every
pixel, none is ignored. slic and felzenszwalb have the defaults of SlicConfig and FelzenszwalbConfig, which suit larger
pictures than these of 112 x 112 pixels; finer is scale 20, sigma 0.5, at least 10 pixels,
chosen among several settings on 100 of these scenes. Vote: each region takes its
most frequent class (CorrCLIP); SEPL's vote: its rule. Scope: the attention affinity within regions; joined: regions of
like features count as one. **The truth's own regions are an upper bound**, the connected parts of each object and of
the background: no method knows them.

mIoU and boundary IoU are means over background and 16 things, from the counts of all scenes; in brackets the middle
95 % of {DRAWS:,} bootstrap draws of the scenes, the same draws for both rows of a gain. A gain is over no regions.

The scenes are drawings with sharp edges, which superpixels find: what they are worth on photographs is not to be read
here."""


def with_its_regions(sample: Sample) -> Loaded:
    """The picture of any sample, which is not read, and its regions, which are."""
    return with_regions(Loaded(sample, PIXELS), (SIDE, SIDE), 0)


class VotedMasks(KnownMasks):
    """The same mask for every image, at once, after the vote of the image's regions."""

    decode = staticmethod(with_its_regions)

    def make(self, batch: Sequence[Loaded]) -> list[PseudoMask]:
        """The mask, for each."""
        known = super().make(batch)
        return [
            replace(one, mask=vote(one.mask, loaded.regions, 255, ModeVoteConfig()), regions=loaded.regions)
            for one, loaded in zip(known, batch, strict=True)
        ]


def lay_out_regions(samples: Sequence[Sample], folder: Path) -> Path:
    """A PNG of ids for each image: links to one of four."""
    place = folder / "regions"
    place.mkdir()
    for index in range(4):
        ids = np.random.default_rng(index).integers(0, 9, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(ids).save(folder / f"{index}.png")
    for number, sample in enumerate(samples):
        path = place / f"{sample.id}.png"
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(folder / f"{number % 4}.png")
    return place


def measure_memory(rows: int, folder: Path) -> Iterator[tuple[str, str]]:
    """A run with regions, and the commands that read it with them."""
    table, output = lay_out(folder, rows), Output(folder / "m")
    samples = find_samples(table)
    regions = lay_out_regions(samples, folder)
    found = find_regions(samples, regions)
    memory = write(found.added_to(samples), len(samples), output, table, VotedMasks())
    yield "run, MB at 10 %", f"{memory[0]:.0f}"
    yield "run, MB at 100 %", f"{memory[-1]:.0f} ({memory[-1] / memory[0] - 1:+.1%})"
    export = ("export", output.folder, "--to", "coco", "--images", "none", "--out", folder / "coco")
    for name, arguments in (
        ("clipes export --to coco --regions", export),
        ("clipes prompts --regions", ("prompts", output.folder, "--out", folder / "prompts.json")),
    ):
        _, most = command(*arguments, "--regions", regions)
        yield f"`{name}`, MB at most", f"{most:.0f}"


MEMORY = "Memory of runs with regions"
MEMORY_NOTES = f"""Pictures, masks and id PNGs of {SIDE} x {SIDE} pixels in memory-backed files, one of regions for each
image: matched, read, summed and voting as in `clipes generate --regions DIR`; the masks cost nothing to make. The
memory of a run is what the process holds, that of a command the most that it held."""


def write_memory(rows: Sequence[int], out: Path) -> None:
    """Measure runs of so many images, write the section."""
    line = f"`python benchmarks/regions.py --memory {' '.join(map(str, rows))}`: {describe()}"
    write_section(out, MEMORY, [line, "", *table_of(measure_memory, rows), *MEMORY_NOTES.split("\n")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--count", type=int, default=200, help="scenes that are drawn; those without a label are left out"
    )
    memory = "the memory of runs of so many images (1000 10000), and no scenes"
    parser.add_argument("--memory", type=int, nargs="*", metavar="IMAGES", help=memory)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("regions.md"))
    options = parse_options(parser, count=2)
    if options.memory is not None:
        write_memory([40] if options.smoke else options.memory or [1000, 10_000], options.out)
        return
    torch.set_num_threads(1)
    count = options.count
    chosen, scenes = rows(), [scene for scene in draw_scenes(count, SEED) if scene.labels]
    lines = [f"`python benchmarks/regions.py --count {count}`", "", describe()]
    for name, (pixels, boundaries) in measure(chosen, scenes).items():
        lines += ["", f"## {name}", "", *table(chosen, pixels, boundaries)]
    write_section(options.out, TITLE, [*lines, *NOTES.split("\n")])


if __name__ == "__main__":
    main()
