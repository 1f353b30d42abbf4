"""The file of ``--config``: some of the settings of :class:`clipes.Config`, as JSON or YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from clipes.config import CHOICES, STAGES, Config, another_choice
from clipes.config.run import from_json


def with_file(config: Config, file: Path, stages: Iterable[str] = STAGES) -> Config:
    """``config`` with the settings of ``file``, some of those that :meth:`clipes.Config.to_dict` gives.

    Raises FileNotFoundError; and ValueError, with the file's name, for names that do not exist, with near ones, for
    values that are not allowed, for a stage that is not among ``stages``, and for a file of another kind.
    """
    try:
        values = _read(file)
        if fixed := [name for name in values if name in STAGES and name not in stages]:
            raise ValueError(
                f"{', '.join(fixed)}: the saved maps are made with it already, and {', '.join(stages)} alone can be "
                "changed; leave it out, or make the masks again with `clipes generate`"
            )
        return changed(config, values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--config {file}: {str(error).removeprefix(f'{file}: ')}") from error


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """``config`` with these settings, by stage and name. Errors as :func:`with_file`.

    >>> new = changed(Config(), {"affinity": {"attention": {"hops": 3}}, "refine": {"par": {}}})
    >>> new.affinity.hops, type(new.refine).__name__
    (3, 'ParConfig')
    """
    _check_names(values, STAGES, "the settings")
    return replace(config, **{name: _stage(name, getattr(config, name), given) for name, given in values.items()})


def _stage(name: str, current: Any, given: Any) -> Any:
    kind: Any = STAGES[name][0]
    if name in CHOICES:
        if given is None and None in CHOICES[name].values():
            return None
        known = [choice for choice, kind in CHOICES[name].items() if kind]
        if not isinstance(given, Mapping) or len(given) != 1:
            raise ValueError(
                f"{name} is {given!r}; give one with its settings, such as {known[0]}: {{}}{_or_null(name)}"
            )
        ((choice, given),) = given.items()
        if owner := next((kind for kind in known if choice in _settings(CHOICES[name][kind])), None):
            raise ValueError(
                f"{name}: {choice!r} is a setting of {owner!r}; write {name}: {{{owner}: {{{choice}: ...}}}}"
            )
        _check_names([choice], known, name)
        kind = CHOICES[name][choice]
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} is {given!r}; give its settings by their names")
    _check_names(given, _settings(kind), name)
    return replace(current if isinstance(current, kind) else another_choice(current, kind), **from_json(given))


def _settings(kind: Any) -> list[str]:
    return [item.name for item in fields(kind)]


def _or_null(stage: str) -> str:
    return ", or null for none" if None in CHOICES[stage].values() else ""


def _check_names(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: there is no {name!r}; {nearest(str(name), known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'hops'?``, for a name like one of the ``known``, else which there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(known)}"


def _read(file: Path) -> Mapping[str, Any]:
    from clipes.io.structured import SUFFIXES, read_structured

    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"settings are in a {', '.join(SUFFIXES)} file")
    if not file.is_file():
        raise FileNotFoundError(f"--config {file}: there is no such file")
    values = read_structured(file)
    if not isinstance(values, Mapping):
        raise ValueError("it holds no mapping of settings, such as refine: {par: {}}")
    if "settings" in values or "plan" in values:
        raise ValueError("it is the record of a run; give it as --like")
    return values
