"""``clipes tag``: labels by CLIP for images without any, as a table that ``clipes generate --labels`` reads."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .arguments import add_command, add_source_flags, path
from .flags import add_tag_flags
from .model import add_clip_flags, add_vocabulary_flags
from .run_flags import add_work_flags
from .tag_work import fit_bank, score
from .terminal import DONE, print_error, print_table, printable

if TYPE_CHECKING:
    from clipes.config import TagRuleConfig
    from clipes.datasets import Samples
    from clipes.runs.plan import Plan
    from clipes.runs.prepare import PreparedRun
    from clipes.store.store import Store

ESSENTIAL = (
    "--labels",
    "--out",
    "--calibrate",
    "--check",
    "--model",
    "--pretrained",
    "--classes",
    "--background",
    "--tags",
    "--bank-file",
    "--tag-rule",
    "--thresholds",
)
EXAMPLES = (
    "clipes tag photos --out tags.csv --model ViT-B-16 --pretrained openai --classes voc12",
    "clipes tag photos --labels known.csv --out all.csv --model ViT-B-16 --pretrained openai --classes voc12",
    "clipes tag photos --calibrate some.csv --out tags.csv --model ViT-B-16 --pretrained openai --classes voc12",
    "clipes tag photos --check web.csv --out doubts.csv --model ViT-B-16 --pretrained openai --classes voc12",
    "clipes tag photos --tags bank --bank-file bank.npz --out tags.csv --model ViT-B-16 --pretrained openai "
    "--classes voc12",
)


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "labels by CLIP for images without any, as a table for `clipes generate --labels`"
    tag = add_command(commands, "tag", run, help)
    add_source_flags(tag, tags=True)
    out = "the table, .csv or .jsonl; scores are kept in the folder OUT.scores, so that other rules need no network"
    tag.add_argument("--out", type=path, required=True, metavar="FILE", help=out)
    group = tag.add_argument_group("labels that are known")
    some = "a table of labels of some of the images: fit each class's threshold to them, and write OUT.thresholds.json"
    group.add_argument("--calibrate", type=path, metavar="FILE", help=some)
    check = "a table of labels that may be wrong: list the images whose labels and scores disagree, the worst first"
    group.add_argument("--check", type=path, metavar="FILE", help=check)
    add_work_flags(tag)
    add_clip_flags(tag)
    add_vocabulary_flags(tag, auto=False)
    add_tag_flags(tag)
    tag.shorten_help(ESSENTIAL, EXAMPLES)
    tag.set_defaults(like=None, preset=None, out_format="none")


def run(options: argparse.Namespace) -> int:
    """Score the images that have no scores yet, then write the table."""
    from clipes.runs.prepare import prepare
    from clipes.runs.tag_table import check_table
    from clipes.store.store import Store

    if options.check and (options.labels or options.calibrate):
        raise ValueError("--check is of labels that are given; leave out --labels and --calibrate, or --check")
    check_table(options.out)
    plan, rule = _plan(options)
    prepared = prepare(plan)
    for note in prepared.notes:
        print_error(note)
    fitted = fit_bank(prepared)
    if not fitted.finished:
        return fitted.code
    code = score(prepared, fitted.generator)
    if code != DONE:
        return code
    with Store.open(plan.output.folder) as store:
        if left := _left(prepared, store):
            print(f"{left} of {len(prepared.samples)} images have no scores yet; the table is written when all have")
            return DONE
        if options.calibrate:
            rule = _calibrated(options, prepared, store)
        _write(options, prepared, store, rule)
    return DONE


def _plan(options: argparse.Namespace) -> tuple[Plan, TagRuleConfig]:
    """The plan of the scores, which do not depend on the rule, and the rule."""
    from clipes.config import Config
    from clipes.datasets.sample import TAG

    from .plan import plan_of

    table, options.out = options.out, Path(f"{options.out}.scores")
    plan = plan_of(options)
    options.out = table
    config = Config(image=plan.config.image, tags=plan.config.tags)
    unlabelled: Literal["refuse", "skip", "tag"] = options.unlabelled or "tag"
    labels = TAG if plan.labels is None or options.calibrate or options.check else plan.labels
    return replace(
        plan, labels=labels, config=config, faults=replace(plan.faults, unlabelled=unlabelled)
    ), plan.config.tag_rule


def _left(prepared: PreparedRun, store: Store) -> int:
    """How many images are neither scored, nor failed, nor of known labels: those of other shards."""
    return sum(sample.unlabelled and store.latest.get(sample.id) is None for sample in prepared.samples)


def _labelled(options: argparse.Namespace, prepared: PreparedRun, labels: Any, unlabelled: Any) -> Samples:
    from clipes.datasets import find_samples
    from clipes.vocabulary import check_labels

    plan = prepared.plan
    samples = find_samples(
        plan.source,
        labels,
        class_names=prepared.vocabulary.numbered_names,
        missing=plan.faults.missing,
        unlabelled=unlabelled,
        table=plan.table,
    )
    check_labels(samples, prepared.vocabulary, False)
    return samples


def _calibrated(options: argparse.Namespace, prepared: PreparedRun, store: Store) -> TagRuleConfig:
    """Fit thresholds to the labelled images, write and print them."""
    from clipes.config import PerClassRuleConfig
    from clipes.runs.tag_table import score_matrix
    from clipes.tags.calibrate import calibrate
    from clipes.tags.thresholds import write_thresholds

    samples = _labelled(options, prepared, options.calibrate, "skip")
    scores, shown, _ = score_matrix(samples, store)
    found = calibrate(scores, shown)
    names = store.class_names
    rows = [
        (name, f"{threshold:.4f}", "-" if f1 != f1 else f"{f1:.3f}", str(images))
        for name, threshold, f1, images in zip(names, found.thresholds, found.f1, found.images, strict=True)
    ]
    print_table(("class", "threshold", "F1", "images"), rows, left=("class",))
    print(
        f"thresholds of the highest F1 on {len(scores)} images of {options.calibrate}; F1 is of images that they were "
        f"not fitted to ({found.folds} folds), mean {found.mean_f1:.3f}"
    )
    file = Path(f"{options.out}.thresholds.json")
    write_thresholds(file, found, names)
    print(f"thresholds written to {printable(file)}, for --thresholds")
    return PerClassRuleConfig(tuple(round(one, 6) for one in found.thresholds.tolist()))


def _write(options: argparse.Namespace, prepared: PreparedRun, store: Store, rule: TagRuleConfig) -> None:
    from clipes.runs.tag_table import tagged_samples, write_tag_table

    samples = prepared.samples
    if options.check:
        return _write_doubts(options, prepared, store, rule)
    if options.calibrate and options.labels:
        samples = _labelled(options, prepared, options.labels, "tag")
    counts = write_tag_table(options.out, tagged_samples(samples, store, rule))
    print(f"labels of {counts.images} images written to {printable(options.out)}; CLIP found those of {counts.tagged}")
    if counts.without_label:
        print(f"{counts.without_label} of them show nothing of the list")
    if counts.near:
        print(f"{counts.near} have a score near its threshold: look at these first (column near)")


def _write_doubts(options: argparse.Namespace, prepared: PreparedRun, store: Store, rule: TagRuleConfig) -> None:
    """Write the table of the images whose given labels and scores disagree."""
    from clipes.runs.doubt_table import doubted_samples, write_doubt_table

    samples = _labelled(options, prepared, options.check, "skip")
    doubted, compared = doubted_samples(samples, store, rule)
    write_doubt_table(options.out, doubted)
    print(f"labels and scores disagree in {len(doubted)} of {compared} images: {printable(options.out)}")
