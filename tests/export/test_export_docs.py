"""docs/export.md: every command of it, and the Python that can be run here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
CODE = {
    package: block
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for package in ("pycocotools", "torchvision", "datasets", "fiftyone", "mmsegmentation")
    if f"from {package}" in block or f"import {package}" in block
}


@pytest.fixture
def exported(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(photos.parent / "cache"))
    for line in LINES:
        if line.startswith("clipes "):
            assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
        else:
            subprocess.run(line.replace("python -m", f"{shlex.quote(sys.executable)} -m"), shell=True, check=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
def test_commands_and_code(exported: None) -> None:
    assert len(LINES) == 8 and set(CODE) == {"pycocotools", "torchvision", "datasets", "fiftyone"}
    masks = {name: np.asarray(Image.open(f"masks/{name}.png")) for name in ("a", "b", "sub/c")}
    names: dict[str, object] = {}
    exec(CODE["pycocotools"], names)
    np.testing.assert_array_equal(names["mask"], masks["a"])
    if pytest.importorskip("torchvision"):
        exec(CODE["torchvision"], names)
        np.testing.assert_array_equal(np.asarray(names["mask"]), masks["a"])
    code = f"{CODE['datasets']}\nnp.save('mask.npy', mask)"  # a process of its own: it reads the environment once
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load("mask.npy"), masks["a"])
    with zipfile.ZipFile("cvat.zip") as archive:
        assert set(archive.namelist()) >= {
            "labelmap.txt",
            "ImageSets/Segmentation/default.txt",
            "SegmentationClass/sub/c.png",
        }
    assert Path("masks-parts/annotations/instances_train.json").is_file()
    assert Path("masks-yolo/data.yaml").is_file()
