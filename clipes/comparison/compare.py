"""The comparison: picture by picture, from the encoding to the counts, and what is written of it."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.config import Config, GivenRegionsConfig
from clipes.datasets import Sample
from clipes.device.errors import is_out_of_memory
from clipes.evaluation.accumulate import Problem, Progress
from clipes.evaluation.metrics import intersection_over_union
from clipes.generator import MaskGenerator
from clipes.io.atomic import check_target, publish, staging_folder, write_json, write_text
from clipes.io.images import open_image
from clipes.io.masks import check_size, read_ids
from clipes.regions.folder import FoundRegions, find_regions
from clipes.regions.superpixels import check_installed
from clipes.vocabulary import check_labels

from .counts import Counts
from .masks import MaskMaker
from .page import page
from .pictures import Picture, Pictures
from .result import Comparison, PresetFigures, figures

AnyPath = str | os.PathLike[str]

_SMALLER = "give presets as files of settings with a smaller image.max_patches"

PICTURES = 12
"""How many pictures the page shows by default."""


def compare(
    generator: MaskGenerator,
    samples: Sequence[Sample],
    presets: Mapping[str, Config],
    out: AnyPath,
    *,
    truth: AnyPath | None = None,
    regions: AnyPath | None = None,
    pictures: int = PICTURES,
    source: str | tuple[str, ...] = (),
    progress: Progress = lambda items, total, unit: items,
) -> Comparison:
    """Make the masks of ``samples`` by each of ``presets`` and write ``index.html``, ``compare.json``, ``compare.csv``.

    A picture is encoded once for all presets with the same settings of the picture; on a CPU a mask may differ from the
    generator's own by rounding. Masks are not kept.

    Args:
        generator: the model and its words; its own settings do not count.
        samples: the pictures with their labels, such as :func:`clipes.datasets.find_samples` gives.
        presets: settings by name; the first is what the others are compared with.
        out: the folder to write, absent, empty or of an earlier comparison, which is replaced.
        truth: a folder of PNG masks of ids, ``ID.png``; pictures without one are left out.
        regions: where the pictures' regions are (:func:`clipes.regions.folder.find_regions`), for presets that take
            them (``GivenRegionsConfig``).
        pictures: how many the page shows: those on which the presets agree least.
        source: where the pictures are, so that ``out`` is not among them.
        progress: wraps the pictures in a progress bar; called with an iterable, its length and a unit.

    A picture that cannot be read, or whose truth is of another size, is named in :attr:`Comparison.failed` and left out
    of every figure; pictures without a label are warned of. If the call is interrupted, nothing is written. Memory
    grows by some hundred bytes a picture.

    Raises:
        ValueError: no preset, ``pictures`` below 0, an unknown label, no picture with a truth file or none that could
            be compared, an ``out`` that is no comparison or lies among the pictures.
        FileNotFoundError: no folder of truth or of regions.
        ImportError: superpixels without scikit-image.
    """
    check_presets(presets, regions)
    if pictures < 0:
        raise ValueError(f"pictures is {pictures}; show 0 or more")
    folder = None if truth is None else Path(truth)
    if folder is not None:
        _check_truth(folder, samples)
    check_labels(samples, generator.vocabulary, False)
    _warn_of_no_labels(samples)
    target = Path(os.path.abspath(out))
    places = [place for place in (source, "" if folder is None else str(folder)) if place]
    check_target(target, "comparison", None, places, overwrite=True)
    with staging_folder(target) as root:
        found = None if regions is None else find_regions(samples, Path(regions))
        work = _Work(generator, dict(presets), folder, found, pictures)
        work.add(progress(samples, len(samples), "images"))
        comparison = work.result(target / "index.html")
        _write(root, comparison, work.pictures)
        publish(root, target, "comparison", {}, overwrite=True)
    return comparison


def _check_truth(folder: Path, samples: Sequence[Sample]) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of truth: {folder}")
    if not any(_has_truth(folder, sample) for sample in samples):
        wanted = f"; the first would be {_truth_file(folder, samples[0])}" if len(samples) else ""
        raise ValueError(f"{folder} holds the truth of none of the {len(samples)} picture(s){wanted}")


def _warn_of_no_labels(samples: Sequence[Sample]) -> None:
    count = sum(not sample.labels for sample in samples)
    if count:
        warnings.warn(
            f"{count} of {len(samples)} picture(s) without a label: all background by every preset; give names or a "
            "labels file (--labels), or name its column (--label-column)",
            stacklevel=3,
        )


def check_presets(presets: Mapping[str, Config], regions: AnyPath | None) -> None:
    """Raise ValueError for no presets or those that do not fit ``regions``, ImportError for want of scikit-image."""
    if not presets:
        raise ValueError("no presets are given; name one at least, such as clip-es-voc12")
    for config in presets.values():
        check_installed(config.regions)
    taking = [name for name, config in presets.items() if isinstance(config.regions, GivenRegionsConfig)]
    if taking and regions is None:
        raise ValueError(f"{taking[0]} takes regions that come with each picture; say where they are (--regions)")
    if regions is not None and not taking:
        raise ValueError(
            f"no preset takes the regions in {regions}; give a file of settings with regions: {{given: {{}}}}"
        )


def _truth_file(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.id}.png"


def _has_truth(folder: Path, sample: Sample) -> bool:
    return os.path.lexists(_truth_file(folder, sample))


class _Work:
    """What is kept while the pictures pass."""

    def __init__(
        self,
        generator: MaskGenerator,
        presets: dict[str, Config],
        truth: Path | None,
        regions: FoundRegions | None,
        shown: int,
    ) -> None:
        self._generator, self._presets, self._truth, self._regions = generator, presets, truth, regions
        self._classes = len(generator.class_names)
        self._maker = MaskMaker(generator, presets)
        self._counts = Counts(len(presets), self._classes)
        self.pictures = Pictures(shown, self._classes)
        self._images, self._without_truth = 0, 0
        self._failed: list[Problem] = []

    def add(self, samples: Iterable[Sample]) -> None:
        """Make and count the masks of all samples."""
        for sample in samples:
            if self._truth is not None and not _has_truth(self._truth, sample):
                self._without_truth += 1
                continue
            ids = self._generator.vocabulary.ids(sample.labels)
            try:
                self._add(sample, ids)
            except (ValueError, OSError, FloatingPointError) as error:
                self._failed.append(Problem(sample.id, str(error)))
            except (MemoryError, RuntimeError) as error:
                if not (isinstance(error, MemoryError) or is_out_of_memory(error)):
                    raise
                self._failed.append(Problem(sample.id, f"{sample.image}: out of memory; {_SMALLER}"))

    def _add(self, sample: Sample, ids: tuple[int, ...]) -> None:
        image = open_image(sample.image)
        truth: NDArray[Any] | None = None
        if self._truth is not None:
            file = _truth_file(self._truth, sample)
            truth = read_ids(file, self._classes)
            check_size(truth.shape, file, (image.height, image.width), sample.image)
        place = None if self._regions is None else self._regions.of(sample.id)
        masks = list(self._maker.masks(image, ids, place).values())
        agreement, miou = self._counts.add(masks, truth)
        self._images += 1
        order = agreement if agreement is not None else miou[0] if miou else 1.0
        self.pictures.offer(order, Picture(sample.id, sample.labels, ids, agreement, miou), image, truth, masks)

    def result(self, page: Path) -> Comparison:
        """The figures over all pictures. ValueError if there are none."""
        if not self._images:
            first = f": {self._failed[0].reason}" if self._failed else ""
            raise ValueError(f"no picture could be compared{first}")
        maker, counts = self._maker, self._counts
        boundless = [intersection_over_union(row[2], row[0] + row[1] - row[2]) for row in counts.truth]
        return Comparison(
            rows=tuple(figures(self._presets, counts, maker.costs, self._images)),
            presets=self._presets,
            class_names=self._generator.class_names,
            class_iou=np.stack(boundless),
            agreement=counts.agreements(),
            images=self._images,
            encodings=len(maker.groups),
            encoding_seconds=maker.encoding.seconds / self._images,
            encoding_peak_bytes=maker.encoding.peak_bytes,
            without_truth=self._without_truth,
            failed=tuple(self._failed),
            page=page,
        )


def _write(root: Path, comparison: Comparison, pictures: Pictures) -> None:
    write_json(root / "compare.json", comparison.as_dict())
    table = StringIO()
    writer = csv.DictWriter(table, [item.name for item in fields(PresetFigures)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in comparison.rows)
    write_text(root / "compare.csv", table.getvalue())
    write_text(root / "index.html", page(comparison, pictures))
