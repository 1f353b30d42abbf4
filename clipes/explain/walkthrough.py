"""Pictures of every stage of one image's path to its mask, and the numbers that go with them.

matplotlib (the extra ``plot``) is imported when a picture is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.config import choice_name
from clipes.drawing.colours import IGNORED, colours_of
from clipes.drawing.figure import CONFIDENCE, Panel, check_plot
from clipes.drawing.masks import draw_mask
from clipes.ids import ignore_index, voc_palette
from clipes.result import PseudoMask

from .panels import draw_bars, draw_panels, mark_borders, mark_boxes, mark_grid, mark_patch, mark_patches
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

    Raises :class:`clipes.drawing.optional.PlotError` without matplotlib, OSError where nothing can be written.
    """
    folder = Path(folder)
    check_plot(folder / "1.png")
    files = {name: folder / f"{place}-{name}.png" for place, name in enumerate(NAMES, 1)}
    drawn = {"words": files["words"]} if stages.words else {}
    if stages.words:
        _draw_words(files["words"], stages)
    for name, options in _pictures(stages, focus):
        drawn[name] = files[name]
        draw_panels(files[name], **options, size=stages.result.size, grid=stages.grid)
    for name in set(NAMES).difference(drawn):
        files[name].unlink(missing_ok=True)
    return sorted(drawn.values())


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
        ran[f"mask after {choice_name('refine', stages.config.refine).upper()}"] = stages.result
    return ran


def _draw_words(path: Path, stages: Stages) -> None:
    own, shares = len(stages.labels), stages.probabilities.tolist()
    order = sorted(range(own, len(shares)), key=lambda i: -shares[i])
    bars = [(stages.words[i], shares[i]) for i in (*range(own), *order[:_WORDS])]
    if order[_WORDS:]:
        bars.append((f"{len(order) - _WORDS} more", sum(shares[i] for i in order[_WORDS:])))
    draw_bars(path, "probability: labels (blue) against background words (grey)", bars, own)


def _pictures(stages: Stages, focus: Focus) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name, and panels and options of :func:`draw_panels`, of the picture of each stage that ran."""
    image, labels, affinity = np.asarray(stages.result.image), stages.labels, stages.affinity
    (height, width), (h, w), p = stages.resized.shape[:2], stages.grid, stages.patch_size
    patch = (mark_patch(*focus.patch),)
    picture = Panel(f"picture, {stages.result.size[0]} x {stages.result.size[1]} pixels", image)
    resized = Panel(f"{height} x {width}: {h} x {w} patches of {p} x {p}", stages.resized, (mark_grid((h, w)), *patch))
    yield "patches", {"panels": [picture, resized]}
    picture = Panel("picture", image)
    if labels:
        yield "initial-maps", {"panels": [picture, *_maps(stages.initial, patch)], "bar": "map"}
    if affinity is not None:
        yield "affinity", {"panels": [picture, *_affinity(stages, affinity, focus)], "columns": 2}
    if affinity is not None and labels:
        rows = zip(labels, stages.initial.patch_cams, affinity.above, affinity.boxes, strict=True)
        boxes = (Panel(label, cam, (mark_boxes(found), mark_patches(above))) for label, cam, above, found in rows)
        yield "boxes", {"panels": [picture, *boxes], "bar": "initial map"}
        yield "propagated-maps", {"panels": [picture, *_maps(stages.propagated, patch)], "bar": "map"}
    if labels:
        yield "scores", {"panels": _scores(stages.propagated), "bar": "score"}
    if labels and stages.config.refine is not None:
        yield "refined-scores", {"panels": _scores(stages.result), "bar": "score"}
    yield "masks", _masks(stages)


def _maps(one: PseudoMask, marks: tuple[Any, ...]) -> list[Panel]:
    return [Panel(label, cam, marks) for label, cam in zip(one.labels, one.patch_cams, strict=True)]


def _scores(one: PseudoMask) -> list[Panel]:
    return [Panel(name, row) for name, row in zip(("background", *one.labels), one.scores, strict=True)]


def _affinity(stages: Stages, affinity: AffinityTrace, focus: Focus) -> Iterator[Panel]:
    """The patch's attention, its row of the affinity, and the contributions to its value of the label's map."""
    place = f"patch {focus.patch[0]},{focus.patch[1]}"
    power = "" if affinity.hops == 1 else f", {affinity.hops} hops"
    weights = affinity.affinity_of(*focus.patch)
    maps: dict[str, NDArray[Any]] = {
        f"attention of {place}": affinity.attention_of(*focus.patch),
        f"affinity of {place}{power}": weights,
    }
    if focus.label is not None:
        source = affinity.inside[focus.label] * stages.initial.patch_cams[focus.label]
        maps[f"contributions to {stages.labels[focus.label]}"] = weights * source
    for title, values in maps.items():
        # The colours end at the largest value of another patch: the patch's own value would darken all others.
        others = values.copy()
        others[focus.patch] = 0
        most = float(others.max()) or float(values.max()) or 1.0
        yield Panel(title, values, (mark_patch(*focus.patch),), most)


def _masks(stages: Stages) -> dict[str, Any]:
    """The mask of each stage, and its confidence below it."""
    decided, ignored = _decided(stages), ignore_index(stages.result.num_classes)
    masks = [
        Panel(title, np.asarray(draw_mask(one.mask)), (mark_borders(one.mask, ignored, stages.grid),), smooth=False)
        for title, one in decided.items()
    ]
    confidences = [Panel("its confidence", one.confidence, colours=CONFIDENCE) for one in decided.values()]
    names, palette = ("background", *stages.labels, "ignored"), voc_palette()
    colours = (palette[0], *colours_of(stages.result.class_ids), palette[IGNORED])
    legend = [*zip(names, colours, strict=True)]
    return {"panels": [*masks, *confidences], "columns": len(decided), "bar": "confidence", "legend": legend}
