"""The table of images whose given labels and scores disagree: what `clipes tag --check` writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipes.config import TagRuleConfig
from clipes.datasets import Sample
from clipes.io.csv_file import write_csv
from clipes.store.store import Store
from clipes.tags.doubts import doubts

from .tag_table import SEPARATOR, TaggedSample, score_matrix


class DoubtedSample(NamedTuple):
    """An image whose labels and scores disagree.

    Attributes:
        sample: the image with its given labels.
        size: by how much, in [0, 1].
        doubtful: the given labels that the scores speak against, and their scores.
        suggested: the classes that they speak for, and their scores.
    """

    sample: Sample
    size: float
    doubtful: dict[str, float]
    suggested: dict[str, float]


def doubted_samples(samples: Iterable[Sample], store: Store, rule: TagRuleConfig) -> tuple[list[DoubtedSample], int]:
    """The images that disagree, the largest disagreement first; and how many images were compared."""
    scores, given, kept = score_matrix(samples, store)
    found = doubts(scores, given, rule)
    names = np.array(store.class_names, dtype=object)
    doubted = [
        DoubtedSample(
            kept[index],
            float(found.size[index]),
            dict(zip(names[found.doubtful[index]], scores[index][found.doubtful[index]].tolist(), strict=True)),
            dict(zip(names[found.suggested[index]], scores[index][found.suggested[index]].tolist(), strict=True)),
        )
        for index in np.argsort(-found.size, kind="stable").tolist()
        if found.doubtful[index].any() or found.suggested[index].any()
    ]
    return doubted, len(kept)


def write_doubt_table(path: Path, doubted: Iterable[DoubtedSample]) -> None:
    """Write the images, the worst first, as CSV: ``image,labels,disagreement,doubtful,suggested``; whole or not at all.

    Scores follow the names: ``dog 0.031``. OSError where it cannot be written.
    """
    write_csv(path, ("image", "labels", "disagreement", "doubtful", "suggested"), map(_cells, doubted))


def _cells(one: DoubtedSample) -> tuple[str, ...]:
    named = (
        SEPARATOR.join(f"{name} {score:.3f}" for name, score in part.items()) for part in (one.doubtful, one.suggested)
    )
    image = TaggedSample(one.sample, None).name
    return image, SEPARATOR.join(one.sample.labels), f"{one.size:.4f}", *named
