"""The flags that choose a model and a vocabulary, and what they mean to `load_clip` and `load_vocabulary`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from clipes.config import Fuse

from .arguments import nonempty, parse_words, positive_int
from .terminal import print_note

if TYPE_CHECKING:  # they load torch
    from clipes.clip.weights import CLIP
    from clipes.vocabulary import Vocabulary


def add_clip_flags(parser: argparse.ArgumentParser, default: bool = True, batch: bool = True) -> None:
    """Add the flags of :func:`clipes.clip.weights.load_clip`, and the size of a ``batch`` of images.

    ``default`` says whether the bundled model is taken where none is named.
    """
    group = parser.add_argument_group("model")
    bundled = "tiny, the bundled toy for drawings"
    kinds = f"open_clip name, hf-hub:ID, local-dir:PATH, or {bundled}"
    group.add_argument("--model", help=f"{kinds} (default: tiny, if it has learnt the classes)" if default else kinds)
    group.add_argument("--pretrained", metavar="TAG", help="a tag of that name, or a weights file")
    like = "the tag whose activation, mean and deviation a weights file has, such as openai"
    group.add_argument("--weights-of", metavar="TAG", help=like)
    group.add_argument("--trusted", action="store_true", help="allow weights files whose loading can run code")
    group.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    group.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="(default: fp16 on cuda, else fp32)")
    if batch:
        size = "images read and encoded together (default: 1 on a CPU, else 32)"
        group.add_argument("--batch-size", type=positive_int, metavar="N", help=size)


def clip_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What :func:`clipes.clip.weights.load_clip` takes."""
    names = ("pretrained", "device", "precision", "trusted")
    given = {name: getattr(options, name) for name in names}
    return {"model": options.model or "tiny", "like": options.weights_of, **given}


def load_model(options: argparse.Namespace) -> CLIP:
    """The CLIP of the flags; says first which. Errors as :func:`clipes.clip.weights.load_clip`."""
    settings = clip_settings(options)
    announce_model(settings["model"], settings["pretrained"])  # first: torch takes seconds to be imported
    from clipes.clip.weights import load_clip

    return load_clip(**settings)


def announce_model(model: str, pretrained: str | None) -> None:
    """Say which model is loaded, which takes seconds, or minutes where it is downloaded."""
    from clipes.clip.bundled import ABOUT

    name = " ".join(filter(None, (model, pretrained)))
    print_note(f"model: {ABOUT}" if model == "tiny" else f"loading {name} ...")


def load_words(options: argparse.Namespace) -> Vocabulary:
    """The vocabulary of the flags.

    Raises ValueError for classes that the bundled model has not learnt where no model is named, and errors as
    :func:`clipes.vocabulary.load_vocabulary`.
    """
    from clipes.clip.bundled import check_default_model
    from clipes.vocabulary import load_vocabulary

    vocabulary = load_vocabulary(**vocabulary_settings(options))
    if options.model is None:
        check_default_model(vocabulary)
    return vocabulary


def add_vocabulary_flags(
    parser: argparse.ArgumentParser, templates: str = "the classes' own, else the paper's", auto: bool = True
) -> None:
    """Add the flags of :func:`clipes.vocabulary.vocabulary.load_vocabulary`.

    ``templates`` says which there are by default, ``auto`` whether the images may choose the background.
    """
    group = parser.add_argument_group("vocabulary")
    sets = "a set's name (voc12, coco14, scenes, ...), a .json, .yaml or text file"
    names = "names: dog,cat (one: dog, with the comma)"
    group.add_argument("--classes", type=nonempty, help=f"{sets}, or {names} (default for tiny: scenes)")
    chosen = ", or auto: as `clipes background` suggests" if auto else ""
    background = f"a set's name, words: grass,sky (one: grass, with the comma; none: ''){chosen}"
    group.add_argument("--background", metavar="WORDS", help=f"{background} (default: the classes' own)")
    given = "a prompt with one {}, a set's name, or a .json, .yaml or text file of prompts; may be repeated"
    group.add_argument("--templates", action="append", metavar="TEXT", help=f"{given} (default: {templates})")
    fuse = "how several names of a class become one: in one sentence, their features' mean, or the likeliest of them"
    group.add_argument("--fuse", choices=get_args(Fuse), help=f"{fuse} (default: the classes' own, else sentence)")
    about = (
        'a .json or .yaml file of sentences about classes, {"dog": ["it has a tail"]}, which enrich their texts (ExCEL)'
    )
    group.add_argument("--attributes", type=nonempty, metavar="FILE", help=about)
    centres = "k-means centres of these sentences, at most one for each (default: the classes' own, else 112)"
    group.add_argument("--attribute-centres", type=positive_int, metavar="N", help=centres)


def vocabulary_settings(options: argparse.Namespace, default: Any = None) -> dict[str, Any]:
    """What :func:`clipes.vocabulary.load_vocabulary` takes. ``default`` are the classes where no flag names any."""
    classes = parse_words(options.classes) or default or ("scenes" if options.model in (None, "tiny") else None)
    if classes is None:
        raise ValueError(f"no classes given for {options.model}; pass --classes voc12, coco14 or a file of names")
    return {
        "classes": classes,
        "background": parse_words(options.background),
        "templates": union(map(_templates, options.templates)) if options.templates else None,
        "fuse": options.fuse,
        "attributes": options.attributes,
        "attribute_centres": options.attribute_centres,
    }


def model_record(options: argparse.Namespace, clip: CLIP, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a run's record says of its model and its words."""
    from clipes.clip.settings import model_settings

    return {
        "model": options.model or "tiny",
        "pretrained": options.pretrained,
        "like": options.weights_of,
        "classes": parse_words(options.classes) or vocabulary.name,
        "preset": options.preset or vocabulary.preset,
        **model_settings(clip, vocabulary),
    }


def _templates(given: str) -> tuple[str, ...]:
    """The templates of a file or a set, or the one that ``given`` is."""
    from clipes.io.structured import SUFFIXES
    from clipes.vocabulary.shipped import template_list
    from clipes.vocabulary.words import read_words

    is_file = os.path.splitext(given)[1].lower() in (*SUFFIXES, ".txt") and (os.path.isfile(given) or "{}" not in given)
    return template_list(read_words(given, "templates") if is_file else given)


def union(sources: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The templates of all sources, those that the tokenizer cannot tell apart once."""
    from clipes.vocabulary.words import normalised

    found: dict[str, str] = {}
    for source in sources:
        for template in source:
            found.setdefault(normalised(template), template)
    return tuple(found.values())
