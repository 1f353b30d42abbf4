"""From the flags of ``clipes generate`` to its plan. Below this module nothing sees an ``argparse.Namespace``."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TypeVar

from clipes.clip.bundled import check_default_model
from clipes.config import Config, GivenRegionsConfig
from clipes.datasets import TableFormat
from clipes.runs.plan import (
    ENGINES,
    Faults,
    LocalEngine,
    ModelChoice,
    Placement,
    Plan,
    RayEngine,
    VocabularyChoice,
    read_plan,
)
from clipes.runs.shards import Shard, shard_from
from clipes.store.output import Output
from clipes.tags.thresholds import read_thresholds

from .arguments import TABLE_FLAGS, labels_argument
from .flags import change_config, read_config
from .model import vocabulary_settings

T = TypeVar("T")


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the flags of ``clipes generate`` say, on top of that of ``--like``.

    Raises ValueError for flags that contradict each other, FileNotFoundError for a missing file.
    """
    base = read_plan(options.like) if options.like else None
    vocabulary, preset, config = _method(options, base)
    source, labels = options.source, labels_argument(options.labels, options.label_separator)
    if base and source is None:
        source, labels = base.source, base.labels if labels is None else labels
    if source is None:
        raise ValueError("no images are named; give a SOURCE (a folder, a table, voc:ROOT, ...), or --like run.json")
    return Plan(
        source=source,
        labels=labels,
        regions=_regions(options, base, config),
        table=_changed(base.table if base else TableFormat(), options),
        model=_model(options, base),
        vocabulary=vocabulary,
        config=config,
        preset=preset,
        output=_output(options, base),
        placement=_placement(options, base),
        faults=_changed(base.faults if base else Faults(), options),
    )


_FLAGS = {
    "folder": "out",
    "like": "weights_of",
    "confidence": "save_confidence",
    "cams": "save_cams",
    "format": "out_format",
    "readers": "workers",
    "address": "ray_address",
    **TABLE_FLAGS,
}
"""The flags whose names are not those of the fields that they set."""


def _changed(part: T, options: argparse.Namespace, *done: str) -> T:
    """``part`` with the fields whose flags were given, but for those in ``done``."""
    given = {name: getattr(options, _FLAGS.get(name, name), None) for name in vars(part) if name not in done}
    return replace(part, **{name: value for name, value in given.items() if value is not None})  # type: ignore[type-var]


def _model(options: argparse.Namespace, base: Plan | None) -> ModelChoice:
    """Another model than that of ``--like`` has none of its weights."""
    kept = base.model if base and options.model is None else None
    return _changed(kept or ModelChoice(), options)


def _method(options: argparse.Namespace, base: Plan | None) -> tuple[VocabularyChoice, str, Config]:
    same_classes = base is not None and base.vocabulary is not None and options.classes is None
    if base and base.vocabulary and same_classes:
        given = vocabulary_settings(options, base.vocabulary.classes)
        kept = {name: value for name, value in given.items() if value is not None}
        vocabulary = replace(base.vocabulary, **kept)
    else:
        vocabulary = VocabularyChoice(**vocabulary_settings(options))
        if options.model is None and (base is None or base.model is None or base.model.model == "tiny"):
            check_default_model(vocabulary.load())
    if base and same_classes and not options.preset:
        config, preset = change_config(base.config, options, base.preset), base.preset
    else:
        preset = options.preset or vocabulary.load().preset
        config = read_config(options, preset)
    if options.thresholds:
        config = replace(config, tag_rule=read_thresholds(options.thresholds, vocabulary.load().class_names))
    return vocabulary, preset, config


def _regions(options: argparse.Namespace, base: Plan | None, config: Config) -> str | None:
    """Where the regions are; those of ``--like`` stay where the settings still take them."""
    if not isinstance(config.regions, GivenRegionsConfig):
        return None
    given: str | None = getattr(options, "regions_source", None)
    return given or (base.regions if base else None)


def _output(options: argparse.Namespace, base: Plan | None) -> Output:
    if base is None and options.out is None:
        raise ValueError("no folder for the masks is named; give --out DIR")
    return _changed(base.output if base else Output(options.out), options)


def _placement(options: argparse.Namespace, base: Plan | None) -> Placement:
    """Which part, where and by how many; the launcher's environment says it where no flag does."""
    rank = shard_from(os.environ) if options.shard is None else None
    shard = rank.shard if rank else Shard.parse(options.shard or "0/1")
    placement = replace(
        base.placement if base else Placement(), shard=shard, local_rank=rank.local_rank if rank else None
    )
    if options.device and isinstance(placement.engine, LocalEngine):
        placement = replace(placement, engine=LocalEngine())  # those of --like are not meant any more
    engine = _engine(options, placement.engine)
    if isinstance(engine, LocalEngine) and len(engine.devices) > 1 and rank and rank.local_rank:
        raise ValueError(
            f"--devices {options.devices} for each of several processes that {rank.origin} started on this "
            "machine: they would share the devices; start one process, or leave out --devices"
        )
    return _changed(replace(placement, engine=engine), options, "engine", "shard")


def _engine(options: argparse.Namespace, engine: LocalEngine | RayEngine) -> LocalEngine | RayEngine:
    if options.engine:
        engine = engine if isinstance(engine, ENGINES[options.engine]) else ENGINES[options.engine]()
    if isinstance(engine, RayEngine):
        if options.devices:
            raise ValueError(
                f"--devices {options.devices} and --engine ray, whose actors have --gpus-per-actor; give one of the two"
            )
        return _changed(engine, options)
    if options.devices:
        from clipes.runs.launch import choose_devices

        return LocalEngine(choose_devices(options.devices))
    return engine
