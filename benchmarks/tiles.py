"""Windows of large pictures: ``python benchmarks/tiles.py``. Writes benchmarks/tiles.md and docs/tiles.jpg.

The memory that a picture of 6000 x 4000 pixels takes, shrunk and in tiles, by the bundled model and by a ViT-B/16 with
random weights; and the masks of drawn scenes side by side, with and without tiles. Linux only.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
import torch
from environment import describe, parse_options, write_section
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file

import clipes
from clipes.config import ArgmaxConfig, TileConfig, ViewsConfig
from clipes.device.peak import Cost
from clipes.device.process_memory import memory_in_use
from clipes.drawing.masks import draw_maps
from clipes.evaluation.metrics import ClassCounts, class_counts
from clipes.runs.generation import batch_memory
from clipes.scenes import THINGS, draw_scenes

SEED = 7_000_000  # of scenes that no setting was chosen on
PRESET = clipes.config.CLIP_ES_SCENES
DECIDED = replace(PRESET, mask=ArgmaxConfig(PRESET.mask.background_power))
GRID, SIDE = (4, 6), 250  # scenes of a picture, and their pixels
PANEL, GAP, HEAD = 500, 8, 30


@dataclass(frozen=True)
class Large:
    """One picture whose memory is measured: the model, the picture's size (H, W), the settings."""

    model: str
    weights: Path | None
    size: tuple[int, int]
    config: clipes.Config


def with_tile(config: clipes.Config, tile: TileConfig | None) -> clipes.Config:
    return replace(config, views=ViewsConfig(tile=tile))


def peak(large: Large) -> tuple[float, float, float, float]:
    """Of this process: MB before, MB more as estimated and as measured, seconds."""
    torch.set_num_threads(1)
    generator = clipes.load(
        large.model, large.weights, classes="scenes", config=large.config, device="cpu", precision="fp32"
    )
    (scene,) = draw_scenes(1, SEED)
    labels = [*scene.labels, *(name for name in THINGS if name not in scene.labels)][:2]
    generator(scene.image, labels)  # what is loaded at the first mask
    picture = Image.fromarray(scene.image).resize(large.size[::-1], Image.Resampling.BICUBIC)
    estimate = batch_memory(generator, [picture], [len(labels)])
    cost, before = Cost(), memory_in_use()
    with cost.measured(generator.device):
        generator(picture, labels)
    return before / 2**20, estimate / 2**20, (cost.peak_bytes - before) / 2**20, cost.seconds


def memory(model: str, folder: Path, size: tuple[int, int], tile: TileConfig) -> list[str]:
    weights = None
    if model != "tiny":
        torch.manual_seed(0)
        weights = folder / "weights.safetensors"
        state = open_clip.create_model(model).state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, weights)
    lines = ["| picture | refinement | before, MB | more, MB | estimated, MB | s |", "| --- " * 6 + "|"]
    for refine in (None, DECIDED.refine)[: 1 + (weights is None)]:
        for chosen in (None, tile):
            large = Large(model, weights, size, with_tile(replace(DECIDED, refine=refine), chosen))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                before, estimate, more, seconds = pool.apply(peak, (large,))
            cells = ["shrunk" if chosen is None else f"tiles {chosen}", "CRF" if refine else "none"]
            lines.append(f"| {' | '.join(cells)} | {before:,.0f} | {more:,.0f} | {estimate:,.0f} | {seconds:.0f} |")
            print(lines[-1], flush=True)
    return lines


class Mosaic(NamedTuple):
    """Scenes side by side: picture, true mask, the labels of all."""

    image: np.ndarray
    mask: np.ndarray
    labels: list[str]


def mosaics(count: int) -> Iterator[Mosaic]:
    rows, columns = GRID
    for number in range(count):
        scenes = list(draw_scenes(rows * columns, SEED + 1 + number, (SIDE, SIDE)))
        lines = [scenes[start : start + columns] for start in range(0, len(scenes), columns)]
        image, mask = (
            np.concatenate([np.concatenate([getattr(scene, part) for scene in line], 1) for line in lines])
            for part in ("image", "mask")
        )
        yield Mosaic(image, mask, sorted({label for scene in scenes for label in scene.labels}, key=THINGS.index))


Panel = tuple[str, Image.Image]


