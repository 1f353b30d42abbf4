"""``clipes synonyms``: WordNet's senses of names, and class files with synonyms taken from them."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .arguments import add_command, nonempty, path
from .model import add_clip_flags, add_vocabulary_flags, load_model, vocabulary_settings
from .terminal import DONE, FAILED, print_error, printable

if TYPE_CHECKING:  # they load torch
    from clipes.clip.text import TextEncoder
    from clipes.prompting.thesaurus import Choice
    from clipes.prompting.wordnet import Sense, WordNet
    from clipes.vocabulary import Vocabulary

_EXIT_CODES = "Exit codes: 0 done, 2 wrong use or no WordNet, 3 WordNet knows none of the names."
_FOR_OUT = ("sense", "without", "min_similarity", "background", "templates", "fuse")


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "WordNet's senses and synonyms of names; a class file with synonyms"
    details = (
        "With NAMEs: their senses, to choose from. With --classes: the senses of a set's classes in short; and with "
        "--out a class file in which every class has the synonyms of one sense. Senses are ranked by how well they "
        "agree with the classes in the model's text space; without --model the order is WordNet's: most common first."
    )
    parser = add_command(commands, "synonyms", run, help, details, _EXIT_CODES)
    parser.add_argument("names", metavar="NAME", nargs="*", type=nonempty, help="a noun: tvmonitor, 'hot dog'")
    parser.add_argument("--hypernyms", action="store_true", help="show what each sense is a kind of, too")
    parser.add_argument("--wordnet", metavar="FOLDER", type=nonempty, help="holds data.noun (default: looked for)")
    out = parser.add_argument_group("class file")
    out.add_argument("--out", type=path, metavar="FILE.json", help="write the classes there")
    sense = "take this sense for a class, whatever its rank; may be repeated"
    out.add_argument("--sense", action="append", type=_sense, default=[], metavar="NAME=KEY", help=sense)
    without = "leave this synonym out; may be repeated"
    out.add_argument("--without", action="append", type=nonempty, default=[], metavar="WORD", help=without)
    least = "drop synonyms whose cosine similarity to their class is lower (default: that of two different classes)"
    out.add_argument("--min-similarity", type=float, metavar="X", help=least)
    add_vocabulary_flags(parser, auto=False)
    add_clip_flags(parser, default=False, batch=False)
    parser.shorten_help(
        ("--hypernyms", "--classes", "--out", "--sense", "--without", "--model", "--pretrained"),
        (
            "clipes synonyms tvmonitor 'hot dog'",
            "clipes synonyms --classes voc12 --out my.json --sense tvmonitor=television_receiver%1:06:00::",
        ),
    )


def run(options: argparse.Namespace) -> int:
    """Show the senses of names or classes, or write a class file."""
    from clipes.prompting.senses import ranked_senses
    from clipes.prompting.wordnet import open_wordnet
    from clipes.vocabulary import load_vocabulary
    from clipes.vocabulary.class_file import check_path

    _check_use(options)
    if options.out:
        check_path(options.out)
    classes = load_vocabulary(**vocabulary_settings(options)) if options.classes or options.model else None
    wordnet = open_wordnet(options.wordnet)
    print(f"WordNet {wordnet.version} in {printable(wordnet.folder)}")
    tower = None
    if options.model:
        tower = load_model(options).text
        if options.model == "tiny":
            print_error("the bundled model knows the words of the drawn scenes alone: it cannot tell senses apart")
    else:
        print("No model: senses in WordNet's order, most common first, and no synonym is compared with its class.")
    if classes and options.out:
        return _write(classes, tower, wordnet, options)
    names = options.names or (classes.class_names if classes else ())
    senses_by_name = ranked_senses(names, classes.class_names if classes else (), tower, wordnet)
    widths = max(map(len, names)), max((len(sense.key) for senses in senses_by_name for sense in senses), default=0)
    for name, senses in zip(names, senses_by_name, strict=True):
        if options.names:
            _print_senses(name, senses, wordnet, options.hypernyms)
        else:
            _print_senses_in_short(name, senses, widths, options.hypernyms)
    return DONE if any(senses_by_name) else FAILED


def _check_use(options: argparse.Namespace) -> None:
    if not options.names and not options.classes:
        raise ValueError("nothing to look up; give NAMEs, or --classes, such as voc12 or a file of names")
    if options.names and options.out:
        raise ValueError("--out writes the classes of a set; leave the NAMEs out, or write --classes a,b")
    if options.names and options.classes and not options.model:
        raise ValueError("--classes only rank the senses of NAMEs if there is a --model; give one, or leave them out")
    for_out = [f"--{flag.replace('_', '-')}" for flag in _FOR_OUT if getattr(options, flag) not in (None, [])]
    if for_out and not options.out:
        raise ValueError(f"{', '.join(for_out)}: only for a class file; give --out FILE.json")
    of_model = [
        f"--{flag}"
        for flag in ("pretrained", "weights-of", "device", "precision", "trusted")
        if getattr(options, flag.replace("-", "_"))
    ]
    if of_model and not options.model:
        raise ValueError(f"{of_model[0]} without a model; give --model, too")


def _sense(text: str) -> tuple[str, str]:
    name, _, key = text.rpartition("=")
    if not name.strip() or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KEY, such as mouse=mouse%1:06:00::")
    return name.strip(), key.strip()


def _print_senses(name: str, senses: Sequence[Sense], wordnet: WordNet, hypernyms: bool) -> None:
    print(f"\n{printable(name + _spelling_note(name, senses))}")
    if not senses:
        near = ", ".join(wordnet.near(name))
        print(printable(f"  not in WordNet{f'; near: {near}' if near else ''}"))
    for number, sense in enumerate(senses, start=1):
        score = "" if sense.score is None else f"  score {sense.score:.3f}"
        print(printable(f"{number:3}  {sense.key}{score}"))
        _wrap(sense.gloss, "     ")
        _wrap(", ".join(sense.lemmas), "     = ")
        if hypernyms:
            _wrap(" < ".join(sense.hypernyms), "     < ")


def _print_senses_in_short(name: str, senses: Sequence[Sense], widths: tuple[int, int], hypernyms: bool) -> None:
    """Print the senses of one name, one per line; ``widths`` are the columns' widths of names and of keys."""
    if not senses:
        print(f"{printable(name):{widths[0]}}     not in WordNet")
    for number, sense in enumerate(senses, start=1):
        shown = printable(name) if number == 1 else ""
        first = f"{shown:{widths[0]}} {number:2}  {sense.key:{widths[1]}}  "
        first += f"(only {sense.matched!r}) " if sense.head else ""
        kind = f" < {sense.hypernyms[0]}" if hypernyms and sense.hypernyms else ""
        free = max(20, _columns() - len(first) - len(kind))
        print(printable(f"{first}{textwrap.shorten(sense.gloss, free, placeholder=' ...')}{kind}"))


