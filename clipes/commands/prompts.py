"""``clipes prompts``: points, boxes and coarse masks for SAM and its like, from the masks of a run."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command, add_run_folder, json_path, path
from .terminal import print_error, printable, progress_bar, report_failures


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "prompts for SAM from the masks of a run: points, boxes, coarse masks"
    details = "What SAM answers are regions for `clipes finalize --regions`: examples/sam_refine.py."
    parser = add_command(commands, "prompts", run, help, details)
    add_run_folder(parser)
    parser.add_argument("--out", required=True, type=json_path, metavar="FILE.json", help="the file to write")
    instances = "prompts for each connected part of a label instead of each label of an image"
    parser.add_argument("--instances", action="store_true", help=instances)
    regions = "instances that regions split or join, from a folder or JSON of them as of `clipes generate`"
    parser.add_argument("--regions", type=path, metavar="DIR", help=regions)


def run(options: argparse.Namespace) -> int:
    """Write the prompts, say what came of it."""
    from clipes.export.prompts import write_prompts

    how = {"instances": options.instances, "regions": options.regions}
    result = write_prompts(options.folder, options.out, **how, progress=progress_bar)
    print(f"{result.prompts} prompt(s) of {result.images} image(s) in {printable(options.out)}")
    for note in result.notes:
        print_error(note)
    if result.without_mask:
        print_error(f"{result.without_mask} image(s) of the run have no mask and are left out")
    if result.failed:
        print_error(f"{result.failed} image(s) could not be read:")
    return report_failures(result.problems, result.failed)
