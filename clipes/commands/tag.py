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
from .tag_output import TagOutput
from .tag_work import fit_bank, score
from .terminal import DONE, print_error

if TYPE_CHECKING:
    from clipes.config import TagRuleConfig
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
    out = (
        "the table, .csv or .jsonl; beside it are its page, OUT.html, and the scores, OUT.scores, so that other rules "
        "need no network"
    )
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
    if options.calibrate and (options.thresholds or options.tag_rule not in (None, "per-class")):
        raise ValueError("--calibrate fits a threshold to each class; leave out --thresholds and --tag-rule")
    check_table(options.out)
    plan, rule = _plan(options)
    prepared = prepare(plan)
    for note in prepared.notes:
        print_error(note)
    output = TagOutput(options, prepared, rule)
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
        output.write(store)
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
