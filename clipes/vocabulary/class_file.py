"""Class sets as data: those shipped in `clipes.prompts`, and the user's files, in the form of `prompts/README.md`."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from clipes.config import PRESETS, Fuse
from clipes.ids import ignore_index, is_background, split_background
from clipes.io.atomic import owned, write_text
from clipes.io.structured import SUFFIXES

from .attributes import ATTRIBUTE_CENTRES, attributes_of_classes, centre_count
from .class_ids import classes_of_other_tools, is_number, read_id_map, read_numbered_lines
from .shipped import background_words, shipped, template_list
from .words import as_tuple, check_keys, read_data, strings, unique_strings, unknown_name

_SET_KEYS = (
    "name",
    "description",
    "config",
    "background",
    "templates",
    "fuse",
    "numbers_from",
    "attribute_centres",
    "classes",
)
_CLASS_KEYS = ("id", "name", "prompts", "synonyms", "attributes")


class Synonyms(NamedTuple):
    """Further names of a class, and the WordNet sense key that they share; each may be empty."""

    sense: str
    names: tuple[str, ...]


class ClassSet(NamedTuple):
    """The content of a class file; where `background` is None, `clipes.vocabulary.vocabulary` chooses the words."""

    name: str
    class_names: tuple[str, ...]
    prompt_names: tuple[tuple[str, ...], ...]
    synonyms: tuple[tuple[Synonyms, ...], ...]
    category_ids: tuple[int, ...]
    background: tuple[str, ...] | None
    templates: tuple[str, ...]
    fuse: Fuse
    preset: str
    description: str
    numbers_from: int = 0  # the whole number that stands for the first class in files of labels: 0 or 1
    left_out: tuple[str, ...] = ()  # names beside the classes that are the background's
    attributes: tuple[tuple[str, ...], ...] = ()  # (K,) sentences about each class, or none
    attribute_centres: int = ATTRIBUTE_CENTRES


class _Entries(NamedTuple):
    """The classes as a class file lists them, and what :class:`ClassSet` says of their numbers."""

    entries: list[Mapping[str, Any]]
    numbers_from: int = 0
    left_out: tuple[str, ...] = ()


def read_class_set(classes: object, sets: tuple[str, ...]) -> ClassSet:
    """Return one of the shipped `sets`, that of a file, or that of names; errors as `load_vocabulary`."""
    if isinstance(classes, str) and classes in sets:
        return _class_set(shipped()[classes], classes)
    if not isinstance(classes, str | os.PathLike):
        return _from_entries(classes, "custom", {})
    path = Path(classes)
    if path.is_file():
        return _read_file(path)
    names = [part.strip() for part in str(classes).split(",") if part.strip()]
    file = not isinstance(classes, str) or path.suffix or len(path.parts) > 1
    alone = f", on the command line '{names[0]},'" if len(names) == 1 else ""
    example = f" ({names}{alone})" if names and not (file and alone) else ""
    cure = f"give a list of names{example}, or a .json or text file"
    if file:
        raise FileNotFoundError(f"no class file {str(path)!r}; {cure}, or one of {', '.join(sets)}")
    raise unknown_name("class set", str(classes), sets, cure)


def write_class_set(path: str | os.PathLike[str], class_set: ClassSet) -> None:
    """Write a class file atomically, one class per line; the set's name is the path's stem.

    Raises errors as :func:`check_path`, and OSError if it cannot be written.
    """
    path = check_path(path)
    sets = {tuple(words): name for name, words in shipped()["backgrounds"].items()}
    words = class_set.background or ()
    data = class_set_data(class_set._replace(name=path.stem))
    data["background"] = sets.get(words, words)
    lines = [f"  {_json(key)}: {_json(value)}," for key, value in data.items() if key != "classes"]
    classes = ",\n".join(f"    {_json(entry)}" for entry in data["classes"])
    text = "\n".join(["{", *lines, '  "classes": [', classes, "  ]", "}", ""])
    write_text(path, text)


def class_set_data(class_set: ClassSet) -> dict[str, Any]:
    """Return the content of the class file that reads back as ``class_set``."""
    from_one = int(class_set.category_ids == tuple(range(1, len(class_set.class_names) + 1)))  # what is read without it
    head = {
        "name": class_set.name,
        "description": class_set.description,
        "config": class_set.preset,
        "background": class_set.background or (),
        "templates": class_set.templates,
        "fuse": class_set.fuse,
        "attribute_centres": class_set.attribute_centres if class_set.attributes else "",
        "numbers_from": class_set.numbers_from if class_set.numbers_from != from_one else "",
    }
    return {**{key: value for key, value in head.items() if value != ""}, "classes": list(_entries(class_set))}


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return `path` if a class file may be written there, else raise ValueError, or an OSError of the kind."""
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"a class file is JSON, not {path.name!r}; end its name in .json")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise FileExistsError(f"{path} is no ordinary file; choose another name")
    if path.is_file() and not owned(path, "classes"):
        raise FileExistsError(f"{path} exists and is not a class file that clipes wrote; choose another name")
    if any(parent.is_file() for parent in path.parents):
        raise NotADirectoryError(f"{path} lies in a file, not in a folder; choose another name")
    return path


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _entries(class_set: ClassSet) -> Iterable[dict[str, Any]]:
    ids = class_set.category_ids or [None] * len(class_set.class_names)
    about = class_set.attributes or [()] * len(class_set.class_names)
    rows = zip(ids, class_set.class_names, class_set.prompt_names, class_set.synonyms, about, strict=True)
    for number, name, prompts, synonyms, said in rows:
        entry = {"id": number, "name": name, "prompts": prompts, "synonyms": dict(synonyms), "attributes": said}
        yield {key: value for key, value in entry.items() if value not in (None, {}, ())}


