"""``clipes finalize``: other thresholds and refinements for masks whose maps were saved."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clipes.config import PRESETS

from .account import Account
from .flags import add_decision_flags, change_decision
from .terminal import EXIT_CODES, complain, named, printable


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "decide masks again from saved maps, without the network"
    parser = commands.add_parser("finalize", help=help, description=help, epilog=EXIT_CODES, allow_abbrev=False)
    parser.add_argument(
        "folder", type=lambda text: Path(named(text)), help="the --out of a `clipes generate --save-cams`"
    )
    source = "where the images are, for the refinement by colours (default: where `clipes generate` found them)"
    parser.add_argument("--source", type=named, help=source)
    add_decision_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Decide every mask of the folder again."""
    from clipes.runs.finalize import finalize, read_run

    saved = read_run(options.folder)
    preset = saved.record.get("preset")
    config = change_decision(saved.config, options, preset if preset in PRESETS else "voc12")
    recorded = saved.record.get("source")
    source = options.source or (recorded if isinstance(recorded, str) and recorded else None)
    outcomes = finalize(saved, config, source)
    if saved.unsaved:
        complain(f"{len(saved.unsaved)} mask(s) without saved maps stay as they are, {saved.unsaved[0]!r} the first")
    account = Account(len(saved.ids), f"masks decided again in {printable(options.folder)}")
    account.follow(outcomes)
    return account.code(allowed=0)
