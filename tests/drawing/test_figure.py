"""clipes.drawing.figure: what stands where, in which colours, for whatever a result can be."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipes.drawing.figure import check_plot, draw_figure, figure_png, save_figure
from clipes.drawing.optional import PlotError
from clipes.ids import voc_palette
from clipes.result import PseudoMask

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
HOSTILE = (
    "$\\nonsense{ $",
    "long " * 60,
    "n" * 5000,
    "\u202eturned",
    "猫 🐱",
    "a\nb\tc",
    "a_b^c %d",
    "<b>&</b>",
    " ",
    "",
)


def _draw(size: tuple[int, int] = (60, 80), names: Any = ("cat", "dog"), classes: int = 20, width: float = 6.9) -> Any:
    """A figure of random maps, each class with a pixel or more if there are as many, one pixel ignored."""
    rng = np.random.default_rng(0)
    count = len(names)
    mask = rng.integers(0, count + 1, size).astype(np.uint8 if classes < 255 else np.uint16)
    mask[0, 0], mask[-1, -1] = np.iinfo(mask.dtype).max, 0
    picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    cams = rng.random((count, *size), dtype=np.float32)
    return draw_figure(picture, names, range(1, count + 1), cams, mask, rng.random(size, np.float32), classes, width)


def _panels(figure: Any) -> list[Any]:
    """The axes that hold pictures, in order."""
    return [axis for axis in figure.axes if axis.images]


def _bars(figure: Any) -> list[Any]:
    return [axis for axis in figure.axes if not axis.images]


def _legend(figure: Any) -> tuple[list[str], list[list[int]]]:
    """The legend's names and colours."""
    (legend,) = figure.legends
    colours = [
        np.round(255 * np.array(patch.get_facecolor()[:3])).astype(int).tolist() for patch in legend.get_patches()
    ]
    return [text.get_text() for text in legend.get_texts()], colours


def _boxes(figure: Any) -> tuple[list[Any], list[Any]]:
    """Where each panel, bar and square, and where each text is, in dots."""
    (legend,) = figure.legends
    ticks = [label for bar in _bars(figure) for label in bar.get_xticklabels()]
    texts = [*(axis.title for axis in figure.axes), *legend.get_texts(), *ticks]
    shown = [text.get_window_extent() for text in texts if text.get_text().strip()]
    return [part.get_window_extent() for part in (*figure.axes, *legend.get_patches())], shown


def _check_layout(figure: Any) -> None:
    """Nothing leaves the figure, no text covers another or a panel, panels are of one size and in straight rows."""
    axes, texts = _boxes(figure)
    inside = figure.bbox.padded(0.5)
    for box in (*axes, *texts):
        assert inside.contains(*box.min) and inside.contains(*box.max)
    for first, second in itertools.combinations([box.padded(-0.5) for box in (*axes, *texts)], 2):
        assert not first.overlaps(second)
    sizes = np.array([box.size for box in axes[: len(_panels(figure))]])
    assert np.ptp(sizes, axis=0).max() < 0.01


def test_panels_show_picture_maps_mask_and_confidence(result: PseudoMask) -> None:
    figure = result.figure()
    panels = _panels(figure)
    assert [axis.get_title() for axis in panels] == ["picture", "cat", "dog", "bus", "mask", "confidence"]
    picture, *maps, mask, confidence = (axis.images[0] for axis in panels)
    assert (picture.get_array() == [10, 20, 30]).all()
    for shown, cam in zip(maps, result.cams, strict=True):
        assert np.allclose(shown.get_array(), cam) and shown.get_cmap().name == "inferno"
    assert np.allclose(confidence.get_array(), result.map_confidence) and confidence.get_cmap().name == "viridis"
    assert {shown.get_clim() for shown in (*maps, confidence)} == {(0, 1)}
    colours = voc_palette()[result.mask].repeat(100, 0).repeat(100, 1)
    drawn = mask.get_array()
    lines = (drawn == 255).all(-1)
    assert (drawn == colours).all(-1)[~lines].all() and lines.mean() < 0.02
    kinds = [axis.images[0].get_interpolation() for axis in panels]
    assert kinds == [*["antialiased"] * 4, "nearest", "antialiased"], "only the mask's colours may not mix"


