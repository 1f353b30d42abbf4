"""``clipes generate``: masks for an image, a folder, a glob or a list of images."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes.flags import add_config_flags, read_config

from .model import add_clip_flags, add_vocabulary_flags, clip_settings, model_record, vocabulary_settings
from .source import add_source_flags, labels_argument
from .terminal import EXIT_CODES, account, bar, complain, named, printable

if TYPE_CHECKING:
    from clipes.config import Config
    from clipes.datasets import Sample
    from clipes.vocabulary import Vocabulary
    from clipes.weights import Clip


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "masks for an image, a folder, a glob or a list of images"
    generate = commands.add_parser("generate", help=help, description=help, epilog=EXIT_CODES, allow_abbrev=False)
    add_source_flags(generate)
    generate.add_argument(
        "--out",
        type=lambda text: Path(named(text)),
        required=True,
        help="folder for the masks, named as the images are",
    )
    generate.add_argument(
        "--save-confidence",
        action="store_true",
        help="write OUT/confidence/*.png: the winning scores, 255 for 1",
    )
    generate.add_argument(
        "--save-cams",
        action="store_const",
        const="full",
        help="write OUT/cams/*.npz, for `clipes finalize`: the maps on the patch grid and, as CLIP-ES saves them, at"
        " the image's size",
    )
    generate.add_argument(
        "--save-patch-cams",
        dest="save_cams",
        action="store_const",
        const="patch",
        help="the same, only on the patch grid: far smaller files, and all that `clipes finalize` needs",
    )
    add_clip_flags(generate)
    add_vocabulary_flags(generate)
    add_config_flags(generate)
    generate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked without the model, then write the masks."""
    from clipes.batch import check_folder, check_labels, write_masks
    from clipes.datasets import find_samples
    from clipes.vocabulary import load_vocabulary, stuff_words

    given = vocabulary_settings(options)
    auto = given["background"] == "auto"
    labels = labels_argument(options.labels)
    samples = find_samples(options.source, labels)
    vocabulary = load_vocabulary(**{**given, "background": [] if auto else given["background"]})
    if auto:  # until the images have chosen among them
        vocabulary = replace(vocabulary, background_names=stuff_words())
    config = read_config(options, vocabulary.preset)
    check_labels(samples, vocabulary)
    check_folder(options.source, samples, options.out, vocabulary.class_names)
    _tell_unused(labels, samples, options.source)

    from clipes.generator import MaskGenerator
    from clipes.weights import load_clip

    clip = load_clip(**clip_settings(options))
    if auto:
        vocabulary = replace(vocabulary, background_names=_suggested(clip, vocabulary, samples, config))
    outcomes = write_masks(
        MaskGenerator(clip, vocabulary, config),
        samples,
        options.out,
        options.batch_size,
        save_confidence=options.save_confidence,
        save_cams=options.save_cams,
        record={
            "source": os.path.abspath(options.source),
            **model_record(options, clip, vocabulary),
        },
    )
    return account(outcomes, len(samples), f"masks written to {printable(options.out)}")


def _suggested(clip: Clip, vocabulary: Vocabulary, samples: Sequence[Sample], config: Config) -> tuple[str, ...]:
    """The background words that `clipes background` would suggest."""
    from clipes.background import suggest_background

    table = suggest_background(clip, vocabulary, samples, config, progress=bar)
    if not table.words:
        raise ValueError("--background auto: no word wins in any image, or each is too near to a class; give words")
    print(f"background words by {table.images} images: {printable(', '.join(table.words))}")
    return table.words


def _tell_unused(labels: str | list[str], samples: Sequence[Sample], source: str) -> None:
    """Say how many rows of a labels file belong to no image: fine for a part of a data set, telling elsewhere."""
    from clipes.labels import read_rows

    if isinstance(labels, str):
        used = {sample.origin for sample in samples}
        unused = [image for image, row in read_rows(labels).items() if row.origin not in used]
        if unused:
            complain(f"{len(unused)} row(s) of {labels} name no image of {source}, {unused[0]!r} the first")
