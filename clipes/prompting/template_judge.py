"""How the masks of many templates agree with the truth, image by image, while the images are encoded.

Axes: n images of a chunk, T templates, K classes, M backgrounds, V names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.cams.compute import compute_cams
from clipes.clip.vision import Encoded
from clipes.clip.weights import CLIP
from clipes.config import Config
from clipes.evaluation.metrics import class_counts
from clipes.io.keyed_cache import KeyedCache
from clipes.io.masks import check_size, read_ids
from clipes.result import decide_masks
from clipes.vocabulary import Vocabulary

from .feature_pass import encoder_settings, file_stat, key_of
from .selection import LabelledImage


class TemplateJudge:
    """Makes the masks of images by each of T templates and counts how they agree with the truth.

    :class:`clipes.prompting.feature_pass.FeaturePass` calls it, chunk by chunk; images are named by their indices.

    Attributes:
        counts: (T, 4, K+1) int64, the fields of :class:`clipes.evaluation.metrics.ClassCounts`, summed.
        judged: over how many images: those that have a mask by every template.
    """

    def __init__(
        self,
        clip: CLIP,
        vocabulary: Vocabulary,
        text: Sequence[Tensor],
        images: Sequence[LabelledImage],
        config: Config,
        cache: KeyedCache,
    ):
        self.counts = np.zeros((len(text), 4, len(vocabulary.class_names) + 1), np.int64)
        self.judged = 0
        self._encoder, self._config, self._cache, self._images, self._text = clip.vision, config, cache, images, text
        self._class_names = vocabulary.class_names
        self._templates = [replace(vocabulary, templates=(one,)).fingerprint for one in vocabulary.templates]
        self._settings = [*encoder_settings(clip), clip.text.fingerprint, config.to_dict()]
        self._truths: dict[int, NDArray[Any]] = {}
        self._key, self._first, self._cached = "", 0, 0
        # By template and place in the chunk: a row for each class that occurs, of the place, the class and its four
        # counts. The cache may hold further templates.
        self._rows: dict[str, dict[int, NDArray[np.int64]]] = {}

    def start(self, images: range) -> None:
        """Begin a chunk with what earlier runs counted."""
        rows = (self._images[index] for index in images)
        parts = [[r.sample.id, file_stat(r.sample.image), r.class_ids, file_stat(r.truth)] for r in rows]
        self._key = key_of("counts", self._settings, parts)
        self._truths.clear()
        self._first, self._rows = images.start, self._load(len(images))
        self._cached = sum(map(len, self._rows.values()))

    def needs(self, index: int) -> bool:
        """Whether an image has a truth and lacks the mask of a template."""
        return self._images[index].truth is not None and not self._is_complete(index - self._first)

    def open(self, index: int, image: Image.Image) -> None:
        """Read the truth of an image. Errors as :func:`clipes.evaluation.judge.read_pair`."""
        path, picture = self._images[index].truth, self._images[index].sample.image
        if path is not None:
            truth = read_ids(path, len(self._class_names))
            check_size((image.height, image.width), picture, truth.shape, path)
            self._truths[index] = truth

    def consume(self, indices: Sequence[int], encoded: Encoded, images: Sequence[Image.Image]) -> None:
        """Judge the masks of images encoded together, for each template that is not done."""
        class_ids = [self._images[index].class_ids if index in self._truths else () for index in indices]
        for template, text in zip(self._templates, self._text, strict=True):
            rows = self._rows[template]
            places = [p for p, i in enumerate(indices) if i in self._truths and i - self._first not in rows]
            if not places:
                continue
            maps = self._maps(encoded, text, class_ids)
            chosen = [images[p] for p in places], [class_ids[p] for p in places], [maps[p] for p in places]
            results = decide_masks(*chosen, self._class_names, self._config)
            for place, result in zip(places, results, strict=True):
                rows[indices[place] - self._first] = self._count(result.mask, indices[place])

    def save(self) -> None:
        """Cache the counts of the chunk, which may not be complete."""
        if sum(map(len, self._rows.values())) > self._cached:
            arrays = {template: np.concatenate(list(rows.values())) for template, rows in self._rows.items() if rows}
            self._cache.put(self._key, arrays)

    def finish(self) -> None:
        """Add the chunk's images that have a mask by every template."""
        complete = [place for place in self._rows[self._templates[0]] if self._is_complete(place)]
        self.judged += len(complete)
        for counts, template in zip(self.counts, self._templates, strict=True):
            for rows in (self._rows[template][place] for place in complete):
                counts[:, rows[:, 1]] += rows[:, 2:].T

    def _is_complete(self, place: int) -> bool:
        return all(place in self._rows[template] for template in self._templates)

    def _count(self, mask: NDArray[Any], index: int) -> NDArray[np.int64]:
        counts = np.stack(class_counts(mask, self._truths[index], len(self._class_names)), axis=1)
        # Class 0 always has a row, so that an image counts as judged even if its truth ignores every pixel.
        classes = np.union1d(0, np.flatnonzero(counts.any(1)))
        return np.column_stack([np.full(len(classes), index - self._first), classes, counts[classes]])

    def _maps(self, encoded: Encoded, text: Tensor, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Each image's maps (C, h, w); none for an image without a label, whose mask is all background."""
        if not any(ids):
            return [text.new_zeros(0, *grid) for grid in encoded.grids]
        return compute_cams(self._encoder, encoded, text, ids, len(self._class_names), self._config)

    def _load(self, images: int) -> dict[str, dict[int, NDArray[np.int64]]]:
        """The cached rows of a chunk; none if one has another form or an index outside the chunk or the classes."""
        cached = self._cache.get(self._key) or {}
        size = images, len(self._class_names) + 1
        if not all(_are_valid(rows, size) for rows in cached.values()):
            cached = {}
        by_place = {t: {int(place): r[r[:, 0] == place] for place in np.unique(r[:, 0])} for t, r in cached.items()}
        return {template: {} for template in self._templates} | by_place


def _are_valid(rows: NDArray[Any], size: tuple[int, int]) -> bool:
    if rows.dtype != np.int64 or rows.shape[1:] != (6,):
        return False
    return bool(((rows[:, :2] >= 0) & (rows[:, :2] < size)).all())
