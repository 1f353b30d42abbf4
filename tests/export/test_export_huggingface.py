"""`clipes export --to huggingface`, read back by datasets."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import NAMES, drawn, hard_masks, paint, saved_run

from clipes.export import export

Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """datasets.load_dataset, offline and with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    pytest.importorskip("datasets", reason="datasets is not installed")
    load = importlib.import_module("datasets").load_dataset
    return lambda *given, **named: load(*given, **named, cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("split", ["train", "val", "2007.v1"])
def test_masks_come_back(load: Load, split: str) -> None:
    masks = hard_masks()
    paint(masks)
    saved_run(masks, confidence=True, labels=NAMES[1:])
    report = export("m", "huggingface", "out", split=split)
    assert (report.images, report.failed, report.converted, report.notes) == (len(masks), 0, 0, ())
    guessed = "validation" if split == "val" else "train"
    for given, name in (({"path": "imagefolder", "data_dir": "out"}, guessed), ({"path": "out"}, split)):
        found = load(**given)
        assert list(found) == [name]  # no `test_1` makes a split of its own
        rows = {row["id"]: row for row in found[name]}
        assert rows.keys() == masks.keys()
        for name, mask in masks.items():
            row = rows[name]
            assert row["mask"].mode == "P" and row["confidence"].mode == "L" and row["labels"] == list(NAMES[1:])
            np.testing.assert_array_equal(np.asarray(row["mask"]), mask, name)
            assert row["image"].size == row["mask"].size and set(np.unique(row["confidence"])) == {128}


def test_pictures_are_those_of_the_source(load: Load) -> None:
    masks = {name: drawn("12") for name in ("b", "a", "sub/c")}
    paint(masks)
    saved_run(masks)
    export("m", "huggingface", "out", images="link")
    for row in load("imagefolder", data_dir="out", split="train"):
        (path,) = Path("photos").glob(f"{row['id']}.*")
        assert Path(row["image"].filename).read_bytes() == path.read_bytes()
        assert "confidence" not in row and row["labels"] == []


def test_more_than_254_classes_and_a_card(load: Load) -> None:
    masks = {"a": np.array([[0, 255, 300, 65535]], np.uint16)}
    paint(masks)
    saved_run(masks, ["a|b <i>_*[x](y)", *(f"c{number}" for number in range(2, 301))])
    export("m", "huggingface", "out")
    (row,) = load("out", split="train")
    assert np.asarray(row["mask"]).tolist() == [[0, 255, 300, 65535]]
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nconfigs:\n") and "\ntask_categories:\n- image-segmentation\n---\n" in card
    assert "1 images of the split `train`" in card and "`confidence`" not in card
    assert "| 1 | a&#124;b &#60;i&#62;&#95;&#42;&#91;x&#93;(y) |\n| 2 | c2 |" in card
    assert card.endswith("| 300 | c300 |\n| 65535 | (ignored&#58; not decided) |\n")


def test_it_needs_its_pictures(load: Load) -> None:
    with pytest.raises(ValueError, match="an imagefolder of Hugging Face holds its pictures; take images 'copy' or"):
        export("m", "huggingface", "out", images="none")
