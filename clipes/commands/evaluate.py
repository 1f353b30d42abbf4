"""``clipes evaluate``: masks judged against the truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .arguments import add_command, json_path, nonempty, parse_words, path, positive_int
from .terminal import DONE, FAILED, print_error, print_problems, print_table, progress_bar, short

if TYPE_CHECKING:
    from clipes.evaluation import Evaluation

SHOWN = 5
MAX_NAME_WIDTH = 40


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "judge masks against the truth: mIoU, per class, boundary IoU, ignored pixels, coverage"
    details = (
        "Pixels that the truth ignores do not count; those that a mask ignores are missed. A truth file "
        "without a mask is reported and gives exit code 3; a mask without a truth file is only reported."
    )
    evaluate = add_command(commands, "evaluate", run, help, details)
    for name, what in (("masks", "folder of PNG masks of class ids"), ("truth", "folder of the same names")):
        evaluate.add_argument(name, type=path, help=f"{what}, or one file")
    classes = "voc12, coco14, scenes, a .json or text file, or names: dog,cat (one: dog, with the comma)"
    evaluate.add_argument("--classes", type=nonempty, help=f"{classes} (default: MASKS/classes.json)")
    evaluate.add_argument("--json", type=json_path, metavar="FILE", help="write everything here")
    sweep = "also other thresholds and background powers, from what `clipes generate` saved beside the masks"
    evaluate.add_argument("--sweep", action="store_true", help=sweep)
    evaluate.add_argument("--workers", type=positive_int, metavar="N", help="processes (default: one per core)")


def run(options: argparse.Namespace) -> int:
    """Judge the masks, print the figures, say what could not be judged."""
    from clipes.evaluation import evaluate
    from clipes.evaluation.judge import SWEEPS
    from clipes.io.atomic import write_json

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
        (str(row["id"]), short(row["name"], MAX_NAME_WIDTH), _figure(row["iou"]), _figure(row["boundary_iou"]))
        for row in evaluation.table()
    ]
    print_table(("id", "class", "IoU", "boundary IoU"), rows, left=("class",))


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
    titles = [sweep.setting, "mIoU", *(["mIoU decided", "ignored"] if ignores else [])]
    best = max((row["miou"] for row in rows if row["miou"] is not None), default=None)
    lines = []
    for row in rows:
        value, *figures = row.values()
        cells = [f"{value:g}", *map(_figure, figures)][: len(titles)]
        lines.append([*cells, "<- best" if best is not None and figures[0] == best else ""])
    print_table([*titles, ""], lines)
    if rows[0]["ignored_share"]:
        print_error(
            "the masks themselves ignore pixels, so a lower threshold than theirs cannot be judged; "
            "generate with --ignore none to judge them all"
        )


def _report_problems(judged: Evaluation) -> bool:
    """Say which files were not judged; return whether a truth file was not."""
    for names, what in (
        (judged.missing, "truth file(s) without a mask"),
        (judged.extra, "mask(s) without a truth file, left out"),
    ):
        print_problems(len(names), what, [repr(name) for name in names[:SHOWN]])
    for problems, what in ((judged.mis_sized, "of another size than the truth"), (judged.failed, "could not be read")):
        print_problems(len(problems), what, [problem.reason for problem in problems[:SHOWN]])
    return bool(judged.missing or judged.mis_sized or judged.failed)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
