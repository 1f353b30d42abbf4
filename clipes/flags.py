"""The config's fields as command-line flags: name, type, choices, help and default come from the dataclasses."""

from __future__ import annotations

import argparse
import typing
from dataclasses import Field, fields, replace
from typing import Any

from clipes.config import PRESETS, AffinityConfig, CamConfig, Config, ImageConfig, MaskConfig, preset_of

STAGES = {"image": ImageConfig, "cam": CamConfig, "affinity": AffinityConfig, "mask": MaskConfig}


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for every setting of every stage, a preset, and a switch for the affinity."""
    group = parser.add_argument_group("method")
    group.add_argument("--config", choices=tuple(PRESETS), help="preset (default: the class set's own, else voc12)")
    group.add_argument("--no-affinity", action="store_true", help="stop at the initial CAM")
    for name, stage in STAGES.items():
        types = typing.get_type_hints(stage)
        for item in fields(stage):
            help = f"{item.metadata['help']} {_defaults(name, item)}".replace("%", "%%")
            group.add_argument(_flag(item), default=None, help=help, **_kind(types[item.name]))


def _flag(item: Field[Any]) -> str:
    return "--" + item.name.replace("_", "-")


def _defaults(stage: str, item: Field[Any]) -> str:
    """``(default: X)``, and what other presets say where they differ."""
    shown = {preset: getattr(getattr(config, stage), item.name) for preset, config in PRESETS.items()}
    others = [f"; {preset}: {value}" for preset, value in shown.items() if value != item.default]
    return f"(default: {'none' if item.default is None else item.default}{''.join(others)})"


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a field's type."""
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": typing.get_args(hint)}
    number = next(kind for kind in (int, float) if kind is hint or kind in typing.get_args(hint))
    return {"type": number, "metavar": "N" if number is int else "X"}


def read_config(options: argparse.Namespace, classes: object) -> Config:
    """The preset with the flags given; ValueError for a value out of range, or of a stage switched off."""
    config = PRESETS[options.config] if options.config else preset_of(classes)
    for name, stage in STAGES.items():
        given = {item: getattr(options, item.name) for item in fields(stage) if getattr(options, item.name) is not None}
        if given and name == "affinity" and options.no_affinity:
            raise ValueError(f"--no-affinity switches off what {_flag(next(iter(given)))} sets; leave one out")
        changed = replace(getattr(config, name), **{item.name: value for item, value in given.items()})
        config = replace(config, **{name: changed})
    return replace(config, affinity=None) if options.no_affinity else config
