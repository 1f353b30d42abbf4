"""The table of labels that CLIP found: what a run of `clipes tag` ends with, and `clipes generate --labels` reads."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from clipes.config import TagRuleConfig
from clipes.datasets import Sample
from clipes.io.atomic import atomic
from clipes.io.images import TarMember
from clipes.store.store import Store
from clipes.tags.images import Tags, tags_of_scores

SEPARATOR = ";"


@dataclass(frozen=True)
class TaggedSample:
    """An image with its labels: those that were known, or its tags.

    Attributes:
        sample: the image.
        tags: what CLIP found; None where the labels were known and no scores were asked for.
    """

    sample: Sample
    tags: Tags | None

    @property
    def name(self) -> str:
        """The image's id with its file's suffix, by which a table of labels names it."""
        image = self.sample.image
        return f"{self.sample.id}{os.path.splitext(image.name if isinstance(image, TarMember) else image)[1]}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The known labels, else those that CLIP found."""
        if not self.sample.unlabelled or self.tags is None:
            return self.sample.labels
        return self.tags.labels

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores of the labels that CLIP found, in their order; of known ones where there are scores."""
        return () if self.tags is None else tuple(self.tags.scores[label] for label in self.labels)

    @property
    def near(self) -> tuple[str, ...]:
        """The classes whose scores are near their threshold: this image is worth a look."""
        return () if self.tags is None or not self.sample.unlabelled else self.tags.near


@dataclass(frozen=True)
class TagCounts:
    """What a table of labels holds.

    Attributes:
        images: rows of the table.
        tagged: those whose labels CLIP found.
        without_label: those of ``tagged`` that show nothing of the list.
        near: those of ``tagged`` with a score near its threshold.
    """

    images: int
    tagged: int
    without_label: int
    near: int


def tagged_samples(samples: Iterable[Sample], store: Store, rule: TagRuleConfig) -> Iterator[TaggedSample]:
    """The images that have labels now, known or found; those that failed, or are of another shard, are left out.

    Labels are made from the scores of the record, so that another rule needs no network.
    """
    names = store.class_names
    for sample in samples:
        row = store.latest.get(sample.id)
        if row is not None and row.status == "ok" and row.scores is not None:
            yield TaggedSample(sample, tags_of_scores([row.scores[name] for name in names], names, rule))
        elif not sample.unlabelled:
            yield TaggedSample(sample, None)


def score_matrix(
    samples: Iterable[Sample], store: Store
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[Sample]]:
    """The scores (n, K) of the images of known labels that were scored, which labels they have (n, K), and they."""
    names = store.class_names
    place = {name: index for index, name in enumerate(names)}
    scores, shown, kept = [], [], []
    for sample in samples:
        row = store.latest.get(sample.id)
        if sample.unlabelled or row is None or row.scores is None:
            continue
        scores.append([row.scores[name] for name in names])
        shown.append(np.isin(np.arange(len(names)), [place[label] for label in sample.labels]))
        kept.append(sample)
    return np.array(scores).reshape(-1, len(names)), np.array(shown, bool).reshape(-1, len(names)), kept


def write_tag_table(path: Path, tagged: Iterable[TaggedSample]) -> TagCounts:
    """Write a table of images, labels, scores and what is worth a look, .csv or .jsonl; whole or not at all.

    Raises ValueError for another suffix, and for a label that a CSV cannot hold; OSError where it cannot be written.
    """
    counts = {"images": 0, "tagged": 0, "without_label": 0, "near": 0}
    with (
        atomic(path) as temporary,
        open(temporary, "x", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        write = WRITERS[check_table(path)](file)
        for one in tagged:
            write(one)
            counts["images"] += 1
            if one.tags is not None and one.sample.unlabelled:
                counts["tagged"] += 1
                counts["without_label"] += not one.labels
                counts["near"] += bool(one.near)
    return TagCounts(**counts)


def check_table(path: Path) -> str:
    """The suffix of a table that is to be written. ValueError unless it is .csv or .jsonl."""
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"a table of labels is a .csv or .jsonl file, not {os.fspath(path)!r}; end its name in .csv")
    return suffix


class _CsvRows:
    def __init__(self, file: IO[str]):
        self._table = csv.writer(file, lineterminator="\n")
        self._table.writerow(("image", "labels", "scores", "near"))

    def __call__(self, one: TaggedSample) -> None:
        for label in (*one.labels, *one.near):
            if SEPARATOR in label:
                raise ValueError(
                    f"the label {label!r} holds a {SEPARATOR!r}, which parts labels in a .csv; write .jsonl"
                )
        scores = (f"{score:.6g}" for score in one.scores)
        self._table.writerow((one.name, *map(SEPARATOR.join, (one.labels, scores, one.near))))


class _JsonRows:
    def __init__(self, file: IO[str]):
        self._file = file

    def __call__(self, one: TaggedSample) -> None:
        row = {"image": one.name, "labels": one.labels, "scores": one.scores, "near": one.near}
        self._file.write(f"{json.dumps(row)}\n")


WRITERS: dict[str, Callable[[IO[str]], Callable[[TaggedSample], None]]] = {".csv": _CsvRows, ".jsonl": _JsonRows}
"""What writes the rows of a table, by its suffix."""
