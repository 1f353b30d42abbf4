"""Pictures of every stage of one image's path to its mask, and the numbers that go with them.

matplotlib (``pip install clipes[plot]``) is imported when a picture is drawn.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.config import refinement_name
from clipes.drawing.figure import CONFIDENCE, check_plot
from clipes.drawing.overlay import IGNORED, colours_of, draw_mask
from clipes.drawing.panels import (
    Panel,
    draw_bars,
    draw_panels,
    mark_borders,
    mark_boxes,
    mark_grid,
    mark_patch,
    mark_patches,
)
from clipes.ids import ignore_index, voc_palette
from clipes.result import PseudoMask

from .stages import AffinityTrace, Stages

NAMES = (
    "patches",
    "words",
    "initial-maps",
    "affinity",
    "boxes",
    "propagated-maps",
    "scores",
    "refined-scores",
    "masks",
)
"""The pictures of :func:`draw_walkthrough`; files have their number before it: ``1-patches.png``."""

_WORDS = 6  # of the background


class Focus(NamedTuple):
    """What the pictures follow: the index of a label, None if the image has no label; and a patch (row, column)."""

    label: int | None
    patch: tuple[int, int]


def choose_focus(stages: Stages, label: str | None = None, patch: tuple[int, int] | None = None) -> Focus:
    """The label and the patch (row, column) to follow: by default the first label, and the maximum of its propagated
    map; without labels the central patch.

    Raises ValueError for a label that is not the image's, or a patch outside the grid.
    """
    h, w = stages.grid
    if label is not None and label not in stages.labels:
        raise ValueError(f"label {label!r} is not the image's; it has {', '.join(stages.labels) or 'none'}")
    if patch is not None and not (0 <= patch[0] < h and 0 <= patch[1] < w):
        raise ValueError(f"patch {patch[0]},{patch[1]} is outside the grid; rows are 0..{h - 1}, columns 0..{w - 1}")
    index = stages.labels.index(label) if label else 0 if stages.labels else None
    if patch is None:
        brightest = h // 2 * w + w // 2 if index is None else int(stages.propagated.patch_cams[index].argmax())
        patch = (brightest // w, brightest % w)
    return Focus(index, patch)


def draw_walkthrough(folder: str | os.PathLike[str], stages: Stages, focus: Focus) -> list[Path]:
    """Draw every stage that ran as a PNG file in ``folder``, atomically; returns the files in order.

    Pictures of stages that did not run this time, from an earlier call, are removed.

    Raises :class:`clipes.drawing.figure.PlotError` without matplotlib, OSError where nothing can be written.
    """
    folder = Path(folder)
    check_plot(folder / "1.png")
    files = [folder / f"{place}-{name}.png" for place, name in enumerate(NAMES, 1)]
    drawers = (_patches, _words, _initial, _affinity, _boxes, _propagated, _scores_before, _scores_after, _masks)
    drawn = [path for path, draw in zip(files, drawers, strict=True) if draw(path, stages, focus)]
    for path in set(files).difference(drawn):
        path.unlink(missing_ok=True)
    return drawn


def describe(stages: Stages, focus: Focus) -> list[str]:
    """The stages that ran in numbers, as lines of text."""
    (row, column), (h, w), labels = focus.patch, stages.grid, stages.labels
    height, width = stages.resized.shape[:2]
    size, p, own = stages.result.size, stages.patch_size, stages.probabilities[: len(labels)]
    lines = [f"picture: {size[0]} x {size[1]} pixels; {height} x {width} cut into {h} x {w} patches of {p} x {p}"]
    shares = zip((*labels, "all of the background"), (*own, stages.probabilities[len(own) :].sum()), strict=True)
    lines.append("words: " + ", ".join(f"{name} {share:.3f}" for name, share in shares))
    lines += [f"initial map: {text}" for text in _halves(stages.initial)]
    if (affinity := stages.affinity) is not None:
        attention = affinity.attention_of(row, column)
        own, others = attention[row, column], attention.sum() - attention[row, column]
        lines.append(f"attention of patch {row},{column}: to itself {own:.3f}, to others {others:.3f}")
        sums = affinity.matrix.sum(1)
        lines.append(
            f"affinity of patch {row},{column}: its row sums to {sums[row * w + column]:.3f}, all {sums.mean():.3f}"
        )
        for label, above, boxes, inside in zip(labels, affinity.above, affinity.boxes, affinity.inside, strict=True):
            lines.append(f"boxes: {label} {above.sum()} patches above, {len(boxes)} boxes of {inside.sum()} patches")
        lines += [f"propagated map: {text}" for text in _halves(stages.propagated)]
    if focus.label is not None:
        values = [f"{one.patch_cams[focus.label, row, column]:.3f}" for one in (stages.initial, stages.propagated)]
        lines.append(f"patch {row},{column} of {labels[focus.label]}: initial {values[0]}, propagated {values[1]}")
    for title, one in _decided(stages).items():
        won = [f"{name} {part:.1%}" for name, part in _won(one)]
        sure = f"mean confidence {one.confidence.mean():.3f}"
        lines.append(f"{title}: {', '.join(won)}; {sure}")
    return lines


def _halves(one: PseudoMask) -> list[str]:
    return [
        f"{label} {(cam > 0.5).sum()} of {cam.size} patches above 0.5"
        for label, cam in zip(one.labels, one.patch_cams, strict=True)
    ]


def _won(one: PseudoMask) -> list[tuple[str, float]]:
    """The share of the pixels of the background, of each label, and of the ignored ones."""
    names = zip(("background", *one.labels), (0, *one.class_ids.tolist()), strict=True)
    won = [(name, float((one.mask == index).mean())) for name, index in names]
    return [*won, ("ignored", max(0.0, 1 - sum(part for _, part in won)))]


def _decided(stages: Stages) -> dict[str, PseudoMask]:
    """The result of each stage that ran, by title."""
    ran = {"mask of the initial maps": stages.initial}
    if stages.affinity is not None:
        ran["mask of the propagated maps"] = stages.propagated
    if stages.config.refine is not None:
        ran[f"mask after {refinement_name(stages.config.refine).upper()}"] = stages.result
    return ran


# --- the pictures: each function returns False if its stage did not run


def _patches(path: Path, stages: Stages, focus: Focus) -> bool:
    (height, width), (h, w), p = stages.resized.shape[:2], stages.grid, stages.patch_size
    picture = _picture(stages, f"picture, {stages.result.size[0]} x {stages.result.size[1]} pixels")
    marks = (mark_grid(stages.grid), mark_patch(*focus.patch))
    cut = Panel(f"{height} x {width}: {h} x {w} patches of {p} x {p}", stages.resized, marks)
    draw_panels(path, [picture, cut], stages.result.size, stages.grid)
    return True


def _words(path: Path, stages: Stages, focus: Focus) -> bool:
    if not stages.words:
        return False
    own, shares = len(stages.labels), stages.probabilities.tolist()
    order = sorted(range(own, len(shares)), key=lambda i: -shares[i])
    bars = [(stages.words[i], shares[i]) for i in (*range(own), *order[:_WORDS])]
    if order[_WORDS:]:
        bars.append((f"{len(order) - _WORDS} more", sum(shares[i] for i in order[_WORDS:])))
    draw_bars(path, "probability: labels (blue) against background words (grey)", bars, own)
    return True


def _initial(path: Path, stages: Stages, focus: Focus) -> bool:
    return _maps(path, stages, stages.initial, focus)


def _affinity(path: Path, stages: Stages, focus: Focus) -> bool:
    """The patch, its attention, its row of the affinity, and the contributions to its value of the label's map."""
    if (affinity := stages.affinity) is None:
        return False
    marks, place = (mark_patch(*focus.patch),), f"patch {focus.patch[0]},{focus.patch[1]}"
    power = "" if affinity.hops == 1 else f", {affinity.hops} hops"
    maps: dict[str, NDArray[Any]] = {
        f"attention of {place}": affinity.attention_of(*focus.patch),
        f"affinity of {place}{power}": affinity.affinity_of(*focus.patch),
    }
    if focus.label is not None:
        maps[f"contributions to {stages.labels[focus.label]}"] = _contributions(stages, affinity, focus)
    # The colours end at the largest value of another patch: the patch's own value would darken all others.
    shown = [Panel(title, one, marks, _most_of_others(one, focus)) for title, one in maps.items()]
    panels = [_picture(stages, f"picture, {place}", marks), *shown]
    draw_panels(path, panels, stages.result.size, stages.grid, columns=2)
    return True


