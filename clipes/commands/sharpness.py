"""``clipes sharpness``: prompt templates ranked by how evenly they treat an image's labels."""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes._version import __version__
from clipes.config import refinement_name
from clipes.flags import add_config_flags, read_config

from .model import add_clip_flags, add_vocabulary_flags, clip_settings, vocabulary_settings
from .source import add_source_flags, labels_argument
from .terminal import EXIT_CODES, bar, complain, named, printable, tell_failed

if TYPE_CHECKING:
    from clipes.analysis import TemplateAnalysis
    from clipes.vocabulary import Vocabulary

PAPER = ("clip-es", "clip-es-runner-up")
DEFAULT = (*PAPER, "imagenet")
FIRST, LAST = 10, 5  # rows of the table that are printed; the CSV has them all
WIDEST = 46
TEMPLATES = (
    "a set's name, a .json list or .txt file of templates, or one with one {}; may be repeated, equal ones count once "
    "(default: CLIP's 80 for ImageNet, the paper's two and the classes' own)"
)


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "rank prompt templates by sharpness, with intervals, and by the masks' mIoU where there is truth"
    about = (
        f"{help}. No truth is needed: a sharp prompt lets one label of an image drown the others, and segments badly. "
        "Each image is encoded once, whatever the number of templates; OUT/partial keeps what was found, so that a "
        "run that was stopped goes on and other templates cost no further pass. It may be deleted. Masks are made "
        "without refinement by colours unless --refine says otherwise."
    )
    parser = commands.add_parser("sharpness", help=help, description=about, epilog=EXIT_CODES, allow_abbrev=False)
    add_source_flags(parser)
    out = "folder for sharpness.csv, .json and .png, and miou.png with --truth"
    parser.add_argument("--out", type=_path, required=True, help=out)
    truth = "folder of PNG masks of class ids, named as the images: the masks of every template are judged, too"
    parser.add_argument("--truth", type=_path, metavar="DIR", help=truth)
    apply = "write the classes with the best template to this file, which `clipes generate --classes FILE` reads"
    parser.add_argument("--apply", type=_path, metavar="FILE", help=apply)
    add_clip_flags(parser)
    add_vocabulary_flags(parser, TEMPLATES)
    add_config_flags(parser)
    parser.set_defaults(run=run)


def _path(text: str) -> Path:
    return Path(named(text))


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked without the model, then analyse, write and print."""
    from clipes.chunks import select_rows
    from clipes.datasets import find_samples

    given = vocabulary_settings(options)
    samples = find_samples(options.source, labels_argument(options.labels))
    vocabulary = _vocabulary(given, options.templates)
    options.refine = options.refine or "none"
    config = read_config(options, vocabulary.preset)
    _check_out(options.out, options.source, options.truth)
    if options.apply:
        _check_apply(options.apply)
    select_rows(samples, vocabulary, options.truth)

    from clipes.analysis import analyse_templates
    from clipes.weights import load_clip

    clip = load_clip(**clip_settings(options))
    analysis = analyse_templates(
        clip,
        vocabulary,
        samples,
        config=config,
        truth=options.truth,
        folder=options.out / "partial",
        batch_size=options.batch_size,
        progress=bar,
    )
    record = {
        "clipes": __version__,
        "source": os.path.abspath(options.source),
        "labels": options.labels,
        "truth": options.truth and os.path.abspath(options.truth),
        "model": options.model,
        "pretrained": options.pretrained,
        "device": str(clip.encoder.device),
        "dtype": str(clip.encoder.dtype).removeprefix("torch."),
        "weights": clip.text.fingerprint,
        "classes": given["classes"],
        "class_names": vocabulary.class_names,
        "background": vocabulary.background_names,
        "fuse": vocabulary.fuse,
        "preset": vocabulary.preset,
        "versions": _versions(),
    }
    _write(options.out, analysis, record)
    if options.apply:
        replace(vocabulary, templates=(analysis.best,)).save(options.apply)
    _print_table(analysis)
    _print_account(analysis, options.out)
    if options.apply:
        print(f"{printable(options.apply)} holds the classes with {printable(analysis.best)!r}")
    return tell_failed([problem.reason for problem in analysis.failed])


def _vocabulary(given: dict[str, Any], templates: Sequence[str] | None) -> Vocabulary:
    from clipes.class_file import shipped
    from clipes.vocabulary import load_vocabulary

    if templates:
        return load_vocabulary(**{**given, "templates": _union(map(_read_templates, templates))})
    vocabulary = load_vocabulary(**given)
    return replace(vocabulary, templates=_union([vocabulary.templates, *(shipped()["templates"][n] for n in DEFAULT)]))


def _read_templates(given: str) -> tuple[str, ...]:
    """The templates of a set, of a file, or the one that ``given`` is."""
    from clipes.class_file import shipped
    from clipes.words import distinct, unknown_name

    sets, suffix = shipped()["templates"], Path(given).suffix.lower()
    if given in sets:
        return tuple(sets[given])
    if suffix in (".json", ".txt") and (os.path.isfile(given) or "{}" not in given):
        try:
            text = Path(given).read_text("utf-8-sig")
            lines = (line.strip() for line in text.splitlines())
            found = json.loads(text) if suffix == ".json" else [x for x in lines if x and not x.startswith("#")]
            return distinct(found, "templates")
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{given}: {error}; it must be a list of templates with one {{}} each") from error
    if "{}" not in given:
        raise unknown_name("template set", given, sets, "give a .json or .txt file, or a template: 'a photo of a {}.'")
    return (given,)


def _union(sources: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The templates of all sources, those that the tokenizer cannot tell apart once."""
    from clipes.words import normalised

    found: dict[str, str] = {}
    for source in sources:
        for template in source:
            found.setdefault(normalised(template), template)
    return tuple(found.values())


