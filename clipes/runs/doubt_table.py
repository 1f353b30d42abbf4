"""The table of images whose given labels and scores disagree: what `clipes tag --check` writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.config import TagRuleConfig
from clipes.datasets import Sample
from clipes.io.csv_file import write_csv
from clipes.store.store import Store
from clipes.tags.doubts import ScoredLabel, doubts
from clipes.tags.rules import thresholds

from .tag_table import SEPARATOR, TaggedSample, score_matrix


class DoubtedSample(NamedTuple):
    """An image whose labels and scores disagree.

    Attributes:
        sample: the image with its given labels.
        size: by how much, in [0, 1].
        doubtful: the given labels that the scores speak against, each with its score and threshold.
        suggested: the classes that they speak for, the same.
    """

    sample: Sample
    size: float
    doubtful: dict[str, ScoredLabel]
    suggested: dict[str, ScoredLabel]

    @property
    def name(self) -> str:
        """The image as tables of labels name it."""
        return TaggedSample(self.sample, None).name


def doubted_samples(samples: Iterable[Sample], store: Store, rule: TagRuleConfig) -> tuple[list[DoubtedSample], int]:
    """The images that disagree, the largest disagreement first; and how many images were compared."""
    scores, given, kept = score_matrix(samples, store)
    found, names = doubts(scores, given, rule), store.class_names
    at = np.broadcast_to(thresholds(scores, rule), scores.shape)

    def scored(index: int, chosen: NDArray[np.bool_]) -> dict[str, ScoredLabel]:
        places = np.flatnonzero(chosen[index]).tolist()
        return {names[place]: ScoredLabel(float(scores[index, place]), float(at[index, place])) for place in places}

    doubted = [
        DoubtedSample(
            kept[index], float(found.size[index]), scored(index, found.doubtful), scored(index, found.suggested)
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
        SEPARATOR.join(f"{name} {scored.score:.3f}" for name, scored in part.items())
        for part in (one.doubtful, one.suggested)
    )
    return one.name, SEPARATOR.join(one.sample.labels), f"{one.size:.4f}", *named