def _contributions(stages: Stages, affinity: AffinityTrace, focus: Focus) -> NDArray[np.float64]:
    """Each patch's contribution to the propagated value of the patch in focus, (h, w)."""
    source = affinity.inside[focus.label] * stages.initial.patch_cams[focus.label]
    return np.asarray(affinity.affinity_of(*focus.patch) * source)


def _most_of_others(shares: NDArray[Any], focus: Focus) -> float:
    others = shares.copy()
    others[focus.patch] = 0
    return float(others.max()) or float(shares.max()) or 1.0


def _boxes(path: Path, stages: Stages, focus: Focus) -> bool:
    affinity = stages.affinity
    if affinity is None or not stages.labels:
        return False
    rows = zip(stages.labels, stages.initial.patch_cams, affinity.above, affinity.boxes, strict=True)
    panels = [Panel(label, cam, (mark_boxes(boxes), mark_patches(above))) for label, cam, above, boxes in rows]
    draw_panels(path, [_picture(stages), *panels], stages.result.size, stages.grid, bar="initial map")
    return True


def _propagated(path: Path, stages: Stages, focus: Focus) -> bool:
    return stages.affinity is not None and _maps(path, stages, stages.propagated, focus)


def _maps(path: Path, stages: Stages, one: PseudoMask, focus: Focus) -> bool:
    if not stages.labels:
        return False
    marks = (mark_patch(*focus.patch),)
    panels = [Panel(label, cam, marks) for label, cam in zip(stages.labels, one.patch_cams, strict=True)]
    draw_panels(path, [_picture(stages, marks=marks), *panels], stages.result.size, stages.grid, bar="map")
    return True


