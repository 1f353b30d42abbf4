"""The config's fields as command-line flags: name, type, choices, help and default come from the dataclasses."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, fields, replace
from typing import Any

from clipes.config import PRESETS, REFINEMENTS, STAGES, Config, CrfConfig, ParConfig, refinement_name

from .arguments import path
from .config_file import with_file

DECISION = ("refine", "mask")
_PREFIX = {CrfConfig: "crf_", ParConfig: "par_"}  # their fields share names


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for every setting of every stage, a preset, and switches for the stages that can be left out."""
    group = parser.add_argument_group("method")
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="the method's settings to start from (default: the class set's own, else voc12)",
    )
    _add_config_file(group, '{"affinity": {"hops": 3}}')
    group.add_argument("--no-affinity", action="store_true", help="stop at the initial CAM")
    _add_settings(group, tuple(STAGES), _defaults)


def add_decision_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the stages after the maps."""
    group = parser.add_argument_group("method, by default as the masks were made")
    _add_config_file(group, '{"mask": {"background_power": 2}}')
    _add_settings(group, DECISION, lambda *setting: "")


def _add_config_file(group: Any, example: str) -> None:
    file = f"a .json or .yaml file of some settings: {example}; flags come on top of it"
    group.add_argument("--config", type=path, metavar="FILE", help=file)


def _add_settings(group: Any, stages: Sequence[str], defaults: Callable[[str, type, Field[Any]], str]) -> None:
    help = "refinement by the picture's colours: dense CRF, pixel-adaptive, or none"
    group.add_argument("--refine", choices=tuple(REFINEMENTS), help=help)
    for name, stage, item in _settings(stages):
        help = f"{item.metadata['help']} {defaults(name, stage, item)}".strip().replace("%", "%%")
        hint = typing.get_type_hints(stage)[item.name]
        group.add_argument(_flag(stage, item), default=None, help=help, **_kind(hint))


def _settings(stages: Sequence[str]) -> Iterator[tuple[str, type[Any], Field[Any]]]:
    """Every setting of ``stages``: the stage's name in Config, its class, the field."""
    for name in stages:
        for stage in STAGES[name]:
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


def read_config(options: argparse.Namespace, preset: str) -> Config:
    """The preset of the flag, else ``preset``, the class set's, with the flags given. Errors as `change_config`."""
    preset = options.preset or preset
    return change_config(PRESETS[preset], options, preset)


def change_config(config: Config, options: argparse.Namespace, preset: str) -> Config:
    """``config`` with the flags of :func:`add_config_flags`; a new refinement is that of ``preset``, if it has it.

    Raises ValueError for a value out of range, or for a setting of a stage that is switched off.
    """
    if options.config:
        config = with_file(config, options.config)
    if options.no_affinity:
        config = replace(config, affinity=None)
    return _changed(config, options, tuple(STAGES), PRESETS[preset])


def change_decision(config: Config, options: argparse.Namespace, preset: str) -> Config:
    """``config`` with the flags of :func:`add_decision_flags`, of the class set's preset where a refinement is new.

    Errors as :func:`read_config`.
    """
    if options.config:
        config = with_file(config, options.config, DECISION)
    return _changed(config, options, DECISION, PRESETS[preset])


def _changed(config: Config, options: argparse.Namespace, stages: Sequence[str], preset: Config) -> Config:
    if options.refine and options.refine != refinement_name(config.refine):
        kind = REFINEMENTS[options.refine]
        own = options.refine == refinement_name(preset.refine)
        config = replace(config, refine=preset.refine if own else kind() if kind else None)
    for name, stage, item in _settings(stages):
        value = getattr(options, _destination(stage, item))
        if value is None:
            continue
        current: Any = getattr(config, name)
        if not isinstance(current, stage):
            flag = _flag(stage, item)
            if name == "affinity":
                raise ValueError(f"--no-affinity switches off what {flag} sets; leave one out")
            needed = refinement_name(stage())
            raise ValueError(f"{flag} needs --refine {needed}; the refinement is {refinement_name(config.refine)}")
        changes: Any = {name: replace(current, **{item.name: None if value == "none" else value})}
        config = replace(config, **changes)
    return config
