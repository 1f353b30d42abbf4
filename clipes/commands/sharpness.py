"""``clipes sharpness``: prompt templates ranked by how evenly they treat an image's labels."""

from __future__ import annotations

import argparse
import csv
import math
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes._version import __version__, versions
from clipes.config import choice_name

from .arguments import add_command, add_source_flags, given_samples, path
from .flags import add_config_flags, read_config
from .model import add_clip_flags, add_vocabulary_flags, load_model, load_words, model_record, union
from .terminal import print_error, print_table, printable, progress_bar, report_failures, short

if TYPE_CHECKING:
    from clipes.prompting.analysis import TemplateAnalysis
    from clipes.vocabulary import Vocabulary

PAPER = ("clip-es", "clip-es-runner-up")
DEFAULT = (*PAPER, "imagenet")
FIRST_ROWS, LAST_ROWS = 10, 5  # rows of the table that are printed; the CSV has them all
MAX_TEMPLATE_WIDTH = 46
DEFAULT_TEMPLATES = "CLIP's 80 for ImageNet, the paper's two and the classes' own"


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "rank prompt templates by sharpness, with intervals, and by the masks' mIoU where there is truth"
    details = (
        "No truth is needed: a sharp prompt lets one label of an image drown the others, and segments badly. "
        "Each image is encoded once, whatever the number of templates; OUT/partial caches the results, so that a "
        "run that was stopped goes on and other templates cost no further pass. It may be deleted. Masks are made "
        "without refinement by colours unless --refine says otherwise."
    )
    parser = add_command(commands, "sharpness", run, help, details)
    add_source_flags(parser)
    out = "folder for sharpness.csv, .json and .png, and miou.png with --truth"
    parser.add_argument("--out", type=path, required=True, help=out)
    truth = "folder of PNG masks of class ids, named as the images: the masks of every template are judged, too"
    parser.add_argument("--truth", type=path, metavar="DIR", help=truth)
    apply = "write the classes with the best template to this file, which `clipes generate --classes FILE` reads"
    parser.add_argument("--apply", type=path, metavar="FILE", help=apply)
    add_clip_flags(parser)
    add_vocabulary_flags(parser, templates=DEFAULT_TEMPLATES, auto=False)
    add_config_flags(parser)
    essential = ("--labels", "--out", "--truth", "--apply", "--model", "--pretrained", "--classes", "--templates")
    model = "--model ViT-B-16 --pretrained openai --classes voc12"
    parser.shorten_help(
        essential, (f"clipes sharpness photos --labels labels.csv --out sharpness --apply best.json {model}",)
    )


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked without the model, then analyse, write and print."""
    from clipes.datasets import absolute_source
    from clipes.io.paths import resolved
    from clipes.prompting.selection import select_images
    from clipes.vocabulary.class_file import check_path

    vocabulary = _vocabulary(options)
    samples = given_samples(options, vocabulary)
    options.refine = options.refine or "none"
    config = read_config(options, vocabulary.preset)
    select_images(samples, vocabulary, options.truth)
    if options.apply:
        check_path(options.apply)
        if resolved(options.apply) == resolved(options.out / "sharpness.json"):
            raise ValueError(f"--apply {options.apply} would replace the results; choose another name")
    _check_out(options.out, options.source, options.truth)

    clip = load_model(options)
    from clipes.prompting.analysis import analyse_templates

    analysis = analyse_templates(
        clip,
        vocabulary,
        samples,
        config=config,
        truth=options.truth,
        folder=options.out / "partial",
        batch_size=options.batch_size,
        progress=progress_bar,
    )
    record = {
        "clipes": __version__,
        "source": absolute_source(options.source),
        "labels": options.labels,
        "truth": options.truth and os.path.abspath(options.truth),
        **model_record(options, clip, vocabulary),
        "device": str(clip.vision.device),
        "class_names": vocabulary.class_names,
        "versions": versions(),
    }
    _write(options.out, analysis, record)
    if options.apply:
        replace(vocabulary, templates=(analysis.best,), preset=options.preset or vocabulary.preset).save(options.apply)
    _print_table(analysis)
    _print_summary(analysis, options.out)
    if options.apply:
        print(f"{printable(options.apply)} holds the classes with {printable(analysis.best)!r}")
    return report_failures([problem.reason for problem in analysis.failed])


def _vocabulary(options: argparse.Namespace) -> Vocabulary:
    from clipes.vocabulary.shipped import shipped

    vocabulary = load_words(options)
    if options.templates:
        return vocabulary
    return replace(vocabulary, templates=union([vocabulary.templates, *(shipped()["templates"][n] for n in DEFAULT)]))


def _check_out(out: Path, *taken: str | Path | tuple[str, ...] | None) -> None:
    """Make the folder; refuse a file, and a folder whose plots the next run would take for images or truth."""
    from clipes.io.paths import resolved, source_text, source_would_match

    if os.path.lexists(out) and not out.is_dir():
        raise NotADirectoryError(f"{out} is not a folder; give one for the results")
    for source in taken:
        if source and source_would_match(source)(resolved(out) / "sharpness.png"):
            raise ValueError(
                f"the output folder {out} lies in {source_text(source)}, so that the next run would take the plots "
                "for its pictures; choose a folder outside it"
            )
    out.mkdir(parents=True, exist_ok=True)


def _write(out: Path, analysis: TemplateAnalysis, record: dict[str, Any]) -> None:
    from clipes.drawing.optional import PlotError
    from clipes.io.atomic import atomic, write_json
    from clipes.prompting.plots import plot_miou, plot_sharpness

    again = (out / "sharpness.json").is_file()
    rows = analysis.table()
    with atomic(out / "sharpness.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "template": _cell(row["template"])} for row in rows)
    write_json(out / "sharpness.json", {**record, **analysis.as_dict()})
    if again:  # then these are of an earlier run, perhaps of one with truth
        for stale in ("sharpness.png", "miou.png"):
            with suppress(FileNotFoundError):
                (out / stale).unlink()
    figures = (analysis.templates, analysis.sharpness)
    count = f"{len(analysis.templates)} templates"
    marked = _paper()
    try:
        title = f"Prompt sharpness of {count} over {analysis.images:,} images"
        plot_sharpness(out / "sharpness.png", *figures, analysis.over_best, title, marked)
        if analysis.miou is not None:
            title = f"{count}, {_correlation(analysis)}" if analysis.correlation else count
            plot_miou(out / "miou.png", *figures, analysis.miou, title, marked)
    except PlotError as error:
        print_error(f"no plots: {error}")


def _paper() -> set[str]:
    from clipes.vocabulary.shipped import shipped

    return {template for name in PAPER for template in shipped()["templates"][name]}


def _cell(template: str) -> str:
    """Escape a template that a spreadsheet would take for a formula, by an apostrophe."""
    return f"'{template}" if template[0] in "=+-@" else template


def _correlation(analysis: TemplateAnalysis) -> str:
    correlation = analysis.correlation
    if correlation is None:
        return ""
    interval = "" if math.isnan(correlation.low) else f" [{correlation.low:.2f}, {correlation.high:.2f}]"
    return f"rank correlation {correlation.coefficient:.2f}{interval}"


def _print_table(analysis: TemplateAnalysis) -> None:
    rows, paper, rivals = analysis.table(), _paper(), set(analysis.rivals)
    number = "{:.4f}" if rows[-1]["sharpness"] >= 0.01 else "{:.2e}"
    ends = {*range(FIRST_ROWS), *range(len(rows) - LAST_ROWS, len(rows))}
    shown = [i for i, row in enumerate(rows) if i in ends or row["template"] in paper]
    lines = []
    for before, i in zip([-1, *shown], shown, strict=False):
        if i > before + 1:
            lines.append(["", "", "...", *[""] * 4])
        row = rows[i]
        value, low, high, macro = (number.format(row[key]) for key in ("sharpness", "low", "high", "macro"))
        mark, name = "~" if row["template"] in rivals else "", short(row["template"], MAX_TEMPLATE_WIDTH)
        miou = "" if row.get("miou") is None else f"{row['miou']:.3f}"
        lines.append([str(row["rank"]), mark, name, value, f"[{low}, {high}]", macro, miou])
    last = "mIoU" if analysis.miou is not None else ""
    print_table(["rank", "", "template", "sharpness", "95 % of the draws", "macro", last], lines, left=("template",))


def _print_summary(analysis: TemplateAnalysis, out: Path) -> None:
    left_out = f"left out: {analysis.single_label:,} with one, {analysis.unlabelled:,} with none"
    print(f"\nsharpness over {analysis.images:,} images with two labels or more; {left_out}")
    print(f"~ not distinguishable from the best by these images: {len(analysis.rivals)} templates")
    if analysis.miou is not None:
        refine = choice_name("refine", analysis.config.refine)
        colours = "without refinement by colours" if refine == "none" else f"refined by {refine}"
        print(f"mIoU over {analysis.judged:,} images, masks {colours}; {analysis.without_truth:,} without truth")
    if analysis.correlation:
        print(f"{_correlation(analysis)} of sharpness and mIoU; in the paper mIoU falls as sharpness rises")
    print(f"{analysis.encoded:,} images encoded; all rows are in {printable(out / 'sharpness.csv')}")