def _scores_before(path: Path, stages: Stages, focus: Focus) -> bool:
    return _scores(path, stages, stages.propagated)


def _scores_after(path: Path, stages: Stages, focus: Focus) -> bool:
    return stages.config.refine is not None and _scores(path, stages, stages.result)


def _scores(path: Path, stages: Stages, one: PseudoMask) -> bool:
    if not stages.labels:
        return False
    panels = [Panel(name, row) for name, row in zip(("background", *one.labels), one.scores, strict=True)]
    draw_panels(path, panels, stages.result.size, stages.grid, bar="score")
    return True


def _masks(path: Path, stages: Stages, focus: Focus) -> bool:
    """The mask of each stage, and its confidence below it."""
    decided, ignored = _decided(stages), ignore_index(stages.result.num_classes)
    panels = [
        Panel(title, np.asarray(draw_mask(one.mask)), (mark_borders(one.mask, ignored, stages.grid),))
        for title, one in decided.items()
    ]
    panels += [Panel("its confidence", one.confidence, colours=CONFIDENCE) for one in decided.values()]
    names, palette = ("background", *stages.labels, "ignored"), voc_palette()
    colours = (palette[0], *colours_of(stages.result.class_ids), palette[IGNORED])
    legend = [(name, tuple(colour / 255)) for name, colour in zip(names, colours, strict=True)]
    draw_panels(path, panels, stages.result.size, stages.grid, len(decided), "confidence", legend)
    return True


def _picture(stages: Stages, title: str = "picture", marks: tuple[Any, ...] = ()) -> Panel:
    return Panel(title, np.asarray(stages.result.image), marks)
