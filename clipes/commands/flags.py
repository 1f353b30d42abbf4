"""The config's fields as command-line flags: name, type, choices, help and default come from the dataclasses."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import Any

from clipes.config import (
    CHOICES,
    MEMBERS,
    PRESETS,
    SHARED,
    STAGES,
    ClassAttentionConfig,
    Config,
    TileConfig,
    another_choice,
    choice_name,
)

from .arguments import nonempty, path
from .config_file import with_file

DECISION = ("refine", "mask", "regions", "vote")
TAGS = ("image", "tags", "tag_rule")
_HELP = {
    "map": "source of the class activation maps",
    "affinity": "what propagates the maps between patches; none: stop at the initial maps",
    "refine": "refinement by the picture's colours: dense CRF, pixel-adaptive (PAR, PAMR), or none",
    "regions": "a folder of regions, or a JSON of them, named as the images are; or superpixels of the picture: slic "
    "or felzenszwalb (superpixels is the same); or none",
    "scope": "whether patches exchange only within regions, in the affinities attention and features and the map dense",
    "vote": "what regions do to the mask: the most frequent class of each (CorrCLIP), SEPL's rule, or nothing",
    "mask": "which pixels become 255: of a low score, of two backgrounds that disagree, or none",
    "tags": "how CLIP finds the labels of images without any (--labels tag)",
    "tag_rule": "which scores make a label: above a part of the picture's range, one threshold, or each class's own",
}
_OF_CLASS_SETS = ("voc12", "coco14", "scenes")  # the presets whose values the help of a setting names
_CHOICE_FLAGS = {name: "--ignore" if name == "mask" else f"--{name.replace('_', '-')}" for name in CHOICES}
_UNPREFIXED = ("gradcam", "attention", "confidence")  # whose settings' flags do not begin with the choice's name


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for every setting of every stage, the choice of each stage's method, and a preset."""
    group = parser.add_argument_group("method")
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="settings to start from, of a class set or a recipe (default: the class set's own, else voc12)",
    )
    _add_config_file(group, '{"refine": {"par": {"iterations": 15}}}')
    _add_settings(group, tuple(STAGES), _defaults)
    _add_thresholds(group)


def add_tag_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the stages that find labels."""
    group = parser.add_argument_group("method")
    _add_config_file(group, '{"tags": {"tagclip": {"votes": 3}}}')
    _add_settings(group, TAGS, _defaults)
    _add_thresholds(group)


def add_decision_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the stages after the maps."""
    group = parser.add_argument_group("method, by default as the masks were made")
    _add_config_file(group, '{"mask": {"confidence": {"background_power": 2}}}')
    _add_settings(group, DECISION, lambda *setting: "")


def _add_config_file(group: Any, example: str) -> None:
    file = f"a .json or .yaml file of some settings: {example}; flags come on top of it"
    group.add_argument("--config", type=path, metavar="FILE", help=file)


def _add_thresholds(group: Any) -> None:
    file = "the score above which each class is a label, as `clipes tag --calibrate` writes it (tag-rule per-class)"
    group.add_argument("--thresholds", type=path, metavar="FILE.json", help=file)


def _add_settings(
    group: Any, stages: Sequence[str], defaults: Callable[[str, tuple[type, ...], Field[Any]], str]
) -> None:
    for name in stages:
        if name in CHOICES:
            kind: Any = (
                {"action": RegionsAction, "metavar": "DIR|NAME"}
                if name == "regions"
                else {"choices": tuple(CHOICES[name])}
            )
            group.add_argument(_CHOICE_FLAGS[name], dest=name, help=_HELP[name], **kind)
    for name, kinds, item in _settings(stages):
        help = f"{item.metadata['help']} {defaults(name, kinds, item)}".strip().replace("%", "%%")
        hint = typing.get_type_hints(kinds[0])[item.name]
        group.add_argument(_flag(kinds[0], item), default=None, help=help, **_kind(hint))


def _settings(stages: Sequence[str]) -> Iterator[tuple[str, tuple[type[Any], ...], Field[Any]]]:
    """Every flag's setting in ``stages``: the stage's name in Config, the classes that have the setting, its field."""
    for name in stages:
        found: dict[str, tuple[Field[Any], tuple[type[Any], ...]]] = {}
        for kind in STAGES[name]:
            for item in fields(kind):
                first, kinds = found.get(_destination(kind, item), (item, ()))
                found[_destination(kind, item)] = first, (*kinds, kind)
        for item, kinds in found.values():
            yield name, kinds, item


def _destination(stage: type, item: Field[Any]) -> str:
    return item.name if item.name in SHARED else _prefix(stage) + item.name


def _prefix(stage: type) -> str:
    """What the flags of a stage's settings begin with, because choices of one stage share names of settings."""
    if stage is ClassAttentionConfig:
        return "class_attention_"
    names = (name for choices in CHOICES.values() for name, kind in choices.items() if kind is stage)
    name = next(names, None)
    return "" if name is None or name in _UNPREFIXED else name.replace("-", "_") + "_"


def _flag(stage: type, item: Field[Any]) -> str:
    return "--" + _destination(stage, item).replace("_", "-")


def _defaults(name: str, kinds: tuple[type, ...], item: Field[Any]) -> str:
    """``(default: X)``, and what the presets of the class sets say where they differ."""
    configs = {preset: getattr(PRESETS[preset], name) for preset in _OF_CLASS_SETS}
    shown = {preset: getattr(config, item.name) for preset, config in configs.items() if isinstance(config, kinds)}
    others = [f"; {preset}: {_text(value)}" for preset, value in shown.items() if value != item.default]
    return f"(default: {_text(item.default)}{''.join(others)})"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, tuple(MEMBERS.values())):
        return choice_name("map", value)
    return "none" if value is None else str(value)