def _check_out(out: Path, *taken: str | Path | None) -> None:
    """Refuse a file, and a folder whose pictures would later be taken for images or truth."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder for the results")
    for folder in taken:
        if folder and os.path.isdir(folder) and out.resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(
                f"the output folder {out} lies in {folder}, so that the next run would take the plots for its "
                "pictures; choose a folder outside it"
            )


def _check_apply(path: Path) -> None:
    """Refuse what no class file can be written to, and to replace what is none."""
    from clipes.class_file import check_path
    from clipes.vocabulary import load_vocabulary

    check_path(path)
    if path.exists():
        try:
            load_vocabulary(path)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} exists and is no class file; choose another name") from error


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "open_clip_torch", "numpy", "scipy", "pillow")}


def _write(out: Path, analysis: TemplateAnalysis, record: dict[str, Any]) -> None:
    from clipes.plots import PlotError, plot_miou, plot_sharpness
    from clipes.writer import atomic, write_json

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
        complain(f"no plots: {error}")


def _paper() -> set[str]:
    from clipes.class_file import shipped

    return {template for name in PAPER for template in shipped()["templates"][name]}


def _cell(template: str) -> str:
    """A template as a spreadsheet may show it: what it would take for a formula begins with an apostrophe."""
    return f"'{template}" if template[0] in "=+-@" else template


def _correlation(analysis: TemplateAnalysis) -> str:
    found = analysis.correlation
    return f"rank correlation {found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]" if found else ""


def _print_table(analysis: TemplateAnalysis) -> None:
    """The first and the last rows, and the paper's templates."""
    rows, paper, rivals = analysis.table(), _paper(), set(analysis.rivals)
    number = "{:.4f}" if rows[-1]["sharpness"] >= 0.01 else "{:.2e}"
    shown = [i for i, row in enumerate(rows) if i < FIRST or i >= len(rows) - LAST or row["template"] in paper]
    names = {i: _short(rows[i]["template"]) for i in shown}
    width = max(8, *map(len, names.values()))
    titles = f" rank    {'template':{width}}  sharpness   95 % of the draws     macro"
    print(f"{titles}   mIoU" if analysis.miou is not None else titles)
    for before, i in zip([-1, *shown], shown, strict=False):
        if i > before + 1:
            print("  ...")
        row = rows[i]
        value, low, high, macro = (number.format(row[key]) for key in ("sharpness", "low", "high", "macro"))
        miou = row.get("miou")
        last = "" if miou is None else f"  {miou:.3f}"
        mark = "~" if row["template"] in rivals else " "
        print(f"{row['rank']:>5} {mark} {names[i]:{width}}  {value:>9}  {f'[{low}, {high}]':>18}  {macro:>8}{last}")


def _print_account(analysis: TemplateAnalysis, out: Path) -> None:
    left = f"left out: {analysis.single_label:,} with one, {analysis.unlabelled:,} with none"
    print(f"\nsharpness over {analysis.images:,} images with two labels or more; {left}")
    print(f"~ cannot be told from the best by these images: {len(analysis.rivals)} templates")
    if analysis.miou is not None:
        refine = refinement_name(analysis.config.refine)
        colours = "without refinement by colours" if refine == "none" else f"refined by {refine}"
        print(f"mIoU over {analysis.judged:,} images, masks {colours}; {analysis.without_truth:,} without truth")
    if analysis.correlation:
        print(f"{_correlation(analysis)} of sharpness and mIoU; in the paper mIoU falls as sharpness rises")
    print(f"{analysis.encoded:,} images encoded; all rows are in {printable(out / 'sharpness.csv')}")


def _short(template: str) -> str:
    shown = printable(template)
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 1]}…"
