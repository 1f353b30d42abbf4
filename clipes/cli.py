"""The command line. torch is imported only when there is work for it."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from clipes._version import __version__
from clipes.commands import (
    background,
    compare,
    demo,
    evaluate,
    export,
    finalize,
    generate,
    models,
    prompts,
    repair,
    report,
    sharpness,
    show,
    status,
    synonyms,
    tag,
)
from clipes.commands.account import signal_handlers
from clipes.commands.completion import SHELLS_HELP, PrintCompletion
from clipes.commands.parser import Parser
from clipes.commands.streams import lossy_output
from clipes.commands.terminal import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    TERMINATED,
    file_system_fault,
    is_verbose,
    print_error,
    set_verbosity,
)

COMMANDS = (
    demo,
    generate,
    tag,
    show,
    status,
    finalize,
    repair,
    evaluate,
    compare,
    report,
    export,
    prompts,
    sharpness,
    synonyms,
    background,
    models,
)

_RESUMING = ("generate", "sharpness", "tag")  # commands that go on where they were stopped
_OUTPUT_IS_RESULT = ("compare", "evaluate", "models", "show", "status", "synonyms")  # what they print is the result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, one of EXIT_CODES. Unknown flags raise SystemExit(2)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show ends no run
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    set_verbosity(options.quiet, options.verbose)
    with lossy_output(options.command in _OUTPUT_IS_RESULT):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Run the command of ``options``; its errors become messages and exit codes."""
    try:
        with signal_handlers(_stop, signal.SIGTERM), _warnings(options.command):
            code = int(options.run(options))
            if sys.stdout:  # None where the caller closed it
                sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader, `head` say, has seen enough; Python's flush at the end must not fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, TypeError, OSError, ImportError) as error:
        code, cure = file_system_fault(error)
        kept = ", what is finished is kept" if options.command in _RESUMING else ""
        if is_verbose():
            traceback.print_exc()
        print_error(f"clipes {options.command}: {error}{f'; {cure}{kept}' if cure else ''}")
        return code
    except KeyboardInterrupt as stop:
        print_error(f"clipes {options.command}: stopped; the files written so far are whole")
        return TERMINATED if stop.args else INTERRUPTED


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="clipes",
        description="Segmentation masks from image-level labels, with a frozen CLIP and no training.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"clipes {__version__}")
    parser.add_argument("--print-completion", action=PrintCompletion, metavar="SHELL", help=SHELLS_HELP)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt("terminated")


@contextmanager
def _warnings(command: str) -> Iterator[None]:
    """A warning is one line for the reader, without the line of code that gave it."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *where: print_error(f"clipes {command}: warning: {message}")
        yield


def entry(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command: :func:`main`, and the end of the process, which waits for no image that a stop has left."""
    code = main(arguments)
    if any(thread.name.startswith(("clipes-job", "clipes-write")) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    entry()
