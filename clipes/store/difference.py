"""What differs between the settings of two runs, in words: names of models and classes instead of hashes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

MAX_DIFFERENCES = 10  # that an error names
_MAX_VALUE = 60  # characters of a value in an error
_ABSENT = "absent"
_WORDS = ("background", "templates")  # settings that are lists of words
_HASHES = ("weights", "vocabulary")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two manifests, of which ``new`` is not written yet: ``"classes: voc12 → 6 own names"``."""
    before, after = dict(old["settings"]), dict(new["settings"])
    found = [*_of_model(old, new), *_of_classes(old, new)]
    if "class_names" in before and "class_names" in after:  # reported above
        del before["class_names"], after["class_names"]
    for name in _WORDS:
        if all(isinstance(settings.get(name), list) for settings in (before, after)):
            words, others = before.pop(name), after.pop(name)
            found += [f"{name}: {_list(words, others)}"] if words != others else []
    if old.get("preset") != new.get("preset") and before.get("config") != after.get("config"):
        found.append(f"preset: {old.get('preset')} → {new.get('preset')}")
    choices = {path: f"{path}: {one} → {other}" for path, one, other in _choices(before, after)}
    found += choices.values()
    leaves = [
        {name: _shown(value) for name, value in flatten(settings) if not _told(name, choices)}
        for settings in (before, after)
    ]
    first, second = leaves
    names = [name for name in {**first, **second} if first.get(name, _ABSENT) != second.get(name, _ABSENT)]
    found += [f"{name}: {first.get(name, _ABSENT)} → {second.get(name, _ABSENT)}" for name in names]
    if len(found) > MAX_DIFFERENCES:
        found[MAX_DIFFERENCES:] = [f"and {len(found) - MAX_DIFFERENCES} more"]
    return "; ".join(found)


def _choices(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """The stages of which another method is chosen, with both: ``("config.map", "committee", "gradcam")``."""
    for name in [name for name in old if name in new]:
        one, other = old[name], new[name]
        keys = [list(value) if isinstance(value, dict) else ["none"] if value is None else [] for value in (one, other)]
        if len(keys[0]) == len(keys[1]) == 1 and keys[0] != keys[1]:
            yield f"{path}{name}", keys[0][0], keys[1][0]
        elif isinstance(one, dict) and isinstance(other, dict):
            yield from _choices(one, other, f"{path}{name}.")


def _told(name: str, choices: Collection[str]) -> bool:
    """Whether a leaf is a hash, whose meaning is told in words, or a setting of a method that only one run has."""
    return name in _HASHES or name in choices or any(name.startswith(f"{path}.") for path in choices)


def _of_model(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if _hash(old, "weights") == _hash(new, "weights"):
        return
    names = [" ".join(str(about[key]) for key in ("model", "pretrained") if about.get(key)) for about in (old, new)]
    names = [name or "a generator's own" for name in names]
    yield f"model: {names[0]} → {names[1]}" if names[0] != names[1] else f"model: other weights of {names[0]}"


def _of_classes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if _hash(old, "vocabulary") == _hash(new, "vocabulary"):
        return
    first, second = (_classes(about) for about in (old, new))
    if first != second:
        yield f"classes: {first} → {second}"
    elif _class_names(old) != _class_names(new):
        yield f"classes: other names than before in {first}"
    elif all(old["settings"].get(name) == new["settings"].get(name) for name in (*_WORDS, "fuse", "attribute_centres")):
        yield f"classes: other prompts or attributes than before for {first}"


def _hash(about: Mapping[str, Any], name: str) -> Any:
    return about["settings"].get(name)


def _classes(about: Mapping[str, Any]) -> str:
    """A set's or a file's name, or how many names were given."""
    classes = about.get("classes")
    if isinstance(classes, str):
        return classes
    names = _class_names(about) or classes
    return f"{len(names)} own names" if isinstance(names, Sequence) else "unknown"


def _class_names(about: Mapping[str, Any]) -> list[str] | None:
    if names := about["settings"].get("class_names"):
        return list(names)
    entries = (about.get("class_set") or {}).get("classes")
    return [entry.get("name", "") if isinstance(entry, Mapping) else str(entry) for entry in entries or ()] or None


def _list(old: Sequence[Any], new: Sequence[Any]) -> str:
    """``'a {}.' → 'the {}.'``, ``12 → 10 words (without 'sky', 'sea')``."""
    if len(old) == len(new) == 1:
        return f"{_shown(old[0])} → {_shown(new[0])}"
    gone, added = ([word for word in one if word not in other] for one, other in ((old, new), (new, old)))
    parts = [f"{what} {_few(words)}" for what, words in (("without", gone), ("with", added)) if words]
    return f"{len(old)} → {len(new)} ({', '.join(parts) or 'in another order'})"


def _few(words: Sequence[Any]) -> str:
    shown = ", ".join(map(_shown, words[:2]))
    return f"{shown} and {len(words) - 2} more" if len(words) > 2 else shown


def flatten(value: Any, path: str = "", *, lists: bool = True) -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings, each with its path: ``config.image.mean[0]``.

    An empty dict or list is a leaf; with ``lists=False`` every list is one.

    >>> list(flatten({"a": {"b": [1, 2]}, "c": []}))
    [('a.b[0]', 1), ('a.b[1]', 2), ('c', [])]
    >>> list(flatten({"a": {"b": [1, 2]}}, lists=False))
    [('a.b', [1, 2])]
    """
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key), lists=lists)
    elif lists and isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from flatten(item, f"{path}[{index}]")
    else:
        yield path, value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"
