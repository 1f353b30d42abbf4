"""A plan against what is there: its images, labels and output folder are checked before any model is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from clipes.datasets import Sample, Samples, find_samples
from clipes.io.paths import source_text
from clipes.regions.folder import FoundRegions, find_regions
from clipes.regions.superpixels import check_installed
from clipes.tags.checks import check_tagging
from clipes.vocabulary import Vocabulary, check_labels, stuff_words

from .plan import Plan
from .preflight import check_folder


@dataclass(frozen=True)
class PreparedRun:
    """A plan whose images were found. Made by :func:`prepare`.

    Attributes:
        plan: the plan.
        vocabulary: the classes and words that the plan chooses.
        samples: the images of the whole data set with their labels.
        notes: what the run will leave out, a sentence each.
        regions: where the images' regions are, if the plan names any.
    """

    plan: Plan
    vocabulary: Vocabulary
    samples: Samples
    notes: tuple[str, ...] = ()
    regions: FoundRegions | None = None

    @property
    def with_regions(self) -> Iterable[Sample]:
        """The samples, each with the place of its regions, if the plan names any."""
        return self.samples if self.regions is None else self.regions.added_to(self.samples)

    @property
    def images(self) -> int:
        """How many images the plan's shard has."""
        shard = self.plan.placement.shard
        if shard.count == 1:
            return len(self.samples)
        return sum(shard.holds(sample.id) for sample in self.samples)

    def with_background(self, words: tuple[str, ...]) -> PreparedRun:
        """The same with these background words, for a plan whose images choose them."""
        if self.plan.vocabulary is None:
            raise ValueError("the plan has no vocabulary to change; its generator has one")
        plan = replace(self.plan, vocabulary=replace(self.plan.vocabulary, background=words))
        return replace(self, plan=plan, vocabulary=replace(self.vocabulary, background_names=words))


def prepare(plan: Plan, vocabulary: Vocabulary | None = None) -> PreparedRun:
    """Find the images of ``plan`` and check its labels and its output folder; writes nothing, loads no model.

    ``vocabulary`` is needed where the plan has none, which is that of a run by a generator of the caller's.

    Raises:
        FileNotFoundError: a missing source, labels file, or folder of regions.
        ImportError: superpixels without scikit-image.
        ValueError: an unknown class, a malformed source, an output folder that is not a run's, or that lies in the
            source; see :func:`clipes.datasets.find_samples` and :func:`clipes.runs.preflight.check_folder`.
    """
    if vocabulary is None:
        if plan.vocabulary is None:
            raise ValueError("the plan has no vocabulary; give one, or run it with its generator")
        vocabulary = plan.vocabulary.load()
        if plan.vocabulary.background == "auto":  # any of these may be chosen, so labels are checked with all
            vocabulary = replace(vocabulary, background_names=stuff_words())
    check_installed(plan.config.regions)
    faults = plan.faults
    samples = find_samples(
        plan.source,
        plan.labels,
        class_names=vocabulary.numbered_names,
        missing=faults.missing,
        unlabelled=faults.unlabelled,
        table=plan.table,
    )
    if samples.unlabelled and plan.output.format != "patches":
        check_tagging(vocabulary, plan.config)
    unknown, first = check_labels(samples, vocabulary, faults.unknown == "skip")
    check_folder(plan.source, samples, plan.output, faults.overwrite)
    notes = [*samples.notes, *_without_label(samples)]
    if samples.unused_rows:
        notes.append(
            f"{samples.unused_rows} row(s) of {plan.labels} name no image of {source_text(plan.source)}, "
            f"{samples.first_unused!r} the first"
        )
    if unknown:
        notes.append(f"{unknown} image(s) with unknown labels will be skipped; {first}")
    regions = None if plan.regions is None else find_regions(samples, Path(plan.regions))
    notes += [] if regions is None else regions.notes
    return PreparedRun(plan, vocabulary, samples, tuple(notes), regions)


def _without_label(samples: Samples) -> Iterator[str]:
    """Yield how many images have no label, if any; warn if it is all of them, which is nearly always a mistake."""
    count, total = samples.without_label, len(samples)
    if count == total:
        where = f"; the first is that of {origin}" if (origin := samples[0].origin) else ""
        warnings.warn(
            f"none of the {total} image(s) has a label, so that every mask is all background{where}; give names or a "
            "labels file (--labels), or name its column (--label-column)",
            stacklevel=4,
        )
    elif count:
        yield f"{count} of {total} image(s) without a label: all background"
    if unlabelled := samples.unlabelled:
        yield f"{unlabelled} of {total} image(s) get their labels by CLIP"
