"""The sharpness of many templates on the user's images, and, with truth, the mIoU of their masks.

The paper chooses its prompt by the sharpness (CLIP-ES section 3.3): no truth is needed to find a better one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.cams.probabilities import label_probabilities
from clipes.clip.attributes import vocabulary_features
from clipes.clip.head import Head
from clipes.clip.weights import CLIP
from clipes.config import PRESETS, Config, choice_name
from clipes.datasets import Sample
from clipes.device.choice import default_batch_size
from clipes.device.inference import inference
from clipes.evaluation.accumulate import Problem, Progress
from clipes.evaluation.bootstrap import DRAWS, interval
from clipes.evaluation.metrics import ClassCounts
from clipes.evaluation.result import number
from clipes.io.keyed_cache import KeyedCache
from clipes.vocabulary import Vocabulary

from .feature_pass import FeaturePass
from .selection import LabelledImage, select_images
from .sharpness import Moments, RankCorrelation, bootstrap, label_moments, pooled, rank_correlation
from .template_judge import TemplateJudge

NOTE = (
    f"lower is better; low and high hold 95 % of {DRAWS:,} bootstrap draws of the images, over_best_low and "
    "over_best_high those of the difference from the best template in the same draws; ranked by the micro average"
)
_BLOCK = 1024  # images whose probabilities are computed at once


@dataclass(frozen=True, eq=False)
class TemplateAnalysis:
    """T templates over one data set; made by :func:`analyse_templates`.

    Attributes:
        templates: T templates, as they were given.
        sharpness: (T,) float64 in [0, 1), lower is better: :func:`clipes.prompting.prompt_sharpness`, "micro".
        macro: (T,) the same, "macro".
        intervals: (T, 2) the ends of the sharpness's bootstrap interval over the images.
        over_best: (T, 2) the ends for the difference from the template of the lowest sharpness, in the same draws.
        miou: (T,) float64, the mean IoU of the templates' masks, as :func:`clipes.evaluation.evaluate` has it, or None.
        correlation: Spearman's, of sharpness and mIoU; None without truth, and for fewer than 3 templates.
        config: the settings of the maps and masks.
        images: how many images with two labels or more the sharpness is taken over.
        judged: how many images the mIoU is taken over.
        single_label, unlabelled: images with one label and with none, which the sharpness leaves out.
        without_truth: images without a truth file, which the mIoU leaves out; None without truth.
        encoded: images that this run encoded; the others' features were cached.
        failed: id and reason of images that could not be read, encoded or judged.
    """

    templates: tuple[str, ...]
    sharpness: NDArray[np.float64]
    macro: NDArray[np.float64]
    intervals: NDArray[np.float64]
    over_best: NDArray[np.float64]
    miou: NDArray[np.float64] | None
    correlation: RankCorrelation | None
    config: Config
    images: int
    judged: int
    single_label: int
    unlabelled: int
    without_truth: int | None
    encoded: int
    failed: tuple[Problem, ...]

    @property
    def best(self) -> str:
        """The template of the lowest sharpness."""
        return self.templates[int(self.sharpness.argmin())]

    @property
    def rivals(self) -> tuple[str, ...]:
        """The templates that these images cannot tell from :attr:`best`: the interval of their difference holds 0."""
        best = self.sharpness.argmin()
        low = self.over_best[:, 0]
        return tuple(t for i, t in enumerate(self.templates) if i != best and low[i] <= 0)

    def table(self) -> list[dict[str, Any]]:
        """A row per template, the lowest sharpness first: ``rank``, ``template``, ``sharpness``, ``low``, ``high``,
        ``macro``, ``over_best_low``, ``over_best_high``, and ``miou`` with truth.
        """
        rows = []
        for rank, index in enumerate(np.argsort(self.sharpness, kind="stable").tolist(), start=1):
            row = {
                "rank": rank,
                "template": self.templates[index],
                "sharpness": float(self.sharpness[index]),
                **dict(zip(("low", "high"), self.intervals[index].tolist(), strict=True)),
                "macro": float(self.macro[index]),
                **dict(zip(("over_best_low", "over_best_high"), self.over_best[index].tolist(), strict=True)),
            }
            rows.append(row if self.miou is None else {**row, "miou": number(self.miou[index])})
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it: None for nan, ``rows`` for the table."""
        counted = ("images", "judged", "single_label", "unlabelled", "without_truth", "encoded")
        correlation = self.correlation and {key: number(value) for key, value in self.correlation._asdict().items()}
        return {
            "note": NOTE,
            "best": self.best,
            "rivals": list(self.rivals),
            "correlation": correlation,
            "refinement": choice_name("refine", self.config.refine) if self.miou is not None else None,
            **{name: getattr(self, name) for name in counted},
            "failed": [problem._asdict() for problem in self.failed],
            "config": self.config.to_dict(),
            "rows": self.table(),
        }