def _may_be_none(stage: type, item: Field[Any]) -> bool:
    return type(None) in typing.get_args(typing.get_type_hints(stage)[item.name])


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a field's type."""
    parts = typing.get_args(hint)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": parts}
    if TileConfig in parts:
        return {"type": _tile, "metavar": "SIZE/STRIDE"}
    words = [word for part in parts if typing.get_origin(part) is typing.Literal for word in typing.get_args(part)]
    words += ["none" for part in parts if part is type(None)]
    if words:
        return {"type": _Number(int if int in parts else float, tuple(words)), "metavar": "X"}
    if typing.get_origin(hint) is tuple:
        if parts[0] in (int, float):
            return {"type": _List(parts[0]), "metavar": "X,X"}
        return {"type": _members, "metavar": "NAME,NAME"}
    return {"type": hint, "metavar": "N" if hint is int else "X"}


@dataclass(frozen=True)
class _Number:
    """Reads one of ``words`` as it is, else a number; "none" is not None, which means: flag not given."""

    kind: type[int] | type[float]
    words: tuple[str, ...]

    def __call__(self, text: str) -> float | str:
        if text in self.words:
            return text
        try:
            return self.kind(text)
        except ValueError as error:
            words = " or ".join(map(repr, self.words))
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {words}") from error


@dataclass(frozen=True)
class _List:
    """Reads numbers with commas between."""

    kind: Any

    def __call__(self, text: str) -> tuple[Any, ...]:
        try:
            return tuple(self.kind(part) for part in text.split(","))
        except ValueError as error:
            example = "whole numbers such as 1,2,4" if self.kind is int else "numbers such as 1,1.5"
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of {example}") from error


def _members(text: str) -> tuple[Any, ...]:
    """Reads names of sources of maps, with commas between: their default settings."""
    try:
        return tuple(MEMBERS[part]() for part in text.split(","))
    except KeyError as error:
        names = ", ".join(MEMBERS)
        raise argparse.ArgumentTypeError(f"there is no source of maps {error}; there are {names}") from error


class RegionsAction(argparse.Action):
    """The action of ``--regions``: the name of a choice, or "given" and the place in ``regions_source``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: object = None) -> None:
        choice = "felzenszwalb" if values == "superpixels" else values
        named = choice in CHOICES["regions"] and choice != "given"
        namespace.regions, namespace.regions_source = (choice, None) if named else ("given", nonempty(values))


def _tile(text: str) -> TileConfig | str:
    """Reads the side and the stride of a window; "none" is kept, as for a number."""
    if text == "none":
        return text
    try:
        size, stride = map(int, text.split("/"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither SIZE/STRIDE, such as 448/224, nor 'none'") from error
    try:
        return TileConfig(size, stride)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def read_config(options: argparse.Namespace, preset: str) -> Config:
    """The preset of the flag, else ``preset``, the class set's, with the flags given. Errors as `change_config`."""
    preset = options.preset or preset
    return change_config(PRESETS[preset], options, preset)


def change_config(config: Config, options: argparse.Namespace, preset: str) -> Config:
    """``config`` with the flags of :func:`add_config_flags`; a new choice has the settings of ``preset``, if it is
    its choice.

    Raises ValueError for a value out of range, or for a setting of a choice that is not taken.
    """
    if options.config:
        config = with_file(config, options.config)
    return _changed(config, options, tuple(STAGES), PRESETS[preset])


def change_decision(config: Config, options: argparse.Namespace, preset: str) -> Config:
    """``config`` with the flags of :func:`add_decision_flags`, of the class set's preset where a choice is new.

    Errors as :func:`read_config`.
    """
    if options.config:
        config = with_file(config, options.config, DECISION)
    return _changed(config, options, DECISION, PRESETS[preset])


def _changed(config: Config, options: argparse.Namespace, stages: Sequence[str], preset: Config) -> Config:
    for name in CHOICES:
        chosen = getattr(options, name, None)
        if name in stages and chosen and chosen != choice_name(name, getattr(config, name)):
            config = _replaced(config, name, _chosen(name, chosen, getattr(config, name), getattr(preset, name)))
    given: dict[str, dict[str, Any]] = {}
    for name, kinds, item in _settings(stages):
        value = getattr(options, _destination(kinds[0], item), None)
        if value is None:
            continue
        current: Any = getattr(config, name)
        if not isinstance(current, kinds):
            needed = " or ".join(choice_name(name, kind()) for kind in kinds)
            is_now = choice_name(name, current)
            raise ValueError(f"{_flag(kinds[0], item)} needs {_CHOICE_FLAGS[name]} {needed}; it is {is_now}")
        given.setdefault(name, {})[item.name] = None if value == "none" and _may_be_none(kinds[0], item) else value
    for name, values in given.items():  # together, since a setting may be allowed with another only
        config = _replaced(config, name, replace(getattr(config, name), **values))
    return config


def _chosen(stage: str, choice: str, current: Any, own: Any) -> Any:
    """The settings of a new ``choice``: those of the preset, ``own``, if they are of that choice."""
    kind = CHOICES[stage][choice]
    return own if choice == choice_name(stage, own) else another_choice(current, kind) if kind else None


def _replaced(config: Config, stage: str, settings: Any) -> Config:
    changes: Any = {stage: settings}
    return replace(config, **changes)
