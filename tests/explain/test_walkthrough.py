"""The pictures of a walk: which are drawn, what stands in them, and the numbers beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.clip.weights import CLIP
from clipes.config import SCENES, VOC12, AttentionAffinityConfig, ParConfig
from clipes.drawing import figure
from clipes.drawing.figure import Panel
from clipes.explain import panels
from clipes.explain.panels import draw_bars, draw_panels, mark_borders, mark_boxes, mark_grid, mark_patches
from clipes.explain.stages import Stages, trace_stages
from clipes.explain.walkthrough import NAMES, Focus, choose_focus, describe, draw_walkthrough
from clipes.generator import MaskGenerator
from clipes.ids import voc_palette
from clipes.scenes import draw_scene

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")

BLACK = voc_palette()[0]
ALL = [f"{place}-{name}.png" for place, name in enumerate(NAMES, 1)]


def kept(patch: pytest.MonkeyPatch) -> dict[str, list]:
    """The axes of each figure that is saved from now on, by its name, colour bars left out; nothing is rendered."""
    found: dict[str, list] = {}

    def keep(path: Path, drawn) -> None:
        found[Path(path).name] = [axis for axis in drawn.axes if axis.get_label() != "<colorbar>"]

    patch.setattr(figure, "save_figure", keep)
    return found


@pytest.fixture
def laid_out(monkeypatch) -> dict[str, list]:
    return kept(monkeypatch)


@pytest.fixture
def drawn(monkeypatch) -> dict[str, list]:
    """The axes where they were made: their layout takes most of the time."""
    monkeypatch.setattr(panels, "fit_height", lambda *given: None)
    return kept(monkeypatch)


@pytest.fixture(scope="module")
def walk(stages) -> dict[str, list]:
    """The axes of a walk that follows the second label and patch 5,8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "fit_height", lambda *given: None)
        found = kept(patch)
        draw_walkthrough("nowhere", stages, choose_focus(stages, "mushroom", (5, 8)))
    return found


def traced(tiny: MaskGenerator, labels=("kite", "mushroom"), config=SCENES, size=(61, 83)) -> Stages:
    generator = MaskGenerator(CLIP(tiny.clip.vision, tiny.clip.text), tiny.vocabulary, config)
    return trace_stages(generator, draw_scene(3_104_034, size).image, labels)


@pytest.fixture(scope="module")
def stages(tiny: MaskGenerator) -> Stages:
    return traced(tiny)


def test_every_stage_is_drawn(tmp_path, stages):
    paths = draw_walkthrough(tmp_path / "walk", stages, choose_focus(stages))
    assert [path.name for path in paths] == ALL == sorted(path.name for path in (tmp_path / "walk").iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert image.width == 1242 and image.height < 1400
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255), "readable on a dark page"


@pytest.mark.parametrize(
    ("config", "left_out"),
    [
        (replace(SCENES, affinity=None), {"affinity", "boxes", "propagated-maps"}),
        (replace(SCENES, refine=None), {"refined-scores"}),
        (replace(SCENES, refine=ParConfig()), set()),
        (replace(SCENES, affinity=None, refine=None), {"affinity", "boxes", "propagated-maps", "refined-scores"}),
    ],
)
def test_stages_that_are_off_are_left_out(tmp_path, tiny, drawn, config, left_out):
    stages = traced(tiny, config=config)
    draw_walkthrough(tmp_path, stages, choose_focus(stages))
    assert {name for name in NAMES if any(file.endswith(f"-{name}.png") for file in drawn)} == set(NAMES) - left_out
    titles = [axis.get_title().replace("\n", " ") for axis in drawn["9-masks.png"]]
    expected = ["mask of the initial maps", *["mask of the propagated maps"] * (config.affinity is not None)]
    expected += {ParConfig: ["mask after PAR"], type(None): []}.get(type(config.refine), ["mask after CRF"])
    assert titles == [*expected, *["its confidence"] * len(expected)]


def test_no_label_has_a_walk(tmp_path, tiny):
    (tmp_path / "3-initial-maps.png").write_text("of an earlier walk")
    (tmp_path / "notes.txt").write_text("mine")
    stages = traced(tiny, labels=())
    chosen = choose_focus(stages)
    assert chosen == Focus(None, (4, 5)) and stages.grid == (8, 11)
    drawn = [path.name for path in draw_walkthrough(tmp_path, stages, chosen)]
    assert drawn == [ALL[i] for i in (0, 1, 3, 8)]
    assert {path.name for path in tmp_path.iterdir()} == {*drawn, "notes.txt"}
    assert len(describe(stages, chosen)) == 7


@pytest.mark.parametrize(("size", "labels"), [((8, 300), 4), ((300, 8), 4), ((9, 9), 1)])
def test_extreme_pictures_and_many_labels(tmp_path, tiny, size, labels):
    """Four labels take two rows of panels."""
    stages = traced(tiny, tiny.class_names[:labels], size=size)
    for path in draw_walkthrough(tmp_path, stages, choose_focus(stages)):
        with Image.open(path) as image:
            assert image.width == 1242 and image.height < 12_000


