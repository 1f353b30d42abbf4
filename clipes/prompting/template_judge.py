"""How the masks of many templates agree with the truth, image by image, while the images are encoded.

Axes: n images of a chunk, T templates, K classes, M backgrounds, V names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass
class _Chunk:
    """What is known of n images.

    ``counts`` has a row for each image, template and class that occurs: their three indices, then the four fields of
    :class:`clipes.evaluation.metrics.ClassCounts`. ``judged`` (n, T') says which images' masks are in it; T' >= T,
    because a cached file may hold further templates.
    """

    images: range
    templates: list[str]  # T' fingerprints, those of this analysis first
    judged: NDArray[np.bool_]  # (n, T')
    counts: list[NDArray[np.int64]]  # each (R, 7)


class TemplateJudge:
    """Makes the masks of images by each of T templates and counts how they agree with the truth.

    A :class:`clipes.prompting.feature_pass.Consumer`. Adds up: ``counts`` (T, 4, K+1) int64, the fields of
    :class:`clipes.evaluation.metrics.ClassCounts`, over ``judged`` images that have a mask by every template.
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
        self._key, self._cached, self._chunk = "", 0, self._new_chunk(range(0))

    def start(self, images: range) -> None:
        """Begin a chunk with what earlier runs counted."""
        rows = (self._images[index] for index in images)
        parts = [[r.sample.id, file_stat(r.sample.image), r.class_ids, file_stat(r.truth)] for r in rows]
        self._key = key_of("counts", self._settings, parts)
        self._truths.clear()
        self._chunk = self._load(images)
        self._cached = self._chunk.judged.sum()

    def needs(self, index: int) -> bool:
        """Whether an image has a truth and lacks the mask of a template."""
        judged = self._chunk.judged[index - self._chunk.images.start, : len(self._templates)]
        return self._images[index].truth is not None and not judged.all()

    def open(self, index: int, image: Image.Image) -> None:
        """Read an image's truth; errors as :func:`clipes.evaluation.judge.read_pair`."""
        path, picture = self._images[index].truth, self._images[index].sample.image
        if path is not None:
            truth = read_ids(path, len(self._class_names))
            check_size((image.height, image.width), picture, truth.shape, path)
            self._truths[index] = truth

    def consume(self, indices: Sequence[int], encoded: Encoded, images: Sequence[Image.Image]) -> None:
        """Judge the masks of images encoded together, for each template that is not done."""
        first, chunk = self._chunk.images.start, self._chunk
        class_ids = [self._images[index].class_ids if index in self._truths else () for index in indices]
        for template, text in enumerate(self._text):
            places = [
                place
                for place, index in enumerate(indices)
                if index in self._truths and not chunk.judged[index - first, template]
            ]
            if not places:
                continue
            maps = self._maps(encoded, text, class_ids)
            chosen = [images[p] for p in places], [class_ids[p] for p in places], [maps[p] for p in places]
            results = decide_masks(*chosen, self._class_names, self._config)
            for place, result in zip(places, results, strict=True):
                index = indices[place]
                counts = np.stack(class_counts(result.mask, self._truths[index], len(self._class_names)), axis=1)
                classes = np.flatnonzero(counts.any(1))
                which = np.broadcast_to([index - first, template], (len(classes), 2))
                chunk.counts.append(np.column_stack([which, classes, counts[classes]]))
                chunk.judged[index - first, template] = True

    def save(self) -> None:
        """Cache the counts of the chunk. Drops counts whose ``judged`` flag a stop left unset."""
        chunk = self._chunk
        if chunk.judged.sum() > self._cached:
            counts = np.concatenate(chunk.counts)
            counts = counts[chunk.judged[counts[:, 0], counts[:, 1]]]
            arrays = {"templates": np.array(chunk.templates), "judged": chunk.judged, "counts": counts}
            self._cache.put(self._key, arrays)

    def finish(self) -> None:
        """Add the chunk's images that have a mask by every template."""
        templates, chunk = len(self._templates), self._chunk
        complete = chunk.judged[:, :templates].all(1)
        complete &= np.array([self._images[index].truth is not None for index in chunk.images])
        self.judged += int(complete.sum())
        for rows in chunk.counts:
            kept = rows[complete[rows[:, 0]] & (rows[:, 1] < templates)]
            np.add.at(self.counts.transpose(0, 2, 1), (kept[:, 1], kept[:, 2]), kept[:, 3:])

    def _maps(self, encoded: Encoded, text: Tensor, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Each image's maps (C, h, w); none for an image without a label, whose mask is all background."""
        if not any(ids):
            return [text.new_zeros(0, *grid) for grid in encoded.grids]
        return compute_cams(self._encoder, encoded, text, ids, len(self._class_names), self._config)

    def _new_chunk(self, images: range) -> _Chunk:
        return _Chunk(images, self._templates, np.zeros((len(images), len(self._templates)), bool), [])

    def _load(self, images: range) -> _Chunk:
        """The chunk from the cache, its templates in the order of this analysis; else an empty one."""
        chunk, arrays = self._new_chunk(images), self._cache.get(self._key)
        if arrays and _has_valid_counts(arrays, len(images)):
            cached, counts = arrays["templates"].tolist(), arrays["counts"]
            templates = list(dict.fromkeys([*self._templates, *cached]))
            places = np.array([templates.index(template) for template in cached])
            judged = np.zeros((len(images), len(templates)), bool)
            judged[:, places] = arrays["judged"]
            counts[:, 1] = places[counts[:, 1]]
            chunk = _Chunk(images, templates, judged, [counts])
        return chunk


def _has_valid_counts(arrays: dict[str, NDArray[Any]], images: int) -> bool:
    """Whether a cached file of counts has the expected shapes and indices."""
    if arrays.keys() != {"templates", "judged", "counts"} or arrays["counts"].shape[1:] != (7,):
        return False
    size = images, len(arrays["templates"])
    indices = arrays["counts"][:, :2]
    inside = (indices >= 0) & (indices < size)
    return arrays["judged"].shape == size and arrays["counts"].dtype == np.int64 and bool(inside.all())
