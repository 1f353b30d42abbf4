"""``clipes report``: a page to look at a run."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command, add_run_folder, nonempty, path, positive_int
from .terminal import DONE, FAILED, print_problems, printable, progress_bar

LIMIT = 10_000  # clipes.report.LIMIT, which is not imported for --help


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "a page to look at a run: numbers, pictures, failures; opened by a double click, needs no network"
    report = add_command(commands, "report", run, help, "It holds a few small picture files for every image shown.")
    add_run_folder(report)
    out = "the report's folder (default: DIR-report beside it); an older report is replaced"
    report.add_argument("--out", type=path, metavar="FOLDER", help=out)
    report.add_argument("--source", type=nonempty, help="where the images are (default: where the run found them)")
    truth = "folder of PNG files of ids, named as the masks: figures, and the worst images first"
    report.add_argument("--truth", type=path, metavar="FOLDER", help=truth)
    limit = "images in the gallery, spread evenly (default: %(default)s); the numbers are those of all"
    report.add_argument("--limit", type=positive_int, default=LIMIT, metavar="N", help=limit)


def run(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from clipes.report import write_report

    report = write_report(
        options.folder,
        options.out,
        source=options.source,
        truth=options.truth,
        limit=options.limit,
        progress=progress_bar,
    )
    shown = "" if report.shown == report.images else f", {report.shown} of them in the gallery"
    print(f"a report of {report.images} images{shown}; open {printable(report.page)}")
    print_problems(report.troubled, "finished image(s) could not be read or judged any more", report.reasons)
    return FAILED if report.troubled else DONE