def _read_file(path: Path) -> ClassSet:
    data = read_data(path)
    try:
        of_lines = path.suffix.lower() not in SUFFIXES
        if of_lines and len(data) == 1 and "," in data[0] and read_numbered_lines(data) is None:
            raise ValueError(f"{data[0]!r} is one line, and would be one class; write one class a line")
        if isinstance(data, dict) and "settings" in data and "digest" in data:  # run.json
            if not isinstance(data := data.get("class_set"), dict):
                raise ValueError("the record of a run without its classes; give the classes.json beside it")
            return _class_set(data, str(data.get("name", path.stem)))
        if isinstance(data, dict) and "classes" in data:
            return _class_set(data, path.stem)
        return _from_entries(classes_of_other_tools(data), path.stem, {})
    except (TypeError, ValueError) as error:
        # What is wrong inside a file is a wrong value, whatever its type.
        raise ValueError(f"{path}: {error}") from error


def _class_set(data: Mapping[str, Any], name: str) -> ClassSet:
    check_keys(data, _SET_KEYS, "the class set")
    _text(data, "name")
    return _from_entries(data["classes"], name, data)


def _from_entries(classes: object, name: str, data: Mapping[str, Any]) -> ClassSet:
    found = _class_entries(classes)
    names = unique_strings([entry.get("name") for entry in found.entries], "class names")
    ignore_index(len(names))  # refuses more classes than a mask can hold
    named = list(zip(names, found.entries, strict=True))
    prompts = tuple(_prompts(class_name, entry.get("prompts", class_name)) for class_name, entry in named)
    others = tuple(_synonyms(*each) for each in zip(names, prompts, found.entries, strict=True))
    about = {name: entry["attributes"] for name, entry in named if "attributes" in entry}
    ids = _category_ids(named)
    numbers_from = data.get("numbers_from", int(found.numbers_from or ids == tuple(range(1, len(names) + 1))))
    return ClassSet(
        name=name,
        class_names=names,
        prompt_names=prompts,
        synonyms=others,
        category_ids=ids,
        background=None if data.get("background") is None else background_words(data["background"]),
        templates=template_list(data.get("templates", "clip-es")),
        fuse=_one_of("fuse", data.get("fuse", "sentence"), get_args(Fuse)),
        preset=_one_of("config", data.get("config", "voc12"), PRESETS),
        description=_text(data, "description"),
        numbers_from=_zero_or_one("numbers_from", numbers_from),
        left_out=found.left_out,
        attributes=attributes_of_classes(about, names) if about else (),
        attribute_centres=centre_count(data.get("attribute_centres", ATTRIBUTE_CENTRES)),
    )


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise TypeError(f"{key} is {reprlib.repr(value)}, not a string")
    return value


