"""``clipes repair``: the folder of a run mended after a damaged disk or an incomplete backup."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command, add_run_folder
from .terminal import print_error, print_note, printable, report_failures


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "mend the folder of a run whose run.json or records were damaged or lost"
    details = (
        "run.json is written again from its copy beside the records, classes.json from run.json; records lose their "
        "damaged lines; finished masks without a row get one, if all of it fits. Nothing is deleted: what was damaged "
        "is set aside, with .damaged behind its name. What cannot be mended is listed, and the exit code is 3."
    )
    parser = add_command(commands, "repair", run, help, details)
    add_run_folder(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")


def run(options: argparse.Namespace) -> int:
    """Mend the folder, say what was done and what could not be."""
    from clipes.store.repair import repair_run

    report = repair_run(options.folder, options.dry_run)
    for change in report.changes:
        print(printable(change))
    for note in report.notes:
        print_error(note)
    if not report.changes:
        print_note(f"{options.folder}: nothing was mended" if report.left else f"{options.folder} is whole")
    return report_failures(report.left, report.left_count)
