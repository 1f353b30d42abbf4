"""A field of a settings' dataclass with its help text, and the checks of its values."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, cast


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its default and the sentence that the command line shows for it."""
    return field(default=default, metadata={"help": help})


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """ValueError "``name`` is ``value``; it must be ``expected``" unless ``condition``."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {expected}")


def require_int(name: str, value: object, least: int = 1) -> None:
    """TypeError or ValueError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a whole number")
    require(value >= least, name, value, f"at least {least}")


def require_number(name: str, value: object) -> None:
    """TypeError unless ``value`` is a number; ValueError for a whole number that is no exact float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    require(not isinstance(value, int) or abs(value) < 2**53, name, value, "a number of ordinary size")


def require_positive(name: str, value: object) -> None:
    """TypeError or ValueError unless ``value`` is a finite number above 0."""
    require_number(name, value)
    require(0 < cast("float", value) < math.inf, name, value, "above 0 and finite")


def require_share(name: str, value: object) -> None:
    """TypeError or ValueError unless ``value`` is a number in [0, 1]."""
    require_number(name, value)
    require(0 <= cast("float", value) <= 1, name, value, "in [0, 1]")


def require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """ValueError unless ``value`` is one of the words ``allowed``."""
    *others, last = map(repr, allowed)
    require(value in allowed, name, value, f"{', '.join(others)} or {last}")


def require_flag(name: str, value: object) -> None:
    """TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