def test_what_stands_in_the_pictures(stages, walk):
    def shown(name: str) -> list:
        return [np.asarray(axis.images[0].get_array()) for axis in walk[name]]

    picture, affinity = np.asarray(stages.result.image), stages.affinity
    for name, expected in {
        "1-patches.png": [picture, stages.resized],
        "3-initial-maps.png": [picture, *stages.initial.patch_cams],
        "5-boxes.png": [picture, *stages.initial.patch_cams],
        "6-propagated-maps.png": [picture, *stages.propagated.patch_cams],
        "7-scores.png": [*stages.propagated.scores],
        "8-refined-scores.png": [*stages.result.scores],
    }.items():
        found = shown(name)
        assert len(found) == len(expected)
        assert all(map(np.array_equal, found, expected)), name
    given = affinity.affinity_of(5, 8) * affinity.inside[1] * stages.initial.patch_cams[1]
    rows = [affinity.attention_of(5, 8), affinity.affinity_of(5, 8), given]
    assert all(map(np.array_equal, shown("4-affinity.png"), [picture, *rows]))
    for axis, row in zip(walk["4-affinity.png"][1:], rows, strict=True):
        assert axis.images[0].get_clim() == (0, np.delete(row, 5 * 11 + 8).max() or row.max())
    results = (stages.initial, stages.propagated, stages.result)
    assert all(map(np.array_equal, shown("9-masks.png")[3:], [one.confidence for one in results]))
    titles = [axis.get_title() for axis in walk["4-affinity.png"]]
    assert titles[1:] == ["attention of patch 5,8", "affinity of patch 5,8", "contributions to mushroom"]
    assert {axis.images[0].get_clim() for axis in walk["3-initial-maps.png"][1:]} == {(0, 1)}


def test_boxes_and_dots_stand_on_their_patches(stages, walk):
    for axis, boxes, above in zip(walk["5-boxes.png"][1:], stages.affinity.boxes, stages.affinity.above, strict=True):
        *outlines, dots = axis.lines
        found = [tuple(np.array(line.get_xydata()[[0, 2]] + 0.5, int).ravel().tolist()) for line in outlines[1::2]]
        assert found == [(left, top, right, bottom) for top, left, bottom, right in boxes]
        assert {(int(y), int(x)) for x, y in dots.get_xydata()} == set(map(tuple, np.argwhere(above).tolist()))
    (left, right), (bottom, top) = walk["5-boxes.png"][0].get_xlim(), walk["5-boxes.png"][0].get_ylim()
    assert (left, right, bottom, top) == (-0.5, 10.5, 7.5, -0.5), "the picture covers the whole grid"


