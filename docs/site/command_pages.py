"""The command reference, from the parsers that the commands themselves use."""

from __future__ import annotations

import argparse
import html
import re

from clipes.cli import COMMANDS
from clipes.commands.parser import Parser
from clipes.commands.terminal import EXIT_CODES


def _commands() -> argparse._SubParsersAction[argparse.ArgumentParser]:
    commands = Parser(prog="clipes").add_subparsers()
    for command in COMMANDS:
        command.add(commands)
    return commands


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser by the command's name, in the order of ``clipes --help``."""
    return dict(_commands().choices)


def pages() -> dict[str, str]:
    """The Markdown of each page by its path on the site."""
    rows = [f"| [`clipes {a.dest}`]({a.dest}.md) | {_text(a.help or '')} |" for a in _commands()._choices_actions]
    head = (
        "# Commands\n\nEach command explains itself with `--help`, and one with many flags in full with `--help-all`; "
        "these pages are made of the same text.\n\n"
    )
    index = head + "\n".join(["| command | does |", "| --- | --- |", *rows]) + f"\n\n{_exit_codes()}\n"
    return {"commands/index.md": index} | {
        f"commands/{name}.md": _page(name, parser) for name, parser in parsers().items()
    }


def _page(name: str, parser: argparse.ArgumentParser) -> str:
    parts = [f"# clipes {name}", _sentence(_text(parser.description or "")), f"```text\n{_usage(parser)}\n```"]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        actions = [action for action in actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            title = {"positional arguments": "Arguments", "options": "Options"}.get(
                group.title or "", group.title or ""
            )
            parts += [f"## {_sentence(title, '')}", *(_entry(parser, action) for action in actions)]
    if isinstance(parser, Parser) and parser.examples:
        parts += ["## Examples", "```sh\n" + "".join(f"{line}\n" for line in parser.examples) + "```"]
    if parser.epilog:
        parts.append(_exit_codes())
    return "\n\n".join(parts) + "\n"


def _usage(parser: argparse.ArgumentParser) -> str:
    """The arguments that must be given; all others are [options]."""
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    places = [_metavar(parser, action) for action in actions if not action.option_strings]
    needed = [
        f"{action.option_strings[0]} {_metavar(parser, action)}"
        for action in actions
        if action.option_strings and action.required
    ]
    return " ".join([parser.prog, *places, *needed, "[options]"])


def _entry(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if action.option_strings:
        value = "" if action.nargs == 0 else f" {_metavar(parser, action)}"
        shown = ", ".join(f"{option}{value}" for option in action.option_strings)
        anchor = action.option_strings[-1].lstrip("-")
    else:
        shown = anchor = _metavar(parser, action)
    anchor = re.sub(r"[^\w-]+", "-", anchor.lower()).strip("-")
    help = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"### `{shown}` {{#{anchor}}}\n\n{_text(help)}"


def _metavar(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    default = (
        formatter._get_default_metavar_for_optional(action)
        if action.option_strings
        else formatter._get_default_metavar_for_positional(action)
    )
    return formatter._format_args(action, default)


def _text(help: str) -> str:
    """A help text as Markdown: what is code there in backticks is code here, all else is text."""
    parts = re.split(r"(`[^`]+`)", " ".join(help.split()))
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_\[\]{}|#])", r"\\\1", html.escape(part, quote=False))
        for part in parts
    )


def _sentence(text: str, end: str = ".") -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(end) else end)


def _exit_codes() -> str:
    return _text(EXIT_CODES)
