"""clipes.io.structured: JSON and YAML give the same data, or an error that names the file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from clipes.io.structured import read_structured

DATA = {"classes": [{"name": "cat", "prompts": ["cat", "kitten"]}, "tree"], "fuse": None, "hops": 3, "ä": [1.5, True]}


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.yml", "a.YAML"])
def test_every_format(tmp_path: Path, name: str) -> None:
    text = json.dumps(DATA, ensure_ascii=False)
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert read_structured(tmp_path / name) == DATA


def test_the_form_that_people_write(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("classes:\n  - name: cat\n    prompts: [cat, kitten]\n  - tree\nhops: 3  # few\n")
    assert read_structured(path) == {"classes": DATA["classes"], "hops": 3}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", b"{", "bad JSON: "),
        ("a.json", b'{"a": 1, "a": 2}', "the key 'a' comes twice; remove one"),
        ("a.yaml", b"a: [1", "bad YAML: "),
        ("a.yaml", b"a: 1\na: 2", "the key 'a' comes twice; remove one"),
        ("a.yaml", b"? [1]\n: 2", "bad YAML: "),
        ("a.yaml", b"a: !!python/object/apply:os.system ['false']", "bad YAML: could not determine a constructor"),
        ("a.yaml", b"\xff\xfe", "not UTF-8 text (byte 0); save it as UTF-8"),
    ],
)
def test_what_is_broken(tmp_path: Path, name: str, text: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path / name}: {message}')}"):
        read_structured(tmp_path / name)


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(ImportError, match="YAML files need PyYAML: pip install pyyaml; or save the file as JSON"):
        read_structured(tmp_path / "a.yaml")
