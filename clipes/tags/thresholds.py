"""The file of thresholds that were fitted to labelled images: JSON, ``{"thresholds": {"dog": 0.41, ...}, ...}``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from clipes.config import PerClassRuleConfig
from clipes.io.atomic import write_json

from .calibrate import Calibration


def write_thresholds(path: str | os.PathLike[str], found: Calibration, class_names: Sequence[str]) -> None:
    """Write thresholds and how good they are; whole or not at all. OSError where that cannot be done."""
    f1 = [None if math.isnan(value) else round(value, 4) for value in found.f1.tolist()]
    about = {
        "thresholds": dict(zip(class_names, [round(one, 6) for one in found.thresholds.tolist()], strict=True)),
        "cross_validated_f1": dict(zip(class_names, f1, strict=True)),
        "images": dict(zip(class_names, found.images.tolist(), strict=True)),
        "folds": found.folds,
    }
    write_json(path, about)


def read_thresholds(path: str | os.PathLike[str], class_names: Sequence[str]) -> PerClassRuleConfig:
    """The rule of a file of thresholds for these classes.

    Raises FileNotFoundError where there is none, ValueError for another file and for classes without a threshold.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there are no thresholds {os.fspath(path)!r}; `clipes tag --calibrate` writes them")
    try:
        with open(path, encoding="utf-8") as file:
            values: dict[str, Any] = json.load(file)["thresholds"]
        missing = [name for name in class_names if name not in values]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f'{os.fspath(path)}: no file of thresholds, {{"thresholds": {{"dog": 0.4}}}}: {error}'
        ) from error
    if missing:
        raise ValueError(f"{os.fspath(path)} has no threshold of {missing[0]!r}; fit them to these classes again")
    try:
        return PerClassRuleConfig(tuple(values[name] for name in class_names))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
