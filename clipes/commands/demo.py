"""``clipes demo``: draw scenes, make their masks with the bundled model, judge them, write a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_command, path, positive_int
from .model import announce_model
from .terminal import DONE, printable, progress_bar


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "draw scenes, make their masks with the bundled model, judge them, write a report"
    demo = add_command(commands, "demo", run, help)
    demo.add_argument("--out", type=path, default=Path("clipes-demo"), help="folder (default: %(default)s)")
    demo.add_argument("--count", type=positive_int, default=200, metavar="N", help="scenes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Run the demo and print its numbers."""
    announce_model("tiny", None)
    from .demo_run import run_demo

    report = run_demo(options.out, options.count, progress_bar)
    print(
        f"{report['count']} scenes, model {report['model']}: mean IoU {report['miou']:.3f} over background and classes"
    )
    print(f"Look at {printable(options.out / 'report' / 'index.html')}")
    return DONE
