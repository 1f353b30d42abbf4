"""The documentation: its commands and code run, what it names exists, public names and commands have entries."""

from __future__ import annotations

import argparse
import ast
import json
import pydoc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from documents import DOCS, PAGES, ROOT, blocks, command_parsers, commands
from PIL import Image

import clipes
import clipes.evaluation
import clipes.prompting
import clipes.refine
from clipes.cli import main

OTHERS_FLAGS = {"--array", "--ntasks", "--label", "--patch", "--smoke"}  # of Slurm, of examples/ and benchmarks/
TOP_FLAGS = {"--print-completion"}  # of `clipes` itself


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return command_parsers()


@pytest.fixture(scope="module")
def stage() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "site"))
        import stage

        yield stage
        for name in ("stage", "command_pages"):
            del sys.modules[name]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_of_this_version(page: Path, parsers: dict[str, argparse.ArgumentParser]) -> None:
    """Each command parses; each flag in prose is a flag of some command."""
    for block in (*blocks(page, "sh"), *blocks(page, "console")):
        for name, *arguments in commands(block):
            if name in TOP_FLAGS:
                continue
            assert name in parsers, name
            parsers[name].parse_args(arguments)
    known = {option for parser in parsers.values() for action in parser._actions for option in action.option_strings}
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    spans = [code for code in re.findall(r"`([^`]+)`", prose) if code.startswith(("clipes ", "--"))]
    named = {flag for code in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", code)}
    assert named <= known | OTHERS_FLAGS | TOP_FLAGS


def test_readme_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "README.md", "python")
    exec(code, {})
    assert Image.open("mask.png").mode == "P"
    assert Image.open("overlay.png").mode == "RGB"


def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command and block of it in its order, with fewer pictures."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8").replace("--count 24", "--count 4")
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(block, names)
        for arguments in commands(block) if language == "sh" else ():
            assert main(arguments) == 0, arguments
    assert {"labels.csv", "truth"} <= {path.name for path in Path("clipes-demo").iterdir()}
    for made in ("masks/cams", "masks/confidence", "masks-report/index.html", "masks-voc", "00001.png", "stages.png"):
        assert Path(made).exists(), made


def test_api_code() -> None:
    names: dict[str, object] = {}
    for block in blocks(DOCS / "api.md", "python"):
        exec(block, names)
    assert names["maps_only"] == clipes.Config(affinity=None, refine=None)


def test_truth_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small square inside a large one: both are in the mask."""
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(tmp_path)
    shapes = [((1, 1, 4, 4), 18), ((0, 0, 8, 8), 1)]
    annotations = [
        {"id": n, "image_id": 7, "category_id": kind, "area": w * h, "iscrowd": 0, "bbox": [x, y, w, h]}
        | {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        for n, ((x, y, w, h), kind) in enumerate(shapes, 1)
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": annotations,
    }
    Path("coco/annotations").mkdir(parents=True)
    Path("coco/annotations/instances_train2014.json").write_text(json.dumps(content))
    Path("coco-masks").mkdir()
    Path("coco-masks/classes.json").write_text('{"1": "person", "2": "dog"}')
    (code,) = blocks(DOCS / "voc-coco.md", "python")
    exec(code, {})
    expected = np.zeros((10, 12), np.uint8)
    expected[:8, :8], expected[1:5, 1:5] = 1, 2
    np.testing.assert_array_equal(np.asarray(Image.open("coco-truth/a.png")), expected)


def _strings() -> Iterator[str]:
    """Every string of the package, with an ellipsis for what an f-string fills in."""
    for path in (ROOT / "clipes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                yield "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_quoted_errors_are_those_of_the_code() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").partition("## Errors by their text")[2]
    quoted = re.findall(r"^\| `([^|]+?)` \|", page, re.MULTILINE)
    assert len(quoted) > 20
    strings = [*_strings()]
    for text in quoted:
        parts = text.split("…")
        assert any(all(part.strip() in string for part in parts) for string in strings), text


def test_every_public_name_has_an_entry() -> None:
    entries = set(re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE))
    modules = {"config", "scenes"}
    names = {f"clipes.{name}" for name in {*clipes.__all__} - modules - {"__version__"}}
    for wing in (clipes.refine, clipes.prompting):
        names |= {f"{wing.__name__}.{name}" for name in wing.__all__ if name.islower()}  # not types and tables
    assert names <= entries
    for entry in entries:
        assert pydoc.locate(entry) is not None, entry


def test_sources_of_the_site(stage: ModuleType, tmp_path: Path, parsers: dict[str, argparse.ArgumentParser]) -> None:
    """A page for each command, with all its flags, and for each wing; every page is in the navigation or linked."""
    stage.stage(tmp_path / "docs")
    pages = tmp_path / "docs" / "docs"
    navigation = (tmp_path / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    for name, parser in parsers.items():
        text = (pages / "commands" / f"{name}.md").read_text(encoding="utf-8")
        assert f"commands/{name}.md" in navigation and f"`clipes {name}`" in (pages / "commands/index.md").read_text()
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                assert all(re.search(f"[` ]{option}\\b", text) for option in action.option_strings), (
                    name,
                    action.option_strings,
                )
    for wing in stage.wings():
        assert f"::: clipes.{wing}\n" in (pages / "wings" / f"{wing}.md").read_text(encoding="utf-8")
        assert f"wings/{wing}.md" in navigation
    for page in DOCS.glob("*.md"):
        assert f"{page.name}\n" in navigation, f"{page.name} is not in the navigation of docs/site/mkdocs.yml"
    assert (pages / "index.md").read_text(encoding="utf-8").count("# clipes") == 1
