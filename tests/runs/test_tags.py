"""Runs that find labels: tables of tags, masks by tags, partly labelled sets, resumed and in shards."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import clipes
from clipes.cli import main
from clipes.clip.vision import VisionEncoder
from clipes.datasets import DatasetError, find_samples
from clipes.generator import MaskGenerator
from clipes.runs.plan import Faults, Plan
from clipes.store.output import Output
from clipes.store.row import Row
from clipes.store.row_key import RowKey
from clipes.store.store import Store

COUNT = 6


@pytest.fixture(scope="module")
def scenes():
    return [clipes.scenes.draw_scene(seed=100 + index) for index in range(COUNT)]


@pytest.fixture
def photos(tmp_path, scenes, monkeypatch) -> Path:
    """A folder of pictures; beside it labels.csv with all labels and some.csv with the first three."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    rows = ["image,labels"]
    for index, scene in enumerate(scenes):
        Image.fromarray(scene.image).save(f"photos/{index}.png")
        rows.append(f"{index}.png,{';'.join(scene.labels)}")
    Path("labels.csv").write_text("\n".join(rows))
    Path("some.csv").write_text("\n".join(rows[:4]))
    return Path("photos")


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Grows by each encoding."""
    encode, calls = VisionEncoder.encode, []

    def counted(*given):
        calls.append(1)
        return encode(*given)

    monkeypatch.setattr(VisionEncoder, "encode", counted)
    return calls


def table(path: str) -> dict[str, dict[str, str]]:
    with open(path, newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def tag(*arguments: str) -> int:
    return main(["tag", "photos", "--model", "tiny", "--device", "cpu", "--workers", "0", *arguments])


def test_a_table_of_tags(photos, scenes, encoded, capsys):
    assert tag("--out", "tags.csv") == 0
    assert len(encoded) == COUNT
    rows, generator = table("tags.csv"), clipes.load("tiny", device="cpu")
    assert list(rows) == [f"{index}.png" for index in range(COUNT)]
    for index, scene in enumerate(scenes):
        row, tags = rows[f"{index}.png"], generator.tag(scene.image)
        assert row["labels"] == ";".join(tags.labels) and row["near"] == ";".join(tags.near)
        assert [float(score) for score in row["scores"].split(";")] == list(tags.chosen.values())
    found = find_samples("photos", "tags.csv")
    assert [sample.labels for sample in found] == [tuple(row["labels"].split(";")) for row in rows.values()]
    out = capsys.readouterr().out
    assert f"labels of {COUNT} images written to tags.csv; CLIP found those of {COUNT}" in out
    assert "scores, thresholds and the images to look at first: tags.csv.html" in out
    html = Path("tags.csv.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == COUNT and "tiny · 16 classes of scenes · scores tagclip" in html


def test_another_rule_needs_no_network(photos, encoded, capsys):
    assert tag("--out", "tags.jsonl") == 0
    encoded.clear()
    assert tag("--out", "tags.jsonl", "--tag-rule", "fixed", "--fixed-threshold", "1") == 0
    rows = [json.loads(line) for line in Path("tags.jsonl").read_text().splitlines()]
    assert [row["labels"] for row in rows] == [[]] * COUNT and not encoded
    assert f"{COUNT} of them show nothing of the list" in capsys.readouterr().out


def test_known_labels_are_kept(photos, scenes, encoded):
    assert tag("--labels", "some.csv", "--missing-labels", "tag", "--out", "all.csv") == 0
    assert len(encoded) == COUNT - 3
    rows = table("all.csv")
    assert [rows[f"{index}.png"]["labels"] for index in range(3)] == [";".join(scene.labels) for scene in scenes[:3]]
    assert not rows["0.png"]["scores"] and all(rows[f"{index}.png"]["scores"] for index in range(3, COUNT))


def test_shards_share_a_table(photos, capsys):
    assert tag("--out", "tags.csv", "--shard", "0/2") == 0
    assert "have no scores yet; the table is written when all have" in capsys.readouterr().out
    assert not Path("tags.csv").exists()
    assert tag("--out", "tags.csv", "--shard", "1/2") == 0
    assert len(table("tags.csv")) == COUNT


def test_an_image_that_cannot_be_read(photos, capsys):
    Path("photos/3.png").write_bytes(b"broken")
    assert tag("--out", "tags.csv", "--max-failure-rate", "0.5") == 0
    assert "1 failed" in capsys.readouterr().out and "3.png" not in table("tags.csv")


def test_calibrated_thresholds(photos, capsys):
    assert tag("--calibrate", "labels.csv", "--out", "tags.csv") == 0
    out = capsys.readouterr().out
    assert f"thresholds of the highest F1 on {COUNT} images of labels.csv; F1 is of images that they were not" in out
    assert tag("--out", "again.csv", "--thresholds", "tags.csv.thresholds.json") == 0
    assert Path("again.csv").read_text() == Path("tags.csv").read_text()
    plan = ["generate", "photos", "--labels", "tag", "--out", "masks", "--thresholds", "tags.csv.thresholds.json"]
    assert main([*plan, "--dry-run"]) == 0
    assert "per-class.thresholds [" in capsys.readouterr().out


def test_thresholds_by_some_labels_and_others_that_are_known(photos, scenes):
    assert tag("--calibrate", "labels.csv", "--labels", "some.csv", "--out", "all.csv", "--tags", "global") == 0
    rows = table("all.csv")
    assert [rows[f"{index}.png"]["labels"] for index in range(3)] == [";".join(scene.labels) for scene in scenes[:3]]
    assert all(len(row["scores"].split(";")) == len(row["labels"].split(";")) for row in rows.values())
    html = Path("all.csv.html").read_text(encoding="utf-8")
    assert "<dt>with known labels</dt><dd>3</dd>" in html and html.count("data:image/jpeg;base64,") >= COUNT - 3


def test_labels_in_doubt(photos, scenes, capsys):
    text = Path("labels.csv").read_text().splitlines()
    best = clipes.load("tiny", device="cpu").tag(scenes[4].image).labels[0]
    wrong = next(name for name in ("house", "cat") if name not in scenes[4].labels)
    text[5] = f"4.png,{wrong}"
    Path("web.csv").write_text("\n".join(text))
    assert tag("--check", "web.csv", "--out", "doubts.csv") == 0
    row = table("doubts.csv")["4.png"]
    assert row["doubtful"].startswith(wrong) and best in row["suggested"]
    sizes = [float(one["disagreement"]) for one in table("doubts.csv").values()]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0
    assert f"of {COUNT} images: doubts.csv" in capsys.readouterr().out
    html = Path("doubts.csv.html").read_text(encoding="utf-8")
    assert "<b>4.png</b>" in html and html.count("data:image/jpeg;base64,") == len(sizes)


def test_what_is_given_is_read_before_any_image(photos, encoded, capsys):
    Path("few.csv").write_text("image,labels\n0.png,cat\n1.png,\n")
    Path("unknown.csv").write_text("image,labels\n0.png,zebra\n")
    Path("none.csv").write_text("image,labels\n" + "".join(f"{index}.png,\n" for index in range(COUNT)))
    for flag, name, message in (
        (
            "--calibrate",
            "few.csv",
            "2 images of known labels, with 1 labels; thresholds need at least 5 images",
        ),
        ("--calibrate", "none.csv", f"{COUNT} images of known labels, with 0 labels; thresholds need at least 5"),
        ("--calibrate", "unknown.csv", "zebra"),
        ("--calibrate", "gone.csv", "gone.csv"),
        ("--check", "unknown.csv", "zebra"),
        ("--check", "gone.csv", "gone.csv"),
    ):
        assert tag(flag, name, "--out", "tags.csv") == 2
        assert message in capsys.readouterr().err
    assert not encoded and not Path("tags.csv.scores").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "tags.txt"), "a table of labels is a .csv or .jsonl file, not 'tags.txt'"),
        (("--out", "d.csv", "--check", "labels.csv", "--labels", "some.csv"), "--check is of labels that are given"),
        (("--out", "d.jsonl", "--check", "labels.csv"), "labels in doubt are a .csv file, not 'd.jsonl'"),
        (("--out", "labels.csv", "--check", "labels.csv"), "--out labels.csv would replace the table of --check"),
        (("--out", "some.csv", "--labels", "some.csv"), "--out some.csv would replace the table of --labels"),
        (("--out", "labels.csv", "--calibrate", "labels.csv"), "would replace the table of --calibrate"),
        (("--out", "t.csv", "--thresholds", "none.json"), "there are no thresholds 'none.json'"),
        (("--out", "t.csv", "--thresholds", "labels.csv"), "labels.csv: no file of thresholds"),
        (("--out", "t.csv", "--thresholds", "few.json"), "few.json has no threshold of 'apple'"),
        (
            ("--out", "t.csv", "--calibrate", "labels.csv", "--tag-rule", "fixed"),
            "--calibrate fits a threshold to each",
        ),
        (
            ("--out", "t.csv", "--tag-rule", "per-class"),
            "0 thresholds for 16 classes; give one for each, in their order",
        ),
        (("--out", "t.csv", "--tag-rule", "per-class", "--per-class-thresholds", "0.1,2"), "it must be in [0, 1]"),
        (("--out", "folder.csv"), "folder.csv is a folder, a link or a device, and is not written over; give another"),
        (("--out", "page.csv"), "page.csv.html is a folder, a link or a device"),
        (("--out", "file.csv"), "file.csv.scores is a file"),
        (
            ("--out", "t.csv", "--classes", "names.txt"),
            "the class 'red; green' holds a ';', which parts labels in a .csv",
        ),
        (("--out", "t.csv", "--classes", "empty.txt"), "empty.txt: class names: the list is empty; give at least one"),
        (
            ("--out", "t.csv", "--classes", "cat,", "--background", ""),
            "'cat' is the only class, without background words",
        ),
        (
            ("--out", "t.csv", "--classes", "cat,", "--tags", "bank", "--bank-file", "b.npz"),
            "'cat' is the only class, and a bank compares classes, so that its score is always 1; give more classes",
        ),
        (("--out", "t.csv", "--labels", "other.csv"), "without a row in the labels file"),
        (("--out", "t.csv", "--check", "headless.csv"), "headless.csv, line 1: the header is"),
        (("--out", "t.csv", "--calibrate", "binary.csv"), "binary.csv, line 1: byte 0xff is not UTF-8"),
    ],
)
def test_wrong_use(photos, encoded, capsys, arguments, message):
    for folder in ("folder.csv", "page.csv.html"):
        Path(folder).mkdir()
    for name, text in (
        ("file.csv.scores", ""),
        ("names.txt", "cat\nred; green\n"),
        ("empty.txt", ""),
        ("few.json", '{"thresholds": {"cat": 0.4}}'),
        ("other.csv", "image,labels\nnothing.png,cat\n"),
        ("headless.csv", "a,b\n1,2\n"),
    ):
        Path(name).write_text(text)
    Path("binary.csv").write_bytes(b"\x00\xff\xfe")
    before = sorted(Path().rglob("*"))
    assert tag(*arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before and not encoded


def test_an_odd_source(photos, capsys):
    for name in ("empty", "broken"):
        Path(name).mkdir()
    Path("broken/a.jpg").write_bytes(b"x")
    Path("photos/0.jpg").write_bytes(Path("photos/0.png").read_bytes())
    for source, code, message in (
        ("empty", 2, "no image found"),
        ("nothere", 2, "no such image, folder or list: nothere"),
        ("photos", 2, "would both become one mask"),
        ("broken", 3, "broken/a.jpg: not a JPEG"),
    ):
        assert main(["tag", source, "--model", "tiny", "--device", "cpu", "--workers", "0", "--out", "t.csv"]) == code
        assert message in capsys.readouterr().err
        assert not Path("t.csv").exists()


def test_other_settings_are_refused_with_a_cure_that_works(photos, capsys):
    assert tag("--out", "t.csv", "--tags", "global") == 0
    assert tag("--out", "t.csv") == 2
    told = capsys.readouterr().err
    assert "t.csv.scores is of other settings (config.tags" in told and "another name (--out), or remove that" in told
    shutil.rmtree("t.csv.scores")
    assert tag("--out", "t.csv") == 0


def test_a_rule_of_other_classes_is_refused_before_any_image(photos, encoded, capsys):
    rule = ["--tag-rule", "per-class", "--per-class-thresholds", "0.1"]
    assert main(["generate", "photos", "--labels", "tag", "--out", "m", "--model", "tiny", *rule]) == 2
    assert "1 thresholds for 16 classes" in capsys.readouterr().err and not encoded
    config = replace(clipes.config.SCENES, tag_rule=clipes.config.PerClassRuleConfig((0.1,)))
    with pytest.raises(ValueError, match="1 thresholds for 16 classes"):
        clipes.load("tiny", device="cpu", config=config).tag("photos/0.png")
    alone = clipes.load("tiny", device="cpu", classes=["cat"], background=[])
    with pytest.raises(ValueError, match="'cat' is the only class, without background words its score is always 1"):
        alone.tag("photos/0.png")


@pytest.mark.parametrize("command", ["report", "export"])
def test_scores_are_no_masks(photos, capsys, command):
    assert tag("--out", "t.csv", "--tags", "global") == 0
    assert main([command, "t.csv.scores", *(["--to", "coco", "--out", "e"] if command == "export" else [])]) == 2
    assert "t.csv.scores is of `clipes tag` and has no masks; give the --out folder" in capsys.readouterr().err


def test_images_in_a_tar(photos):
    with tarfile.open("shard.tar", "w") as tar:
        for index in range(COUNT):
            tar.add(f"photos/{index}.png", f"{index}.png")
    assert tag("--out", "folder.csv", "--tags", "global") == 0
    own = ["--model", "tiny", "--device", "cpu", "--workers", "0", "--tags", "global"]
    assert main(["tag", "shard.tar", *own, "--out", "tar.csv"]) == 0
    found, expected = (list(table(name).values()) for name in ("tar.csv", "folder.csv"))
    assert [row["labels"] for row in found] == [row["labels"] for row in expected]
    assert Path("tar.csv.html").read_text().count("data:image/jpeg;base64,") == COUNT
    assert main(["generate", "shard.tar", "--labels", "tag", "--out", "m", *own, "--out-format", "tar"]) == 0
    with Store.open("m") as run:
        assert all(row.shard and row.scores is not None for row in run.rows("ok"))


def test_masks_and_tags_in_one_pass(photos, encoded, capsys):
    command = ["generate", "photos", "--labels", "tag", "--out", "masks", "--model", "tiny", "--device", "cpu"]
    assert main([*command, "--workers", "0"]) == 0
    assert len(encoded) == COUNT
    with Store.open("masks") as run:
        rows = list(run.rows("ok"))
    assert len(rows) == COUNT
    for row in rows:
        assert row.labels and list(row.scores) == list(row.labels)
    encoded.clear()
    assert main([*command, "--workers", "0"]) == 0
    assert f"0 of {COUNT} masks written to masks, {COUNT} finished before" in capsys.readouterr().out and not encoded


def test_nothing_of_the_list_is_there(photos, capsys):
    status = clipes.run("photos", "masks", "tag", generator=strict_generator())
    assert status.ok == COUNT
    with Store.open("masks") as run:
        assert all(row.labels == () and row.nothing_found for row in run.rows("ok"))
        assert not run.mask("0").any()
    flags = ["--tag-rule", "fixed", "--fixed-threshold", "1", "--device", "cpu", "--workers", "0"]
    assert main(["generate", "photos", "--labels", "tag", "--out", "more", "--model", "tiny", *flags]) == 0
    assert f"{COUNT} of them show nothing of the list of classes" in capsys.readouterr().out


def strict_generator() -> MaskGenerator:
    config = replace(clipes.config.SCENES, tag_rule=clipes.config.FixedRuleConfig(1.0))
    return clipes.load("tiny", device="cpu", config=config)


def test_partly_labelled_masks(photos, scenes):
    faults = Faults(unlabelled="tag")
    generator = clipes.load("tiny", device="cpu")
    clipes.run("photos", "masks", "some.csv", generator=generator, faults=faults)
    with Store.open("masks") as run:
        rows = {row.id: row for row in run.rows("ok")}
    assert rows["0"].labels == tuple(scenes[0].labels) and rows["0"].scores is None
    assert rows["5"].scores is not None and rows["5"].labels == generator.tag(scenes[5].image).labels
    text = Path("some.csv").read_text()
    Path("some.csv").write_text(f"{text}\n5.png,tree;house")  # known now
    clipes.run("photos", "masks", "some.csv", generator=generator, faults=faults)
    with Store.open("masks") as run:
        assert run.latest.get("5").labels == ("tree", "house") and run.latest.get("5").scores is None


def test_decided_again_the_scores_stay(photos):
    clipes.run("photos", "masks", "tag", generator=clipes.load("tiny", device="cpu"), cams="patch")
    with Store.open("masks") as run:
        before = run.latest.get("2").scores
    assert main(["finalize", "masks", "--refine", "none", "--out", "again"]) == 0
    with Store.open("again") as run:
        assert run.latest.get("2").scores == before


def test_samples_whose_labels_are_not_known(photos, scenes):
    samples = find_samples("photos", "some.csv", unlabelled="tag")
    assert [sample.unlabelled for sample in samples] == [False] * 3 + [True] * (COUNT - 3)
    assert samples.unlabelled == COUNT - 3 and samples.without_label == 0
    assert find_samples("photos", "tag").unlabelled == find_samples("photos", unlabelled="tag").unlabelled == COUNT
    Path("other.csv").write_text("image,labels\nnothing.png,cat\n")
    with pytest.raises(DatasetError, match="without a row in the labels file"):
        find_samples("photos", "other.csv", unlabelled="tag")
    with pytest.raises(ValueError, match="unlabelled is 'find'; it is 'refuse', 'skip' or 'tag'"):
        find_samples("photos", unlabelled="find")


def test_a_row_of_scores():
    row = Row("a", "ok", labels=("cat",), scores={"cat": 0.5, "dog": 1e-06}, time=3.0)
    assert Row.from_json(row.to_json()) == row
    assert RowKey.from_json(row.to_json().encode()) == RowKey(b"a", "ok", 3.0, None, row.to_json().encode())
    assert Row.from_json(Row("a", "ok", scores={}).to_json()).nothing_found
    with pytest.raises(ValueError, match="scores is"):
        Row.from_json('{"id": "a", "status": "ok", "scores": {"cat": 2}}')


def test_a_plan_of_tags():
    plan = Plan("photos", Output(Path("out"), format="none"), labels="tag", faults=Faults(unlabelled="tag"))
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).labels == "tag"
    with pytest.raises(ValueError, match="format is 'none', which saves no mask"):
        Output(Path("out"), cams="patch", format="none")