def _one_of(key: str, value: object, known: Iterable[str]) -> Any:
    if value not in tuple(known):
        raise unknown_name(key, str(value), known, "leave it out")
    return value


def _zero_or_one(key: str, value: object) -> int:
    if value not in (0, 1) or not isinstance(value, int):
        raise ValueError(f"{key} is {reprlib.repr(value)}; it is 0 or 1, the number of the first class")
    return int(value)


def _class_entries(classes: object) -> _Entries:
    """Bring every way to give classes to the form of a class file: a list of mappings with a name."""
    given = classes if isinstance(classes, Mapping) else as_tuple(classes, "class names")
    numbered = read_id_map(given) if isinstance(given, Mapping) else read_numbered_lines(given)
    if numbered:
        return _Entries([{"name": name} for name in numbered.names], 1, numbered.left_out)
    if isinstance(given, Mapping):
        return _without_background([{"name": name, "prompts": prompts} for name, prompts in given.items()])
    entries: list[Mapping[str, Any]] = []
    for number, entry in enumerate(given, start=1):
        if isinstance(entry, Mapping):
            check_keys(entry, _CLASS_KEYS, f"class {number}")
        entries.append(entry if isinstance(entry, Mapping) else {"name": entry})
    return _without_background(entries)


def _without_background(entries: list[Mapping[str, Any]]) -> _Entries:
    """The entries of the classes, in the order of ids that are those of a mask, 1 to K."""
    names = [name if isinstance(name := entry.get("name"), str) else "" for entry in entries]
    left_out, _ = split_background(names)
    entries = entries[len(left_out) :]
    ids = [entry.get("id") for entry in entries]
    if all(isinstance(number, int) for number in ids) and sorted(ids) == list(range(1, len(ids) + 1)):  # type: ignore[type-var]
        entries = sorted(entries, key=lambda entry: entry["id"])
    return _Entries(entries, int(bool(left_out)), left_out)


def _prompts(class_name: str, given: object) -> tuple[str, ...]:
    prompts = unique_strings([given] if isinstance(given, str) else given, f"prompts of {class_name!r}")
    for prompt in prompts:
        if is_number(prompt):
            raise ValueError(
                f"prompts of {class_name!r}: {prompt!r} is a number, which tells CLIP nothing about a picture; "
                "write the class's name in words"
            )
        if is_background(prompt):
            raise ValueError(
                f"prompts of {class_name!r}: {prompt!r} is the background, which is no class and has the id 0; give "
                "the classes alone, a list of names or a mapping from names to prompts"
            )
    return prompts


def _synonyms(class_name: str, prompts: tuple[str, ...], entry: Mapping[str, Any]) -> tuple[Synonyms, ...]:
    what = f"synonyms of {class_name!r}"
    given = entry.get("synonyms", {})
    if not isinstance(given, Mapping):
        raise TypeError(f'{what}: expected sense keys and their words, got {given!r}; write {{"": {given!r}}}')
    strings([sense for sense in given if sense], f"senses of {class_name!r}")
    synonyms = tuple(Synonyms(sense, unique_strings(words, what, at_least=0)) for sense, words in given.items())
    unique_strings([*prompts, *(name for sense in synonyms for name in sense.names)], f"prompts and {what}")
    return synonyms


def _category_ids(named: list[tuple[str, Mapping[str, Any]]]) -> tuple[int, ...]:
    ids = {name: entry["id"] for name, entry in named if "id" in entry}
    for name, number in ids.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"id of {name!r} is {number!r}; it must be a whole number of at least 0")
    if ids and (len(ids) != len(named) or len(set(ids.values())) != len(ids)):
        raise ValueError("ids: every class needs one of its own, or none has one")
    return tuple(ids.values())
