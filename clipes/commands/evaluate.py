"""``clipes evaluate``: masks judged against the truth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import DONE, EXIT_CODES, FAILED, nonempty, parse_words, positive_int, print_error, progress_bar, short

if TYPE_CHECKING:
    from clipes.evaluation import Evaluation

SHOWN = 5
WIDEST_NAME = 40


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "judge masks against the truth: mIoU, per class, boundary IoU, ignored pixels, coverage"
    about = (
        f"{help}. Pixels that the truth ignores do not count; those that a mask ignores are missed. A truth file "
        "without a mask is reported and gives exit code 3; a mask without a truth file is only reported."
    )
    evaluate = commands.add_parser("evaluate", help=help, description=about, epilog=EXIT_CODES, allow_abbrev=False)
    for name, what in (("masks", "folder of PNG masks of class ids"), ("truth", "folder of the same names")):
        evaluate.add_argument(name, type=lambda text: Path(nonempty(text)), help=f"{what}, or one file")
    classes = "voc12, coco14, scenes, a .json or text file, or names: dog,cat (default: MASKS/classes.json)"
    evaluate.add_argument("--classes", type=nonempty, help=classes)
    evaluate.add_argument(
        "--json", type=lambda text: Path(nonempty(text)), metavar="FILE", help="write everything here"
    )
    sweep = "also other thresholds and background powers, from what `clipes generate` saved beside the masks"
    evaluate.add_argument("--sweep", action="store_true", help=sweep)
    evaluate.add_argument("--workers", type=positive_int, metavar="N", help="processes (default: one per core)")
    evaluate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Judge the masks, print the figures, say what could not be judged."""
    from clipes.evaluation import evaluate
    from clipes.evaluation.judge import SWEEPS
    from clipes.io.atomic import write_json

    if options.json and options.json.suffix != ".json":
        raise ValueError(f"--json writes a .json file, not {options.json}; end its name in .json")
    evaluation = evaluate(
        options.masks,
        options.truth,
        _class_names(options.classes),
        judges=SWEEPS if options.sweep else (),
        workers=options.workers,
        progress=progress_bar,
    )
    if options.json:
        report = {"masks": str(options.masks), "truth": str(options.truth), **evaluation.as_dict()}
        write_json(options.json, report)
    _print_classes(evaluation)
    _print_figures(evaluation)
    for sweep in evaluation.sweeps:
        _print_sweep(sweep)
    if evaluation.images and not evaluation.pixels.truth[1:].any():
        print_error(
            "the truth shows no class: the ids of the classes occur nowhere in it; 255 means ignored, not an object"
        )
    incomplete = [_report_problems(judged) for judged in (evaluation, *evaluation.sweeps)]
    return FAILED if any(incomplete) else DONE


def _class_names(classes: str | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    from clipes.vocabulary import load_vocabulary

    return load_vocabulary(parse_words(classes) or [], background=[]).class_names


def _print_classes(evaluation: Evaluation) -> None:
    rows = [
        (f"{row['id']:2}", short(row["name"], WIDEST_NAME), row["iou"], row["boundary_iou"])
        for row in evaluation.table()
    ]
    id_width, name_width = len(rows[-1][0]), max(len(row[1]) for row in rows)
    print(f" {'id':>{id_width}}  {'class':{name_width}}    IoU  boundary IoU")
    for index, name, iou, boundary in rows:
        print(f" {index:>{id_width}}  {name:{name_width}}  {_figure(iou):>5}  {_figure(boundary):>12}")


def _print_figures(evaluation: Evaluation) -> None:
    from clipes.evaluation.result import IGNORED_NOTE, number

    print(f"\nmIoU            {_figure(number(evaluation.miou))}  over the classes that occur")
    print(f"boundary IoU    {_figure(number(evaluation.boundary_iou))}")
    print(f"pixel accuracy  {_figure(number(evaluation.pixel_accuracy))}")
    print(f"coverage        {evaluation.coverage:.3f}  {evaluation.images} of {evaluation.truths} truth files judged")
    if evaluation.ignored_share > 0:
        print(f"ignored         {evaluation.ignored_share:.3f}  of the pixels")
        print(f"mIoU decided    {_figure(number(evaluation.miou_decided))}  on the pixels that are not ignored")
        print(f"{IGNORED_NOTE}.")


def _print_sweep(sweep: Evaluation) -> None:
    from clipes.evaluation.result import SWEEP_NOTE

    rows = sweep.sweep_table()
    ignores = sweep.setting == "ignore_below"  # a background power ignores nothing
    how = "" if ignores else "before any refinement by colours; "
    print(f"\n{sweep.setting} over {sweep.images} images: {how}{SWEEP_NOTE}")
    print(f"{sweep.setting:>16}   mIoU{'  mIoU decided  ignored' if ignores else ''}")
    best = max((row["miou"] for row in rows if row["miou"] is not None), default=None)
    for row in rows:
        value, miou, decided, ignored = row.values()
        others = f"  {_figure(decided):>12}  {_figure(ignored):>7}" if ignores else ""
        mark = "  <- best" if miou is not None and miou == best else ""
        print(f"{value:>16g}  {_figure(miou):>5}{others}{mark}")
    if rows[0]["ignored_share"]:
        print_error(
            "the masks themselves ignore pixels, so a lower threshold than theirs cannot be judged; "
            "generate with --ignore-below none to judge them all"
        )


def _report_problems(judged: Evaluation) -> bool:
    """Say which files were not judged; return whether a truth file was not."""
    missing, extra = judged.missing, judged.extra
    _report(len(missing), "truth file(s) without a mask", [", ".join(map(repr, missing[:SHOWN]))])
    _report(len(extra), "mask(s) without a truth file, left out", [", ".join(map(repr, extra[:SHOWN]))])
    for problems, what in ((judged.mis_sized, "of another size than the truth"), (judged.failed, "could not be read")):
        _report(len(problems), what, [problem.reason for problem in problems[:SHOWN]])
    return bool(missing or judged.mis_sized or judged.failed)


def _report(count: int, what: str, lines: Sequence[str]) -> None:
    if count:
        print_error(f"{count} {what}{', the first' if count > SHOWN else ''}:")
        for line in lines:
            print_error(f"  {line}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
