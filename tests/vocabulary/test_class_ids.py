"""Class lists that number their classes: what a mask's ids are then, and which numbers are refused."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clipes
from clipes.cli import main
from clipes.commands.arguments import parse_words
from clipes.datasets import find_samples
from clipes.ids import read_class_names
from clipes.vocabulary import load_vocabulary

WANTED = ("balloon", "boat")


def _loaded(classes: Any, tmp_path: Path, how: str) -> Any:
    """The vocabulary by the Python door, by a JSON file, by a text file or by the words of a flag."""
    if how == "json":
        path = tmp_path / "own.json"
        path.write_text(json.dumps(classes), "utf-8")
        return load_vocabulary(path)
    if how == "text":
        path = tmp_path / "own.txt"
        path.write_text("# ours\n" + "\n".join(classes) + "\n", "utf-8")
        return load_vocabulary(path)
    return load_vocabulary(parse_words(",".join(classes)) if how == "flag" else classes)


@pytest.mark.parametrize("how", ["python", "json", "text", "flag"])
@pytest.mark.parametrize(
    "first",
    [
        [name]
        for name in ("background", "__background__", "_background_", "Background", "void", "__ignore__", "unlabeled")
    ]
    + [["__ignore__", "_background_"], ["<background>"]],
)
def test_a_background_at_the_head_keeps_the_ids(first: list[str], how: str, tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=f"{re.escape(repr(first[-1]))} among the classes of .* keep their ids, 1 to 2"
    ):
        own = _loaded([*first, *WANTED], tmp_path, how)
    assert own.class_names == WANTED and own.ids(["boat"]) == (2,)


@pytest.mark.parametrize("how", ["python", "json"])
@pytest.mark.parametrize(
    "classes",
    [
        {"0": "background", "1": "balloon", "2": "boat"},
        {"2": "boat", "1": "balloon", "0": "_background_", "255": "void"},
        {"background": 0, "boat": 2, "balloon": 1, "__ignore__": -1},
        {"background": "0", "balloon": "1", "boat": 2.0},
        [{"id": 0, "name": "background"}, {"id": 2, "name": "boat"}, {"id": 1, "name": "balloon"}],
        {"background": ["background"], "balloon": ["balloon"], "boat": ["boat"]},
        ["0: background", "1: balloon", "2: boat"],
        ["background 0", "balloon 1", "boat 2"],
    ],
)
def test_numbers_are_kept_and_the_background_is_left_out(classes: Any, how: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'_?background_?'.* is no class"):
        own = _loaded(classes, tmp_path, how)
    assert own.class_names == WANTED and own.prompt_names == (("balloon",), ("boat",))
    assert own.numbered_names == ("background", *WANTED)


@pytest.mark.parametrize(
    "classes",
    [
        {"2": "boat", "1": "balloon"},
        {2: "boat", 1: "balloon"},
        {"boat": 2, "balloon": "1"},
        [{"id": 2, "name": "boat"}, {"id": 1, "name": "balloon"}],
        ["1: balloon", "2: boat"],
        ["2 boat", "1 balloon"],
        ["1\tballoon", "2\tboat"],
        ["balloon,1", "boat,2"],
        ["balloon: 1", "boat: 2"],
        ["boat 2", "balloon 1"],
        ["balloon\t1", "boat\t2"],
    ],
)
def test_numbers_from_one_are_kept(classes: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = load_vocabulary(classes)
    assert own.class_names == WANTED and own.numbered_names == ("background", *WANTED)


@pytest.mark.parametrize("lines", [["0: background", "1: balloon", "2: boat"], ["background", "balloon", "boat"]])
@pytest.mark.parametrize("kind", [np.array, iter, tuple])
def test_any_sequence_of_names_is_a_list(kind: Callable[[list[str]], Any], lines: list[str]) -> None:
    with pytest.warns(UserWarning, match=r"^'background' among"):
        own = load_vocabulary(kind(lines))
    assert own.class_names == WANTED and {type(name) for name in own.class_names} == {str}


def test_the_labelmap_of_an_export_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nballoon:128,0,0::\nboat:0,128,0::\nignored:1,1,1::\n"
    )
    with pytest.warns(UserWarning, match="'background'"):
        assert load_vocabulary(path).class_names == WANTED


@pytest.mark.parametrize(
    ("data", "category_ids"),
    [
        ({"path": ".", "names": {"0": "balloon", "1": "boat"}}, ()),
        ({"nc": 2, "names": ["balloon", "boat"]}, ()),
        ({"model_type": "x", "id2label": {"0": "background", "1": "balloon", "2": "boat"}}, ()),
        ({"id2label": {"2": "boat", "1": "balloon"}}, ()),
        ({"info": {}, "categories": [{"id": 3, "name": "balloon", "color": ""}, {"id": 7, "name": "boat"}]}, (3, 7)),
        ({"categories": [{"id": 2, "name": "boat", "color": "#fff"}, {"id": 1, "name": "balloon"}]}, (1, 2)),
    ],
)  # fmt: skip
def test_class_lists_of_other_tools(data: Any, category_ids: tuple[int, ...], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = _loaded(data, tmp_path, "json")
    assert own.class_names == WANTED and own.category_ids == category_ids


def test_the_names_of_an_export_are_a_class_file(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: balloon\n  1: boat\n")
    assert load_vocabulary(tmp_path / "data.yaml").class_names == WANTED


def test_ids_of_another_tool_that_a_mask_cannot_keep_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"own\.json: class ids: 0 is 'balloon', but in a mask 0 is the background"):
        _loaded({"id2label": {"0": "balloon", "1": "boat"}}, tmp_path, "json")


def test_names_that_begin_or_end_with_a_number_stay_names() -> None:
    assert load_vocabulary(["3 wheeler", "4 wheeler"]).class_names == ("3 wheeler", "4 wheeler")
    assert load_vocabulary(["type 1", "type 2"]).class_names == ("type 1", "type 2")
    assert load_vocabulary(["boeing 747", "airbus 380"]).class_names == ("boeing 747", "airbus 380")
    assert load_vocabulary(["formula 1"]).class_names == ("formula 1",)
    assert load_vocabulary({"0": ["digit zero"], "1": ["digit one"]}).class_names == ("0", "1")
    assert load_vocabulary(["background noise", "boat"]).class_names == ("background noise", "boat")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["balloon", "background", "boat"], "class names: entry 2, 'background', is no class: in a mask 0 is the "
         "background and 255 is ignored; remove it (the ids after it are one lower then: 'boat' is 2)"),
        (["balloon", "void"], "class names: entry 2, 'void', is no class: in a mask 0 is the background and 255 is "
         "ignored; remove it"),
        (["background", "balloon", "void"], "class names: entry 3, 'void', is no class"),
        (["background"], "class names: 'background' is the background, and no class is named; add the classes"),
        ({"0": "balloon", "1": "boat"}, "class ids: 0 is 'balloon', but in a mask 0 is the background; give the names "
         "as a list, ['balloon', 'boat'], whose ids are 1 to 2"),
        ({"1": "balloon", "2": "background"}, "class ids: 'background' has the id 2, but in a mask 0"),
        ({"1": "balloon", "5": "boat"}, "class ids: 'boat' has the id 5, but masks number 2 class(es) from 1 to 2; "
         "number them so, or give the names as a list, ['balloon', 'boat'], whose ids are 1 to 2"),
        ({"balloon": 2, "boat": 3}, "class ids: 'boat' has the id 3, but masks number 2"),
        ({"balloon": 1, "boat": 1}, "class ids: 'balloon' and 'boat' both have the id 1; change one"),
        ({"1": "balloon", "01": "boat"}, "class ids: 'balloon' and 'boat' both have the id 1"),
        ({"0": "background"}, "class ids: no class is named beside the background; add the classes"),
        (["1: balloon", "3: boat"], "class ids: 'boat' has the id 3"),
        (["1 balloon 255 0 0", "2 boat 0 255 0"], "the lines have colours beside the names, such as"),
        (["64 128 64\tballoon", "192 0 128\tboat"], "the lines have colours beside the names"),
        (["1", "2"], "prompts of '1': '1' is a number, which tells CLIP nothing about a picture; write"),
        ({"balloon": "1", "boat": "boat"}, "prompts of 'balloon': '1' is a number"),
        ({"balloon": ["ball", "1.5"]}, "prompts of 'balloon': '1.5' is a number"),
        ({"0": ["background"], "1": ["balloon"]}, "prompts of '0': 'background' is the background, which is no class"),
        ({"labels": ["background", "balloon"]}, "prompts of 'labels': 'background' is the background"),
    ],
)  # fmt: skip
def test_numbers_that_masks_cannot_keep_are_refused(classes: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        load_vocabulary(classes)
    with pytest.raises(ValueError, match=re.escape(message)):
        _loaded(classes, tmp_path, "json")


def test_names_in_one_line_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("balloon,boat\n")
    with pytest.raises(ValueError, match=r"own\.txt: 'balloon,boat' is one line, and would be one class; write one"):
        load_vocabulary(tmp_path / "own.txt")
    (tmp_path / "own.txt").write_text("balloon,1\n")
    assert load_vocabulary(tmp_path / "own.txt").class_names == ("balloon",)


def test_a_number_is_no_background_word() -> None:
    with pytest.raises(ValueError, match="background: '7' is a number, which tells CLIP nothing"):
        load_vocabulary(["owl"], ["sky", "7"])


def test_numbers_from_of_a_class_file(tmp_path: Path) -> None:
    own = load_vocabulary({1: "balloon", 2: "boat"})
    own.save(tmp_path / "own.json")
    assert load_vocabulary(tmp_path / "own.json") == replace(own, name="own")
    with pytest.raises(ValueError, match="numbers_from is 2; it is 0 or 1, the number of the first class"):
        (tmp_path / "own.json").write_text('{"classes": ["owl"], "numbers_from": 2}')
        load_vocabulary(tmp_path / "own.json")


# --- whole numbers in files of labels


def test_numbers_of_labels_count_as_the_class_list_does(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg", "labels": [2, 0]}\n')
    (tmp_path / "a.jpg").touch()
    table = {1: "balloon", 2: "boat"}
    (sample,) = find_samples(tmp_path, class_names=load_vocabulary(table).numbered_names)
    assert sample.labels == ("boat",)
    (sample,) = find_samples(tmp_path, class_names=["kite", *WANTED])
    assert sample.labels == ("boat", "kite")


@pytest.mark.parametrize("vector", [[1, 0, 1], [0, 1]])
def test_a_background_in_cls_labels_is_no_label(vector: list[int], tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    np.save(tmp_path / "cls_labels.npy", {"a": np.array(vector, dtype=np.float32)})  # type: ignore[arg-type]
    (sample,) = find_samples(tmp_path / "a.jpg", tmp_path / "cls_labels.npy", class_names=["background", *WANTED])
    assert sample.labels == ("boat",)


# --- what clipes writes is read


def test_the_files_of_a_run_are_class_files(photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"tree": ["tree", "oak"], "cat": "kitten"}
    generator = clipes.load(classes=own, background=["sky"], templates="plain", fuse="max")
    clipes.run(photos, "first", ["cat", "tree"], generator=generator)
    again = load_vocabulary("first/run.json")
    assert again == generator.vocabulary and again.fingerprint == generator.vocabulary.fingerprint
    with pytest.warns(UserWarning, match="'background' among the classes"):
        assert load_vocabulary("first/classes.json").class_names == ("tree", "cat")
    given = [str(photos), "--labels", "cat,tree", "--classes"]
    assert main(["generate", *given, "first/run.json", "--preset", "voc12", "--out", "second"]) == 0
    assert main(["generate", *given, "first/classes.json", "--preset", "voc12", "--out", "third"]) == 0
    tables = [json.loads(Path(folder, "classes.json").read_text()) for folder in ("first", "second", "third")]
    assert tables[0] == tables[1] == tables[2] == {"0": "background", "1": "tree", "2": "cat"}
    masks = [{path.name: path.read_bytes() for path in Path(folder).glob("*.png")} for folder in ("first", "second")]
    assert masks[0] == masks[1]


def test_a_record_without_its_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"settings": {}, "digest": "0"}')
    with pytest.raises(ValueError, match=r"run\.json: the record of a run without its classes; give the classes\.json"):
        load_vocabulary(tmp_path / "run.json")


def test_the_names_for_an_evaluation_leave_out_the_background(tmp_path: Path) -> None:
    assert read_class_names(tmp_path, ["background", *WANTED]) == WANTED
    (tmp_path / "classes.json").write_text('{"0": "background", "1": "balloon", "2": "boat"}')
    assert read_class_names(tmp_path, ["background", *WANTED]) == WANTED
