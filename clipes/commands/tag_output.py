"""What ``clipes tag`` writes when all images have scores: thresholds, the table and its page, or labels in doubt."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import print_table, printable

if TYPE_CHECKING:
    from clipes.config import TagRuleConfig
    from clipes.datasets import Samples
    from clipes.report.tag_page import TagPage
    from clipes.runs.prepare import PreparedRun
    from clipes.runs.tag_table import TaggedSample
    from clipes.store.store import Store


class TagOutput:
    """The output of a command. The tables of labels that it names are read when it is made, before any image.

    Raises ValueError for tables that cannot be read, for unknown labels, and for too few labels to fit thresholds to.
    """

    def __init__(self, options: argparse.Namespace, prepared: PreparedRun, rule: TagRuleConfig) -> None:
        from clipes.tags.checks import check_tagging

        self._out, self._rule, self._prepared = options.out, rule, prepared
        check_tagging(prepared.vocabulary, replace(prepared.plan.config, tag_rule=rule))
        self._check_names(options)
        self._check = self._read(options.check, "skip") if options.check else None
        self._some, self._some_name = None, options.calibrate
        self._samples = prepared.samples
        if options.calibrate:
            from clipes.tags.calibrate import check_enough

            self._some = self._read(options.calibrate, "skip")
            check_enough(len(self._some), sum(len(sample.labels) for sample in self._some))
            if options.labels:
                self._samples = self._read(options.labels, "tag")

    def _check_names(self, options: argparse.Namespace) -> None:
        """Raise ValueError for an output that would replace what is read, or cannot be written for its name."""
        from clipes.runs.tag_table import SEPARATOR

        for path in (self._out, self._page, self._thresholds):
            if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
                raise ValueError(f"{path} is a folder, a link or a device, and is not written over; give another --out")
        for flag in ("labels", "calibrate", "check"):
            read = getattr(options, flag)
            if read and os.path.exists(self._out) and os.path.isfile(read) and os.path.samefile(read, self._out):
                raise ValueError(f"--out {self._out} would replace the table of --{flag}; give another name")
        if self._out.suffix.lower() == ".csv":
            for name in self._prepared.vocabulary.class_names:
                if SEPARATOR in name:
                    cure = "write .jsonl, or call it otherwise"
                    raise ValueError(f"the class {name!r} holds a {SEPARATOR!r}, which parts labels in a .csv; {cure}")
        elif options.check:
            raise ValueError(f"labels in doubt are a .csv file, not {os.fspath(self._out)!r}; end its name in .csv")

    def _read(self, labels: Any, unlabelled: Any) -> Samples:
        from clipes.datasets import find_samples
        from clipes.vocabulary import check_labels

        plan, vocabulary = self._prepared.plan, self._prepared.vocabulary
        samples = find_samples(
            plan.source,
            labels,
            class_names=vocabulary.numbered_names,
            missing=plan.faults.missing,
            unlabelled=unlabelled,
            table=plan.table,
        )
        check_labels(samples, vocabulary, False)
        return samples

    def write(self, store: Store) -> None:
        """Write everything from the scores of the store, and print what was written."""
        rule = self._rule if self._some is None else self._calibrated(self._some, store)
        if self._check is not None:
            self._write_doubts(self._check, store, rule)
        else:
            self._write_tags(store, rule)

    @property
    def _page(self) -> Path:
        return Path(f"{self._out}.html")

    @property
    def _thresholds(self) -> Path:
        return Path(f"{self._out}.thresholds.json")

    def _about(self, images: int) -> str:
        """The line below a page's title: images, model, classes, how labels are made."""
        from clipes.config import choice_name

        plan = self._prepared.plan
        model = " ".join(filter(None, (plan.model.model, plan.model.pretrained))) if plan.model else ""
        vocabulary = self._prepared.vocabulary
        rule = "per-class" if self._some is not None else choice_name("tag_rule", self._rule)
        method = f"scores {choice_name('tags', plan.config.tags)}, rule {rule}"
        parts = (f"{images:,} images", model, f"{len(vocabulary.class_names):,} classes of {vocabulary.name}", method)
        return " · ".join(filter(None, parts))

    def _calibrated(self, some: Samples, store: Store) -> TagRuleConfig:
        """Fit thresholds to the labelled images, write and print them."""
        from clipes.config import PerClassRuleConfig
        from clipes.runs.tag_table import score_matrix
        from clipes.tags.calibrate import calibrate
        from clipes.tags.thresholds import write_thresholds

        scores, shown, _ = score_matrix(some, store)
        found = calibrate(scores, shown)
        names = store.class_names
        rows = [
            (name, f"{threshold:.4f}", "-" if f1 != f1 else f"{f1:.3f}", str(images))
            for name, threshold, f1, images in zip(names, found.thresholds, found.f1, found.images, strict=True)
        ]
        print_table(("class", "threshold", "F1", "images"), rows, left=("class",))
        print(
            f"thresholds of the highest F1 on {len(scores)} images of {self._some_name}; F1 is of images that they were"
            f" not fitted to ({found.folds} folds), mean {found.mean_f1:.3f}"
        )
        write_thresholds(self._thresholds, found, names)
        print(f"thresholds written to {printable(self._thresholds)}, for --thresholds")
        return PerClassRuleConfig(tuple(round(one, 6) for one in found.thresholds.tolist()))

    def _write_tags(self, store: Store, rule: TagRuleConfig) -> None:
        from clipes.report.tag_page import TagPage
        from clipes.runs.tag_table import tagged_samples, write_tag_table

        page = TagPage(store.class_names, rule)
        counts = write_tag_table(self._out, _shown_on(page, tagged_samples(self._samples, store, rule)))
        page.write(self._page, self._out.name, self._about(counts.images))
        found = f"CLIP found those of {counts.tagged}"
        print(f"labels of {counts.images} images written to {printable(self._out)}; {found}")
        if counts.without_label:
            print(f"{counts.without_label} of them show nothing of the list: all background")
        if counts.near:
            print(f"{counts.near} have a score near its threshold: look at these first (column near)")
        print(f"scores, thresholds and the images to look at first: {printable(self._page)}")

    def _write_doubts(self, samples: Samples, store: Store, rule: TagRuleConfig) -> None:
        """Write the table and the page of the images whose given labels and scores disagree."""
        from clipes.report.doubt_page import Doubt, write_doubt_page
        from clipes.runs.doubt_table import doubted_samples, write_doubt_table

        doubted, compared = doubted_samples(samples, store, rule)
        write_doubt_table(self._out, doubted)
        doubts = [
            Doubt(one.name, one.sample.image, one.size, one.sample.labels, one.doubtful, one.suggested)
            for one in doubted
        ]
        write_doubt_page(self._page, self._out.name, self._about(compared), doubts, compared)
        print(f"labels and scores disagree in {len(doubted)} of {compared} images: {printable(self._out)}")
        print(f"the pictures with given and suggested labels: {printable(self._page)}")


def _shown_on(page: TagPage, tagged: Iterable[TaggedSample]) -> Iterator[TaggedSample]:
    """The images, each added to the page when it passes."""
    for one in tagged:
        if one.tags is None or not one.sample.unlabelled:
            page.add_known()
        else:
            page.add(one.name, one.sample.image, list(one.tags.scores.values()))
        yield one
