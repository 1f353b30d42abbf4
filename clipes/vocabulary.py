"""Class names, their prompts, background words and templates: from a shipped set, a file or a list.

What the text encoder is told is decided here (CLIP-ES: the class-related background set, synonyms, the
prompt); `clipes.text` encodes it. `clipes.prompts` holds the shipped sets, its README their origin.
"""

from __future__ import annotations

import difflib
import json
import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

_LISTED_CLASSES = 20


@dataclass(frozen=True)
class Vocabulary:
    """K classes, their prompt names, M background words, T templates; made by `load_vocabulary`."""

    name: str  # a shipped set's name, the stem of the file it was read from, or "custom"
    class_names: tuple[str, ...]  # (K,) in the data set's order; a class's id in a mask is its position + 1
    prompt_names: tuple[tuple[str, ...], ...]  # (K,) per class, one or more names to put into the templates
    background_names: tuple[str, ...]  # (M,) what may surround the classes; may be empty
    templates: tuple[str, ...]  # (T,) each with one {}

    def ids(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Return the ids 1..K of `labels`, in the order given, repeats dropped.

        >>> load_vocabulary("voc12").ids(["person", "dog", "person"])
        (15, 12)
        >>> load_vocabulary("voc12").ids(["aeroplan"])
        Traceback (most recent call last):
        ValueError: unknown class 'aeroplan' in voc12; did you mean 'aeroplane'?

        Raises:
            ValueError: Labels that are no class (all are named), or one label and no background word.
            TypeError: `labels` is one string, has no order, or holds something else than strings.
        """
        wanted = dict.fromkeys(_strings(labels, "labels"))
        unknown = [label for label in wanted if label not in self._positions]
        if unknown:
            raise ValueError(self._unknown(unknown))
        if len(wanted) == 1 and not self.background_names:
            only = f"{next(iter(wanted))!r} is the only label and there is no background word"
            raise ValueError(f"{only}, so the softmax has nothing to decide; give background words")
        return tuple(self._positions[label] for label in wanted)

    def class_sentences(self) -> list[list[str]]:
        """Return K lists: every template with every prompt name of the class, template by template.

        >>> load_vocabulary({"dog": ["dog", "puppy"]}).class_sentences()
        [['a clean origami dog.', 'a clean origami puppy.']]
        """
        return [self._sentences(names) for names in self.prompt_names]

    def background_sentences(self) -> list[list[str]]:
        """Return M lists: every template with the background word.

        >>> load_vocabulary("voc12").background_sentences()[:2]
        [['a clean origami ground.'], ['a clean origami land.']]
        """
        return [self._sentences((word,)) for word in self.background_names]

    def _sentences(self, names: tuple[str, ...]) -> list[str]:
        return [template.replace("{}", name) for template in self.templates for name in names]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.class_names, start=1)}

    def _unknown(self, labels: list[str]) -> str:
        # A prompt name leads to its class: "sofa" is COCO's "couch". Class names come last, so they win.
        prompts = zip(self.class_names, self.prompt_names, strict=True)
        known = {prompt.casefold(): name for name, names in prompts for prompt in names}
        known |= {name.casefold(): name for name in self.class_names}
        hints = {label: _hint(label, known) for label in labels}
        if len(labels) == 1 and hints[labels[0]]:
            return f"unknown class {labels[0]!r} in {self.name}; {hints[labels[0]]}"
        named = ", ".join(f"{label!r} ({hint})" if hint else f"{label!r}" for label, hint in hints.items())
        shown = ", ".join(self.class_names[:_LISTED_CLASSES])
        more = ", …" if len(self.class_names) > _LISTED_CLASSES else ""
        return f"unknown class{'es' * (len(labels) > 1)} {named} in {self.name}; its classes are {shown}{more}"


def load_vocabulary(
    classes: str | os.PathLike[str] | Iterable[str] | Mapping[str, str | Iterable[str]],
    background: str | Iterable[str] | None = None,
    templates: str | Iterable[str] | None = None,
) -> Vocabulary:
    """Return the vocabulary of a shipped class set, of a file, or of one's own names.

    >>> own = load_vocabulary({"duck": ["duck", "mallard"], "bridge": "bridge"}, templates="a photo of a {}.")
    >>> own.class_names, own.prompt_names
    (('duck', 'bridge'), (('duck', 'mallard'), ('bridge',)))
    >>> "bridge" in own.background_names  # one of VOC's words, but a class here
    False

    Args:
        classes: A set's name (`class_set_names`); names; a mapping of names to one or more prompt names; or a
            file's path: `.json` with any of these or a class set in the format of `prompts/README.md`, else
            text with one name per line, blank lines and lines that begin with `#` ignored.
        background: A set's name, or words. Default: the class set's own; for one's own names VOC's, less any
            word equal to a class or prompt name, letter case aside.
        templates: One template, several, or a set's name. Default: the paper's `a clean origami {}.`

    Raises:
        ValueError: An unknown set; an empty list; a blank or repeated name; a background word that is also a
            class or prompt name; a template without exactly one `{}`; a file that breaks any of these rules.
        TypeError: A value or an entry of another type than the above.
        FileNotFoundError: `classes` is a path where there is no file.
    """
    loaded = _load_classes(classes)
    words = loaded.background_names if background is None else _backgrounds(background, loaded)
    return replace(loaded, background_names=words, templates=_templates(templates))


def class_set_names() -> tuple[str, ...]:
    """Return the names of the shipped class sets.

    >>> class_set_names()
    ('coco14', 'scenes', 'voc12')
    """
    return tuple(name for name, data in _shipped().items() if "classes" in data)


def background_set_names() -> tuple[str, ...]:
    """Return the names of the shipped sets of background words."""
    return tuple(_shipped()["backgrounds"])


def template_set_names() -> tuple[str, ...]:
    """Return the names of the shipped sets of templates."""
    return tuple(_shipped()["templates"])


@cache
def _shipped() -> dict[str, Any]:
    here = files("clipes")
    folder = here / "prompts" if (here / "prompts").is_dir() else here / ".." / "prompts"  # beside it in a clone
    found = sorted((e for e in folder.iterdir() if e.name.endswith(".json")), key=lambda entry: entry.name)
    return {e.name.removesuffix(".json"): json.loads(e.read_text("utf-8")) for e in found}


def _load_classes(classes: object) -> Vocabulary:
    sets = class_set_names()
    if isinstance(classes, str) and classes in sets:
        return _class_set(_shipped()[classes], classes)
    if not isinstance(classes, str | os.PathLike):
        return _vocabulary(classes, "custom")
    path = Path(classes)
    if path.is_file():
        return _read_file(path)
    cure = "give a list of names, or a .json or text file"
    if not isinstance(classes, str) or path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"no class file {str(path)!r}; {cure}, or one of {', '.join(sets)}")
    raise _unknown_name("class set", classes, sets, cure)


def _read_file(path: Path) -> Vocabulary:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() != ".json":
            lines = [line.strip() for line in text.splitlines()]
            return _vocabulary([line for line in lines if line and not line.startswith("#")], path.stem)
        data = json.loads(text, object_pairs_hook=_object)
        is_class_set = isinstance(data, dict) and "classes" in data
        return _class_set(data, path.stem) if is_class_set else _vocabulary(data, path.stem)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: bad JSON: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        # What is wrong inside a file is a wrong value, whatever its type.
        raise ValueError(f"{path}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python's reader would keep the last of two equal keys without a word.
    _words([key for key, _ in pairs], "keys", at_least=0)
    return dict(pairs)


def _class_set(data: Mapping[str, Any], name: str) -> Vocabulary:
    _check_keys(data, ("name", "description", "background", "classes"), "the class set")
    return _vocabulary(data["classes"], name, data.get("background"))


def _vocabulary(classes: object, name: str, background: object = None) -> Vocabulary:
    pairs = _named_prompts(classes)
    names = _words([class_name for class_name, _ in pairs], "class names")
    prompts = tuple(
        _words([given] if isinstance(given, str) else given, f"prompts of {class_name!r}")
        for class_name, (_, given) in zip(names, pairs, strict=True)
    )
    bare = Vocabulary(name, names, prompts, background_names=(), templates=_templates(None))
    return replace(bare, background_names=_backgrounds(background, bare))


def _named_prompts(classes: object) -> list[tuple[object, object]]:
    if isinstance(classes, Mapping):
        return list(classes.items())
    pairs: list[tuple[object, object]] = []
    for number, entry in enumerate(_listed(classes, "class names"), start=1):
        if isinstance(entry, Mapping):
            _check_keys(entry, ("name", "prompts", "id"), f"class {number}")
            pairs.append((entry.get("name"), entry.get("prompts", entry.get("name"))))
        else:
            pairs.append((entry, entry))
    return pairs


def _backgrounds(background: object, classes: Vocabulary) -> tuple[str, ...]:
    taken = {word.casefold() for words in (classes.class_names, *classes.prompt_names) for word in words}
    sets = _shipped()["backgrounds"]
    if background is None:
        return tuple(word for word in sets["voc12"] if word.casefold() not in taken)
    if isinstance(background, str):
        if background not in sets:
            raise _unknown_name("background set", background, sets, "give a list of words")
        background = sets[background]
    words = _words(background, "background", at_least=0)
    clashes = ", ".join(repr(word) for word in words if word.casefold() in taken)
    if clashes:
        raise ValueError(f"background: also a class or prompt of {classes.name}: {clashes}; leave it out")
    return words


def _templates(templates: object) -> tuple[str, ...]:
    sets = _shipped()["templates"]
    if templates is None:
        templates = "clip-es"
    if isinstance(templates, str):
        if templates not in sets and "{}" not in templates:
            cure = "give a template such as 'a photo of a {}.'"
            raise _unknown_name("template set", templates, sets, cure)
        templates = sets.get(templates, [templates])
    sentences = _words(templates, "templates")
    for sentence in sentences:
        if not sentence.count("{}") == sentence.count("{") == sentence.count("}") == 1:
            raise ValueError(f"template {sentence!r} needs exactly one {{}} and no other brace")
    return sentences


def _words(values: object, what: str, at_least: int = 1) -> tuple[str, ...]:
    words = _strings(values, what)
    if len(words) < at_least:
        raise ValueError(f"{what}: the list is empty; give at least one")
    seen: dict[str, str] = {}
    for word in words:
        # CLIP's tokenizer lowers every letter: names that differ by case alone are one name.
        if word.casefold() in seen:
            raise ValueError(f"{what}: {word!r} repeats {seen[word.casefold()]!r}; remove one")
        seen[word.casefold()] = word
    return words


def _strings(values: object, what: str) -> tuple[str, ...]:
    words = _listed(values, what)
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise TypeError(f"{what}: entry {number} is {reprlib.repr(word)}, not a string")
        tidy = " ".join(word.split())
        if not tidy:
            raise ValueError(f"{what}: entry {number} is blank; remove it")
        if word != tidy:
            raise ValueError(f"{what}: entry {number}, {word!r}, has stray white space; write {tidy!r}")
    return words


def _listed(values: object, what: str) -> tuple[Any, ...]:
    # A set is refused because its order, and with it the ids, would change from run to run.
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        cure = f"; write [{values!r}]" if isinstance(values, str) else ""
        raise TypeError(f"{what}: expected a list of strings, got {reprlib.repr(values)}{cure}")
    return tuple(values)


def _check_keys(data: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in known:
            raise _unknown_name(f"key in {where}:", str(key), known, "leave it out")


def _unknown_name(kind: str, name: str, known: Iterable[str], cure: str) -> ValueError:
    by_key = {word.casefold(): word for word in known}
    choices = f"choose one of {', '.join(by_key.values())}, or {cure}"
    return ValueError(" ".join(filter(None, (f"unknown {kind} {name!r};", _hint(name, by_key), choices))))


def _hint(word: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(word.casefold(), known, n=1)
    return f"did you mean {known[near[0]]!r}?" if near else ""
