"""The page of a comparison: one HTML file with its style and its pictures, without a script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

import numpy as np

from clipes.config import RECIPES
from clipes.drawing.colours import clear_palette, palette_index
from clipes.report.single import single_page

from .pictures import Pictures, Shown
from .result import NOTE, Comparison, PresetFigures

_RATIOS = (0.75, 2.0)  # the narrowest and the flattest place of a picture


def page(comparison: Comparison, pictures: Pictures) -> str:
    """The HTML of a comparison."""
    shown = pictures.lowest_first()
    columns = 1 + comparison.judged + len(comparison.rows)
    sections = [_figures(comparison), f'<div class="tables">{"".join(_tables(comparison))}</div>']
    if shown:
        sections.append(_pictures(comparison, shown))
    count, presets = comparison.images, len(comparison.rows)
    times = (
        "once for all presets" if comparison.encodings == 1 else f"in {comparison.encodings} ways, as presets need it"
    )
    about = [f"each encoded {times}: {comparison.encoding_seconds:.3f} s"]
    if comparison.without_truth:
        about.append(f"{comparison.without_truth} without truth left out")
    if comparison.failed:
        about.append(f"{len(comparison.failed)} could not be compared")
    title = f"{presets} preset{'s' * (presets != 1)} on {count} picture{'s' * (count != 1)}"
    style = ("comparison", "compare.css")
    return single_page("clipes compare", title, " · ".join(about), sections, [style], columns=columns)


def _figures(comparison: Comparison) -> str:
    judged = comparison.judged
    against = [f"against {comparison.rows[0].preset}"] * (len(comparison.rows) > 1)
    titles = ["mIoU", *against, "decided", "boundary IoU"] if judged else []
    titles += ["ignored", "foreground", "seconds", "memory"]
    heads = "".join(f'<th scope="col" class="number">{escape(title)}</th>' for title in titles)
    rows = "".join(_figure_row(row, comparison) for row in comparison.rows)
    note = f"{NOTE}. Decided: mIoU on the pixels that the preset does not ignore. Seconds: " if judged else "Seconds: "
    note += "a picture's maps, affinity and decision, encoding apart. Memory: the most of the process or the GPU."
    return f"""<section aria-labelledby="presets-title">
<h2 id="presets-title" class="hidden">Presets</h2>
<div class="wide"><table class="figures"><thead><tr><th scope="col">preset</th>{heads}</tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="quiet" style="margin-top: 10px">{escape(note)}</p>
</section>"""


def _figure_row(row: PresetFigures, comparison: Comparison) -> str:
    recipe = RECIPES.get(row.preset)
    about = f"<small>{escape(recipe.sentence)}</small>" if recipe else ""
    cells = []
    if comparison.judged:
        cells.append(_bar_cell(row, row.miou == max(other.miou or 0 for other in comparison.rows)))
        if len(comparison.rows) > 1:
            cells.append(_gain_cell(row))
        cells += [_cell(_number(row.miou_decided)), _cell(_number(row.boundary_iou))]
    cells += [_cell(f"{row.ignored:.1%}"), _cell(f"{row.foreground:.1%}"), _cell(f"{row.seconds:.3f}")]
    cells.append(_cell("-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.0f} MiB"))
    return f'<tr><td class="preset"><b>{escape(row.preset)}</b>{about}</td>{"".join(cells)}</tr>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{f"number {kind}".strip()}">{text}</td>'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bar_cell(row: PresetFigures, best: bool) -> str:
    """The mIoU with its interval, in figures and on a scale from 0 to 1."""
    ends = whisker = ""
    if row.miou_low is not None and row.miou_high is not None:
        ends = f'<span class="ends">{row.miou_low:.3f} to {row.miou_high:.3f}</span>'
        low, width = 100 * row.miou_low, 100 * (row.miou_high - row.miou_low)
        whisker = f'<u style="left: {low:.1f}%; width: {width:.1f}%"></u>'
    bar = f'<span class="scale"><i style="width: {100 * (row.miou or 0):.1f}%"></i>{whisker}</span>'
    return _cell(f"{_number(row.miou)}{ends}{bar}", "best" if best else "")


def _gain_cell(row: PresetFigures) -> str:
    """The difference to the first preset, coloured where its interval leaves 0 out."""
    if row.gain is None:
        return _cell("-")
    if row.gain_low is None or row.gain_high is None:
        return _cell(f"{row.gain:+.3f}")
    kind = "up" if row.gain_low > 0 else "down" if row.gain_high < 0 else ""
    return _cell(f'{row.gain:+.3f}<span class="ends">{row.gain_low:+.3f} to {row.gain_high:+.3f}</span>', kind)


def _tables(comparison: Comparison) -> Iterator[str]:
    """The IoU of each class where there is truth, and the agreement of several presets."""
    presets = [row.preset for row in comparison.rows]
    if len(presets) > 1:
        rows = ((escape(name), values) for name, values in zip(presets, comparison.agreement.tolist(), strict=True))
        text = "Mean IoU of two presets' masks, without the pixels that either ignores."
        yield _heat("agreement", "Agreement", text, presets, rows)
    if comparison.judged:
        names = ("background", *comparison.class_names)
        occurring = [index for index, column in enumerate(comparison.class_iou.T) if not np.isnan(column).all()]
        rows = ((_swatched(i, names[i]), comparison.class_iou[:, i].tolist()) for i in occurring)
        yield _heat("classes", "Classes", "IoU of each class that occurs.", presets, rows)


def _heat(name: str, title: str, text: str, heads: Sequence[str], rows: Iterable[tuple[str, list[float]]]) -> str:
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(f'<tr><th scope="row">{row}</th>{"".join(map(_heat_cell, values))}</tr>' for row, values in rows)
    return f"""<section aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>
