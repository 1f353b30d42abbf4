"""``clipes generate``: masks for an image, a folder, a list or a whole data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .engines import others_device, write
from .flags import add_config_flags, read_config
from .model import add_clip_flags, add_vocabulary_flags, clip_settings, vocabulary_settings
from .run_flags import add_run_flags, output_of, place
from .source import add_source_flags, labels_argument
from .terminal import EXIT_CODES, bar, complain, printable

if TYPE_CHECKING:
    from clipes.clip.weights import CLIP
    from clipes.config import Config
    from clipes.datasets import Sample, Samples
    from clipes.vocabulary import Vocabulary


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "masks for an image, a folder, a list or a whole data set"
    generate = commands.add_parser("generate", help=help, description=help, epilog=EXIT_CODES, allow_abbrev=False)
    add_source_flags(generate)
    add_run_flags(generate)
    add_clip_flags(generate)
    add_vocabulary_flags(generate)
    add_config_flags(generate)
    generate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked without the model, then write the masks."""
    from clipes.datasets import find_samples
    from clipes.runs.preflight import check_folder
    from clipes.store.cleanup import clear
    from clipes.vocabulary import check_labels, load_vocabulary, stuff_words

    if options.engine == "ray":
        from clipes.runs.ray_session import import_ray

        import_ray()
    _, device = place(options)
    output = output_of(options)
    given = vocabulary_settings(options)
    auto = given["background"] == "auto"
    vocabulary = load_vocabulary(**{**given, "background": [] if auto else given["background"]})
    if auto:  # until the images have chosen among them
        vocabulary = replace(vocabulary, background_names=stuff_words())
    config = read_config(options, vocabulary.preset)
    labels = None if options.labels is None else labels_argument(options.labels)
    samples = find_samples(options.source, labels, class_names=vocabulary.class_names, missing=options.missing)
    unknown, first = check_labels(samples, vocabulary, options.unknown == "skip")
    check_folder(options.source, samples, output, options.overwrite)
    _tell(samples, unknown, first, options)

    from clipes.clip.weights import load_clip

    elsewhere = others_device(options) and not (auto and options.devices)  # whose images are looked at here
    here = {"device": "cpu", "precision": "fp32"} if elsewhere else {"device": device}
    clip = load_clip(**{**clip_settings(options), **here})
    if auto:
        vocabulary = replace(vocabulary, background_names=_suggested(clip, vocabulary, samples, config))
    if options.overwrite:
        clear(output.folder)
    return write(options, clip, vocabulary, config, samples)


def _suggested(clip: CLIP, vocabulary: Vocabulary, samples: Sequence[Sample], config: Config) -> tuple[str, ...]:
    """The background words that `clipes background` would suggest."""
    from clipes.clip.text_cache import cache_folder
    from clipes.prompting.background import suggest_background

    table = suggest_background(clip, vocabulary, samples, config, folder=cache_folder(), progress=bar)
    if not table.words:
        raise ValueError("--background auto: no word wins in any image, or each is too near to a class; give words")
    print(f"background words by {table.images} images: {printable(', '.join(table.words))}")
    return table.words


def _tell(samples: Samples, unknown: int, first: str, options: argparse.Namespace) -> None:
    """Say what will be left out: rows of a labels file without an image, images with unknown labels."""
    if samples.unused_rows:
        complain(
            f"{samples.unused_rows} row(s) of {options.labels} name no image of {options.source}, "
            f"{samples.first_unused!r} the first"
        )
    if unknown:
        complain(f"{unknown} image(s) with unknown labels will be skipped; {first}")