def _spelling_note(name: str, senses: Sequence[Sense]) -> str:
    """How WordNet spells ``name``, where its spelling differs; otherwise empty."""
    spellings = list(dict.fromkeys(sense.matched for sense in senses))
    if not senses or spellings == [name.casefold()]:
        return ""
    kind = "only its head noun is in WordNet:" if senses[0].head else "in WordNet as"
    return f" ({kind} {', '.join(spellings)})"


def _write(classes: Vocabulary, tower: TextEncoder | None, wordnet: WordNet, options: argparse.Namespace) -> int:
    from clipes.prompting.thesaurus import IN_PROMPT, with_synonyms

    vocabulary, notes = with_synonyms(
        classes,
        tower=tower,
        senses=_senses_by_name(options.sense),
        without=options.without,
        min_similarity=options.min_similarity,
        wordnet=wordnet,
    )
    vocabulary.save(options.out)
    width = max(map(len, vocabulary.class_names))
    for choice in notes.choices:
        _print_choice(choice, {lemma: reason for lemma, reason in choice.dropped.items() if reason != IN_PROMPT}, width)
    taken = [len(choice.taken) for choice in notes.choices]
    in_prompts = sum(reason == IN_PROMPT for choice in notes.choices for reason in choice.dropped.values())
    least = "" if notes.min_similarity is None else f"least similarity {notes.min_similarity:.3f}, "
    print()
    _wrap(f"{in_prompts} lemmas that the prompts hold already are not shown; {least}{notes.similarity}.", "")
    print(f"{sum(taken)} synonyms for {sum(map(bool, taken))} of {len(taken)} classes in {printable(options.out)}")
    return DONE


def _senses_by_name(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    senses: dict[str, str] = {}
    for name, key in pairs:
        if senses.setdefault(name, key) != key:
            raise ValueError(f"--sense: two senses for {name!r}, {senses[name]} and {key}; give one")
    return senses


def _print_choice(choice: Choice, dropped: dict[str, str], width: int) -> None:
    """Print the sense chosen for one class, its synonyms after a ``+``, and after a ``-`` each one dropped and why."""
    margin = " " * (width + 2)
    about = f"{choice.sense.key}  {choice.sense.gloss}" if choice.sense else choice.note
    _wrap(about, f"{printable(choice.class_name):{width}}  ", margin)
    if choice.taken:
        _wrap(", ".join(synonym.name for synonym in choice.taken), f"{margin}+ ", f"{margin}  ")
    for lemma, reason in dropped.items():
        _wrap(f"{lemma}: {reason}", f"{margin}- ", f"{margin}  ")


def _wrap(text: str, first: str, rest: str = "") -> None:
    rest = rest or " " * len(first)
    print(textwrap.fill(printable(text), _columns(), initial_indent=first, subsequent_indent=rest))


def _columns() -> int:
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
