"""The parser of a command: errors begin with what is wrong, help begins with what matters."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from .terminal import WRONG_USE


class _HelpAll(argparse._HelpAction):
    """The action of ``--help-all``."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object, **named: object) -> None:
        if isinstance(parser, Parser):
            parser.essential = ()
        parser.print_help()
        parser.exit()


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors say the message first and name what was probably meant.

    Attributes:
        essential: the flags that ``--help`` shows, for a command that has many; ``--help-all`` shows them all.
        examples: command lines that the help ends with.
    """

    _given: Sequence[str] = ()
    essential: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def shorten_help(self, essential: Sequence[str], examples: Sequence[str]) -> None:
        """Let ``--help`` show the ``essential`` flags alone, and ``--help-all`` the others, both with ``examples``."""
        self.essential, self.examples = tuple(essential), tuple(examples)
        self.add_argument("--help-all", action=_HelpAll, help="show all flags and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but a command refuses its unknown arguments itself, with the flags that come near."""
        self._given = [part for part in args or () if isinstance(part, str)]
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest_flags(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and end the process with exit code 2."""
        if message.startswith("the following arguments are required"):
            message += self._misspelled()
        self.exit(WRONG_USE, f"{self.prog}: {message}\nsee {self.prog} --help\n")

    def format_help(self) -> str:
        """The help: of the essential flags, if there are such, else of all."""
        formatter = self._get_formatter()
        formatter.add_usage(self._short_usage(), [], [])
        formatter.add_text(self.description)
        for title, about, actions in self._sections():
            formatter.start_section(title)
            formatter.add_text(about)
            formatter.add_arguments(actions)
            formatter.end_section()
        text = formatter.format_help()
        if self.examples:
            text += "\nexamples:\n" + "".join(f"  {line}\n" for line in self.examples)
        if self.essential:
            text += f"\nmore flags: {self.prog} --help-all\n"
        closing = self._get_formatter()
        closing.add_text(self.epilog)
        return f"{text}\n{closing.format_help()}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        listed = ", ".join(choices)
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"there is no command {value!r}; the commands are {listed}{_did_you_mean(str(value), choices)}")
        hint = _did_you_mean(str(value), choices)
        raise argparse.ArgumentError(action, f"invalid choice: {value!r} (choose from {listed}){hint}")

    def _sections(self) -> Iterator[tuple[str | None, str | None, list[argparse.Action]]]:
        """Title, text and flags of each part of the help."""
        if not self.essential:
            yield from ((group.title, group.description, group._group_actions) for group in self._action_groups)
            return
        yield "arguments", None, [action for action in self._actions if not action.option_strings]
        flags = {option: action for action in self._actions for option in action.option_strings}
        yield "flags", None, [flags[name] for name in (*self.essential, "--help", "--help-all")]

    def _short_usage(self) -> str:
        """What must be given; all else is [flags]."""
        actions = [action for action in self._actions if not isinstance(action, argparse._HelpAction)]
        formatter = self._get_formatter()
        places = [_shape(formatter, action) for action in actions if not action.option_strings]
        needed = [
            f"{action.option_strings[0]} {_shape(formatter, action)}"
            for action in actions
            if action.option_strings and action.required
        ]
        return " ".join(["%(prog)s", *places, *needed, "[flags]"]).replace("%(prog)s", self.prog.replace("%", "%%"))

    def _misspelled(self) -> str:
        """A flag that is given and not known, and may be a required one."""
        known = {option for action in self._actions for option in action.option_strings}
        flags = [name for part in self._given if (name := part.partition("=")[0]).startswith("--")]
        near = [(name, hint) for name in flags if name not in known and (hint := self._nearest_flags([name]))]
        return f"; {near[0][0]} is no flag{near[0][1]}" if near else ""

    def _nearest_flags(self, unknown: Iterable[str]) -> str:
        flags = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        if not any(given.startswith("-") for given in unknown):
            return "; where a flag takes several values, join them with commas: dog,cat"
        for given in unknown:
            name = given.partition("=")[0]
            if name.startswith("--"):
                return _did_you_mean(name, flags)
        return ""


def _shape(formatter: argparse.HelpFormatter, action: argparse.Action) -> str:
    default = (
        formatter._get_default_metavar_for_optional(action)
        if action.option_strings
        else formatter._get_default_metavar_for_positional(action)
    )
    return formatter._format_args(action, default).replace("%", "%%")


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    """``; did you mean X or Y?``, for those that begin as ``given`` does, else for those that are written like it."""
    begin = [name for name in known if len(given.lstrip("-")) > 1 and name.startswith(given)]
    near = begin or difflib.get_close_matches(given.lower(), known, 1, 0.7)
    return f"; did you mean {' or '.join(near[:3])}?" if near else ""
