"""The config's fields as command-line flags: name, type, choices, help and default come from the dataclasses."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator
from dataclasses import Field, fields, replace
from typing import Any

from clipes.config import PRESETS, STAGES, Config, CrfConfig, ParConfig, preset_of

REFINEMENTS: dict[str, type[CrfConfig] | type[ParConfig] | None] = {"crf": CrfConfig, "par": ParConfig, "none": None}
_PREFIX = {CrfConfig: "crf_", ParConfig: "par_"}  # their fields share names


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for every setting of every stage, a preset, and switches for the stages that can be left out."""
    group = parser.add_argument_group("method")
    group.add_argument("--config", choices=tuple(PRESETS), help="preset (default: the class set's own, else voc12)")
    group.add_argument("--no-affinity", action="store_true", help="stop at the initial CAM")
    help = "refinement by the picture's colours: dense CRF, pixel-adaptive, or none (default: crf)"
    group.add_argument("--refine", choices=tuple(REFINEMENTS), help=help)
    for name, stage, item in _settings():
        help = f"{item.metadata['help']} {_defaults(name, stage, item)}".replace("%", "%%")
        hint = typing.get_type_hints(stage)[item.name]
        group.add_argument(_flag(stage, item), default=None, help=help, **_kind(hint))


def _settings() -> Iterator[tuple[str, type[Any], Field[Any]]]:
    """Every setting: its stage's name in Config, the stage's class, the field."""
    for name, stages in STAGES.items():
        for stage in stages:
            for item in fields(stage):
                yield name, stage, item


def _destination(stage: type, item: Field[Any]) -> str:
    return _PREFIX.get(stage, "") + item.name


def _flag(stage: type, item: Field[Any]) -> str:
    return "--" + _destination(stage, item).replace("_", "-")


def _defaults(name: str, stage: type, item: Field[Any]) -> str:
    """``(default: X)``, and what other presets say where they differ."""
    configs = {preset: getattr(config, name) for preset, config in PRESETS.items()}
    shown = {preset: getattr(config, item.name) for preset, config in configs.items() if isinstance(config, stage)}
    others = [f"; {preset}: {_text(value)}" for preset, value in shown.items() if value != item.default]
    return f"(default: {_text(item.default)}{''.join(others)})"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a field's type."""
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": typing.get_args(hint)}
    parts = typing.get_args(hint)
    if type(None) in parts:
        return {"type": _number_or_word, "metavar": "X"}
    if typing.get_origin(hint) is tuple:
        return {"type": _whole_numbers, "metavar": "N,N"}
    return {"type": hint, "metavar": "N" if hint is int else "X"}


def _number_or_word(text: str) -> float | str:
    """``none`` and ``auto`` as they are, else a number; none is not None, which means that the flag was not given."""
    if text in ("none", "auto"):
        return text
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'auto' or 'none'") from error


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,2,4") from error


def read_config(options: argparse.Namespace, classes: object) -> Config:
    """The preset with the flags given; ValueError for a value out of range, or of a stage switched off."""
    config = PRESETS[options.config] if options.config else preset_of(classes)
    if options.no_affinity:
        config = replace(config, affinity=None)
    if options.refine:
        kind = REFINEMENTS[options.refine]
        if kind is None or not isinstance(config.refine, kind):
            config = replace(config, refine=kind() if kind else None)
    return override(config, options)


def override(config: Config, options: argparse.Namespace) -> Config:
    """``config`` with the settings that ``options`` holds flags for; ValueError as in :func:`read_config`."""
    for name, stage, item in _settings():
        value = getattr(options, _destination(stage, item), None)
        if value is None:
            continue
        current: Any = getattr(config, name)
        if not isinstance(current, stage):
            switch = {"affinity": "--no-affinity"}.get(name, f"--refine {_chosen(current)}")
            raise ValueError(f"{switch} switches off what {_flag(stage, item)} sets; leave one out")
        value = None if value == "none" else value
        stages: Any = {name: replace(current, **{item.name: value})}
        config = replace(config, **stages)
    return config


def _chosen(refine: object) -> str:
    return next(name for name, kind in REFINEMENTS.items() if kind is (type(refine) if refine is not None else None))
