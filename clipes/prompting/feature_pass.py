"""One pass over a data set's images: each is encoded once, and its feature is cached.

Axes: N images, E embedding.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from clipes._version import __version__
from clipes.cams.compute import encode_images
from clipes.clip.head import image_features
from clipes.clip.vision import Encoded, fingerprint
from clipes.clip.weights import CLIP
from clipes.config import Config
from clipes.datasets import Sample
from clipes.device.backoff import Backoff, Failure
from clipes.device.inference import inference
from clipes.evaluation.accumulate import Problem
from clipes.io.atomic import remove_stale
from clipes.io.images import TarMember, open_image
from clipes.io.keyed_cache import KeyedCache

if TYPE_CHECKING:
    from .template_judge import TemplateJudge

CHUNK = 64
"""Images whose features are one file of the cache: what a run that is killed loses at most."""


class FeaturePass:
    """Encodes images in chunks of 64; see :meth:`run`. Its attributes are filled on the way.

    Attributes:
        features: (N, E) float32, not normalised; 0 where there is none.
        encoded: (N,) bool, whether an image has its feature, by this run or from the cache.
        newly_encoded: how many images this run encoded.
        reasons: an image's index to the reason why it could not be read or encoded.
    """

    def __init__(
        self,
        clip: CLIP,
        samples: Sequence[Sample],
        config: Config,
        cache: KeyedCache,
        batch_size: int = 1,
        needed: Sequence[bool] | None = None,
        judge: TemplateJudge | None = None,
    ):
        if not config.views.single:
            raise ValueError("the analysis of words encodes each picture once; leave out --scales, --flip and --tile")
        self.samples, self.needed = samples, needed or [True] * len(samples)
        self.features = np.zeros((len(samples), clip.vision.head.projection.shape[1]), np.float32)
        self.encoded = np.zeros(len(samples), bool)
        self.newly_encoded = 0
        self.reasons: dict[int, str] = {}
        self._encoder, self._config, self._batch_size, self._judge = clip.vision, config, batch_size, judge
        self._cache, self._backoff = cache, Backoff(batch_size)
        self._settings = [*encoder_settings(clip), config.to_dict()["image"], config.pool]

    def run(self) -> Generator[Sample, None, None]:
        """Go through the images; yields each that is needed when it is done.

        An image that cannot be read or encoded is noted in ``reasons``, and tried again by the next run. A run that is
        stopped caches its results, and the next run continues from them.

        Raises OSError if the cache cannot be written, DeviceLost and other errors that no image is to blame for.
        """
        if self._cache.folder is not None:
            remove_stale(self._cache.folder)
        for start in range(0, len(self.samples), CHUNK):
            yield from self._run_chunk(range(start, min(start + CHUNK, len(self.samples))))

    def problems(self) -> tuple[Problem, ...]:
        """The ids and reasons of images that failed, in order; each reason begins with the image's path."""
        return tuple(_problem(self.samples[index], reason) for index, reason in sorted(self.reasons.items()))

    def _run_chunk(self, chunk: range) -> Generator[Sample, None, None]:
        key = key_of("features", self._settings, [[s.id, file_stat(s.image)] for s in self._samples_of(chunk)])
        where = slice(chunk.start, chunk.stop)
        self._load(where, key)
        cached = self.encoded[where].sum()
        if self._judge:
            self._judge.start(chunk)
        wanted = [index for index in chunk if self.needed[index] or (self._judge and self._judge.needs(index))]
        missing = [index for index in wanted if self._is_missing(index)]
        try:
            yield from (self.samples[index] for index in wanted if index not in set(missing))
            for start in range(0, len(missing), self._batch_size):
                batch = missing[start : start + self._batch_size]
                self._encode(batch)
                yield from self._samples_of(batch)
        finally:  # when the run is stopped, too
            if self.encoded[where].sum() > cached:
                self._cache.put(key, {"has_feature": self.encoded[where], "features": self.features[where]})
            if self._judge:
                self._judge.save()
        if self._judge:
            self._judge.finish()

    def _samples_of(self, indices: Sequence[int]) -> list[Sample]:
        return [self.samples[index] for index in indices]

    def _load(self, where: slice, key: str) -> None:
        """Take a chunk from the cache, if the cached arrays have the expected shapes and types and are finite."""
        arrays = self._cache.get(key) or {}
        expected = {"has_feature": self.encoded[where], "features": self.features[where]}
        forms = [{name: (a.shape, a.dtype) for name, a in each.items()} for each in (arrays, expected)]
        if forms[0] == forms[1] and np.isfinite(arrays["features"]).all():
            self.encoded[where], self.features[where] = arrays["has_feature"], arrays["features"]

    def _is_missing(self, index: int) -> bool:
        lacks_feature = self.needed[index] and not self.encoded[index]
        return lacks_feature or bool(self._judge and self._judge.needs(index))

    def _encode(self, batch: Sequence[int]) -> None:
        images: dict[int, Image.Image] = {}
        for index in batch:
            try:
                self._open(index, images)
            except (ValueError, OSError, MemoryError) as error:
                self.reasons[index] = str(error) or "out of memory"
        self.newly_encoded += len(images)
        results = self._backoff.run(list(images), partial(self._encode_together, images))
        for index, result in zip(images, results, strict=True):
            if isinstance(result, Failure):
                self.reasons[index] = result.reason

    def _open(self, index: int, images: dict[int, Image.Image]) -> None:
        """Read an image; where its truth fails, its feature may still be needed."""
        image = open_image(self.samples[index].image)
        if self.needed[index] and not self.encoded[index]:
            images[index] = image
        if self._judge and self._judge.needs(index):
            self._judge.open(index, image)
            images[index] = image

    def _encode_together(self, images: dict[int, Image.Image], indices: Sequence[int]) -> list[None]:
        config = self._config
        if not (self._judge and any(map(self._judge.needs, indices))):
            config = replace(config, affinity=None)  # only maps need the attention
        for places, encoded in encode_images(self._encoder, [images[index] for index in indices], config):
            group = [indices[place] for place in places]
            self._take_features(group, encoded)
            if self._judge:
                self._judge.consume(group, encoded, [images[index] for index in group])
        return [None] * len(indices)

    def _take_features(self, group: Sequence[int], encoded: Encoded) -> None:
        with inference():
            features = image_features(self._encoder.head, encoded.last_block, self._config.pool).float()
        if not features.isfinite().all():
            raise FloatingPointError(
                "an image feature is not finite; if the precision is lower, load with precision='fp32', else look at "
                "the weights"
            )
        self.features[group] = features.cpu().numpy()
        self.encoded[group] = True


def encoder_settings(clip: CLIP) -> list[str]:
    """What encoded images depend on besides the pictures and their settings."""
    return [fingerprint(clip.vision), clip.vision.device.type, torch.__version__]


def key_of(*parts: Any) -> str:
    """The SHA-256 of our version and of ``parts``, which JSON must hold."""
    return hashlib.sha256(json.dumps([__version__, *parts], sort_keys=True).encode()).hexdigest()


def file_stat(path: Path | TarMember | None) -> list[int] | None:
    """Size and time of a file, and its place if it is in a .tar; None for a file that does not exist."""
    if isinstance(path, TarMember):
        return [*(file_stat(path.tar) or ()), path.offset, path.size]
    try:
        stat = os.stat(path) if path is not None else None
    except (OSError, ValueError):  # the reader will say what is wrong
        return None
    return stat and [stat.st_size, stat.st_mtime_ns]


def _problem(sample: Sample, reason: str) -> Problem:
    path = str(sample.image)
    return Problem(sample.id, reason if reason.startswith(path) else f"{path}: {reason.removesuffix(f': {path}')}")
