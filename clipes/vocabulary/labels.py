"""Whether the labels of images are classes."""

from __future__ import annotations

from collections.abc import Iterable

from clipes.datasets import Sample

from .vocabulary import Vocabulary


def check_labels(samples: Iterable[Sample], vocabulary: Vocabulary, skip_unknown: bool = False) -> tuple[int, str]:
    """Raise ValueError for the first label that is not a class, with similar names and where it was read.

    With ``skip_unknown``, images with unknown labels are counted instead; returns their number and the first's error.
    """
    known, count, first = frozenset(vocabulary.class_names), 0, ""
    for sample in samples:
        try:
            vocabulary.ids(sample.labels)
        except ValueError as error:
            message = f"{sample.origin}: {error}" if sample.origin else str(error)
            if not skip_unknown or known.issuperset(sample.labels):
                raise ValueError(message) from error
            count, first = count + 1, first or message
    return count, first
