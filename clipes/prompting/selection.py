"""Which images an analysis of templates looks at, and for what."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipes.datasets import Sample
from clipes.io.walk import walk_files
from clipes.vocabulary import Vocabulary, check_labels


@dataclass(frozen=True)
class LabelledImage:
    """An image, its labels' ids 1..K, and its truth file if it has one."""

    sample: Sample
    class_ids: tuple[int, ...]
    truth: Path | None

    @property
    def has_multiple_labels(self) -> bool:
        """Whether it has two labels or more: fewer have no sharpness."""
        return len(self.class_ids) > 1

    @property
    def needs_encoding(self) -> bool:
        """Whether the analysis uses it at all."""
        return self.has_multiple_labels or self.truth is not None


def select_images(
    samples: Iterable[Sample], vocabulary: Vocabulary, truth: str | os.PathLike[str] | None = None
) -> list[LabelledImage]:
    """Return every sample with its class ids and truth; ``truth`` is a folder of PNG masks named by the images' ids.

    Without a background word nothing can be decided for a single label: such an image's truth is left out.

    Raises:
        ValueError: an unknown label; no image with two labels or more; no truth file with an image's name.
        FileNotFoundError, NotADirectoryError: ``truth`` does not exist, or is not a folder.
    """
    samples = list(samples)
    has_background = bool(vocabulary.background_names)
    # With a background word, a single label is no error.
    lenient = vocabulary if has_background else replace(vocabulary, background_names=("any",))
    check_labels(samples, lenient)
    truths = {} if truth is None else _truth_files(Path(truth))
    images = []
    for sample in samples:
        ids = lenient.ids(sample.labels)
        images.append(LabelledImage(sample, ids, truths.get(sample.id) if has_background or len(ids) != 1 else None))
    if not any(image.has_multiple_labels for image in images):
        raise ValueError(
            f"none of {len(images)} images has two labels or more, and the sharpness is how they share the "
            "probability; give images with more labels"
        )
    if truth is not None:
        _check_truth(Path(truth), images)
    return images


def _truth_files(truth: Path) -> dict[str, Path]:
    """The PNG files of a folder, by the ids of the images they belong to."""
    if not truth.exists():
        raise FileNotFoundError(f"no such folder of truth masks: {truth}")
    if not truth.is_dir():
        raise NotADirectoryError(f"{truth} is a file; give the folder of the truth masks")
    return {os.path.splitext(name)[0]: truth / name for name in walk_files(truth, (".png",))}


def _check_truth(truth: Path, images: Sequence[LabelledImage]) -> None:
    if not any(image.truth for image in images):
        raise ValueError(
            f"no truth mask has the name of an image: there is no {images[0].sample.id}.png in {truth}, nor any "
            "other's; give the folder below which the names agree"
        )
