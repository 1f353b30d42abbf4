"""``clipes finalize``: other thresholds and refinements for masks whose maps were saved."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

from clipes.config import PRESETS

from .account import RunSummary, stopping
from .arguments import add_command, add_run_folder, nonempty, path
from .flags import add_decision_flags, change_decision
from .terminal import print_error, printable

ESSENTIAL = (
    "--source",
    "--out",
    "--config",
    "--refine",
    "--ignore",
    "--regions",
    "--vote",
    "--background-power",
    "--ignore-below",
)
EXAMPLES = (
    "clipes finalize masks --background-power 2 --out stricter",
    "clipes finalize masks --refine none --ignore none --out decided",
    "clipes finalize masks --regions superpixels --vote mode --out voted",
)


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "decide masks again from saved maps, without the network"
    parser = add_command(commands, "finalize", run, help)
    add_run_folder(parser, " --save-cams")
    source = "where the images are, for the refinement by colours (default: where `clipes generate` found them)"
    parser.add_argument("--source", type=nonempty, help=source)
    out = "folder for the masks (default: the masks of the run are overwritten, which .tar files do not allow)"
    parser.add_argument("--out", type=path, metavar="DIR", help=out)
    add_decision_flags(parser)
    parser.shorten_help(ESSENTIAL, EXAMPLES)


def run(options: argparse.Namespace) -> int:
    """Decide every mask of the folder again."""
    import torch

    from clipes.device.threads import configure_threads
    from clipes.runs.finalize import read_run

    with read_run(options.folder) as saved, stopping() as stop:
        manifest, count = saved.store.manifest, saved.count
        preset = manifest.get("preset")
        config = change_decision(saved.config, options, preset if preset in PRESETS else "voc12")
        source = options.source or (saved.store.source() if manifest.get("source") else None)
        jobs = configure_threads(None, torch.device("cpu"), count)
        readers = 1 if count > 1 else 0
        regions = getattr(options, "regions_source", None)
        outcomes = saved.finalize(
            config, source, regions=regions, out=options.out, readers=readers, jobs=jobs, stop=stop
        )
        if saved.unsaved:
            print_error(
                f"{saved.unsaved} mask(s) without saved maps stay as they are, {saved.first_unsaved!r} the first"
            )
        done = f"masks decided again in {printable(options.out or options.folder)}"
        summary = RunSummary(count, done, lambda: saved.finished)
        with closing(outcomes):
            summary.consume(outcomes)
    return stop.code or summary.code(allowed=0)
