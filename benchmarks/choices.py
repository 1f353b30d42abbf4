"""What the choices of method are worth on unseen scenes: ``python benchmarks/choices.py``.

Every source of maps with every affinity, and several views, by the bundled model, decided as the preset for scenes does
but for the ignored pixels; then every refinement with every decision. Nothing is tuned here. Writes
benchmarks/choices.md.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from environment import describe, parse_options, write_section
from tqdm import tqdm

import clipes
from clipes.clip.weights import load_clip
from clipes.config import (
    AgreementConfig,
    ArgmaxConfig,
    ClassAttentionConfig,
    CommitteeConfig,
    ConfidenceConfig,
    Config,
    ContrastAffinityConfig,
    DenseConfig,
    FeatureAffinityConfig,
    GetamConfig,
    GradCamConfig,
    PamrConfig,
    ParConfig,
    PatchTextConfig,
    ViewsConfig,
)
from clipes.device.peak import Cost
from clipes.device.process_memory import memory_in_use
from clipes.evaluation.bootstrap import DRAWS, ImageCounts, bootstrap_miou, interval
from clipes.evaluation.metrics import ClassCounts, class_counts
from clipes.scenes import THINGS, Scene, draw_scene, draw_scenes
from clipes.vocabulary import load_vocabulary

SEED = 7_000_000  # that of benchmarks/scenes.py; the settings were chosen on others
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


def maps() -> list[Row]:
    """Every choice of the maps, the default first: sources, affinities, committees, views."""
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


def decisions() -> list[Row]:
    """Every refinement with every decision, of the default's maps."""
    power = PRESET.mask.background_power
    refinements = {"crf": PRESET.refine, "par": ParConfig(), "pamr": PamrConfig(), "none": None}
    found = []
    for name, refine in refinements.items():
        sure = 0.95 if name == "crf" else 0.5
        rules = {
            "none": DEFAULT.mask,
            f"confidence, {sure}": ConfidenceConfig(power, sure),
            "agreement, powers 4, 32 (PSA)": AgreementConfig("power", (4.0, 32.0)),
            "agreement, powers 1, 12 (MCTformer)": AgreementConfig("power", (1.0, 12.0)),
            "agreement, constants 0.3, 0.05 (IRN)": AgreementConfig("constant", (0.3, 0.05), "foreground"),
            "agreement, constants 0.55, 0.35 (AFA)": AgreementConfig("constant", (0.55, 0.35), "foreground"),
        }
        for rule, mask in rules.items():
            found.append(Row(f"{name}; {rule}", replace(PRESET, refine=refine, mask=mask), f"{name}; none"))
    return found


@dataclass(frozen=True, eq=False)
class Measured:
    """What the rows gave. Axes: S pictures, R rows.

    Attributes:
        counts: (S, R, 4, 17) int64, the fields of :class:`clipes.evaluation.metrics.ClassCounts`.
        seconds: (S, R), of the processor.
        memory: (R,) bytes.
    """

    counts: np.ndarray
    seconds: np.ndarray
    memory: np.ndarray

    def draws(self, decided: bool) -> np.ndarray:
        """mIoU (draws, R) over drawn pictures; of the pixels that are not ignored alone if ``decided``."""
        counts = self.counts[:, :, :3].copy()
        if decided:
            counts[:, :, 0] -= self.counts[:, :, 3]
        return bootstrap_miou([ImageCounts.of(picture) for picture in counts])


Judged = tuple[list[ClassCounts], list[float]]

GENERATORS: list[clipes.MaskGenerator] = []  # those of the table's rows, which forked processes have


def measure(
    chosen: list[Row], scenes: list[Scene], judge: Callable[[Scene], Judged], size: tuple[int, int], processes: int
) -> Measured:
    """``size`` is that of the scene whose memory is measured."""
    clip, vocabulary = load_clip("tiny", device="cpu"), load_vocabulary("scenes")
    GENERATORS[:] = [clipes.MaskGenerator(clip, vocabulary, row.config) for row in chosen]
    fork, rows = multiprocessing.get_context("fork"), range(len(chosen))
    with fork.Pool(1, maxtasksperchild=1) as pool:  # a process for each row
        memory = list(tqdm(pool.imap(partial(peak, size), rows), "memory", len(chosen), disable=None))
    with fork.Pool(processes) as pool:
        pairs = list(tqdm(pool.imap(judge, scenes), "scenes", len(scenes), disable=None))
    return Measured(*(np.array(part) for part in zip(*pairs, strict=True)), np.array(memory))


def judge_masks(scene: Scene) -> Judged:
    """What the mask of each row counts, and the processor seconds of its whole path."""
    counts, seconds = [], []
    for generator in GENERATORS:
        start = time.process_time()
        mask = generator(scene.image, scene.labels).mask
        seconds.append(time.process_time() - start)
        counts.append(class_counts(mask, scene.mask, len(THINGS)))
    return counts, seconds


def judge_decisions(scene: Scene) -> Judged:
    """The same of the decisions alone: the maps, which all rows share, are made once."""
    maps = GENERATORS[0](scene.image, scene.labels)
    counts, seconds = [], []
    for generator in GENERATORS:
        start = time.process_time()
        mask = maps.decide(generator.config).mask
        seconds.append(time.process_time() - start)
        counts.append(class_counts(mask, scene.mask, len(THINGS)))
    return counts, seconds


def peak(size: tuple[int, int], row: int) -> int:
    """Bytes that this process has at most, besides what it had, while it makes the mask of a large scene."""
    generator, small, large = GENERATORS[row], draw_scene(SEED), draw_scene(SEED, size)
    generator(small.image, small.labels)  # what is loaded at the first mask
    cost, before = Cost(), memory_in_use()
    with cost.measured(generator.device):
        generator(large.image, large.labels)
    return cost.peak_bytes - before


