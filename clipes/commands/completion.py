"""``clipes --print-completion SHELL``: a script that completes commands and flags, made by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from clipes._version import install_hint

from .arguments import csv_path, json_path, nonempty, path

SHELLS_HELP = "print a completion script for bash, zsh, tcsh, fish or another shell that shtab knows, and exit"


class PrintCompletion(argparse.Action):
    """The action of ``--print-completion``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, value: Any, option: object = None) -> None:
        try:
            import shtab
        except ImportError:
            raise argparse.ArgumentError(self, f"it needs shtab: {install_hint('completion')}") from None
        if value not in shtab.SUPPORTED_SHELLS:
            known = ", ".join(shtab.SUPPORTED_SHELLS)
            raise argparse.ArgumentError(self, f"shtab {shtab.__version__} knows no {value!r}; choose from {known}")
        for action in _actions(parser):
            if action.type in (path, json_path, csv_path, nonempty):  # most of these texts are files or folders
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
