"""Sentences about classes: given in Python, in files, in class files; refused where they are none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipes.vocabulary import load_vocabulary
from clipes.vocabulary.attributes import ATTRIBUTE_CENTRES

PETS = ["cat", "dog", "owl"]
ABOUT = {"dog": ["it has a tail", "it barks"], "cat": ["it has whiskers"]}
SENTENCES = (("it has whiskers",), ("it has a tail", "it barks"), ())


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_sentences_are_those_of_their_class(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"about{suffix}"
    path.write_text(json.dumps(ABOUT))  # JSON is YAML
    for given in (ABOUT, path, str(path)):
        own = load_vocabulary(PETS, attributes=given)
        assert (own.attributes, own.attribute_centres) == (SENTENCES, ATTRIBUTE_CENTRES)
    assert load_vocabulary(PETS, attributes=ABOUT, attribute_centres=3).attribute_centres == 3
    assert load_vocabulary(PETS).attributes == ()


def test_they_are_part_of_what_masks_depend_on() -> None:
    plain, own = load_vocabulary(PETS), load_vocabulary(PETS, attributes=ABOUT)
    others = [plain, replace(own, attribute_centres=3), replace(own, attributes=SENTENCES[::-1])]
    assert len({own.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert replace(own, attributes=()).fingerprint == plain.fingerprint
    assert own.sentences() == plain.sentences()


def test_a_class_file_holds_them(tmp_path: Path) -> None:
    own = load_vocabulary(PETS, attributes=ABOUT, attribute_centres=3)
    own.save(tmp_path / "custom.json")
    assert load_vocabulary(tmp_path / "custom.json") == own
    data = json.loads((tmp_path / "custom.json").read_text())
    assert data["attribute_centres"] == 3 and data["classes"][1]["attributes"] == ABOUT["dog"]
    assert "attributes" not in data["classes"][2]
    again = load_vocabulary(tmp_path / "custom.json", attributes={"owl": ["it has wings"]})
    assert again.attributes == ((), (), ("it has wings",)) and again.attribute_centres == 3
    load_vocabulary(PETS).save(tmp_path / "plain.json")
    assert "attribute" not in (tmp_path / "plain.json").read_text()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"dgo": ["it barks"]}, ValueError, "unknown class 'dgo' in custom; did you mean 'dog'?"),
        ({"dog": []}, ValueError, "attributes of 'dog': the list is empty; give at least one"),
        ({"dog": ["it barks", 3]}, TypeError, "attributes of 'dog': entry 2 is 3, not a string"),
        ({"dog": "it barks"}, TypeError, "attributes of 'dog': expected a list of strings, got 'it barks'; write ['it"),
        ({"dog": {"it": "barks"}}, TypeError, "attributes of 'dog': expected a list of strings, got {'it': 'barks'}"),
        ({"dog": [" "]}, ValueError, "attributes of 'dog': entry 1 is blank; remove it"),
        ({"dog": ["it barks", "It barks"]}, ValueError, "attributes of 'dog': 'It barks' repeats 'it barks'; remove"),
        ({1: ["it barks"]}, TypeError, "attributes: classes: entry 1 is 1, not a string"),
        ({}, ValueError, 'attributes: expected classes and their sentences, {"dog": ["an animal with fur"'),
        (["it barks"], ValueError, "attributes: expected classes and their sentences,"),
    ],
)
def test_what_is_no_attribute_is_refused(tmp_path: Path, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        load_vocabulary(PETS, attributes=given)
    path = tmp_path / "about.json"
    path.write_text(json.dumps(given))
    if 1 not in given:  # JSON's keys are texts
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {re.escape(message)}"):
            load_vocabulary(PETS, attributes=path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: none\.json"):
        load_vocabulary(PETS, attributes="none.json")
    (tmp_path / "about.json").write_text('{"dog": [}')
    with pytest.raises(ValueError, match=r"about\.json"):
        load_vocabulary(PETS, attributes=tmp_path / "about.json")


@pytest.mark.parametrize("centres", [0, -1, 2.0, True])
def test_numbers_of_centres_that_are_refused(centres: Any) -> None:
    with pytest.raises(ValueError, match=f"attribute_centres is {centres}; it must be a whole number of at least 1"):
        load_vocabulary(PETS, attributes=ABOUT, attribute_centres=centres)


def test_centres_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="attribute_centres is 3, and there are no attributes; give both, or none"):
        load_vocabulary(PETS, attribute_centres=3)
