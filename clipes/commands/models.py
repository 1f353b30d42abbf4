"""``clipes models``: the models that can be loaded, and why others cannot."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command
from .terminal import DONE


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "what can be loaded, and what cannot and why"
    models = add_command(commands, "models", run, help)
    models.add_argument("pattern", nargs="?", default="", help="only names that contain this")


def run(options: argparse.Namespace) -> int:
    """Print the supported and the unsupported models."""
    from clipes.clip.architecture import supported_models

    rows = [row for row in supported_models() if options.pattern.lower() in row[0].lower()]
    if not rows and options.pattern.lower() not in "tiny":
        raise ValueError(f"no model's name contains {options.pattern!r}; `clipes models` lists them all")
    print("Supported, name and tags:")
    if options.pattern.lower() in "tiny":
        print("tiny  (bundled, for the drawn scenes)")
    for name, tags, reason in rows:
        if reason is None:
            print(f"{name}  {', '.join(tags)}")
    print("\nAlso: hf-hub:ORG/REPO, local-dir:PATH, or a name with a weights file.\n\nNot supported:")
    for name, _, reason in rows:
        if reason is not None:
            print(f"{name}  ({reason})")
    return DONE