def analyse_templates(
    clip: CLIP,
    vocabulary: Vocabulary,
    samples: Iterable[Sample],
    *,
    config: Config | None = None,
    truth: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> TemplateAnalysis:
    """Take the sharpness of each of the vocabulary's templates over the samples, with one pass over the images.

    >>> from clipes.datasets import find_samples
    >>> from clipes.vocabulary import load_vocabulary
    >>> from clipes.clip.weights import load_clip
    >>> vocabulary = load_vocabulary("voc12", templates="imagenet")
    >>> analysis = analyse_templates(
    ...     load_clip("ViT-B-16", "openai"), vocabulary, find_samples("photos", "labels.csv")
    ... )  # doctest: +SKIP
    >>> analysis.best  # doctest: +SKIP

    Args:
        clip, vocabulary: a model, and classes, background words and the T templates, each taken by itself.
        samples: images and labels. Those with fewer than two labels have no sharpness: they are counted, and encoded
            only if they have a truth.
        config: the method's settings; by default the class set's own without the refinement by colours, which is slow
            for many templates.
        truth: a folder of PNG masks by the images' ids, as :func:`clipes.evaluation.evaluate` takes it: then every
            template's masks are made and judged, too. Pixels that the truth ignores do not count.
        folder: features and counts are cached here, so that a run that was stopped goes on, and other templates cost no
            further pass: see :class:`clipes.prompting.feature_pass.FeaturePass`. None: nothing is cached.
        batch_size: images encoded together; None: 1 on a CPU, else 32.
        progress: wraps the images in a progress bar; called with an iterable, its length and a unit.

    Raises:
        ValueError: an unknown label; no image with two labels, or none that could be read; no truth file with an
            image's name.
        FileNotFoundError, NotADirectoryError: ``truth`` does not exist, or is not a folder.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    images = select_images(samples, vocabulary, truth)
    settings = replace(PRESETS[vocabulary.preset], refine=None) if config is None else config
    cache = KeyedCache(None if folder is None else Path(folder), "features")
    text = _text_features(clip, vocabulary)
    judge = TemplateJudge(clip, vocabulary, text, images, settings, replace(cache, kind="counts"))
    features = FeaturePass(
        clip,
        [image.sample for image in images],
        settings,
        cache,
        batch_size or default_batch_size(clip.vision.device),
        needed=[image.has_multiple_labels for image in images],
        judge=judge if truth is not None else None,
    )
    with closing(features.run()) as steps:
        for _ in progress(steps, sum(image.needs_encoding for image in images), "images"):
            pass
    return _analysis(clip, vocabulary, settings, images, text, features, judge if truth is not None else None)


def _text_features(clip: CLIP, vocabulary: Vocabulary) -> list[Tensor]:
    """The text features of each of T templates, (K + M, V, E)."""
    each = [replace(vocabulary, templates=(template,)) for template in vocabulary.templates]
    return [vocabulary_features(clip.text, one).to(clip.vision.head.projection) for one in each]


def _analysis(
    clip: CLIP,
    vocabulary: Vocabulary,
    config: Config,
    images: list[LabelledImage],
    text: Sequence[Tensor],
    features: FeaturePass,
    judge: TemplateJudge | None,
) -> TemplateAnalysis:
    """The figures of the features, and of the masks where they were judged."""
    used = [index for index, image in enumerate(images) if image.has_multiple_labels and features.encoded[index]]
    failed = features.problems()
    if not used or (judge and not judge.judged):
        raise ValueError(
            f"none of the images with {'truth' if used else 'two labels or more'} could be "
            f"{'judged' if used else 'encoded'}; the first: {failed[0].reason}"
        )
    class_ids = [images[index].class_ids for index in used]
    moments = _template_moments(clip.vision.head, text, features.features[used], class_ids, len(vocabulary.class_names))
    sharpness = pooled(moments)
    draws = bootstrap(moments)
    miou = np.array([ClassCounts(*counts).miou for counts in judge.counts]) if judge else None
    labels = [len(image.class_ids) for image in images]
    return TemplateAnalysis(
        templates=vocabulary.templates,
        sharpness=sharpness,
        macro=pooled(moments, "macro"),
        intervals=interval(draws),
        over_best=interval(draws - draws[:, [sharpness.argmin()]]),
        miou=miou,
        correlation=_correlation(sharpness, miou),
        config=config,
        images=len(used),
        judged=judge.judged if judge else 0,
        single_label=labels.count(1),
        unlabelled=labels.count(0),
        without_truth=sum(image.truth is None for image in images) if judge else None,
        encoded=features.newly_encoded,
        failed=failed,
    )


def _template_moments(
    head: Head,
    text: Sequence[Tensor],
    features: NDArray[np.float32],
    class_ids: Sequence[Sequence[int]],
    class_count: int,
) -> Moments:
    """Variance and mean of each image's label probabilities by each template: two (T, N) float64.

    Takes the text features of T templates, (K + M, V, E) each, image features (N, E), and each image's ids 1..K of
    ``class_count`` = K classes.
    """
    parts = []
    for start in range(0, len(features), _BLOCK):
        block = class_ids[start : start + _BLOCK]
        image = torch.tensor([i for i, ids in enumerate(block) for _ in ids])
        label = torch.tensor([number - 1 for ids in block for number in ids])
        present = torch.zeros(len(block), class_count, dtype=torch.bool)
        present[image, label] = True
        on_device = torch.from_numpy(features[start : start + _BLOCK]).to(head.projection)
        present = present.to(head.projection.device)
        rows = []
        with inference():
            for one in text:
                probabilities = label_probabilities(on_device, one, present, head.logit_scale)
                rows.append(probabilities.cpu()[image, label].numpy())
        parts.append(label_moments(np.stack(rows), np.array([len(ids) for ids in block])))
    return Moments(*(np.concatenate(moments, axis=1) for moments in zip(*parts, strict=True)))


def _correlation(sharpness: NDArray[np.float64], miou: NDArray[np.float64] | None) -> RankCorrelation | None:
    if miou is None or len(miou) < 3 or np.isnan(miou).any():  # nan for all, where the truth ignores every pixel
        return None
    return rank_correlation(sharpness, miou)
