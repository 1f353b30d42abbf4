"""Every `clipes` line of the README and the documentation is whole and runs, on a small data set of the layout named.

Where a line names a model of open_clip, a random one is loaded. Those of docs/datasets.md and docs/tutorial.md run in
test_docs.py and test_site.py, those of docs/export.md in tests/export.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from documents import DOCS, PAGES, ROOT, blocks, command_parsers, commands, layouts
from PIL import Image

from clipes.cli import main
from clipes.config import RECIPES, VOC12, AttentionAffinityConfig
from clipes.prompting.wordnet import WordNetMissing, open_wordnet
from clipes.vocabulary import load_vocabulary

ELSEWHERE = ("--devices", "--engine")
"""Flags of lines that need GPUs, or processes that load the real model: only their plans are made."""


@pytest.fixture
def folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages' lines read: photographs with labels of VOC, VOC, COCO, and what `clipes demo` writes."""
    layouts(photos)
    root = photos.parent
    (root / "labels.csv").write_text("image,labels\na.jpg,dog\nb.png,cat;train\nsub/c.jpg,person\n")
    truth = root / "VOCdevkit/VOC2012/SegmentationClass"
    truth.mkdir()
    for name in ("a", "b"):
        with Image.open(root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg") as image:
            Image.fromarray(np.full((image.height, image.width), 12, np.uint8)).save(truth / f"{name}.png")
    monkeypatch.chdir(root)
    assert main(["demo", "--count", "8"]) == 0
    return root


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_line_is_shortened(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = [argument for block in blocks(page, "(?:sh|console)") for line in commands(block) for argument in line]
    spans = re.findall(r"`(clipes [^`]+)`", text)
    assert not [part for part in (*lines, *spans) if "…" in part or "..." in part]


@pytest.mark.usefixtures("saved_vit")
@pytest.mark.parametrize(
    "name", ["README.md", "docs/voc-coco.md", "docs/scale.md", "docs/affinities.md", "docs/compare.md"]
)
def test_lines_that_make_masks(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks(ROOT / name, "sh") for line in block.replace("\\\n", " ").splitlines()]
    if "clipes status masks" in "\n".join(lines):
        assert main(["generate", "photos", "--labels", "cat", "--out", "masks"]) == 0
    made = 0
    for line in lines:
        for arguments in commands(line.replace("--devices all", "--devices cpu,cpu")):
            arguments += ["--count", "2"] * (arguments == ["demo"])  # by default 200
            planned = any(flag in arguments for flag in ELSEWHERE)
            assert main([*arguments, *["--dry-run"] * planned]) == 0, (arguments, capsys.readouterr())
            made += 1
        if line.startswith(("mkdir", "xargs")):
            subprocess.run(line, shell=True, check=True)
    assert made > 1


@pytest.mark.usefixtures("saved_vit")
def test_lines_that_find_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/tags.md: its commands, on six pictures with labels, its code, and what it says that they write."""
    pictures = ["a.jpg", "b.png", "sub/c.jpg", "d.jpg", "e.jpg", "f.jpg"]
    for name in pictures[3:]:
        (folder / "photos" / name).write_bytes((folder / "photos/a.jpg").read_bytes())
    (folder / "labels.csv").write_text("image,labels\n" + "".join(f"{name},dog\n" for name in pictures))
    page = DOCS / "tags.md"
    made = 0
    for block in blocks(page, "sh"):
        for arguments in commands(block):
            assert main(arguments) == 0, (arguments, capsys.readouterr())
            made += 1
    assert made >= 9
    for block in blocks(page, "python"):
        exec(block, {})
    files = (
        "tags.csv",
        "tags.csv.html",
        "tags.csv.thresholds.json",
        "doubts.csv",
        "doubts.csv.html",
        "bank.npz",
        "scenes.npz",
    )
    assert all((folder / name).is_file() and name in page.read_text(encoding="utf-8") for name in files)


def test_the_methods_of_the_affinities_page_are_settings() -> None:
    """Its table: a method, and its arguments of AttentionAffinityConfig."""
    page = (DOCS / "affinities.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \| `([^`]+)` \| [^|]*\|$", page.partition("`AttentionAffinityConfig(…)`")[2], re.M)
    methods = {name: eval(f"dict({arguments.strip('()')})") for name, arguments in rows}
    assert {"CLIP-ES", "MCTformer", "AFA", "PSA", "ExCEL", "TagCLIP"} == set(methods)
    settings = {name: AttentionAffinityConfig(**arguments) for name, arguments in methods.items()}
    assert settings["CLIP-ES"] == VOC12.affinity and len(set(settings.values())) == len(settings)


def test_the_attributes_of_the_maps_page_are_read() -> None:
    (text,) = blocks(ROOT / "docs/maps.md", "json")
    assert sum(map(len, load_vocabulary("voc12", attributes=json.loads(text)).attributes)) == 3


def test_the_recipes_of_the_compare_page_are_those_of_the_library() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([^|]+) \| ([^|]+) \|", (DOCS / "compare.md").read_text(encoding="utf-8"), re.M
    )
    expected = [
        (name, f"{recipe.sentence} {recipe.source}.", recipe.published or "-") for name, recipe in RECIPES.items()
    ]
    assert rows == expected


def test_lines_about_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/text.md, with the bundled model, which knows the scenes of `clipes demo`."""
    pytest.importorskip("matplotlib")
    try:
        open_wordnet()
    except WordNetMissing as error:
        pytest.skip(str(error))
    page = DOCS / "text.md"
    lines = [arguments for block in blocks(page, "console") for arguments in commands(block)]
    spans = re.findall(r"`clipes (generate [^`]+ [^`]+)`", page.read_text(encoding="utf-8"))
    assert len(lines) == 5 and len(spans) == 1
    for arguments in (*lines, *(shlex.split(span) for span in spans)):
        assert main(arguments) == 0, (arguments, capsys.readouterr())
    assert len(list(Path("plastic").glob("*.png"))) == 8


def test_lines_of_examples() -> None:
    """The usage of the launchers' scripts is of this version, too."""
    parser = command_parsers()["generate"]
    found = 0
    for script in (*(ROOT / "examples").glob("*.sh"), DOCS / "scale.md"):
        text = re.sub(r"\\\n(#\s*)?", " ", script.read_text(encoding="utf-8"))
        for arguments in re.findall(r"examples/(?:torchrun|slurm_array)\.sh (photos [^#\n]+)", text):
            parser.parse_args(shlex.split(arguments))
            assert "..." not in arguments
            found += 1
    assert found == 5
