"""The data of `clipes.prompts`: class sets, background words and templates by their names."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from .class_ids import is_number
from .words import unique_strings, unknown_name


@cache
def shipped() -> dict[str, Any]:
    """Return the data of `clipes.prompts`, by the files' stems."""
    package = files("clipes")
    # In a clone, the folder lies beside the package.
    folder = package / "prompts" if (package / "prompts").is_dir() else package / ".." / "prompts"
    paths = {path.name.removesuffix(".json"): path for path in folder.iterdir() if path.name.endswith(".json")}
    return {stem: json.loads(paths[stem].read_text("utf-8")) for stem in sorted(paths)}


def background_words(given: object) -> tuple[str, ...]:
    """Return the words of a shipped set, or words as they are; errors as `load_vocabulary`."""
    sets = shipped()["backgrounds"]
    if given == "auto":
        raise ValueError(
            "background 'auto' needs your images: run `clipes generate --background auto`, or take the words from "
            "`clipes background` or clipes.prompting.suggest_background"
        )
    if isinstance(given, str) and given not in sets:
        example = f" ([{given!r}], on the command line '{given},')" if given.isalpha() else ""
        raise unknown_name("background set", given, sets, f"give a list of words{example}")
    words = unique_strings(sets[given] if isinstance(given, str) else given, "background", at_least=0)
    if number := next(filter(is_number, words), None):
        raise ValueError(f"background: {number!r} is a number, which tells CLIP nothing about a picture; remove it")
    return words


def template_list(given: object) -> tuple[str, ...]:
    """Return the templates of a shipped set, one template, or several; errors as `load_vocabulary`.

    >>> template_list("clip-es")
    ('a clean origami {}.',)
    """
    sets = shipped()["templates"]
    if isinstance(given, str) and given not in sets and "{}" not in given:
        raise unknown_name("template set", given, sets, "give a template such as 'a photo of a {}.'")
    templates = unique_strings(sets.get(given, [given]) if isinstance(given, str) else given, "templates")
    for template in templates:
        if not template.count("{}") == template.count("{") == template.count("}") == 1:
            raise ValueError(f"template {template!r} needs exactly one {{}} and no other brace")
    return templates
