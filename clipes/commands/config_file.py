"""The file of ``--config``: some of the settings of :class:`clipes.Config`, as JSON or YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from clipes.config import REFINEMENTS, STAGES, Config


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
                "changed; leave it out, or make the masks anew with `clipes generate`"
            )
        return changed(config, values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--config {file}: {str(error).removeprefix(f'{file}: ')}") from error


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """``config`` with these settings, by stage and name. Errors as :func:`with_file`.

    >>> new = changed(Config(), {"affinity": {"hops": 3}, "refine": {"par": {}}})
    >>> new.affinity.hops, type(new.refine).__name__
    (3, 'ParConfig')
    """
    _check_names(values, STAGES, "the settings")
    stages: dict[str, Any] = {}
    for name, given in values.items():
        kind: Any = STAGES[name][0]
        if name == "refine" and given is not None:
            if not isinstance(given, Mapping) or len(given) != 1:
                raise ValueError(f"refine is {given!r}; give one with its settings, crf: {{}}, or null for none")
            ((choice, given),) = given.items()
            _check_names([choice], [known for known, kind in REFINEMENTS.items() if kind], "refine")
            kind = REFINEMENTS[choice]
        optional = name in ("affinity", "refine")
        stages[name] = None if given is None and optional else _stage(name, getattr(config, name), kind, given)
    return replace(config, **stages)


def _stage(name: str, current: Any, kind: Any, given: Any) -> Any:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} is {given!r}; give its settings by their names")
    _check_names(given, [item.name for item in fields(kind)], name)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return replace(current if isinstance(current, kind) else kind(), **values)


def _check_names(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{where}: there is no {name!r}; {hint}")


def _read(file: Path) -> Mapping[str, Any]:
    from clipes.io.structured import SUFFIXES, read_structured

    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"settings are in a {', '.join(SUFFIXES)} file")
    if not file.is_file():
        raise FileNotFoundError(f"--config {file}: there is no such file")
    values = read_structured(file)
    if not isinstance(values, Mapping):
        raise ValueError("it holds no mapping of settings, such as affinity: {hops: 3}")
    if "settings" in values or "plan" in values:
        raise ValueError("it is the record of a run; give it as --like")
    return values