def pair(value: float, ends: np.ndarray, sign: str = "") -> str:
    """A figure with its interval."""
    low, high = (f"{end:{sign}.3f}" for end in ends)
    return f"{value:{sign}.3f} [{low}, {high}]"


def share(part: int, whole: int, digits: int = 1) -> str:
    return f"{part / whole:.{digits}%}"


def costs(measured: Measured, place: int) -> list[str]:
    """The cells of what a row takes."""
    return [f"{1000 * np.median(measured.seconds[:, place]):.1f}", f"{measured.memory[place] / 2**20:.0f}"]


def table_of_maps(chosen: list[Row], measured: Measured) -> list[str]:
    """One row a choice of the maps."""
    draws = measured.draws(decided=False)
    totals = [ClassCounts(*total) for total in measured.counts.sum(0)]
    places = {row.name: place for place, row in enumerate(chosen)}
    lines = ["| source; affinity | mIoU | over | gain | missed | taken | ms | MB |", "| --- " * 8 + "|"]
    ends = interval(draws)
    for place, (row, total) in enumerate(zip(chosen, totals, strict=True)):
        cells = [row.name, pair(total.miou, ends[place]), "", ""]
        if row.over != row.name:
            base = places[row.over]
            gain = interval(draws[:, [place]] - draws[:, [base]])[0]
            cells[2:] = [row.over, pair(total.miou - totals[base].miou, gain, "+")]
        missed = share(total.mask[0] - total.both[0], total.truth[1:].sum(), 0)
        taken = share(total.truth[0] - total.both[0], total.truth[0])
        lines.append(f"| {' | '.join([*cells, missed, taken, *costs(measured, place)])} |")
    return lines


def table_of_decisions(chosen: list[Row], measured: Measured) -> list[str]:
    """One row a refinement and a decision."""
    draws = measured.draws(decided=True)
    totals = [ClassCounts(*total) for total in measured.counts.sum(0)]
    places = {row.name: place for place, row in enumerate(chosen)}
    titles = ["refinement; decision", "ignored", "of things", "mIoU of the decided", "gain over none"]
    lines = [f"| {' | '.join([*titles, 'mIoU', 'missed', 'taken', 'ms', 'MB'])} |", "| --- " * 10 + "|"]
    ends = interval(draws)
    for place, (row, total) in enumerate(zip(chosen, totals, strict=True)):
        things = share(total.ignored[1:].sum(), total.truth[1:].sum())
        cells = [row.name, f"{total.ignored_share:.1%}", things, pair(total.miou_decided, ends[place]), ""]
        if row.over != row.name:
            base = places[row.over]
            gain = interval(draws[:, [place]] - draws[:, [base]])[0]
            cells[4] = pair(total.miou_decided - totals[base].miou_decided, gain, "+")
        missed = share(total.mask[0] - total.both[0], total.truth[1:].sum(), 0)
        taken = share(total.truth[0] - total.both[0] - total.ignored[0], total.truth[0])
        cells += [f"{total.miou:.3f}", missed, taken, *costs(measured, place)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


MAPS = """
Scenes with labels, the bundled model, all other settings those of `clip-es-scenes`; the winner decides at every
pixel, none is ignored. mIoU of background and 16 things from the pixels of all pictures together; in brackets the
middle 95 % of {draws:,} bootstrap draws of the pictures, the same draws for both rows of a gain. Missed: things' pixels
called background; taken: background called a thing. ms: median processor time of a picture's whole path, one thread.
MB: the most memory beside what the process had, for one scene of {size[0]} x {size[1]} pixels, in a process of its own.

The scenes are drawings, and the bundled model has learnt nothing else: which choice is best for photographs is not
to be read here."""

DECISIONS = """
The same scenes; the maps are those of Softmax-GradCAM with the attention affinity, the settings those of
`clip-es-scenes`. A pixel that is ignored does not count in the mIoU of the decided, which is therefore that of easier
pixels; in the mIoU beside it, it counts as missed. Of things: the share of the things' pixels that is ignored. ms: the
decision alone, with its refinement. MB: of the whole path, one scene of {size[0]} x {size[1]} pixels; missed, taken and
brackets ({draws:,} draws) as above. The levels of the agreements are their authors', for other maps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=("maps", "decisions"), default=["maps", "decisions"])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--processes", type=int, default=1, help="that work at a time, of one thread each")
    parser.add_argument("--size", type=int, nargs=2, default=[320, 320], help="H and W of the scene for the memory")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("choices.md"))
    options = parse_options(parser, count=2, size=[112, 112])
    torch.set_num_threads(1)
    count, size = options.count, (options.size[0], options.size[1])
    scenes = [scene for scene in draw_scenes(count, SEED) if scene.labels]
    tables = {
        "maps": ("What the choices of method are worth on scenes", maps(), judge_masks, table_of_maps, MAPS),
        "decisions": ("What the decisions are worth", decisions(), judge_decisions, table_of_decisions, DECISIONS),
    }
    for name in options.tables:
        title, rows, judge, table, notes = tables[name]
        lines = table(rows, measure(rows, scenes, judge, size, options.processes))
        command = f"`python benchmarks/choices.py --tables {name} --count {count}`"
        notes = notes.format(draws=DRAWS, size=size).split("\n")
        write_section(options.out, title, [command, "", describe(), "", *lines, *notes])


if __name__ == "__main__":
    main()
