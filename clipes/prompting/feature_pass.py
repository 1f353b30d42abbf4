"""One pass over a data set's images for many templates: each image is encoded once, whatever the number of templates.

Kept of an image are its feature, from which every template's label probabilities follow, and, if its truth is there,
how its mask by each template agrees with it. Axes: n images of a chunk, T templates, K classes, M backgrounds, V names.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.cams.gradcam import label_probabilities
from clipes.cams.localization import encode_images, localize
from clipes.clip.encoder import Encoded, fingerprint
from clipes.clip.head import image_features
from clipes.clip.text import text_features
from clipes.clip.weights import Clip
from clipes.config import Config
from clipes.decision import decide_masks
from clipes.device.errors import is_out_of_memory
from clipes.evaluation.accumulate import Problem
from clipes.evaluation.metrics import class_counts
from clipes.io.images import open_image
from clipes.io.masks import check_size, read_ids
from clipes.vocabulary import Vocabulary

from .feature_cache import Row, chunks, counts_key, features_key, read_chunk, write_chunk
from .sharpness import Moments, label_moments


@dataclass
class Found:
    """What is known of a chunk's images.

    ``counts`` has a row for each image, template and class that occurs: their places, then the four fields of
    :class:`clipes.evaluation.metrics.ClassCounts`. ``judged`` (n, T') says which images' masks are in it; T' >= T, as a
    file may hold other templates, too.
    """

    has_feature: NDArray[np.bool_]  # (n,)
    features: NDArray[np.float32]  # (n, E)
    templates: list[str]  # T' fingerprints, those that are wanted first
    judged: NDArray[np.bool_]  # (n, T')
    counts: list[NDArray[np.int64]]  # each (R, 7)


@dataclass
class Survey:
    """What the pass adds up: moments (T, N), counts (T, 4, K + 1), and how the images ended."""

    moments: list[Moments] = field(default_factory=list)
    counts: Any = 0
    images: int = 0  # with several labels, encoded now or before
    judged: int = 0  # by the truth, with every template
    encoded: int = 0  # in this run
    failed: list[Problem] = field(default_factory=list)


class Surveyor:
    """The pass over the images; :meth:`walk` takes it."""

    def __init__(self, clip: Clip, vocabulary: Vocabulary, config: Config, folder: Path | None, batch_size: int):
        self.encoder, self.config, self.folder, self.batch_size = clip.encoder, config, folder, batch_size
        self.class_names = vocabulary.class_names
        alone = [replace(vocabulary, templates=(template,)) for template in vocabulary.templates]
        self.templates = [one.fingerprint for one in alone]
        like = clip.encoder.head.projection
        self.text = [text_features(clip.text, one.sentences()).to(like) for one in alone]  # T of (K + M, V, E)
        model = [fingerprint(clip.encoder), str(clip.encoder.device.type), torch.__version__]
        stages = config.to_dict()
        self._feature_settings = [*model, stages["image"], stages["cam"]]
        self._count_settings = [*model, clip.text.fingerprint, stages]

    def walk(self, rows: Sequence[Row], survey: Survey) -> Generator[None, None, None]:
        """Go through the images that are wanted, yielding once for each, and add what is found to ``survey``."""
        for chunk in chunks(rows):
            keys = features_key(chunk, self._feature_settings), counts_key(chunk, self._count_settings)
            found = self._read(chunk, *keys)
            before = found.has_feature.sum(), found.judged.sum()
            reasons: dict[int, str] = {}
            try:
                yield from self._complete(chunk, found, reasons, survey)
            finally:  # stopped half-way, too
                if found.has_feature.sum() > before[0]:
                    arrays = {"has_feature": found.has_feature, "features": found.features}
                    write_chunk(self.folder, "features", keys[0], arrays)
                if found.judged.sum() > before[1]:
                    templates, counts = np.array(found.templates), np.concatenate(found.counts)
                    counts = counts[found.judged[counts[:, 0], counts[:, 1]]]  # an interrupt may fall between the two
                    arrays = {"templates": templates, "judged": found.judged, "counts": counts}
                    write_chunk(self.folder, "counts", keys[1], arrays)
            self._add(chunk, found, reasons, survey)

    def _read(self, chunk: Sequence[Row], features_key: str, counts_key: str) -> Found:
        """What earlier runs have found of the chunk."""
        width = self.encoder.head.projection.shape[1]
        found = Found(
            has_feature=np.zeros(len(chunk), bool),
            features=np.zeros((len(chunk), width), np.float32),
            templates=self.templates,
            judged=np.zeros((len(chunk), len(self.templates)), bool),
            counts=[],
        )
        if (arrays := read_chunk(self.folder, "features", features_key)) and _fits(arrays, found):
            found.has_feature, found.features = arrays["has_feature"], arrays["features"]
        if (arrays := read_chunk(self.folder, "counts", counts_key)) and _adds_up(arrays, len(chunk)):
            kept, counts = arrays["templates"].tolist(), arrays["counts"]
            found.templates = list(dict.fromkeys([*self.templates, *kept]))
            places = np.array([found.templates.index(template) for template in kept])
            found.judged = np.zeros((len(chunk), len(found.templates)), bool)
            found.judged[:, places] = arrays["judged"]
            counts[:, 1] = places[counts[:, 1]]
            found.counts = [counts]
        return found

    def _complete(self, chunk: Sequence[Row], found: Found, reasons: dict[int, str], survey: Survey) -> Iterator[None]:
        """Find what is not known yet, ``batch_size`` images at a time; yields for each that is wanted."""
        wanted = [index for index, row in enumerate(chunk) if row.wanted]
        open_ones = [index for index in wanted if self._missing(chunk, found, index)]
        yield from (None for _ in range(len(wanted) - len(open_ones)))
        for start in range(0, len(open_ones), self.batch_size):
            batch = open_ones[start : start + self.batch_size]
            images: dict[int, Image.Image] = {}
            truths: dict[int, NDArray[Any]] = {}
            for index in batch:
                try:
                    self._open(chunk[index], index, found, images, truths)
                except (ValueError, OSError, MemoryError) as error:
                    reasons[index] = str(error) or "out of memory"
            survey.encoded += len(images)
            self._look(chunk, found, images, truths, reasons)
            yield from (None for _ in batch)

    def _missing(self, chunk: Sequence[Row], found: Found, index: int) -> bool:
        row = chunk[index]
        unjudged = row.truth is not None and not found.judged[index, : len(self.templates)].all()
        return unjudged or (row.several and not found.has_feature[index])

    def _open(
        self, row: Row, index: int, found: Found, images: dict[int, Image.Image], truths: dict[int, NDArray[Any]]
    ) -> None:
        """Read an image and its truth; where the truth fails, the image may still be wanted for its feature."""
        image = open_image(row.sample.image)
        try:
            if row.truth is not None:
                truth = read_ids(row.truth, len(self.class_names))
                check_size((image.height, image.width), row.sample.image, truth.shape, row.truth)
                truths[index] = truth
        finally:
            if index in truths or (row.several and not found.has_feature[index]):
                images[index] = image

    def _look(
        self,
        chunk: Sequence[Row],
        found: Found,
        images: dict[int, Image.Image],
        truths: dict[int, NDArray[Any]],
        reasons: dict[int, str],
    ) -> None:
        """Encode the images and take what is needed of them; a batch that fails is halved down to the culprit."""
        members = list(images)
        if not members:
            return
        # The attention is of use for maps alone.
        config = self.config if truths else replace(self.config, affinity=None)
        try:
            for places, encoded in encode_images(self.encoder, list(images.values()), config):
                group = [members[place] for place in places]
                self._take_features(found, group, encoded)
                self._judge(chunk, found, group, encoded, images, truths)
            return
        except (ValueError, FloatingPointError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            cause = str(error) or "out of memory"
        # Out of the handler: the error's traceback keeps the failed batch's tensors alive.
        if len(members) == 1:
            reasons[members[0]] = cause
            return
        middle = len(members) // 2
        for half in (members[:middle], members[middle:]):
            part = {index: truths[index] for index in half if index in truths}
            self._look(chunk, found, {index: images[index] for index in half}, part, reasons)

    def _take_features(self, found: Found, group: Sequence[int], encoded: Encoded) -> None:
        with torch.inference_mode():
            features = image_features(self.encoder.head, encoded.trace, self.config.cam.pool).float()
        if not features.isfinite().all():
            raise FloatingPointError(
                "an image feature is not finite; if the precision is lower, load with precision='fp32', else look at "
                "the weights"
            )
        found.features[group] = features.cpu().numpy()
        found.has_feature[group] = True

    def _judge(
        self,
        chunk: Sequence[Row],
        found: Found,
        group: Sequence[int],
        encoded: Encoded,
        images: dict[int, Image.Image],
        truths: dict[int, NDArray[Any]],
    ) -> None:
        """Count how the masks of a group of images agree with the truth, for each template not done before."""
        ids = [chunk[index].class_ids if index in truths else () for index in group]
        for place, text in enumerate(self.text):
            if all(index not in truths or found.judged[index, place] for index in group):
                continue
            maps = self._maps(encoded, text, ids)
            judged = [(i, n) for i, n in enumerate(group) if n in truths and not found.judged[n, place]]
            pictures = [images[index] for _, index in judged]
            chosen = [ids[i] for i, _ in judged], [maps[i] for i, _ in judged]
            results = decide_masks(pictures, *chosen, self.class_names, self.config)
            for (_, index), result in zip(judged, results, strict=True):
                counts = np.stack(class_counts(result.mask, truths[index], len(self.class_names)), axis=1)
                classes = np.flatnonzero(counts.any(1))
                where = np.broadcast_to([index, place], (len(classes), 2))
                found.counts.append(np.column_stack([where, classes, counts[classes]]))
                found.judged[index, place] = True

    def _maps(self, encoded: Encoded, text: Tensor, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Each image's maps (C, h, w); none for an image without a label, whose mask is all background."""
        if not any(ids):
            return [text.new_zeros(0, *grid) for grid in encoded.grids]
        return localize(self.encoder, encoded, text, ids, len(self.class_names), self.config)

    def _add(self, chunk: Sequence[Row], found: Found, reasons: dict[int, str], survey: Survey) -> None:
        """Add a chunk to what was found before."""
        templates = len(self.templates)
        several = [i for i, row in enumerate(chunk) if row.several and found.has_feature[i]]
        survey.images += len(several)
        if several:
            survey.moments.append(self._moments(found.features[several], [chunk[i].class_ids for i in several]))
        complete = np.array([row.truth is not None for row in chunk]) & found.judged[:, :templates].all(1)
        survey.judged += int(complete.sum())
        total = np.zeros((templates, len(self.class_names) + 1, 4), np.int64)
        for rows in found.counts:
            kept = rows[complete[rows[:, 0]] & (rows[:, 1] < templates)]
            np.add.at(total, (kept[:, 1], kept[:, 2]), kept[:, 3:])
        survey.counts = survey.counts + total.transpose(0, 2, 1)
        survey.failed += [_problem(chunk[index], reason) for index, reason in sorted(reasons.items())]

    def _moments(self, features: NDArray[np.float32], class_ids: Sequence[Sequence[int]]) -> Moments:
        """Variance and mean of each image's label probabilities by each template: two (T, n)."""
        image = torch.tensor([i for i, ids in enumerate(class_ids) for _ in ids])
        label = torch.tensor([number - 1 for ids in class_ids for number in ids])
        head = self.encoder.head
        present = torch.zeros(len(class_ids), len(self.class_names), dtype=torch.bool)
        present[image, label] = True
        on_device = torch.from_numpy(features).to(head.projection), present.to(head.projection.device)
        found = []
        with torch.inference_mode():
            for text in self.text:
                all_of_them = label_probabilities(on_device[0], text, on_device[1], head.logit_scale)
                found.append(all_of_them.cpu()[image, label].numpy())
        return label_moments(np.stack(found), np.array([len(ids) for ids in class_ids]))


def _adds_up(arrays: dict[str, NDArray[Any]], images: int) -> bool:
    """The same of a file's counts."""
    if arrays.keys() != {"templates", "judged", "counts"} or arrays["counts"].shape[1:] != (7,):
        return False
    size = images, len(arrays["templates"])
    places = arrays["counts"][:, :2]
    inside = (places >= 0) & (places < size)
    return arrays["judged"].shape == size and arrays["counts"].dtype == np.int64 and bool(inside.all())


def _fits(arrays: dict[str, NDArray[Any]], found: Found) -> bool:
    """Whether a file's features are what they should be; one with the right key may have been changed all the same."""
    wanted = {"has_feature": found.has_feature, "features": found.features}
    given, needed = ({n: (a.shape, a.dtype) for n, a in each.items()} for each in (arrays, wanted))
    return given == needed and bool(np.isfinite(arrays["features"]).all())


def _problem(row: Row, reason: str) -> Problem:
    path = str(row.sample.image)
    return Problem(row.sample.id, reason if reason.startswith(path) else f"{path}: {reason.removesuffix(f': {path}')}")