def quality(tiles: list[TileConfig | None], pictures: list[Mosaic]) -> tuple[list[str], Image.Image]:
    """The table, and the first picture with its maps and masks."""
    lines = ["| | grid | mIoU | missed | taken | s |", "| --- " * 6 + "|"]
    panels: list[tuple[Panel, Panel]] = []
    for tile in tiles:
        generator, cost = clipes.load(config=with_tile(DECIDED, tile), device="cpu"), Cost()
        how, total = "shrunk" if tile is None else f"tiles {tile}", np.zeros((4, len(THINGS) + 1), np.int64)
        for number, picture in enumerate(pictures):
            with cost.measured(generator.device):
                result = generator(picture.image, picture.labels)
            total += np.stack(class_counts(result.mask, picture.mask, len(THINGS)))
            if number == 0:
                maps = draw_maps(result.cams, result.class_ids.tolist())
                panels.append(((f"maps, {how}", maps), (f"mask, {how}", result.overlay())))
                first = ("picture", result.image), ("truth", replace(result, mask=picture.mask).overlay())
        counts, grid = ClassCounts(*total), "{} x {}".format(*result.patch_cams.shape[1:])
        missed, taken = (counts.mask[0] - counts.both[0]) / counts.truth[1:].sum(), 1 - counts.both[0] / counts.truth[0]
        cells = [how, grid, f"{counts.miou:.3f}", f"{missed:.0%}", f"{taken:.1%}"]
        lines.append(f"| {' | '.join([*cells, f'{cost.seconds / len(pictures):.1f}'])} |")
        print(lines[-1], flush=True)
    return lines, sheet([first, *panels])


def sheet(rows: list[tuple[Panel, Panel]]) -> Image.Image:
    """Panels with their titles, all of the first one's proportions."""
    whole = rows[0][0][1]
    height = PANEL * whole.height // whole.width
    found = Image.new("RGB", (2 * (PANEL + GAP) - GAP, len(rows) * (HEAD + height + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(found), ImageFont.load_default(16)
    for row, line in enumerate(rows):
        for column, (title, panel) in enumerate(line):
            left, top = column * (PANEL + GAP), row * (HEAD + height + GAP)
            draw.text((left + PANEL / 2, top + HEAD / 2), title, fill="black", font=font, anchor="mm")
            small = panel.convert("RGB").resize((PANEL, height), Image.Resampling.LANCZOS)
            found.paste(small, (left, top + HEAD))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).parents[1]
    parser.add_argument("--parts", nargs="+", default=["memory", "quality"])
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--memory-tile", type=int, nargs=2, default=[448, 448], metavar=("SIZE", "STRIDE"))
    parser.add_argument("--models", nargs="+", default=["tiny", "ViT-B-16"], help="all but tiny with random weights")
    parser.add_argument("--count", type=int, default=4, help="pictures of scenes side by side")
    parser.add_argument("--tiles", type=int, nargs="+", default=[224, 112, 224, 224], metavar="N")
    parser.add_argument("--out", type=Path, default=root, help="where benchmarks/ and docs/ are")
    small = {"width": 300, "height": 200, "memory_tile": [112, 112], "models": ["tiny"]}
    options = parse_options(parser, **small, count=1, tiles=[224, 224])
    torch.set_num_threads(1)
    page = options.out / "benchmarks" / "tiles.md"
    for model in options.models if "memory" in options.parts else []:
        size, tile = (options.height, options.width), TileConfig(*options.memory_tile)
        with tempfile.TemporaryDirectory() as name:
            table = memory(model, Path(name), size, tile)
        notes = f"""
One picture of {options.width} x {options.height} pixels with two labels, float32 on a CPU, one thread, each row in a
process of its own. Before: the program and the model. More: the most beside that while the mask is made; the maps and
the scores at the picture's size are in it, and the result. Estimated: what a run reserves for it. s: by the clock, on
a busy machine. A model besides the bundled one, tiny, has random weights."""
        command = f"`python benchmarks/tiles.py --parts memory --models {model}`"
        write_section(
            page, f"Memory of a large picture: {model}", [command, "", describe(), "", *table, *notes.split("\n")]
        )
    pairs = list(zip(options.tiles[::2], options.tiles[1::2], strict=True))
    if "quality" in options.parts:
        table, drawn = quality([None, *(TileConfig(*pair) for pair in pairs)], list(mosaics(options.count)))
        drawn.save(options.out / "docs" / "tiles.jpg", quality=88)
        notes = f"""
{options.count} pictures of {GRID[0] * GRID[1]} unseen scenes of {SIDE} x {SIDE} pixels side by side, labelled with what
any of the scenes shows; the bundled model, its settings for scenes, every pixel decided. Missed: things' pixels called
background; taken: background called a thing. s: one picture, by the clock, on a busy machine."""
        command = f"`python benchmarks/tiles.py --parts quality --count {options.count}`"
        write_section(page, "Masks with and without tiles", [command, "", describe(), "", *table, *notes.split("\n")])


if __name__ == "__main__":
    main()
