"""docs/tools.md: each block runs where its tool is installed, and the tool reads the same pixels."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PAGE = (Path(__file__).parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}


def _code(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's first blocks define."""
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    for block in _code(PAGE.partition("\n## ")[0]):
        exec(block, made)
    return made


def test_the_sections() -> None:
    assert list(SECTIONS) == ["supervision", "FiftyOne", "labelme", "Label Studio"]
    assert all(len(_code(section)) == 1 for section in SECTIONS.values())


def test_annotations_are_json_and_pycocotools_reads_them(names: dict[str, Any]) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    segments = names["result"].segments()
    assert len(segments) >= 2
    for told, segment in zip(json.loads(json.dumps(names["annotations"])), segments, strict=True):
        np.testing.assert_array_equal(coco.decode(told["segmentation"]) == 1, segment.mask)
        assert coco.toBbox(told["segmentation"]).tolist() == told["bbox"]
        assert coco.area(told["segmentation"]) == told["area"]
    assert Image.open("cutout.png").mode == "RGBA"


def test_supervision(names: dict[str, Any]) -> None:
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    exec(_code(SECTIONS["supervision"])[0], names)
    detections = names["detections"]
    np.testing.assert_array_equal(detections.mask, [s.mask for s in names["segments"]])
    last = np.stack([sv.mask_to_xyxy(detections.mask)[:, 2:] + 1, detections.xyxy[:, 2:]])  # theirs includes the end
    assert (last[0] == last[1]).all() and detections.area.tolist() == [s.area for s in names["segments"]]
    changed = (names["annotated"] != np.asarray(names["result"].image)).any(-1)
    assert changed[detections.mask.any(0)].mean() > 0.9


def test_fiftyone(names: dict[str, Any]) -> None:
    pytest.importorskip("fiftyone", reason="fiftyone is not installed")
    exec(_code(SECTIONS["FiftyOne"])[0], names)
    result = names["result"]
    for found, segment in zip(names["sample"]["clipes"].detections, result.segments(), strict=True):
        np.testing.assert_array_equal(found.to_segmentation(frame_size=result.size[::-1]).mask > 0, segment.mask)
        assert found.label == segment.label == names["targets"][segment.class_id]
    np.testing.assert_array_equal(names["sample"]["mask"].mask, result.mask)


def test_labelme(names: dict[str, Any]) -> None:
    """Read as labelme does: the mask of a shape lies between its two points, both included."""
    exec(_code(SECTIONS["labelme"])[0], names)
    page = json.loads(Path("scene.json").read_text(encoding="utf-8"))
    assert Image.open(page["imagePath"]).size == (page["imageWidth"], page["imageHeight"])
    for shape, segment in zip(page["shapes"], names["result"].segments(), strict=True):
        (left, top), (right, bottom) = shape["points"]
        mask = np.zeros(names["result"].size, bool)
        mask[top : bottom + 1, left : right + 1] = np.asarray(
            Image.open(BytesIO(names["base64"].b64decode(shape["mask"])))
        )
        np.testing.assert_array_equal(mask, segment.mask)
        assert shape["label"] == segment.label


def test_labelme_itself_opens_the_file(names: dict[str, Any]) -> None:
    pytest.importorskip("labelme", reason="labelme is not installed")
    exec(_code(SECTIONS["labelme"])[0], names)
    code = "try:\n  from labelme._label_file import LabelFile\nexcept ImportError:\n  from labelme import LabelFile\n"
    code += "print([s['label'] for s in LabelFile('scene.json').shapes])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str([s.label for s in names["result"].segments()]), done.stderr


def test_label_studio(names: dict[str, Any]) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    exec(_code(SECTIONS["Label Studio"])[0], names)
    (task,) = json.loads(Path("tasks.json").read_text(encoding="utf-8"))
    height, width = names["result"].size
    for told, segment in zip(task["predictions"][0]["result"], names["result"].segments(), strict=True):
        image = brush.decode_rle(told["value"]["rle"]).reshape(height, width, 4)[..., 3]
        np.testing.assert_array_equal(image > 127, segment.mask)
        assert told["value"]["brushlabels"] == [segment.label]