def test_titles_stand_above_their_panels_in_reading_order() -> None:
    panels = _panels(_draw(names=VOC))
    boxes = [axis.get_window_extent() for axis in panels]
    places = [(-round(box.y0), round(box.x0)) for box in boxes]
    assert len(panels) == 23 and places == sorted(places)
    for box, axis in zip(boxes, panels, strict=True):
        title = axis.title.get_window_extent()
        assert abs((box.x0 + box.x1) - (title.x0 + title.x1)) < 4 and 0 < title.y0 - box.y1 < 20


def test_the_legend_has_the_palettes_colours_and_names_what_is_there() -> None:
    figure = _draw()
    names, colours = _legend(figure)
    assert names == ["background", "cat", "dog", "ignored"]
    assert colours == voc_palette()[[0, 1, 2, 255]].tolist()
    (legend,) = figure.legends
    for patch, text in zip(legend.get_patches(), legend.get_texts(), strict=True):
        square, name = patch.get_window_extent(), text.get_window_extent()
        assert square.x1 < name.x0 < square.x1 + 0.1 * figure.dpi and square.y0 - 6 < name.y0 < square.y1


def test_the_legend_names_neither_background_nor_ignored_where_there_is_none(result: PseudoMask) -> None:
    figure = replace(result, mask=np.full((4, 6), 2, np.uint8)).figure()
    assert _legend(figure)[0] == ["cat", "dog", "bus"]


def test_maps_and_confidence_have_a_colour_bar_each() -> None:
    figure = _draw()
    bars = _bars(figure)
    assert [bar.get_title() for bar in bars] == ["label maps", "confidence"]
    for bar, colours in zip(bars, ("inferno", "viridis"), strict=True):
        (shown,) = bar.collections[-1:]
        assert shown.get_cmap().name == colours and shown.get_clim() == (0, 1)
        assert [label.get_text() for label in bar.get_xticklabels()] == ["0", "0.5", "1"]
    none = _draw(names=())
    assert [axis.get_title() for axis in _panels(none)] == ["picture", "mask", "confidence"]
    assert [axis.get_title() for axis in _bars(none)] == ["confidence"]
    assert _legend(none)[0] == ["background", "ignored"]


@pytest.mark.parametrize("width", [6.9, 3.3, 3.0, 12.0])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 20])
def test_nothing_covers_anything(count: int, width: float) -> None:
    figure = _draw(names=VOC[:count], width=width)
    assert figure.get_figwidth() <= width
    _check_layout(figure)


SIZES = [(500, 375), (375, 500), (1, 1), (7, 5), (8, 400), (400, 8), (400, 1), (1, 4000), (1000, 130)]


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_shape_keep_theirs_up_to_20_to_1(size: tuple[int, int]) -> None:
    for width in (6.9, 3.3):
        figure = _draw(size, width=width)
        _check_layout(figure)
        box = figure.axes[0].get_window_extent()
        assert box.width / box.height == pytest.approx(min(max(size[1] / size[0], 1 / 20), 20), rel=1e-3)
        assert figure.get_figwidth() <= width and figure.get_figheight() < 7


def test_three_panels_go_into_a_column_of_a_page_and_six_across_it() -> None:
    assert len({round(axis.get_position().x0, 3) for axis in _panels(_draw(names=VOC[:3], width=3.3))}) == 3
    assert len({round(axis.get_position().y0, 3) for axis in _panels(_draw(names=VOC[:3]))}) == 1


def test_text_has_7_or_8_points_at_any_width() -> None:
    for width in (3, 3.3, 6.9):
        figure = _draw(names=VOC[:4], width=width)
        (legend,) = figure.legends
        texts = [*(axis.title for axis in figure.axes), *legend.get_texts(), *_bars(figure)[0].get_xticklabels()]
        assert {text.get_fontsize() for text in texts} == {7, 8}


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("width", [3, 6.9])
def test_hostile_names_are_drawn_as_they_are(tmp_path: Path, width: float) -> None:
    figure = _draw(names=HOSTILE, width=width)
    _check_layout(figure)
    titles = [axis.get_title() for axis in _panels(figure)[1:11]]
    assert titles[0].replace("\n", " ") == HOSTILE[0]
    assert titles[1].startswith("long long") and titles[1].count("\n") == 1 and titles[1].endswith("…")
    assert titles[2].startswith("nnn") and titles[2].endswith("…") and titles[3] == "\ufffdturned"
    assert titles[5] == "a\ufffdb\ufffdc"
    for suffix in (".png", ".svg", ".pdf"):
        save_figure(tmp_path / f"a{suffix}", figure)