<div class="wide"><table class="heat"><caption>{text}</caption><thead><tr><th></th>{head}</tr></thead>
<tbody>{body}</tbody></table></div></section>"""


def _heat_cell(value: float) -> str:
    if np.isnan(value):
        return '<td class="none">-</td>'
    return f'<td style="--share: {value:.3f}">{value:.3f}</td>'


def _swatched(class_id: int, name: str) -> str:
    colour = bytes(clear_palette()[palette_index(np.int64(class_id))]).hex()
    return f'<span class="name"><i class="swatch" style="background: #{colour}"></i>{escape(name)}</span>'


def _pictures(comparison: Comparison, shown: Sequence[Shown]) -> str:
    several = len(comparison.rows) > 1
    order = "those on which the presets agree least" if several else "those of the lowest mIoU"
    order = f"{len(shown)} of {comparison.images} pictures, {order}" if several or comparison.judged else ""
    classes = {i: name for one in shown for i, name in zip(one.picture.class_ids, one.picture.labels, strict=True)}
    legend = "".join(_swatched(i, name) for i, name in sorted(classes.items()))
    if any(row.ignored for row in comparison.rows):
        legend += '<span class="name"><i class="swatch hatched"></i>ignored</span>'
    heads = [("picture", ""), *[("truth", "")] * comparison.judged]
    heads += [(row.preset, f"mIoU {_number(row.miou)}" if comparison.judged else "") for row in comparison.rows]
    head = "".join(f"<div>{escape(name)}<small>{text}</small></div>" for name, text in heads)
    rows = "".join(_picture_row(one, [name for name, _ in heads]) for one in shown)
    return f"""<section id="pictures" aria-labelledby="pictures-title" tabindex="-1">
<h2 id="pictures-title">Pictures</h2>
<p class="quiet">{order}</p><div class="chips legend">{legend}</div>
<div id="heads" class="grid">{head}</div>
{rows}
</section>"""


def _picture_row(shown: Shown, heads: Sequence[str]) -> str:
    picture, ratio = shown.picture, min(max(shown.ratio, _RATIOS[0]), _RATIOS[1])
    first = len(shown.tiles) - len(picture.miou) if picture.miou else len(shown.tiles)
    figures = []
    for index, (tile, name) in enumerate(zip(shown.tiles, heads, strict=True)):
        value = picture.miou[index - first] if index >= first else None
        best = value is not None and len(picture.miou) > 1 and value == max(picture.miou)
        caption = f'<span class="who">{escape(name)} </span>{"" if value is None else f"{value:.3f}"}'
        kind = ' class="top"' if best else ""
        alt = escape(f"{picture.id}: {name}")
        figures.append(f'<figure{kind}><img src="{tile}" alt="{alt}"><figcaption>{caption}</figcaption></figure>')
    labels = "".join(_swatched(i, name) for i, name in zip(picture.class_ids, picture.labels, strict=True))
    agreement = "" if picture.agreement is None else f"<small>agreement {picture.agreement:.3f}</small>"
    return f"""<div class="row" style="--ratio: {ratio:.3f}"><div class="line"><b>{escape(picture.id)}</b>{agreement}
<span class="chips">{labels}</span></div><div class="grid">{"".join(figures)}</div></div>"""
