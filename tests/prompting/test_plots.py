"""clipes.prompting.plots: what stands where in the pictures, hostile names, and that matplotlib is left as it was."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from clipes.drawing.figure import check_plot
from clipes.drawing.optional import PlotError
from clipes.prompting import plots
from clipes.prompting.plots import plot_miou, plot_sharpness

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")

HOSTILE = (
    "$\\nonsense{} $",
    "{} " + "long " * 60,
    "\u202eturned {}",
    "猫 {} 🐱",
    "\\frac{}",
    "<b>{}</b> & co.",
    "= {}",
    "%d {}",
)
ORANGE = "#D55E00"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, after they were saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (save(self, *a, **k), figures.append(self))[0])
    return figures


def _many(count, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.1, 0.2, count)
    over = values - values.min()
    return [f"a {i} {{}}." for i in range(count)], values, np.stack([0.5 * over - 0.001, 1.5 * over + 0.001], 1)


@pytest.fixture
def rows(monkeypatch):
    """What was drawn in each column of templates: names, values, ends of the bars, which stand out."""
    handed, draw = [], plots._draw_rows
    monkeypatch.setattr(plots, "_draw_rows", lambda axis, *rest: (handed.append(rest), draw(axis, *rest))[1])
    return handed


def test_templates_stand_in_their_order_with_their_bars(tmp_path, drawn, rows):
    names, values, over = (
        ["b {}", "a {}", "c {}"],
        np.array([0.2, 0.1, 0.3]),
        np.array([[0.05, 0.2], [0, 0], [0.1, 0.4]]),
    )
    plot_sharpness(tmp_path / "a.png", names, values, over, "Title", {"c {}"})
    (axis,) = drawn[0].axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a {}   1", "b {}   2", "c {}   3"]
    ((_, values, bars, stand_out),) = rows
    assert values.tolist() == [0.1, 0.2, 0.3] and stand_out == [False, False, True]
    assert np.allclose(bars, [[0.1, 0.1], [0.15, 0.3], [0.2, 0.5]])
    assert axis.lines[0].get_xdata() == [0.1, 0.1], "the dashed line is at the best"
    top, bottom = axis.get_ylim()[::-1]
    assert top < 0 and bottom > 2, "the best stands at the top"
    low, high = axis.get_xlim()
    assert low < 0.1 and high > 0.5
    assert drawn[0].get_suptitle() == "Title"


def test_marked_templates_stand_out(tmp_path, drawn, rows):
    names, values, over = _many(5)
    plot_sharpness(tmp_path / "a.png", names, values, over, "", {names[3]})
    plot_sharpness(tmp_path / "b.png", names, values, over, "", {"not among them {}"})
    (axis,), (plain,) = drawn[0].axes, drawn[1].axes
    orange = [label.get_text() for label in axis.get_yticklabels() if label.get_color() == ORANGE]
    assert len(orange) == 1 and orange[0].startswith(names[3])
    assert rows[0][3] == [label.get_color() == ORANGE for label in axis.get_yticklabels()]
    with Image.open(tmp_path / "a.png") as marked, Image.open(tmp_path / "b.png") as other:
        pixels = [np.array(image.convert("RGB")) for image in (marked, other)]
    assert [(rgb == (0xD5, 0x5E, 0x00)).all(2).any() for rgb in pixels] == [True, False]
    assert "orange" in drawn[0].get_supxlabel() and "orange" not in drawn[1].get_supxlabel()
    assert all(label.get_color() != ORANGE for label in plain.get_yticklabels())


def test_no_name_covers_another_with_80_templates(tmp_path, drawn):
    plot_sharpness(tmp_path / "a.png", *_many(82), "82 templates")
    (axis,) = drawn[0].axes
    assert _overlaps([label.get_window_extent() for label in axis.get_yticklabels()]) == 0
    inside = drawn[0].bbox
    assert all(inside.contains(*label.get_window_extent().min) for label in axis.get_yticklabels())
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 1200 and image.height >= 2000


def test_very_many_templates_stand_in_columns(tmp_path, drawn):
    names, values, over = _many(230)
    plot_sharpness(tmp_path / "a.png", names, values, over, "")
    shown = [label.get_text() for axis in drawn[0].axes for label in axis.get_yticklabels()]
    assert len(drawn[0].axes) == 3
    expected = [f"{names[index]}  {rank:>2}" for rank, index in enumerate(np.argsort(values), 1)]
    assert shown == expected
    assert len({axis.get_xlim() for axis in drawn[0].axes}) == 1


@pytest.mark.parametrize(("values", "scale"), [([0.1, 0.11, 0.49], "linear"), ([0.1, 0.11, 0.51], "log")])
def test_the_axis_is_logarithmic_where_it_helps(tmp_path, drawn, values, scale):
    names = ["a {}", "b {}", "c {}"]
    plot_sharpness(tmp_path / "a.png", names, values, np.zeros((3, 2)), "")
    plot_miou(tmp_path / "b.png", names, values, values, "")
    assert [figure.axes[0].get_xscale() for figure in drawn] == [scale, scale]


@pytest.mark.parametrize("values", [[0.1], [0.0, 0.0], [0.0, 0.2]])
def test_few_equal_or_zero_values_can_be_drawn(tmp_path, values):
    names = [f"{i} {{}}" for i in range(len(values))]
    plot_sharpness(tmp_path / "a.png", names, values, np.zeros((len(values), 2)), "")
    plot_miou(tmp_path / "b.png", names, values, values, "")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_miou_stands_against_sharpness_and_the_ends_are_named(tmp_path, drawn):
    names = [f"{letter} {{}}" for letter in "abcdefgh"]
    x = np.array([0.1, 0.2, 0.3, 0.15, 0.25, 0.22, 0.18, 0.27])
    y = np.array([0.5, 0.7, 0.4, 0.3, 0.6, 0.45, 0.55, 0.35])
    plot_miou(tmp_path / "a.png", names, x, y, "Title", {"h {}"})
    (axis,) = drawn[0].axes
    dots = [dot for drawn_together in axis.collections for dot in drawn_together.get_offsets().tolist()]
    assert sorted(dots) == sorted(map(list, zip(x, y, strict=True)))
    named = {text.get_text(): text.xy for text in axis.texts}
    assert named.keys() == {
        "h {}",
        "b {}",
        "d {}",
        "a {}",
        "c {}",
    }  # marked, best, worst mIoU, lowest, highest sharpness
    assert all(tuple(place) == (x[names.index(name)], y[names.index(name)]) for name, place in named.items())
    assert axis.get_title() == "Title"


def test_names_of_dots_on_top_of_each_other_do_not_cover_each_other(tmp_path, drawn):
    from matplotlib.text import Text

    names, x, y = [f"{letter} quite long {{}}" for letter in "abcdef"], [0.1, 0.2, *[0.15] * 4], [0.1, 0.2, *[0.15] * 4]
    plot_miou(tmp_path / "a.png", names, x, y, "", set(names))
    (axis,) = drawn[0].axes
    assert len(axis.texts) == 6 and _overlaps([Text.get_window_extent(text) for text in axis.texts]) == 0


@pytest.mark.parametrize("seed", [1, 9, 17, 19])  # where each rule of the placing is needed
def test_names_cover_neither_names_nor_dots(tmp_path, drawn, seed):
    from matplotlib.text import Text

    names, x, _ = _many(82, seed)
    y = np.random.default_rng(seed + 100).normal(0.5, 0.01, 82)
    plot_miou(tmp_path / "a.png", names, x, y, "", set(names[:6]))
    (axis,) = drawn[0].axes
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    assert _overlaps(boxes) == 0
    dots = axis.transData.transform(np.stack([x, y], 1))
    assert not any(box.contains(*dot) for box in boxes for dot in dots)
    for text, box in zip(axis.texts, boxes, strict=True):
        own = axis.transData.transform(text.xy)
        line = own + np.linspace(0, 1, 200)[:, None] * ((box.min + box.max) / 2 - own)
        assert not any(other.contains(*point) for other in boxes if other is not box for point in line)
    inside = axis.get_window_extent()
    assert all(inside.contains(*corner) for box in boxes for corner in (box.min, box.max))


def _overlaps(boxes):
    return sum(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_hostile_names_are_drawn_as_they_are(tmp_path, suffix, drawn, recwarn):
    values = np.linspace(0.1, 0.2, len(HOSTILE))
    plot_sharpness(
        tmp_path / f"a{suffix}", HOSTILE, values, np.zeros((len(HOSTILE), 2)), "$\\nonsense $", set(HOSTILE[:2])
    )
    plot_miou(tmp_path / f"b{suffix}", HOSTILE, values, values, "$\\nonsense $", set(HOSTILE))
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix.lower()]
    assert all(path.read_bytes().startswith(start) for path in tmp_path.iterdir())
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels[0] == f"{HOSTILE[0]}   1"
    assert len(labels[1]) < 60 and "…" in labels[1]
    assert labels[2] == "\ufffdturned {}   3"
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


def test_a_picture_is_whole_or_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "_draw_rows", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plot_sharpness(tmp_path / "a.png", *_many(3), "")
    assert list(tmp_path.iterdir()) == []


def test_refuses_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"a plot is \.png, \.svg, \.pdf, not 'a\.jpg'; end its name"):
        check_plot(tmp_path / "a.jpg")
    for plot in (lambda path: plot_sharpness(path, *_many(3), ""), lambda path: plot_miou(path, *_many(3), "")):
        with pytest.raises(ValueError, match="a plot is"):
            plot(tmp_path / "a.gif")


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"plots need matplotlib .*: pip install matplotlib, or in a clone"):
        plot_sharpness(tmp_path / "a.png", *_many(3), "")
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_left_as_it_was(tmp_path):
    code = f"""
import sys, clipes.prompting.plots
assert "matplotlib" not in sys.modules
import matplotlib
settings = lambda: {{name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}}
before = settings()
clipes.prompting.plots.plot_sharpness({str(tmp_path / "a.png")!r}, ["a {{}}", "b {{}}"], [1, 2], [[0, 0], [1, 2]], "t")
clipes.prompting.plots.plot_miou({str(tmp_path / "b.svg")!r}, ["a {{}}", "b {{}}"], [1, 2], [0.1, 0.2], "t")
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