def test_more_than_254_classes() -> None:
    grey = np.zeros((12, 16), np.float32)
    mask = np.full((12, 16), 300, np.uint16)
    mask[0] = 65535
    figure = draw_figure(Image.new("RGB", (16, 12)), ["last"], [300], grey[None], mask, grey, 300)
    assert _legend(figure) == (["last", "ignored"], voc_palette()[[300 % 254 + 1, 255]].tolist())
    assert (figure.axes[2].images[0].get_array()[-1, -1] == voc_palette()[47]).all()


def test_very_long_figures_have_fewer_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipes.drawing.figure._MAX_DOTS", 30_000)
    for size in ((60, 80), (4000, 200), (10, 400)):
        assert 0 < _draw(size, width=1000).bbox.size.max() < 1.2 * 30_000


def test_large_pictures_are_averaged() -> None:
    size = (1500, 3000)
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, ::2] = 200
    cams = np.zeros((1, *size), np.float32)
    cams[:, ::2] = 1
    mask = np.zeros(size, np.uint8)
    figure = draw_figure(Image.fromarray(picture), ["a"], [1], cams, mask, np.ones(size, np.float32), 20)
    shown = [axis.images[0].get_array() for axis in figure.axes[:4]]
    assert [array.shape[:2] for array in shown] == [(600, 1200)] * 4
    assert abs(shown[0].mean() - 100) < 2 and shown[0].std() < 50
    assert abs(shown[1].mean() - 0.5) < 0.01 and shown[1].std() < 0.25


def test_a_pdf_has_its_text_as_text_and_its_fonts_within(tmp_path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _draw(names=VOC[:2])
    assert isinstance(figure.canvas, FigureCanvasAgg) and figure.dpi == 300
    save_figure(tmp_path / "a.pdf", figure, "the maker")
    data = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in data and b"/Type3" not in data and b"(the maker)" in data
    save_figure(tmp_path / "a.svg", figure, "the maker")
    assert b"the maker" in (tmp_path / "a.svg").read_bytes()
    save_figure(tmp_path / "a.png", figure, "the maker")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Software"] == "the maker"
        assert image.size == tuple(np.floor(figure.get_size_inches() * 300).astype(int))
        width = image.width
    with Image.open(BytesIO(figure_png(figure))) as image:
        assert image.width == width // 2
    figure.savefig(tmp_path / "b.pdf")
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = _draw()
    monkeypatch.setattr(figure, "savefig", lambda path, **options: Path(path).write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_figure(tmp_path / "a.png", figure)
    assert list(tmp_path.iterdir()) == []


SETTINGS = {
    "figure.autolayout": True,
    "image.origin": "lower",
    "image.cmap": "jet",
    "image.interpolation": "bicubic",
    "axes.grid": True,
    "font.size": 30,
    "text.color": "red",
    "figure.facecolor": "black",
    "savefig.facecolor": "auto",
    "text.usetex": True,
}


def test_the_users_settings_change_nothing() -> None:
    plain = figure_png(_draw())
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figure_png(_draw()) == plain


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    code = f"""
import sys, clipes.result, clipes.drawing.figure, numpy as np
from PIL import Image
assert "matplotlib" not in sys.modules
import matplotlib
settings = lambda: {{name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}}
before = settings()
grey = np.zeros((4, 5), np.float32)
figure = clipes.drawing.figure.draw_figure(Image.new("RGB", (5, 4)), ["a"], [1], grey[None], np.uint8(grey), grey, 20)
clipes.drawing.figure.save_figure({str(tmp_path / "a.pdf")!r}, figure)
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_result_draws_at_the_width_of_a_page(result: PseudoMask) -> None:
    assert result.figure().get_figwidth() == draw_figure.__defaults__[0] == 6.9  # type: ignore[index]


def test_refuses_too_little_width(result: PseudoMask) -> None:
    for width in (2.99, 0, -3, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"inches wide has no room for its text; give 3 or more"):
            result.figure(width)


def test_without_matplotlib_the_error_says_how_to_get_it(result: PseudoMask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (result.figure, lambda: check_plot("a.png")):
        with pytest.raises(PlotError, match=r"plots need matplotlib .*: pip install matplotlib, or in a clone"):
            call()
