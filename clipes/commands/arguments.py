"""Shared by the commands: their parsers, arguments that several of them have, and types of arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import Parser
from .terminal import EXIT_CODES, print_error

if TYPE_CHECKING:
    from clipes.datasets import Samples
    from clipes.vocabulary import Vocabulary


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help: str,
    details: str = "",
    epilog: str = EXIT_CODES,
) -> Parser:
    """Add the parser of a command that ``run`` executes to ``commands``, the subparsers of a :class:`Parser`."""
    about = f"{help}. {details}" if details else help
    parser: Parser = commands.add_parser(name, help=help, description=about, epilog=epilog, allow_abbrev=False)
    parser.set_defaults(run=run)
    quiet = "print no progress and no notes; warnings, errors and results only"
    parser.add_argument("-q", "--quiet", action="store_true", help=quiet)
    verbose = "print a line for each image, and where in the code an error arose"
    parser.add_argument("-v", "--verbose", action="store_true", help=verbose)
    return parser


def add_run_folder(parser: argparse.ArgumentParser, flags: str = "") -> None:
    """Add the positional argument ``folder``, the output folder of a run that was started with ``flags``."""
    parser.add_argument("folder", type=path, help=f"the --out of a `clipes generate{flags}`")


def add_source_flags(parser: argparse.ArgumentParser, needed: bool = True, tags: bool = False) -> None:
    """Add ``source``, which may be left out unless ``needed``, and ``--labels``: see `clipes.datasets.find_samples`.

    ``tags`` says whether CLIP may find labels.
    """
    source = (
        "an image, a folder, a quoted glob pattern, a .txt list of images, a .csv or .jsonl table of images and labels,"
        " folders:ROOT (a folder for each class), voc:ROOT[:SPLIT], coco:ROOT[:SPLIT],"
        " coco:FILE.json[:IMAGES], or .tar shards (shards-{000..012}.tar); or several images, folders or shards"
    )
    parser.add_argument("source", type=nonempty, nargs="+" if needed else "*", action=Sources, help=source)
    labels = (
        "a .csv, .tsv, .jsonl or .json file, a pipe of one (- is standard input), a cls_labels.npy, or names for all"
        " images: dog,person; default: the source's own, which a table, folders:, voc:, coco:, shards and a folder"
        " with a metadata.jsonl have"
    )
    by_clip = "; tag: CLIP finds them" if tags else ""
    parser.add_argument("--labels", type=nonempty, help=labels + by_clip)
    group = parser.add_argument_group("labels")
    image = "the column of a table that names the image (default: image)"
    group.add_argument("--image-column", type=nonempty, metavar="NAME", help=image)
    label = "the column that holds its labels (default: labels)"
    group.add_argument("--label-column", type=nonempty, metavar="NAME", help=label)
    separator = "what stands between the labels of an image: , or | for example (default: ;)"
    group.add_argument("--label-separator", metavar="TEXT", help=separator)
    ways = "refuse to start, leave them out, or let CLIP find their labels" if tags else "refuse to start, or leave out"
    unlabelled = f"images without a row or labels beside them: {ways} (default: refuse)"
    names = ("--unlabelled", "--missing-labels") if tags else ("--unlabelled",)
    group.add_argument(*names, choices=("refuse", "skip", *(("tag",) if tags else ())), help=unlabelled)


class Sources(argparse.Action):
    """The action of ``source``: one as a text, several as a tuple, and None where there is none."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: object = None) -> None:
        sources = tuple(values or ())
        setattr(namespace, self.dest, sources[0] if len(sources) == 1 else sources or None)


TABLE_FLAGS = {"separator": "label_separator"}
"""The flags of :class:`clipes.datasets.TableFormat` whose names are not those of its fields."""


def given_samples(options: argparse.Namespace, vocabulary: Vocabulary) -> Samples:
    """The images and labels that the flags of :func:`add_source_flags` name; what was left out is printed."""
    from clipes.datasets import TableFormat, find_samples

    given = {name: getattr(options, TABLE_FLAGS.get(name, name)) for name in TableFormat.__dataclass_fields__}
    samples = find_samples(
        options.source,
        labels_argument(options.labels, options.label_separator),
        class_names=vocabulary.numbered_names,
        unlabelled=options.unlabelled or "refuse",
        table=TableFormat(**{name: value for name, value in given.items() if value is not None}),
    )
    for note in samples.notes:
        print_error(note)
    return samples


def labels_argument(given: str | None, separator: str | None = None) -> str | tuple[str, ...] | None:
    """A labels file's path, of a pipe with its content; else names: ``dog,person``; None for the source's own.

    ``tag`` is returned as it is: :data:`clipes.datasets.sample.TAG`.
    """
    if given is None or given == "tag":
        return given
    from clipes.datasets.piped import is_pipe, read_pipe

    given = "/dev/stdin" if given == "-" else given
    if is_pipe(given):
        return read_pipe(given)
    suffix = os.path.splitext(given)[1].lower()
    is_file = suffix in (".csv", ".jsonl", ".npy", ".json", ".txt", ".tsv") or (suffix and os.path.isfile(given))
    return given if is_file else tuple(given.split(separator or ","))


def positive_int(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def nonempty(text: str) -> str:
    """argparse type: a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; was a variable of the shell not set?")
    return text


def path(text: str) -> Path:
    """argparse type: a path that is not blank."""
    return Path(nonempty(text))


def _written_path(suffix: str) -> Callable[[str], Path]:
    """An argparse type: the path of a file to be written, which ends in ``suffix``."""

    def path_of(text: str) -> Path:
        if not text.endswith(suffix):
            raise argparse.ArgumentTypeError(f"a {suffix} file is written, not {text!r}; end its name in {suffix}")
        return Path(text)

    return path_of


json_path, csv_path = _written_path(".json"), _written_path(".csv")


def parse_words(text: str | None) -> str | tuple[str, ...] | None:
    """Split a list of words at its commas.

    None, the name of a set and the name of a file are returned unchanged. ``a,b`` gives two words, ``a,`` gives one,
    and the empty string gives none.
    """
    if text is None or (text and ("," not in text or os.path.isfile(text))):
        return text
    words = tuple(word.strip() for word in text.split(","))
    return words if words[-1] else words[:-1]
