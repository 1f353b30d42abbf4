"""``clipes compare``: presets side by side on the same pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes.config import PRESETS, Config

from .arguments import add_command, add_source_flags, given_samples, nonempty, path
from .config_file import nearest, with_file
from .model import add_clip_flags, add_vocabulary_flags, load_model, load_words
from .run_flags import count
from .terminal import DONE, FAILED, print_problems, print_table, printable, progress_bar, short

if TYPE_CHECKING:
    from clipes.comparison import Comparison, PresetFigures

PICTURES = 12  # clipes.comparison.compare.PICTURES, which is not imported for --help
MAX_NAME_WIDTH = 40
SHOWN = 5
EXAMPLES = (
    "clipes compare clipes-demo/images --labels clipes-demo/labels.csv --truth clipes-demo/truth"
    " --presets scenes,clip-es-voc12,sclip-like --out comparison",
)


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "presets side by side on the same pictures: figures, agreement, time, memory, and a page to look at"
    details = (
        "Each picture is encoded once for all presets that prepare it alike; masks are not kept. A picture that cannot "
        "be read, or whose truth is of another size, is named, left out of all figures, and gives exit code 3."
    )
    compare = add_command(commands, "compare", run, help, details)
    add_source_flags(compare)
    presets = "names joined by commas, and .json or .yaml files of settings on top of the class set's preset: "
    presets += f"{', '.join(PRESETS)}; differences are those from the first"
    compare.add_argument("--presets", type=nonempty, required=True, metavar="NAME,NAME", help=presets)
    out = "folder for index.html, compare.json and compare.csv; an earlier comparison is replaced"
    compare.add_argument("--out", type=path, required=True, metavar="FOLDER", help=out)
    truth = "folder of PNG files of ids, named as the pictures; those without one are left out"
    compare.add_argument("--truth", type=path, metavar="FOLDER", help=truth)
    regions = "folder or JSON of regions named as the pictures, for settings with regions: given"
    compare.add_argument("--regions", type=path, metavar="DIR", help=regions)
    pictures = "pictures on the page, those on which the presets agree least (default: %(default)s)"
    compare.add_argument("--pictures", type=count, default=PICTURES, metavar="N", help=pictures)
    add_clip_flags(compare, batch=False)
    add_vocabulary_flags(compare, auto=False)
    essential = ("--labels", "--presets", "--truth", "--out", "--pictures", "--model", "--pretrained", "--classes")
    compare.shorten_help(essential, EXAMPLES)


def run(options: argparse.Namespace) -> int:
    """Check what needs no model, compare, print the tables."""
    vocabulary = load_words(options)
    presets = _presets(options.presets, vocabulary.preset)
    samples = given_samples(options, vocabulary)
    from clipes.vocabulary import check_labels

    check_labels(samples, vocabulary)
    from clipes.comparison import check_presets, compare

    check_presets(presets, options.regions)
    clip = load_model(options)
    from clipes.generator import MaskGenerator

    comparison = compare(
        MaskGenerator(clip, vocabulary),
        samples,
        presets,
        options.out,
        truth=options.truth,
        regions=options.regions,
        pictures=options.pictures,
        source=options.source,
        progress=progress_bar,
    )
    _print_figures(comparison)
    if len(comparison.rows) > 1:
        _print_agreement(comparison)
    _print_rest(comparison)
    print(f"Look at {printable(comparison.page)}")
    reasons = [f"{problem.name}: {problem.reason}" for problem in comparison.failed[:SHOWN]]
    print_problems(len(comparison.failed), "picture(s) could not be compared", reasons)
    return FAILED if comparison.failed else DONE


def _presets(given: str, base: str) -> Mapping[str, Config]:
    """The settings of each name or file. ValueError for an unknown or a repeated one, with near names."""
    from clipes.io.structured import SUFFIXES

    presets: dict[str, Config] = {}
    for entry in map(str.strip, given.split(",")):
        is_file = Path(entry).suffix.lower() in SUFFIXES
        if not is_file and entry not in PRESETS:
            raise ValueError(f"--presets: there is no preset {entry!r}; {nearest(entry, PRESETS)}")
        name = Path(entry).stem if is_file else entry
        if name in presets:
            raise ValueError(f"--presets names {name!r} twice; leave one out, or rename the file")
        presets[name] = with_file(PRESETS[base], Path(entry)) if is_file else PRESETS[entry]
    return presets


def _print_figures(comparison: Comparison) -> None:
    judged, several = comparison.judged, len(comparison.rows) > 1
    titles = ["preset"]
    if judged:
        titles += ["mIoU", "95 %", *["gain", "95 % of it"] * several, "decided", "boundary IoU"]
    titles += ["ignored", "foreground", "s/image", "MiB"]
    print_table(titles, [_cells(row, judged, several) for row in comparison.rows], left=("preset",))


def _cells(row: PresetFigures, judged: bool, several: bool) -> list[str]:
    cells = [short(row.preset, MAX_NAME_WIDTH)]
    if judged:
        cells += [_figure(row.miou), _ends(row.miou_low, row.miou_high, "")]
        cells += [_figure(row.gain, "+"), _ends(row.gain_low, row.gain_high, "+")] * several
        cells += [_figure(row.miou_decided), _figure(row.boundary_iou)]
    memory = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.0f}"
    return [*cells, f"{row.ignored:.1%}", f"{row.foreground:.1%}", f"{row.seconds:.3f}", memory]


def _figure(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _ends(low: float | None, high: float | None, sign: str) -> str:
    return "-" if low is None else f"{_figure(low, sign)}..{_figure(high, sign)}"


def _print_agreement(comparison: Comparison) -> None:
    print("\nagreement: mean IoU of two presets' masks, without the pixels that either ignores")
    rows = [
        [f"{number} {short(row.preset, MAX_NAME_WIDTH)}", *(f"{value:.3f}" for value in values)]
        for number, (row, values) in enumerate(zip(comparison.rows, comparison.agreement.tolist(), strict=True), 1)
    ]
    print_table(["preset", *(str(number) for number in range(1, len(rows) + 1))], rows, left=("preset",))


def _print_rest(comparison: Comparison) -> None:
    count, times = comparison.images, comparison.encodings
    once = "once" if times == 1 else f"{times} times, because presets prepare it differently"
    print(f"\n{count} picture(s), each encoded {once}: {comparison.encoding_seconds:.3f} s")
    if comparison.without_truth:
        print(f"{comparison.without_truth} picture(s) without truth left out")
    if comparison.judged and comparison.rows[0].miou_low is None:
        from clipes.comparison.result import LEAST

        print(f"no intervals: they take {LEAST} pictures")
