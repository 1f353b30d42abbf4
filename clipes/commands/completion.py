"""``clipes --print-completion SHELL``: a script that completes commands and flags, made by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from clipes._version import install_hint

from .arguments import json_path, nonempty, path

SHELLS = ("bash", "zsh")
SHELLS_HELP = "print a completion script for bash or zsh, and exit (needs shtab)"


class PrintCompletion(argparse.Action):
    """The action of ``--print-completion``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, value: Any, option: object = None) -> None:
        if value not in SHELLS:
            raise argparse.ArgumentError(self, f"invalid choice: {value!r} (choose from {', '.join(SHELLS)})")
        try:
            import shtab
        except ImportError:
            raise argparse.ArgumentError(self, f"it needs shtab: {install_hint('completion')}") from None
        for action in _actions(parser):
            if action.type in (path, json_path, nonempty):  # most of these texts are files or folders
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, value))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every action of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
