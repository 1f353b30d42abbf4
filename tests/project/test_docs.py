"""docs/datasets.md: every command of it, on a small folder of each layout; and its code for trainings."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from documents import layouts
from generating import CommandLine
from PIL import Image

from clipes.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


EXPECTED = {
    "folder": {"a", "b", "sub/c"},
    "pattern": {"a"},
    "list": {"photos/b"},
    "table": {"photos/a", "photos/sub/c"},
    "folders": {"cat/a", "tree/b"},
    "voc": {"a", "b"},
    "coco": {"a", "b"},
    "roboflow": {"a"},
    "label-studio": {"images/a"},
    "shards": {"a", "b"},
    "imagefolder": {"a"},
    "npy": {"a", "b", "sub/c"},
}


@pytest.mark.usefixtures("saved_vit")
def test_every_command(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    layouts(photos)
    monkeypatch.chdir(photos.parent)
    assert len(LINES) == len(EXPECTED) + 2
    for line in LINES:
        assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
    for name, ids in EXPECTED.items():
        masks = Path("masks", name)
        found = {path.relative_to(masks).with_suffix("").as_posix() for path in masks.rglob("*.png")}
        assert found == ids, name
    assert json.loads(Path("status.json").read_text())["ok"] == 3
    assert json.loads(Path("masks/coco/run.json").read_text())["category_ids"] == {"dog": 18, "toothbrush": 90}


class _Shards:
    """What the page uses of `webdataset.WebDataset`: the members of the neighbouring names up to the first dot."""

    def __init__(self, urls: list[str], shardshuffle: bool) -> None:
        self.urls = urls

    def map(self, function: Callable[[dict[str, Any]], Any]) -> Iterator[Any]:
        for url in self.urls:
            with tarfile.open(url) as tar:
                for key, members in groupby(tar, key=lambda member: member.name.partition(".")[0]):
                    files = {m.name.partition(".")[2]: cast(Any, tar.extractfile(m)).read() for m in members}
                    yield function({"__key__": key, **files})


def _hard_inputs(photos: Path) -> None:
    """Turned by its EXIF, grey, of a palette, with a dot in its name, with other files beside it."""
    with Image.open(photos / "a.jpg") as image:
        turned = Image.Exif()
        turned[0x0112] = 6
        image.copy().save(photos / "a.jpg", exif=turned)
        image.convert("L").save(photos / "grey.v2.png")
        image.convert("P").save(photos / "palette.gif")
    for name in ("a.json", "b.xml", "sub/c.txt"):
        (photos / name).write_text("{}")


def test_its_code_for_trainings(photos: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine) -> None:
    """Each block of Python, on the pictures that a run takes care of."""
    monkeypatch.chdir(photos.parent)
    monkeypatch.setitem(sys.modules, "webdataset", SimpleNamespace(WebDataset=_Shards))  # type: ignore[arg-type]
    _hard_inputs(photos)
    for form, out in (("png", "masks/folder"), ("tar", "masks/tar")):
        assert cli("generate", "photos", "--labels", "cat,tree", "--out", out, "--out-format", form)[0] == 0
    names: dict[str, Any] = {}
    torch_code, tar_code = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(torch_code, names)
    assert len(names["pairs"]) == 5 and names["image"].shape[1:] == (3, 32, 32) and names["loss"].isfinite()
    exec(tar_code, names)
    masks = dict(names["masks"])
    assert set(masks) == {"a", "b", "grey%2Ev2", "palette", "sub/c"}
    for name, mask in masks.items():
        assert np.array_equal(mask, np.asarray(Image.open(f"masks/folder/{name.replace('%2E', '.')}.png")))
    assert masks["a"].shape == (96, 64)  # upright


def test_each_fault_has_a_test_that_exists() -> None:
    """The table of docs/scale.md."""
    root = Path(__file__).parents[2]
    table = (root / "docs" / "scale.md").read_text(encoding="utf-8").partition("| fault |")[2].splitlines()[2:]
    tests = [re.findall(r"`(tests/[^`]+)`", line.rsplit("|", 2)[1]) for line in table if line.startswith("|")]
    assert len(tests) >= 15 and all(names and all((root / name).is_file() for name in names) for names in tests)