def test_the_legend_has_the_masks_colours(stages, walk):
    (legend,) = walk["9-masks.png"][0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["background", "kite", "mushroom", "ignored"]
    found = [np.array(patch.get_facecolor()[:3]) * 255 for patch in legend.get_patches()]
    assert np.allclose(found, voc_palette()[[0, *stages.result.class_ids, 255]])


def test_affinity_says_how_often_it_is_applied(tmp_path, tiny, drawn):
    stages = traced(tiny, config=replace(VOC12, affinity=AttentionAffinityConfig(hops=2)))
    draw_walkthrough(tmp_path, stages, choose_focus(stages, patch=(0, 0)))
    assert drawn["4-affinity.png"][2].get_title() == "affinity of patch 0,0, 2 hops"


def test_words_stand_with_their_probabilities(stages, walk):
    (axis,) = walk["2-words.png"]
    names, values = [t.get_text() for t in axis.get_yticklabels()], [bar.get_width() for bar in axis.patches]
    shares = dict(zip(stages.words, stages.probabilities.tolist(), strict=True))
    assert names[:2] == ["kite", "mushroom"] and len(names) == 9 and names[-1] == f"{len(shares) - 8} more"
    assert [shares[name] for name in names[:-1]] == values[:-1]
    assert values[2:-1] == sorted(list(shares.values())[2:], reverse=True)[:6]
    assert sum(values) == pytest.approx(1, abs=1e-6)


def test_the_label_and_the_patch_that_are_followed(stages):
    maps = np.zeros_like(stages.propagated.patch_cams)
    maps[0, 2, 7] = maps[1, 7, 9] = 1
    bright = replace(stages, propagated=replace(stages.propagated, patch_cams=maps))
    assert choose_focus(bright) == Focus(0, (2, 7)) and choose_focus(bright, "mushroom") == Focus(1, (7, 9))
    assert choose_focus(stages).label == 0 and choose_focus(stages, patch=(7, 10)).patch == (7, 10)
    with pytest.raises(ValueError, match="label 'cat' is not the image's; it has kite, mushroom"):
        choose_focus(stages, "cat")
    for row, column in ((8, 0), (0, 11), (-1, 3)):
        with pytest.raises(ValueError, match=rf"patch {row},{column} is outside the grid; rows are 0..7, columns 0"):
            choose_focus(stages, patch=(row, column))


def test_the_numbers(stages):
    lines = describe(stages, Focus(1, (6, 8)))
    kite, mushroom, *rest = stages.probabilities
    maps, refined = stages.initial.patch_cams, stages.propagated.patch_cams
    affinity, mask = stages.affinity, stages.result.mask
    own = affinity.attention_of(6, 8)[6, 8]
    shares = [(mask == i).mean() for i in (0, *stages.result.class_ids, 255)]
    assert sum(shares) == pytest.approx(1)
    for line in (
        "picture: 61 x 83 pixels; 64 x 88 cut into 8 x 11 patches of 8 x 8",
        f"words: kite {kite:.3f}, mushroom {mushroom:.3f}, all of the background {sum(rest):.3f}",
        f"initial map: mushroom {(maps[1] > 0.5).sum()} of 88 patches above 0.5",
        f"propagated map: kite {(refined[0] > 0.5).sum()} of 88 patches above 0.5",
        f"attention of patch 6,8: to itself {own:.3f}, to others {affinity.attention[6 * 11 + 8].sum() - own:.3f}",
        f"affinity of patch 6,8: its row sums to {affinity.affinity_of(6, 8).sum():.3f}, "
        f"all {affinity.matrix.sum() / 88:.3f}",
        f"boxes: kite {affinity.above[0].sum()} patches above, {len(affinity.boxes[0])} boxes of "
        f"{affinity.inside[0].sum()} patches",
        f"patch 6,8 of mushroom: initial {maps[1, 6, 8]:.3f}, propagated {refined[1, 6, 8]:.3f}",
        "mask after CRF: background {:.1%}, kite {:.1%}, mushroom {:.1%}, ignored {:.1%}; ".format(*shares)
        + f"mean confidence {stages.result.confidence.mean():.3f}",
    ):
        assert line in lines
    assert len(lines) == 14


# --- the panels themselves


def test_names_are_shown_as_text(tmp_path):
    hostile = ["$\\nonsense{}$", "long " * 50, "\u202eturned", "猫 🐱", "a\nb", "_legend"]
    shown = [Panel(name, np.zeros((2, 2))) for name in hostile]
    draw_panels(tmp_path / "a.png", shown, (2, 2), (2, 2), bar="b", legend=[(name, BLACK) for name in hostile])
    draw_bars(tmp_path / "b.png", "title", [(name, 0.0) for name in hostile], 2)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_long_names_cover_nothing(tmp_path, laid_out, columns):
    names = ["a rather long name of a class, which goes on", "W" * 80, "and a third one, that is long, too", "c", "d"]
    legend = [(name, BLACK) for name in names]
    for bar in ("", "score"):
        shown = [Panel(name, np.zeros((4, 4))) for name in names]
        draw_panels(tmp_path / "a.png", shown, (4, 4), (2, 2), columns, bar, legend)
        axes = [axis for axis in laid_out["a.png"] if axis.get_title()]
        drawn_figure = axes[0].figure
        (below,) = drawn_figure.legends
        boxes = [axis.title.get_window_extent() for axis in axes] + [below.get_window_extent()]
        assert len(axes) == 5 and all(
            drawn_figure.bbox.padded(5).contains(*corner) for box in boxes for corner in box.get_points()
        )
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_a_bar_for_all_maps_or_one_for_each(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figure, "save_figure", lambda path, drawn: figures.append(drawn))
    shown = [Panel("p", np.zeros((4, 4, 3), np.uint8)), Panel("a", np.eye(4)), Panel("b", np.eye(4), most=0.5)]
    draw_panels(tmp_path / "a.png", shown, (4, 4), (2, 2), bar="one")
    draw_panels(tmp_path / "a.png", shown, (4, 4), (2, 2))
    bars = [[axis for axis in figure.axes if axis.get_label() == "<colorbar>"] for figure in figures]
    assert [len(found) for found in bars] == [1, 2] and bars[0][0].get_ylabel() == "one"


def test_marks_on_the_grid(tmp_path, drawn):
    ids = np.zeros((4, 8), np.uint8)
    ids[1:3, 2:4], ids[3, 7] = 1, 255
    marks = (mark_grid((2, 2)), mark_borders(ids, 255, (2, 2)))
    draw_panels(tmp_path / "a.png", [Panel("a", np.zeros((4, 8)), marks)], (4, 8), (2, 2))
    (axis,) = drawn["a.png"]
    rows, columns, below, beside = ([s.tolist() for s in c.get_segments()] for c in axis.collections)
    assert rows == [[[-0.5, y], [1.5, y]] for y in (-0.5, 0.5, 1.5)] and len(columns) == 3
    assert sorted(below) == [[[x, y], [x + 0.25, y]] for x in (0, 0.25) for y in (0, 1)]
    assert sorted(beside) == [[[x, y], [x, y + 0.5]] for x in (0, 0.5) for y in (0, 0.5)]


def test_nothing_to_mark(tmp_path):
    marks = (mark_boxes([]), mark_patches(np.zeros((2, 4), bool)), mark_borders(np.ones((4, 8), np.uint8), 255, (2, 4)))
    draw_panels(tmp_path / "a.png", [Panel("a", np.zeros((4, 8)), marks)], (4, 8), (2, 4))
    assert (tmp_path / "a.png").exists()
