"""The arguments that say which images there are, and which labels they have."""

from __future__ import annotations

import argparse
import os

from .terminal import named


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``source`` and ``--labels``, as :func:`clipes.datasets.find_samples` takes them."""
    source = "an image, a folder, a quoted glob pattern, or a .txt list of images"
    parser.add_argument("source", type=named, help=source)
    labels = "a .csv or .jsonl file, or names for all images: dog,person"
    parser.add_argument("--labels", type=named, required=True, help=labels)


def labels_argument(given: str) -> str | list[str]:
    """A labels file's path as it is, else names: ``dog,person``."""
    suffix = os.path.splitext(given)[1].lower()
    is_file = suffix in (".csv", ".jsonl", ".json", ".txt", ".tsv") or (suffix and os.path.isfile(given))
    return given if is_file else given.split(",")
