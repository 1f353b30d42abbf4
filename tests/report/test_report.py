"""clipes.report: its numbers against hand-worked ones, what it does with what cannot be read, where it goes."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from generating import Run, draw, runner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_runs import NAMES, hand_run, overview, rows

from clipes.cli import main
from clipes.commands.report import LIMIT as COMMAND_LIMIT
from clipes.datasets.tables import read_table
from clipes.drawing.colours import clear_palette
from clipes.evaluation import evaluate
from clipes.evaluation.metrics import class_counts
from clipes.io.atomic import MACHINE_ID, publish, staging_folder
from clipes.report import LIMIT, Report, write_report
from clipes.report.build import is_chosen, script_json
from clipes.report.counts import ImageCounts, Throughput, count_image
from clipes.report.thumbnails import TILE, draw_thumbnails, open_reduced
from clipes.store.manifest import read_manifest
from clipes.store.record import Recorder
from clipes.store.row import Row

A = np.array([[1, 1, 0, 0], [1, 255, 0, 0]], np.uint8)  # 3 of 8 cat, 1 ignored
B = np.array([[0, 0], [0, 0], [2, 0], [2, 2]], np.uint8)  # 3 of 8 dog
MASKS = {"a": (("cat", "bus"), A), "sub/b": (("dog",), B)}
GREY = {"a": np.full((2, 4), 204, np.uint8), "sub/b": np.array([[255] * 2] * 2 + [[0] * 2] * 2, np.uint8)}
OTHERS = (
    Row("c", "failed", "photos/c.png: the file is empty", labels=("cat", "yeti")),
    Row("d", "skipped", "no label"),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return hand_run(tmp_path, MASKS, OTHERS, confidence=GREY)


def _numbers(*pixels: int) -> ImageCounts:
    return ImageCounts(np.array(pixels))


# --- numbers


def test_an_image_is_counted() -> None:
    truth = np.array([[1, 1, 0, 0], [2, 2, 0, 255]], np.uint8)
    found = count_image(A, GREY["a"], truth, 3)
    assert found.pixels.tolist() == [4, 3, 0, 0, 1]
    assert found.levels is not None and found.levels[204] == 8 and found.levels.sum() == 8
    assert found.area == 3 / 8 and found.ignored == 1 / 8
    # background 3 of 3, cat 2 of 3, dog 0 of 2; the bus occurs nowhere
    assert found.miou == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found.shares([1, 3]) == [1, 375_000, 3, 0]
    assert count_image(B, None, None, 3).levels is None is count_image(B, None, None, 3).miou


def test_sixteen_bit_masks_are_counted() -> None:
    found = count_image(np.array([[0, 300, 65535, 255]], np.uint16), None, None, 300)
    assert found.pixels[[0, 255, 300, 301]].tolist() == [1, 1, 1, 1] and found.pixels.sum() == 4


def test_classes_that_are_no_label_are_told_after_those_that_are() -> None:
    assert _numbers(2, 1, 1, 0, 0).shares([2]) == [2, 250_000, 1, 250_000]


def test_the_share_of_a_single_pixel_is_not_none() -> None:
    assert _numbers(9_999_999, 1, 0).shares([1]) == [1, 1]
    assert _numbers(3_999_999, 0, 3, 1, 0).shares([1]) == [1, 0, 2, 1, 3, 1]


def test_the_overview_counts_all_images(run: Path, tmp_path: Path) -> None:
    report = write_report(run)
    assert report == Report(tmp_path / "m-report" / "index.html", 4, 4, 0, ())
    found = overview(tmp_path / "m-report")
    assert found["run"] == "m" and found["names"] == ["background", *NAMES]
    counts = {"total": 5, "ok": 2, "skipped": 1, "failed": 1, "left": 1}
    assert {name: found["counts"][name] for name in counts} == counts
    none = [None, None]  # no IoU without truth
    assert found["classes"] == [[0, 2, 9, *none], [1, 1, 3, *none], [1, 1, 3, *none], [1, 0, 0, *none]]
    assert (found["pixels"], found["ignored"], found["images"], found["lost"]) == (16, 1, 2, 1)
    assert {level: count for level, count in enumerate(found["levels"]) if count} == {0: 4, 204: 8, 255: 4}
    assert found["confidence"] == pytest.approx((0.8 + 0.5) / 2), "each image counts once"
    assert {part: count for part, count in enumerate(found["confidences"]) if count} == {10: 1, 16: 1}
    assert found["truth"] is None and found["panels"] == ["picture", "overlay", "confidence"]
    reasons = [["failed", "the file is empty", 1, "c"], ["skipped", "no label", 1, "d"]]
    assert sorted(found["reasons"]) == reasons
    facts = dict(found["facts"])
    assert facts["model"] == "tiny" and facts["source"] == str(tmp_path / "photos")
    assert facts["output.confidence"] == "True" and len(facts["digest"]) == 64
    assert found["clock"]["counts"] == [4] and found["clock"]["pauses"] == []


def test_every_image_has_a_row(run: Path, tmp_path: Path) -> None:
    write_report(run)
    assert rows(tmp_path / "m-report") == [
        [0, "a", 0, [1, 375_000, 3, 0], 4, 2, 0.5, 0.8, 0.375, 0.125, None, "", 0, 2, None],
        [1, "sub/b", 0, [2, 375_000], 2, 4, 1.5, 0.5, 0.375, 0.0, None, "", 0, 1, None],
        [2, "c", 2, [1, -1, "yeti", -1], None, None, None, None, None, None, None, OTHERS[0].reason, 0, 2, None],
        [3, "d", 1, [], None, None, None, None, None, None, None, "no label", 0, 0, None],
    ]


def test_labels_that_clip_found_have_their_scores(tmp_path: Path) -> None:
    masks = {"a": (("cat", "dog"), MASKS["a"][1]), "b": ((), MASKS["sub/b"][1]), "c": (("cat",), MASKS["a"][1])}
    write_report(hand_run(tmp_path, masks, scores={"a": {"cat": 0.75, "dog": 0.5}, "b": {}}))
    found = overview(tmp_path / "m-report")
    assert found["tagged"] == 2 and found["nothing"] == 1
    assert [row[14] for row in rows(tmp_path / "m-report")] == [[0.75, 0.5], [], None]
    with open(tmp_path / "m-report/images.csv", newline="") as file:
        assert [row["scores"] for row in csv.DictReader(file)] == ["0.75;0.5", "", ""]


def test_a_run_without_confidence(tmp_path: Path) -> None:
    write_report(hand_run(tmp_path, MASKS))
    found = overview(tmp_path / "m-report")
    assert found["levels"] is None is found["confidence"] and found["panels"] == ["picture", "overlay"]
    assert [row[7] for row in rows(tmp_path / "m-report")] == [None, None]
    assert not list((tmp_path / "m-report").rglob("*-confidence.jpg"))


def test_scores_that_hardly_vary_are_not_shown(tmp_path: Path) -> None:
    """As after the CRF: 1 pixel in 25 is below 0.95, here, and 1 in 16, there."""
    for pixels, shown in ((4, False), (7, True)):
        grey = np.full((10, 10), 255, np.uint8)
        grey[0, :pixels] = 100
        folder = tmp_path / str(pixels)
        write_report(hand_run(folder, {"a": ((), np.zeros((10, 10), np.uint8))}, confidence={"a": grey}))
        assert ("confidence" in overview(folder / "m-report")["panels"]) == shown
        assert bool(list((folder / "m-report").rglob("*-confidence.jpg"))) == shown


def test_every_image_is_in_a_table_that_generate_reads(run: Path, judged: Path, tmp_path: Path) -> None:
    write_report(run, truth=judged, limit=1)
    text = (tmp_path / "m-report/images.csv").read_text(encoding="utf-8")
    found = list(csv.DictReader(text.splitlines()))
    assert [row["image"] for row in found] == ["a", "sub/b", "c", "d"]
    assert [row["labels"] for row in found] == ["cat;bus", "dog", "cat;yeti", ""]
    assert [row["status"] for row in found] == ["ok", "ok", "failed", "skipped"]
    assert [row["confidence"] for row in found] == ["0.8", "0.5", "", ""]
    assert [row["miou"] for row in found] == ["0.555556", "", "", ""] and found[0]["ignored"] == "0.125"
    assert [row["missing"] for row in found] == ["bus", "", "", ""]
    assert [row["foreground"] for row in found] == ["0.375", "0.375", "", ""]
    assert "has 4 x 3" in found[1]["reason"] and found[2]["reason"] == OTHERS[0].reason
    labels = {row.image: row.labels for row in read_table(tmp_path / "m-report/images.csv")}
    assert labels == {"a": ("cat", "bus"), "sub/b": ("dog",), "c": ("cat", "yeti"), "d": ()}


def test_masks_with_little_of_a_class_are_counted(tmp_path: Path) -> None:
    """1 pixel of 101 is less than 1 %, 1 of 100 is not; nothing is asked of an image without a label."""
    masks = {f"{size}": (("cat",), np.zeros((1, size), np.uint8)) for size in (100, 101)}
    for _, mask in masks.values():
        mask[0, 0] = 1
    write_report(hand_run(tmp_path, {**masks, "bare": ((), np.zeros((1, 9), np.uint8))}))
    found = overview(tmp_path / "m-report")
    assert (found["little"], found["lost"], found["least_foreground"]) == (1, 0, 0.01)


def _tally(start: float, end: float, rows: int = 20) -> SimpleNamespace:
    return SimpleNamespace(started=start, last=end, rows=rows)


def test_pauses_are_left_out_of_the_time_at_work() -> None:
    clock = Throughput([_tally(1000, 1010), _tally(100, 120), _tally(110, 130), _tally(112, 115)])  # type: ignore[list-item]
    for time in (100, 129.9, 1000, 1009, 1010):
        clock.add(time)
    found = clock.as_dict()
    assert found["seconds"] == 40 and len(found["counts"]) == 8  # of 5 s each; what came after the pause begins at 30 s
    assert found["counts"] == [1, 0, 0, 0, 0, 1, 1, 2]
    assert found["pauses"] == [[30, 870]] and found["paused"] == 870 and found["pause_count"] == 1


def test_a_run_that_has_not_begun_has_no_speed() -> None:
    clock = Throughput([])
    clock.add(5.0)
    assert clock.as_dict() == {"seconds": 0, "counts": [], "pauses": [], "paused": 0, "pause_count": 0}


def test_rows_that_are_written_meanwhile_count_nowhere(run: Path, tmp_path: Path) -> None:
    def goes_on(items, total, unit):
        with Recorder(run, {"settings": read_manifest(run)["digest"], "total": 5}) as recorder:
            recorder.add(Row("e", "failed", "late"))
        yield from items

    write_report(run, progress=goes_on)
    found = overview(tmp_path / "m-report")
    assert found["counts"]["failed"] == 1 and len(rows(tmp_path / "m-report")) == 4
    assert "late" not in str(found["reasons"])


# --- truth


@pytest.fixture
def judged(run: Path, tmp_path: Path) -> Path:
    """Truth of "a", and of the failed "c"; that of "sub/b" is of another size."""
    truth = tmp_path / "truth"
    (truth / "sub").mkdir(parents=True)
    ids = np.array([[1, 1, 0, 0], [2, 2, 0, 255]], np.uint8)
    for name, array in (("a", ids), ("c", ids), ("sub/b", np.zeros((4, 3), np.uint8))):
        Image.fromarray(array).save(truth / f"{name}.png")
    return truth


def test_truth_judges_as_evaluate_does(run: Path, judged: Path, tmp_path: Path) -> None:
    report = write_report(run, truth=judged)
    found, table = overview(tmp_path / "m-report"), evaluate(run, judged, workers=1)
    assert found["truth"]["miou"] == table.miou and found["truth"]["boundary_iou"] == table.boundary_iou
    for name in ("miou_decided", "pixel_accuracy", "ignored_share"):
        assert found["truth"][name] == getattr(table, name)
    assert [row[3:] for row in found["classes"]] == [[row["iou"], row["boundary_iou"]] for row in table.table()]
    assert (found["truth"]["judged"], found["truth"]["unjudged"], found["missing"]) == (1, 1, 1)
    assert found["truth"]["mious"] == [0] * 11 + [1] + [0] * 8  # 5/9
    assert found["panels"] == ["picture", "overlay", "confidence", "truth"]
    a, b = rows(tmp_path / "m-report")[:2]
    assert a[10] == round(class_counts(A, np.asarray(Image.open(judged / "a.png")), 3).miou, 6) and a[12] == 1
    assert b[2] == 0 and b[10] is None and b[12] == 0
    sizes = f"4 x 2 pixels (height x width), but {judged / 'sub/b.png'} has 4 x 3; was one of them replaced?"
    assert b[11] == f"the mask of sub/b: {sizes}"
    assert report.troubled == 1 and report.reasons == (b[11],) and found["unreadable"] == 0
    assert (tmp_path / "m-report/pictures/0/0-truth.png").exists()
    assert not (tmp_path / "m-report/pictures/0/1-truth.png").exists()


def test_truth_in_capitals_is_missed_as_evaluate_does(run: Path, tmp_path: Path) -> None:
    (tmp_path / "t/sub").mkdir(parents=True)
    Image.fromarray(A).save(tmp_path / "t/a.png")
    Image.fromarray(B).save(tmp_path / "t/sub/b.PNG")
    write_report(run, truth=tmp_path / "t")
    found = overview(tmp_path / "m-report")
    assert found["missing"] == len(evaluate(run, tmp_path / "t", workers=1).missing) == 1
    assert found["truth"]["judged"] == 1


def test_records_of_other_settings_are_told(run: Path, tmp_path: Path) -> None:
    Recorder(run, {"settings": "0" * 64}).close()
    write_report(run)
    assert overview(tmp_path / "m-report")["others"] == 1


def test_an_unreadable_mask_is_no_fault_of_its_truth(run: Path, judged: Path, tmp_path: Path) -> None:
    (run / "sub/b.png").write_bytes(b"")
    assert write_report(run, truth=judged).troubled == 1
    found = overview(tmp_path / "m-report")
    assert (found["truth"]["unjudged"], found["unreadable"]) == (0, 1)


def test_every_true_pixel_right_is_the_last_bar(run: Path, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    Image.fromarray(np.where(A == 255, 0, A)).save(tmp_path / "t/a.png")
    (tmp_path / "m/a.png").unlink()
    shutil.copy(tmp_path / "t/a.png", tmp_path / "m/a.png")
    write_report(run, truth=tmp_path / "t")
    assert overview(tmp_path / "m-report")["truth"]["mious"] == [0] * 19 + [1]


def test_tar_shards_give_the_same_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw(3)
    generate: Run = runner(capsys)
    assert generate("--save-confidence")[0] == 0
    assert generate("--save-confidence", "--out-format", "tar", out="t")[0] == 0
    for name in ("m", "t"):
        assert main(["report", name, "--truth", "m"]) == 0
    found, of_tar = overview(tmp_path / "m-report"), overview(tmp_path / "t-report")
    assert found["truth"]["judged"] == 3 and found["levels"] is not None
    for name in ("classes", "levels", "pixels", "truth", "lost"):
        assert found[name] == of_tar[name]
    timeless = [[[*row[:6], *row[7:]] for row in rows(tmp_path / f"{name}-report")] for name in ("m", "t")]
    assert timeless[0] == timeless[1]
    pictures = [sorted(path.name for path in (tmp_path / f"{name}-report/pictures/0").iterdir()) for name in ("m", "t")]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 12


# --- pictures


def test_pictures_of_an_image(run: Path, tmp_path: Path) -> None:
    write_report(run)
    stem = tmp_path / "m-report/pictures/0/0"
    with Image.open(f"{stem}-mask.png") as mask:
        assert mask.mode == "P" and mask.info["transparency"] == 0
        assert mask.getpalette() == clear_palette().ravel().tolist()
        ids = np.asarray(mask)
    assert (ids[A != 255] == A[A != 255]).all() and ids[1, 1] in (0, 255)
    with Image.open(f"{stem}-large.jpg") as large, Image.open(f"{stem}-confidence.jpg") as confidence:
        assert large.size == confidence.size == (4, 2)
        assert np.abs(np.asarray(large).astype(int) - 40).max() < 4
    with Image.open(f"{stem}-strip.jpg") as strip:
        assert strip.size == (3 * TILE, TILE // 2)
        picture = np.asarray(strip)[:, :TILE].astype(int)
    assert np.abs(picture - 40).mean() < 4
    names = {path.name for path in stem.parent.iterdir()}
    assert names == {f"{number}-{kind}" for number in (0, 1) for kind in
                     ("large.jpg", "mask.png", "confidence.jpg", "strip.jpg")}  # fmt: skip


def test_large_pictures_are_at_most_800_and_their_mask_is_sampled(tmp_path: Path) -> None:
    mask = np.zeros((900, 1200), np.uint8)
    mask[:452, 302:] = 3
    write_report(hand_run(tmp_path, {"x": (("bus",), mask)}))
    stem = tmp_path / "m-report/pictures/0/0"
    with Image.open(f"{stem}-large.jpg") as large, Image.open(f"{stem}-mask.png") as small:
        assert large.size == small.size == (800, 600)
        found = np.asarray(small)  # of its pixels, column 201 has its centre in 302, row 301 in 452
        assert found[300, 200:202].tolist() == [0, 3] and found[301, 201] == 0


def test_thumbnails_of_long_images_have_grey_beside_them(tmp_path: Path) -> None:
    write_report(hand_run(tmp_path, {"x": ((), np.zeros((1, 300), np.uint8)), "y": ((), np.zeros((300, 1), np.uint8))}))
    for number, size in ((0, (2 * TILE, TILE // 2)), (1, (TILE, TILE))):
        with Image.open(tmp_path / f"m-report/pictures/0/{number}-strip.jpg") as strip:
            pixels = np.asarray(strip).astype(int)
        assert pixels.shape[1::-1] == size and np.abs(pixels[2, 2] - 128).max() < 4
        middle = pixels[(size[1] - 1) // 2, (size[0] // 2 - 1) // 2]
        assert np.abs(middle - 128).max() > 20


@pytest.mark.parametrize("turn", [1, 6])
def test_large_jpegs_are_opened_small_and_upright(tmp_path: Path, turn: int) -> None:
    picture = np.zeros((1800, 2400, 3), np.uint8)
    picture[:900, :, 0] = 200
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(picture).save(tmp_path / "x.jpg", exif=exif)
    size = (1800, 2400) if turn == 1 else (2400, 1800)
    image = open_reduced(tmp_path / "x.jpg", size)
    assert sorted(image.size) == [900, 1200] and (image.width > image.height) == (turn == 1)
    assert image.getpixel((image.width - 1, 0))[0] > 190  # type: ignore[index]
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels .*, but its mask has {size[1]} x {size[0]}"):
        open_reduced(tmp_path / "x.jpg", size[::-1])


@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_that_is_square_only_when_opened_small_is_not_taken_for_a_turned_one(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (1602, 1601)).save(tmp_path / "x.jpg", exif=exif)
    size = (1601, 1602) if turn == 1 else (1602, 1601)
    assert open_reduced(tmp_path / "x.jpg", size).size == size[::-1]
    with pytest.raises(ValueError, match="was one of them replaced"):
        open_reduced(tmp_path / "x.jpg", size[::-1])


# --- what cannot be read


def test_what_cannot_be_read_is_a_card_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {name: (("cat",), A) for name in ("cut", "gone", "good", "lost", "other")}
    run = hand_run(tmp_path, masks, confidence={name: GREY["a"] for name in masks})
    (run / "cut.png").write_bytes((run / "cut.png").read_bytes()[:60])
    (tmp_path / "photos/gone.png").unlink()
    (run / "confidence/lost.png").unlink()
    Image.new("RGB", (5, 5)).save(tmp_path / "photos/other.png")
    assert main(["report", str(run)]) == 3
    said = capsys.readouterr()
    assert said.out.startswith("a report of 5 images; open ")
    assert said.err.splitlines()[0] == "4 finished image(s) could not be read or judged any more:"
    found = {row[1]: row for row in rows(tmp_path / "m-report")}
    assert {name: row[2] for name, row in found.items()} == {"cut": 3, "gone": 3, "good": 0, "lost": 3, "other": 3}
    assert str(run / "cut.png") in found["cut"][11] and found["cut"][8] is None
    assert found["gone"][11] == f"gone: no such image in {tmp_path / 'photos'}; say where it is (--source)"
    assert "lost.png: no such file" in found["lost"][11]
    assert "5 x 5 pixels (height x width), but its mask has 2 x 4; was one of them replaced?" in found["other"][11]
    assert found["gone"][8] == 0.375  # its mask is counted
    total = overview(tmp_path / "m-report")
    assert total["unreadable"] == 4 and total["images"] == 3
    assert (tmp_path / "m-report/pictures/0/2-strip.jpg").exists()
    assert len(list((tmp_path / "m-report/pictures/0").iterdir())) == 4


def test_only_the_first_reasons_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = hand_run(tmp_path, {f"{index:02}": ((), A) for index in range(25)})
    for index in range(1, 25):
        (run / f"{index:02}.png").write_bytes(b"")
    assert main(["report", str(run)]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("24 finished image(s)") and said[0].endswith(", the first:") and len(said) == 21


def test_a_full_disk_is_no_fault_of_an_image(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipes.report.build.draw_thumbnails", full)
    assert main(["report", str(run)]) == 4
    assert capsys.readouterr().err.endswith("No space left on device; make room and start again\n")
    assert sorted(os.listdir(tmp_path)) == ["m", "photos"]


def test_too_little_memory_to_draw_costs_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = hand_run(tmp_path, {name: (("cat",), A) for name in ("a", "b", "c")})

    def draw(stem: Path, *pictures: Any) -> None:
        draw_thumbnails(stem, *pictures)
        if stem.name == "1":
            raise MemoryError

    monkeypatch.setattr("clipes.report.build.draw_thumbnails", draw)
    assert main(["report", str(run)]) == 3
    assert "b: out of memory" in capsys.readouterr().err
    found = rows(tmp_path / "m-report")
    assert [(row[1], row[2], row[11]) for row in found] == [("a", 0, ""), ("b", 3, "b: out of memory"), ("c", 0, "")]
    drawn = {path.name.partition("-")[0] for path in (tmp_path / "m-report/pictures/0").iterdir()}
    assert drawn == {"0", "2"} and overview(tmp_path / "m-report")["unreadable"] == 1


def test_nothing_is_drawn_any_more_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = hand_run(tmp_path, {f"{index:03}": ((), A) for index in range(40)})
    drawing: list[str] = []

    def slow(*given: object) -> None:
        drawing.append("begun")
        sleep(0.05)
        drawing.append("done")

    def full(row: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipes.report.build.draw_thumbnails", slow)
    monkeypatch.setattr("clipes.report.build.script_json", full)
    monkeypatch.setattr("shutil.rmtree", lambda *given, **options: drawing.append("removed"))
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert drawing.index("removed") == len(drawing) - 1 and drawing.count("begun") == drawing.count("done")


# --- how many


@given(st.integers(1, 300), st.data())
def test_a_sample_is_even(count: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, count))
    places = [index for index in range(count) if is_chosen(index, count, wanted)]
    assert len(places) == wanted
    gaps = np.diff(places)
    assert wanted < 2 or gaps.max() - gaps.min() <= 1


def test_a_limit_thins_the_gallery_and_not_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = [Row(f"f{index}", "failed", "empty") for index in range(6)]
    run = hand_run(tmp_path, {f"{index:02}": (("cat",), A) for index in range(10)}, failed)
    assert main(["report", str(run), "--limit", "5"]) == 0
    assert "a report of 16 images, 5 of them in the gallery; open" in capsys.readouterr().out
    found = overview(tmp_path / "m-report")
    assert found["shown"] == {"done": 3, "rest": 2} and (found["done"], found["rest"]) == (10, 6)
    assert found["images"] == 10 and found["counts"]["failed"] == 6
    assert [(row[0], row[1]) for row in rows(tmp_path / "m-report")] == list(enumerate(("00", "04", "07", "f0", "f3")))
    assert len(list((tmp_path / "m-report/pictures/0").glob("*-large.jpg"))) == 3


@pytest.mark.parametrize(("limit", "shown"), [(12, (6, 6)), (15, (9, 6)), (16, (10, 6)), (1, (1, 0))])
def test_images_without_a_mask_take_half_of_the_gallery_at_most(
    tmp_path: Path, limit: int, shown: tuple[int, int]
) -> None:
    failed = [Row(f"f{index}", "failed", "empty") for index in range(6)]
    run = hand_run(tmp_path, {f"{index:02}": (("cat",), A) for index in range(10)}, failed)
    write_report(run, limit=limit)
    assert tuple(overview(tmp_path / "m-report")["shown"].values()) == shown


def test_images_without_a_mask_take_what_the_others_leave(tmp_path: Path) -> None:
    run = hand_run(tmp_path, MASKS, [Row(f"f{index}", "failed", "empty") for index in range(10)])
    write_report(run, limit=8)
    assert overview(tmp_path / "m-report")["shown"] == {"done": 2, "rest": 6}


def test_the_commands_default_is_the_functions() -> None:
    assert COMMAND_LIMIT == LIMIT


def test_wrong_arguments(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit is 0; show at least 1 image"):
        write_report(run, limit=0)
    with pytest.raises(FileNotFoundError, match=r"no such folder of truth: .*nowhere"):
        write_report(run, truth=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no run.json; give the --out folder"):
        write_report(tmp_path / "photos")
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"say where the images are \(--source\)"):
        write_report(run)
    assert write_report(run, source=tmp_path / "moved").troubled == 0
    assert dict(overview(tmp_path / "m-report")["facts"])["source"] == str(tmp_path / "moved")


def test_a_run_that_does_not_tell_its_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"m: its record does not say where the images are; say it \(--source\)"):
        write_report(hand_run(tmp_path, MASKS, source=None))


# --- where it goes


def test_the_run_and_the_images_stay_as_they_are(run: Path, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        kept = (path for path in tmp_path.rglob("*") if path.is_file() and "m-report" not in path.parts)
        return {str(path): path.read_bytes() for path in kept}

    before = files()
    write_report(run)
    assert files() == before


def test_places_that_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"r is in the run's folder .*; choose another folder for the report"):
        write_report(run, run / "r")
    with pytest.raises(ValueError, match=r"r would be among the files of .*photos; choose another folder"):
        write_report(run, tmp_path / "photos/r")
    (tmp_path / "truth").mkdir()
    with pytest.raises(ValueError, match=r"r would be among the files of .*truth; choose another folder"):
        write_report(run, tmp_path / "truth/r", truth=tmp_path / "truth")
    (tmp_path / "truth").rmdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/index.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name, reason in {"mine": "exists and is no earlier report", "file": "exists and", "link": "is a link"}.items():
        with pytest.raises(ValueError, match=f"{name} {reason}"):
            write_report(run, tmp_path / name)
    assert (tmp_path / "mine/index.html").read_text() == "mine" == (tmp_path / "file").read_text()
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "m", "mine", "photos"]


def test_an_older_report_is_replaced(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/r"
    write_report(run, out)
    (out / "pictures/0/0-old.jpg").touch()
    write_report(run, out, limit=1)
    assert not (out / "pictures/0/0-old.jpg").exists() and len(rows(out)) == 1
    assert os.listdir(tmp_path / "new") == ["r"]
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(ValueError, match="link is a link"):
        write_report(run, tmp_path / "link")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"r holds 'notes.txt', which no report wrote"):
        write_report(run, out)
    (out / "notes.txt").unlink()
    (out / ".clipes-report").unlink()
    with pytest.raises(ValueError, match="r exists and is no earlier report"):
        write_report(run, out)


def test_stopped_half_way_nothing_is_there_and_the_older_one_stays(run: Path, tmp_path: Path) -> None:
    def stop(items, total, unit):
        for index, item in enumerate(items):
            if index == 1:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        write_report(run, progress=stop)
    assert sorted(os.listdir(tmp_path)) == ["m", "photos"]
    write_report(run)
    before = (tmp_path / "m-report/data/rows.js").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_report(run, limit=1, progress=stop)
    assert (tmp_path / "m-report/data/rows.js").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["m", "m-report", "photos"]


def test_what_comes_there_meanwhile_stays(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"

    def disturb(items, total, unit):
        out.mkdir(exist_ok=True)
        (out / "mine.txt").write_text("mine")
        yield from items

    with pytest.raises(ValueError, match="r exists and is no earlier report"):
        write_report(run, out, progress=disturb)
    assert os.listdir(out) == ["mine.txt"] and sorted(os.listdir(tmp_path)) == ["m", "photos", "r"]
    (out / "mine.txt").unlink()
    write_report(run, out)
    with pytest.raises(ValueError, match=r"r holds 'mine.txt', which no report wrote"):
        write_report(run, out, progress=disturb)
    assert (out / "mine.txt").read_text() == "mine" and len(rows(out)) == 4


def test_the_second_of_two_at_once_does_not_replace_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging_folder(out) as one, staging_folder(out) as two:
        (one / "a").touch()
        publish(one, out, "export", {}, overwrite=False)
        with pytest.raises(ValueError, match=r"out holds an earlier export; .* --overwrite"):
            publish(two, out, "export", {}, overwrite=False)
        assert sorted(os.listdir(out)) == [".clipes-export", "a"]
        publish(two, out, "export", {}, overwrite=True)
    assert os.listdir(out) == [".clipes-export"] and os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="processes are asked for as POSIX does")
def test_what_killed_processes_left_is_swept(run: Path, tmp_path: Path) -> None:
    names = [f".clipes-{MACHINE_ID}-{process}-{'0' * 16}.tmp" for process in (os.getpid(), 2**22 + 1)]
    names.append(f".clipes-{'0' * 8}-{2**22 + 1}-{'0' * 16}.tmp")  # of another machine
    for name in names:
        (tmp_path / name / "data").mkdir(parents=True)
    write_report(run)
    assert sorted(os.listdir(tmp_path)) == sorted([names[0], names[2], "m", "m-report", "photos"])


def test_data_are_nothing_but_data() -> None:
    text = script_json(["</script><!--", "\u2028\u2029\udc80\u202e", '"\\&'])
    assert text.isascii() and not set("<>&") & set(text)
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_a_run_that_is_decided_again_meanwhile(run: Path, tmp_path: Path) -> None:
    def change(items, total, unit):
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "mixed": "finalize was stopped"}))
        return items

    with pytest.raises(ValueError, match="its masks were decided again meanwhile; start again"):
        write_report(run, progress=change)
    assert sorted(os.listdir(tmp_path)) == ["m", "photos"]
