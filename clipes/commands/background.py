"""``clipes background``: words for the surroundings of the classes, suggested or judged by the user's images."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes.config import PRESETS

from .arguments import add_command, add_source_flags, given_samples, nonempty, parse_words, path, positive_int
from .model import add_clip_flags, add_vocabulary_flags, load_model, load_words
from .terminal import print_error, print_table, printable, progress_bar, report_failures, short

if TYPE_CHECKING:
    from clipes.prompting.background import BackgroundTable, BackgroundWord

DEFAULT_COUNT = 25
WORDS_SHOWN = 5
MAX_WORD_WIDTH, MAX_NAME_WIDTH = 20, 18
LEGEND = """\
wins: images to which the word is closer than each of their labels is. alone: the probability that
it takes from the labels when it alone competes with them. beside: the same beside the other words.
gain: what the labels would gain without it. All are means over the images. takes most from: the
class that loses most. nearest class: with the cosine of the two."""


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "background words for your images: which win against the labels, and what they take away"
    details = (
        "Without --background, words are suggested; with it, those given are judged. No truth is needed. "
        "`clipes generate --background auto` takes what this suggests."
    )
    parser = add_command(commands, "background", run, help, details)
    add_source_flags(parser)
    count = f"words to suggest, at most (default: {DEFAULT_COUNT})"
    parser.add_argument("--count", type=positive_int, metavar="N", help=count)
    sample = "images to look at, at most, chosen by a hash of their ids (default: %(default)s)"
    parser.add_argument("--sample", type=positive_int, default=200, metavar="N", help=sample)
    candidates = "words to choose from: a,b or a file, a JSON list or a word a line (default: some 300 nouns of stuff)"
    parser.add_argument("--candidates", type=nonempty, metavar="FILE", help=candidates)
    near = "cosine to a class above which a word is its near-synonym (default: that of the two closest classes)"
    parser.add_argument("--near", type=float, metavar="X", help=near)
    out = "write a class file with the suggested words, for `clipes generate --classes FILE`"
    parser.add_argument("--out", type=path, metavar="FILE", help=out)
    add_clip_flags(parser, batch=False)
    add_vocabulary_flags(parser, auto=False)
    model = "--model ViT-B-16 --pretrained openai --classes voc12"
    parser.shorten_help(
        ("--labels", "--count", "--sample", "--out", "--model", "--pretrained", "--classes", "--background"),
        (
            f"clipes background photos --labels labels.csv --out own.json {model}",
            f"clipes background photos --labels labels.csv --background grass,sky {model}",
        ),
    )


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked without the model, then look at the images and print the table."""
    from clipes.vocabulary import check_labels, stuff_words
    from clipes.vocabulary.class_file import check_path

    if options.background == "auto":
        options.background = None
    judged = options.background is not None
    for_suggesting = [flag for flag in ("count", "candidates", "out") if getattr(options, flag) is not None]
    if judged and for_suggesting:
        raise ValueError(f"--background judges the words given and suggests none; leave out --{for_suggesting[0]}")
    if options.out:
        check_path(options.out)
    vocabulary = load_words(options)
    candidates = stuff_words() if options.candidates is None else _candidates(options.candidates)
    samples = given_samples(options, vocabulary)
    check_labels(samples, vocabulary if judged else replace(vocabulary, background_names=tuple(candidates)))

    clip = load_model(options)
    from clipes.clip.text_cache import cache_folder
    from clipes.prompting.background import judge_background, suggest_background

    config = PRESETS[vocabulary.preset]
    common = {"sample": options.sample, "near": options.near, "folder": cache_folder(), "progress": progress_bar}
    if judged:
        table = judge_background(clip, vocabulary, samples, config, **common)
    else:
        count = options.count or DEFAULT_COUNT
        table = suggest_background(clip, vocabulary, samples, config, count=count, candidates=candidates, **common)
    _print_table(table, judged)
    if not judged:
        _print_words(table)
    if options.out:
        if not table.words:
            raise ValueError(f"there is no word to write to {options.out}; give other --candidates")
        replace(vocabulary, background_names=table.words).save(options.out)
        print(f"\nwritten: {printable(options.out)}, for `clipes generate --classes`")
    return report_failures(table.failed)


def _candidates(text: str) -> list[str]:
    from clipes.vocabulary.words import read_words, unique_strings

    path = Path(text)
    if not os.path.isfile(text):  # unlike Path.is_file, no error for a name that is too long
        if "," not in text and (path.suffix in (".txt", ".json") or len(path.parts) > 1):
            raise FileNotFoundError(f"no file of candidates {text!r}; give one that exists, or words: grass,sky")
        return list(unique_strings(parse_words(text) if "," in text else [text], "candidates"))
    return list(read_words(path, "candidates"))


def _print_table(table: BackgroundTable, judged: bool) -> None:
    rows = [row for row in table.rows if row.p_joint is not None]
    skipped = f", {table.unlabelled} without a label left out" if table.unlabelled else ""
    what = f"{len(rows)} words judged" if judged else f"{len(rows)} of {len(table.rows)} words chosen"
    print(f"{what} by {table.images} images{skipped}")
    if rows:
        titles = ("#", "word", "wins", "alone", "beside", "gain", "takes most from", "nearest class")
        lines = [(str(number), *_cells(row, table.images)) for number, row in enumerate(rows, start=1)]
        print()
        print_table(titles, lines, left=("word", "takes most from", "nearest class"))
        print(f"\n{LEGEND}\n")
        print(f"Beside all these words the labels keep {table.kept:.3f} of the probability.")
    against: dict[str, list[str]] = {}
    for row in table.rows:
        if row.reason:
            against.setdefault(row.reason, []).append(row.word)
    if against:
        print(f"\n{'Reasons against words' if judged else 'Left out'}:")
    for reason, left_out in against.items():
        shown = ", ".join(short(word, MAX_WORD_WIDTH) for word in left_out[:WORDS_SHOWN])
        more = f" and {len(left_out) - WORDS_SHOWN} more" if len(left_out) > WORDS_SHOWN else ""
        print(f"  {printable(reason)}: {shown}{more}")
    print(f"\n{_limit(table)}")


def _cells(row: BackgroundWord, images: int) -> tuple[str, ...]:
    loser, nearest = (short(name, MAX_NAME_WIDTH) for name in (row.takes_from, row.near))
    figures = (f"{value:.3f}" for value in (row.p_pairwise, row.p_joint, row.gain))
    return (
        short(row.word, MAX_WORD_WIDTH),
        f"{row.wins / images:.1%}",
        *figures,
        loser,
        f"{nearest} {row.similarity:.2f}",
    )


def _limit(table: BackgroundTable) -> str:
    limit = f"Near-synonyms of a class: cosine above {table.near_limit:.3f}"
    if table.near_pair is None:
        return f"{limit}, as given."
    first, second = (short(name, MAX_NAME_WIDTH) for name in table.near_pair)
    return f"{limit}, that of {first} and {second}, which are\ndifferent things; --near sets another."


def _print_words(table: BackgroundTable) -> None:
    if not table.words:
        print_error("no word wins in any image, or each is too near to a class; keep the words of the classes")
    elif any("," in word for word in table.words):
        print_error("a word with a comma cannot be given to --background; write a class file with --out")
    else:
        comma = "," if len(table.words) == 1 else ""  # without it, --background takes a single word for a set's name
        print(f"\n--background {shlex.quote(printable(','.join(table.words)) + comma)}")
