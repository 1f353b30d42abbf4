"""`clipes prompts`: the file of prompts of a run's masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from exporting import NAMES, drawn, hard_masks, paint, saved_run
from PIL import Image

from clipes.cli import main
from clipes.export.prompts import write_prompts
from clipes.io.coco_rle import decode_rle
from clipes.regions import instances
from clipes.regions.prompts import prompt


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(file: str = "prompts.json") -> list[dict]:
    """The images of a file, each of which is a line of it."""
    data = json.loads(Path(file).read_text())
    assert data["classes"] == list(NAMES) and set(data["info"]) == {"description", "version", "run"}
    lines = Path(file).read_text().splitlines()[3:-1]
    assert [json.loads(line.rstrip(",")) for line in lines] == data["images"]
    return data["images"]


@pytest.mark.parametrize("format", ["png", "tar"])
@pytest.mark.parametrize("each", [False, True])
def test_every_label_or_instance_of_every_mask(format: str, each: bool) -> None:
    masks = hard_masks()
    saved_run(masks, format=format, confidence=each, labels=NAMES[:2])
    result = write_prompts("m", "prompts.json", instances=each)
    found = rows()
    assert [row["id"] for row in found] == sorted(masks, key=str.encode)
    assert (result.images, result.failed) == (len(masks), 0)
    assert result.prompts == sum(len(row["prompts"]) for row in found)
    for row in found:
        mask = masks[row["id"]]
        assert row["size"] == list(mask.shape) and row["labels"] == list(NAMES[:2])
        parts = [(index, mask == index) for index in (1, 2, 3) if (mask == index).any()]
        if each:
            ids = instances(mask).ids
            parts = [(mask[ids == number][0], ids == number) for number in range(1, ids.max() + 1)]
        assert len(row["prompts"]) == len(parts)
        for one, (index, pixels) in zip(row["prompts"], parts, strict=True):
            np.testing.assert_array_equal(decode_rle(one["mask"]), pixels)
            box, inside, outside = prompt(pixels, mask == 255)
            assert one["class_id"] == index and one["label"] == NAMES[index - 1] and one["box"] == list(box)
            assert one["points"] == [list(point) for point in (inside, outside) if point is not None]
            assert one["point_labels"] == [1, 0][: len(one["points"])]
            assert one.get("score") == (round(128 / 255, 4) if each else None)


def test_instances_by_regions_and_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    saved_run({"a": drawn("11.11"), "b": drawn("11"), "c": drawn("1")})
    Path("m/c.png").write_bytes(b"")
    Path("regions").mkdir()
    Image.fromarray(drawn("11111")).save("regions/a.png")
    assert main(["prompts", "m", "--out", "p.json", "--regions", "regions"]) == 3
    printed = capsys.readouterr()
    assert printed.out == "1 prompt(s) of 1 image(s) in p.json\n"
    assert "2 image(s) have no regions in regions and will fail, 'b' the first" in printed.err
    assert "2 image(s) could not be read:" in printed.err and "c.png: not a PNG file" in printed.err
    ((one,),) = [row["prompts"] for row in rows("p.json")]
    assert one["box"] == [0, 0, 4, 0] and one["points"] == [[0, 0], [2, 0]]


def test_a_whole_file_or_none() -> None:
    saved_run({"a": drawn("1")})
    Path("p.json").write_text("before")
    Path("m/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"m: no mask of the run can be read: m/a\.png: not a PNG file"):
        write_prompts("m", "p.json")
    assert Path("p.json").read_text() == "before" and {path.name for path in Path().iterdir()} == {"m", "p.json"}


def test_more_than_254_classes() -> None:
    saved_run({"a": np.array([[255, 300, 65535]], np.uint16)}, [f"class {number}" for number in range(1, 301)])
    write_prompts("m", "p.json")
    ((first, second),) = [row["prompts"] for row in json.loads(Path("p.json").read_text())["images"]]
    assert (first["label"], second["label"]) == ("class 255", "class 300")


def test_the_example_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "regions.md").read_text(encoding="utf-8")
    (row,) = json.loads(page.partition("```json\n")[2].partition("```")[0])["images"]
    (one,) = row["prompts"]
    mask = decode_rle(one["mask"])
    box, *points = prompt(mask)
    assert (one["box"], one["points"], row["size"]) == (list(box), [*map(list, points)], list(mask.shape))


def test_wrong_places() -> None:
    saved_run({"a": drawn("1")})
    paint({"a": drawn("1")})
    for out, words in (
        ("m/prompts.json", r"is in the run's folder \(m\)"),
        ("p.txt", "'p.txt'; end its name in .json"),
    ):
        with pytest.raises(ValueError, match=words):
            write_prompts("m", out)
    with pytest.raises(FileNotFoundError, match="no such folder or file of regions: nowhere"):
        write_prompts("m", "p.json", regions="nowhere")
    with pytest.raises(FileNotFoundError, match=r"photos has no run\.json"):
        write_prompts("photos", "p.json")
    saved_run({}, folder="empty")
    with pytest.raises(ValueError, match="empty: the run has no mask to export"):
        write_prompts("empty", "p.json")
    assert not Path("p.json").exists()
