"""clipes.evaluation.evaluate, clipes.evaluation.accumulate, clipes evaluate: what is counted, reported and printed."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reference
from PIL import Image

from clipes.cli import main
from clipes.evaluation import Evaluation, accumulate, evaluate, judge
from clipes.evaluation.accumulate import Problem
from clipes.io.atomic import write_json
from clipes.io.masks import write_mask

NAMES = ("cat", "dog", "bus")
TABLE = {"0": "background", "1": "cat", "2": "dog", "3": "bus"}


def random_ids(seed: int, shape: tuple[int, int] = (12, 15), ignored: float = 0.2) -> np.ndarray:
    """Blobs of 3 pixels of the ids 0..3, and 255."""
    size, shares = (-(-shape[0] // 3), -(-shape[1] // 3)), [*[(1 - ignored) / 4] * 4, ignored]
    small = np.random.default_rng(seed).choice([0, 1, 2, 3, 255], size, p=shares)
    return small.repeat(3, axis=0).repeat(3, axis=1)[: shape[0], : shape[1]].astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three masks and their truth: a.png, b.png, sub/c.png."""
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        write_mask(tmp_path / "masks" / name, random_ids(seed), 3)
        write_mask(tmp_path / "truth" / name, random_ids(seed + 10), 3)
    return tmp_path / "masks", tmp_path / "truth"


def many(folder: Path, count: int) -> tuple[Path, Path]:
    """``count`` masks and truths; numbers 20 to 27 are broken, 30 is of another size."""
    for index in range(count):
        write_mask(folder / "m" / f"{index:03d}.png", random_ids(index, (9, 9) if index == 30 else (12, 15)), 3)
        write_mask(folder / "t" / f"{index:03d}.png", random_ids(index + 1000), 3)
    for index in range(20, 28):
        (folder / "m" / f"{index:03d}.png").write_bytes(b"no image")
    return folder / "m", folder / "t"


def numbers(evaluation: Evaluation) -> str:
    return json.dumps(evaluation.as_dict())


# --- what is counted


def test_figures_equal_loops_over_all_pixels_of_all_images(folders: tuple[Path, Path]) -> None:
    found = evaluate(*folders, NAMES)
    pairs = [(random_ids(seed), random_ids(seed + 10)) for seed in range(3)]
    truth, mask, both, ignored = np.sum([reference.class_counts(*pair, 3, 255) for pair in pairs], axis=0).tolist()
    either = [t + m - b for t, m, b in zip(truth, mask, both, strict=True)]
    boundaries = np.sum([reference.boundary_counts(*pair, 3, 255) for pair in pairs], axis=0).tolist()
    decided = [whole - out for whole, out in zip(either, ignored, strict=True)]
    assert found.miou == pytest.approx(reference.mean_of_ratios(both, either))
    assert found.miou_decided == pytest.approx(reference.mean_of_ratios(both, decided))
    assert found.boundary_iou == pytest.approx(reference.mean_of_ratios(*boundaries))
    assert found.pixel_accuracy == pytest.approx(sum(both) / sum(truth))
    assert found.ignored_share == pytest.approx(sum(ignored) / sum(truth))
    assert found.class_iou.tolist() == pytest.approx([b / e for b, e in zip(both, either, strict=True)])
    assert (found.images, found.coverage, found.missing, found.extra) == (3, 1, (), ())
    assert len({found.miou, found.miou_decided, found.boundary_iou, found.pixel_accuracy}) == 4


def test_a_mask_that_is_the_truth_scores_one(folders: tuple[Path, Path]) -> None:
    _, truth = folders
    found = evaluate(truth, truth, NAMES)
    assert (found.miou, found.miou_decided, found.boundary_iou, found.pixel_accuracy) == (1, 1, 1, 1)
    assert found.ignored_share == 0


def test_ids_count_and_not_colours_or_the_files_kind(folders: tuple[Path, Path], tmp_path: Path) -> None:
    masks, truth = folders
    expected = numbers(evaluate(masks, truth, NAMES))
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        ids = random_ids(seed)
        image = Image.fromarray(ids if name == "a.png" else ids.astype(np.uint16))
        if name == "a.png":
            image.putpalette([7, 7, 7] * 256)
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "other" / name)
    assert numbers(evaluate(tmp_path / "other", truth, NAMES)) == expected


def test_a_large_data_set_ignores_65535_and_counts_255(tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(1, 301)]
    truth = np.array([[255, 300, 0, 65535]], np.uint16)
    write_mask(tmp_path / "truth.png", truth, 300)
    write_mask(tmp_path / "mask.png", np.array([[255, 65535, 0, 7]], np.uint16), 300)
    found = evaluate(tmp_path / "mask.png", tmp_path / "truth.png", names)
    assert {row["id"]: row["iou"] for row in found.table() if row["iou"] is not None} == {0: 1, 255: 1, 300: 0}
    assert found.ignored_share == pytest.approx(1 / 3)


def test_one_bit_files_hold_the_ids_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False, False]])).save(tmp_path / "a.png")
    write_mask(tmp_path / "b.png", np.array([[1, 1, 0]], np.uint8), 1)
    assert evaluate(tmp_path / "a.png", tmp_path / "b.png", ["thing"]).class_iou.tolist() == [0.5, 0.5]


def test_json_holds_everything(folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    write_mask(masks / "more.png", random_ids(1), 3)
    write_mask(truth / "less.png", random_ids(1), 3)
    found = evaluate(masks, truth, (*NAMES, "nowhere")).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["missing"] == ["less.png"] and found["extra"] == ["more.png"] and found["coverage"] == 0.75
    assert found["images"] == 3 and found["failed"] == [] == found["mis_sized"]
    assert [row["name"] for row in found["classes"]] == ["background", *NAMES, "nowhere"]
    pixels = {"truth_pixels": 0, "mask_pixels": 0, "ignored_pixels": 0}
    assert found["classes"][4] == {"id": 4, "name": "nowhere", "iou": None, "boundary_iou": None, **pixels}
    assert "ignores as missed" in found["note"]


# --- which files


def test_files_are_matched_by_their_relative_names(folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    (masks / "sub" / "c.png").rename(masks / "c.png")
    (masks / ".hidden.png").write_bytes(b"")
    (masks / "notes.txt").write_text("no mask")
    found = evaluate(masks, truth, NAMES)
    assert (found.images, found.missing, found.extra) == (2, ("sub/c.png",), ("c.png",))
    assert found.coverage == pytest.approx(2 / 3)


def test_what_generate_saves_beside_masks_is_no_mask(folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    for name in ("confidence/a.png", "cams/b.png", "sub/cams/d.png"):
        write_mask(masks / name, random_ids(0), 3)
    assert evaluate(masks, truth, NAMES).extra == ("cams/b.png", "confidence/a.png", "sub/cams/d.png")
    write_json(masks / "classes.json", TABLE)
    assert evaluate(masks, truth).extra == ("sub/cams/d.png",)


def test_links_are_followed_but_not_in_circles(folders: tuple[Path, Path], tmp_path: Path) -> None:
    masks, truth = folders
    (masks / "sub" / "up").symlink_to(masks, target_is_directory=True)
    (masks / "self.png").symlink_to(masks / "self.png")
    (tmp_path / "linked").symlink_to(masks, target_is_directory=True)
    found = evaluate(tmp_path / "linked", truth, NAMES)
    assert (found.images, found.missing, found.extra) == (3, (), ("self.png",))


@pytest.mark.parametrize(
    ("masks", "truth", "error", "message"),
    [
        ("no", "truth", FileNotFoundError, "no such folder or file of masks: .*no"),
        ("masks", "no", FileNotFoundError, "no such folder or file of truth: .*no"),
        ("masks/a.png", "truth", ValueError, "is a file, one a folder; give two folders or two files"),
        ("empty", "truth", ValueError, "no PNG file in .*empty"),
        ("masks", "empty", ValueError, "no PNG file in .*empty"),
        ("masks/sub", "truth", ValueError, r"'c.png' in .*sub, 'a.png' in .*truth; give the folders below which"),
    ],
)
def test_nothing_to_compare(
    masks: str, truth: str, error: type[Exception], message: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        evaluate(tmp_path / masks, tmp_path / truth, NAMES)


# --- files that cannot be judged


def _colours(file: Path, mode: str = "RGB") -> None:
    Image.new(mode, (15, 12)).save(file)


def _half(file: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 4, (100, 100)).astype(np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:1500])


BROKEN = {
    "colours": (_colours, "mode RGB holds colours, not class ids"),
    "alpha": (lambda file: _colours(file, "RGBA"), "mode RGBA holds colours"),
    "text": (lambda file: file.write_text("ids"), "not a PNG file"),
    "empty": (lambda file: file.write_bytes(b""), "not a PNG file"),
    "jpeg": (lambda file: Image.new("L", (15, 12)).save(file, format="JPEG"), "not a PNG file"),
    "half": (_half, "truncated"),
    "value": (lambda file: Image.new("L", (15, 12), 4).save(file), "holds 4, but 3 classes allow"),
    "nowhere": (lambda file: (file.unlink(), file.symlink_to("nothing")), "no such file"),
    "device": (lambda file: (file.unlink(), file.symlink_to("/dev/null")), "not a file"),
    "pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "not a file"),
}


@pytest.mark.parametrize("side", ["masks", "truth"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_reported_and_the_others_are_judged(
    kind: str, side: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    break_it, message = BROKEN[kind]
    break_it(tmp_path / side / "b.png")
    found = evaluate(*folders, NAMES)
    assert found.images == 2 and found.coverage == pytest.approx(2 / 3)
    assert [problem.name for problem in found.failed] == ["b.png"]
    assert found.failed[0].reason.startswith(f"{tmp_path / side / 'b.png'}") and message in found.failed[0].reason
    for folder in folders:
        (folder / "b.png").unlink()
    assert evaluate(*folders, NAMES).pixels.truth.tolist() == found.pixels.truth.tolist()


def test_pillows_limit_of_pixels_holds(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write_mask(folders[0] / "b.png", np.zeros((40, 40), np.uint8), 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    found = evaluate(*folders, NAMES)
    assert found.images == 2
    assert "decompression bomb" in found.failed[0].reason


def test_another_size_is_reported(folders: tuple[Path, Path]) -> None:
    write_mask(folders[0] / "a.png", random_ids(0, (15, 12)), 3)
    found = evaluate(*folders, NAMES)
    assert found.images == 2 and found.failed == ()
    assert found.mis_sized[0].name == "a.png"
    sizes = f"15 x 12 pixels (height x width), but {folders[1] / 'a.png'} has 12 x 15; was one of them replaced?"
    assert found.mis_sized[0].reason == f"{folders[0] / 'a.png'}: {sizes}"
    single = evaluate(folders[0] / "a.png", folders[1] / "sub" / "c.png", NAMES)
    assert single.mis_sized[0].name == "a.png" and single.coverage == 0


def test_figures_are_none_when_every_file_is_broken(folders: tuple[Path, Path]) -> None:
    for file in folders[0].rglob("*.png"):
        _colours(file)
    found = evaluate(*folders, NAMES)
    assert len(found.failed) == 3 and found.coverage == 0
    assert found.as_dict()["miou"] is None is found.as_dict()["boundary_iou"]


# --- class names


def test_class_names_come_from_classes_json(folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    with pytest.raises(ValueError, match=r"no .*classes\.json; give the classes \(--classes\)"):
        evaluate(masks, truth)
    write_json(masks / "classes.json", TABLE)
    assert evaluate(masks, truth).class_names == NAMES
    assert evaluate(masks / "a.png", truth / "a.png").class_names == NAMES
    assert numbers(evaluate(masks, truth)) == numbers(evaluate(masks, truth, list(NAMES)))


def test_other_class_names_than_in_classes_json_are_refused(folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    write_json(masks / "classes.json", TABLE)
    with pytest.raises(ValueError, match=r"the classes given are not those of .*classes\.json; leave them out"):
        evaluate(masks, truth, ("dog", "cat", "bus"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "3", '{"0": "background"}', '{"0": "a", "2": "b"}', '{"0": "a", "1": 5}']
)
def test_a_broken_classes_json_is_told(text: str, folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    (masks / "classes.json").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.json is no table of ids and names"):
        evaluate(masks, truth)


# --- several processes


def test_the_result_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    masks, truth = many(tmp_path, 40)
    one = evaluate(masks, truth, NAMES, workers=1)
    assert numbers(one) == numbers(evaluate(masks, truth, NAMES, workers=2))
    assert (one.images, len(one.mis_sized)) == (31, 1)
    assert [problem.name for problem in one.failed] == [f"{index:03d}.png" for index in range(20, 28)]


def test_few_files_need_no_second_process(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "ProcessPoolExecutor", None)
    assert evaluate(*folders, NAMES, workers=8).images == 3


def test_workers_must_be_at_least_one(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="workers is 0; it must be at least 1"):
        evaluate(*folders, NAMES, workers=0)


def _two(*paths: Path) -> list[np.ndarray | None]:
    return [np.array([2]), None]


def test_files_are_taken_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "_BLOCK", 8)
    taken = []
    tasks = ((taken.append(index) or str(index), Path("x")) for index in range(100))
    ahead = []

    def progress(items, total, unit):
        assert (total, unit) == (100, "images")
        for index, item in enumerate(items):
            ahead.append(len(taken) - index)
            yield item

    counted, skipped = accumulate.accumulate(_two, tasks, 100, [(1,), (1,)], 2, progress)
    assert (counted.counts.tolist(), counted.images) == ([200], 100)
    assert (skipped.counts.tolist(), skipped.images, skipped.failed) == ([0], 0, [])
    assert 4 < max(ahead) <= 16


def _handlers(*paths: Path) -> list[np.ndarray]:
    expected = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
    return [np.array([signal.getsignal(number) == handler for number, handler in expected.items()])]


def test_workers_leave_ctrl_c_to_their_parent_and_end_at_sigterm() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        tasks = ((str(index), Path("x")) for index in range(32))
        (total,) = accumulate.accumulate(_handlers, tasks, 32, [(2,)], 2, lambda items, total, unit: items)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert total.counts.tolist() == [32, 32]


def _die(*paths: Path) -> list[np.ndarray]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_worker_is_told() -> None:
    tasks = ((str(index), Path("x")) for index in range(40))
    with pytest.raises(ChildProcessError, match="a worker was killed, perhaps for want of memory; take fewer workers"):
        accumulate.accumulate(_die, tasks, 40, [(1,)], 2, lambda items, total, unit: items)


def _raise(error: type[Exception]) -> None:
    raise error


def test_a_file_too_large_for_the_memory_fails_and_a_mistake_of_ours_is_not_hidden(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "read_ids", lambda *given: _raise(MemoryError))
    failed = evaluate(*folders, NAMES).failed
    assert failed == tuple(Problem(name, "MemoryError") for name in ("a.png", "b.png", "sub/c.png"))
    monkeypatch.setattr(judge, "read_ids", lambda *given: _raise(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        evaluate(*folders, NAMES)


def test_each_pair_is_read_once_whatever_is_judged(swept: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read, paths = judge.read_ids, []
    monkeypatch.setattr(judge, "read_ids", lambda path, classes: (paths.append(path), read(path, classes))[1])
    found = evaluate(*swept, judges=judge.SWEEPS)
    assert len(found.sweeps) == 1 and len(paths) == len(set(paths)) == 6


CODE = """
import sys
import clipes
from clipes import evaluate
if __name__ == "__main__":
    print(evaluate({!r}, {!r}, {!r}, workers=2).images, "torch" in sys.modules)
"""


def test_torch_is_not_needed(tmp_path: Path) -> None:
    masks, truth = many(tmp_path, 40)
    code = CODE.format(str(masks), str(truth), NAMES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["31", "False"], done.stderr


# --- the command

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run ``clipes evaluate``; returns its exit code, what it printed and its errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return main(["evaluate", *map(str, arguments)]), *capsys.readouterr()

    return run


def test_the_table(said: Said, folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    code, out, error = said(masks, truth, "--classes", "cat,dog,bus,zebra crossing")
    found = evaluate(masks, truth, NAMES)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "id  class             IoU  boundary IoU"
    assert lines[1] == f" 0  background      {found.class_iou[0]:.3f}         {found.class_boundary_iou[0]:.3f}"
    assert lines[5] == " 4  zebra crossing      -             -"
    assert f"mIoU            {found.miou:.3f}  over the classes that occur" in lines
    assert f"boundary IoU    {found.boundary_iou:.3f}" in lines
    assert f"pixel accuracy  {found.pixel_accuracy:.3f}" in lines
    assert f"ignored         {found.ignored_share:.3f}  of the pixels" in lines
    assert f"mIoU decided    {found.miou_decided:.3f}  on the pixels that are not ignored" in lines
    assert "coverage        1.000  3 of 3 truth files judged" in lines
    assert "count a pixel that the mask ignores as missed" in lines[-1]


def test_nothing_is_said_of_ignored_pixels_where_there_are_none(said: Said, folders: tuple[Path, Path]) -> None:
    code, out, _ = said(folders[1], folders[1], "--classes", "cat,dog,bus")
    assert code == 0 and "ignore" not in out and "decided" not in out


def test_classes_are_a_sets_name_a_file_or_names(said: Said, folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("cat\ndog\nbus\n")
    assert "20  tvmonitor        -" in said(*folders, "--classes", "voc12")[1]
    assert said(*folders, "--classes", tmp_path / "own.txt")[1] == said(*folders, "--classes", "cat,dog,bus")[1]
    for arguments, message in (
        (("--classes", "voc13"), "unknown class set 'voc13'; did you mean 'voc12'"),
        ((), f"there is no {folders[0] / 'classes.json'}; give the classes (--classes)"),
    ):
        code, out, error = said(*folders, *arguments)
        assert (code, out) == (2, "") and message in error


def test_nothing_to_compare_is_wrong_use(said: Said, folders: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, error = said(tmp_path / "no", folders[1], "--classes", "cat,dog,bus")
    assert (code, out) == (2, "") and error == f"clipes evaluate: no such folder or file of masks: {tmp_path / 'no'}\n"


def test_more_masks_than_truth_are_fine(said: Said, folders: tuple[Path, Path]) -> None:
    (folders[1] / "a.png").unlink()
    code, out, error = said(*folders, "--classes", "cat,dog,bus")
    assert code == 0 and "2 of 2 truth files judged" in out
    assert error == "1 mask(s) without a truth file, left out:\n  'a.png'\n"


def test_what_is_missing_broken_or_mis_sized_is_told(said: Said, folders: tuple[Path, Path], tmp_path: Path) -> None:
    masks, truth = folders
    _colours(masks / "a.png")
    write_mask(masks / "b.png", random_ids(0, (9, 9)), 3)
    for index in range(7):
        write_mask(truth / f"m{index}.png", random_ids(0), 3)
    code, out, error = said(masks, truth, "--classes", "cat,dog,bus", "--json", tmp_path / "out" / "found.json")
    assert code == 3 and "coverage        0.100  1 of 10 truth files judged" in out
    assert error.splitlines() == [
        "7 truth file(s) without a mask, the first:",
        *(f"  'm{index}.png'" for index in range(5)),
        "1 of another size than the truth:",
        f"  {masks / 'b.png'}: 9 x 9 pixels (height x width), but {truth / 'b.png'} has 12 x 15; "
        "was one of them replaced?",
        "1 could not be read:",
        f"  {masks / 'a.png'}: mode RGB holds colours, not class ids; save palette indices, 8-bit or 16-bit grey",
    ]
    found = json.loads((tmp_path / "out" / "found.json").read_text())
    assert found["missing"] == [f"m{index}.png" for index in range(7)]
    assert [found["mis_sized"][0]["name"], found["failed"][0]["name"]] == ["b.png", "a.png"]
    assert (found["masks"], found["truth"]) == (str(masks), str(truth))
    assert "sweep" not in found


@pytest.mark.parametrize("fault", ["missing", "mis_sized", "failed"])
def test_each_fault_alone_gives_exit_code_3(fault: str, said: Said, folders: tuple[Path, Path]) -> None:
    file = folders[0] / "a.png"
    {"missing": file.unlink, "failed": lambda: _colours(file)}.get(fault, lambda: Image.new("L", (2, 2)).save(file))()
    assert said(*folders, "--classes", "cat,dog,bus")[0] == 3


def test_hostile_names_are_escaped(said: Said, folders: tuple[Path, Path]) -> None:
    masks, truth = folders
    write_json(masks / "classes.json", TABLE | {"1": "cat\x1b[31m\n" + "long" * 20})
    write_mask(truth / "x\x1b[2J\n.png", random_ids(0), 3)
    write_mask(masks / "y\udc80.png", random_ids(0), 3)
    (masks / "z\n.png").write_bytes(b"")
    write_mask(truth / "z\n.png", random_ids(0), 3)
    code, out, error = said(masks, truth)
    assert code == 3 and "\x1b" not in out + error
    assert re.search(r"^ 1  cat\\x1b\[31m\\n[long]{26}…  ", out, re.MULTILINE)
    assert len(error.splitlines()) == 6 and "\\udc80" in error


def test_hundreds_of_classes_are_still_aligned(said: Said, folders: tuple[Path, Path]) -> None:
    _, out, _ = said(*folders, "--classes", ",".join(f"class {index}" for index in range(1, 251)))
    lines = out.splitlines()[:252]
    assert lines[251].startswith("250  class 250 ") and len({len(line) for line in lines}) == 1


@pytest.fixture
def swept(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    """The masks with their confidence."""
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        (folders[0] / "confidence" / name).parent.mkdir(parents=True, exist_ok=True)
        levels = np.random.default_rng(seed).integers(0, 256, (12, 15))
        Image.fromarray(levels.astype(np.uint8)).save(folders[0] / "confidence" / name)
    write_json(folders[0] / "classes.json", TABLE)
    return folders


def test_a_sweep_says_that_it_uses_the_truth(said: Said, swept: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, error = said(*swept, "--sweep", "--json", tmp_path / "found.json")
    assert code == 0
    note = "a sweep uses the truth: its best value is an upper bound, not a result"
    assert f"ignore_below over 3 images: {note}\n" in out
    found = json.loads((tmp_path / "found.json").read_text())["sweep"]
    assert found["note"] == note and found["ignore_below"]["images"] == 3
    rows = found["ignore_below"]["rows"]
    for row in rows:
        values = f"{row['ignore_below']:g} +{row['miou']:.3f} +{row['miou_decided']:.3f} +{row['ignored_share']:.3f}"
        best = row["miou"] == max(other["miou"] for other in rows)
        assert re.search(rf"^ +{values}{'  <- best' if best else ''}$", out, re.MULTILINE)
    assert "the masks themselves ignore pixels, so a lower threshold than theirs cannot be judged" in error
    assert "upper bound" not in said(*swept)[1]


def test_a_sweep_over_maps_says_what_it_leaves_out(said: Said, swept: tuple[Path, Path]) -> None:
    masks, truth = swept
    (masks / "cams").mkdir()
    maps = {"keys": np.array([0]), "patch_cams": np.ones((1, 2, 2), np.float32), "size": np.array([12, 15])}
    np.savez(masks / "cams" / "a.npz", **maps)
    (masks / "cams" / "b.npz").write_bytes(b"")
    code, out, error = said(masks, truth, "--sweep")
    assert code == 3 and "background_power over 1 images: before any refinement by colours; a sweep uses" in out
    table = out[out.index("background_power over") :].splitlines()[1:]
    assert table[0] == "background_power   mIoU" and re.fullmatch(r" +0\.5  0\.\d{3}(  <- best)?", table[1])
    assert len(table) == 8
    assert "1 could not be read:" in error and "cams/b.npz" in error


def test_a_sweep_without_its_files_is_told(said: Said, folders: tuple[Path, Path]) -> None:
    code, out, error = said(*folders, "--classes", "cat,dog,bus", "--sweep")
    assert (code, out) == (2, "") and "--save-confidence or --save-cams" in error


def test_ctrl_c_ends_all_processes_without_noise(tmp_path: Path) -> None:
    big = np.zeros((1000, 1000), np.uint8)
    for folder in ("m", "t"):
        write_mask(tmp_path / folder / "0.png", big, 3)
        for index in range(1, 2000):
            os.link(tmp_path / folder / "0.png", tmp_path / folder / f"{index}.png")
    command = [sys.executable, "-m", "clipes.cli", "evaluate", tmp_path / "m", tmp_path / "t", "--classes", "a,b,c"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "--workers", "2"], start_new_session=True, **pipes)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")  # of Linux
    while children.exists() and len(children.read_text().split()) < 2:
        time.sleep(0.05)
    time.sleep(1 if children.exists() else 4)  # into the work of the pool
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert error == "clipes evaluate: stopped; the files written so far are whole\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_grey_of_few_bits_is_refused(tmp_path: Path) -> None:
    """Pillow would read the id 1 of a 4-bit grey file as 17."""
    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0\x12")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    write_mask(tmp_path / "b.png", np.array([[1, 2]], np.uint8), 3)
    found = evaluate(tmp_path / "b.png", tmp_path / "a.png", ["cat", "dog", "bus"])
    assert "grey of 2 or 4 bits, whose values Pillow scales" in found.failed[0].reason


def test_a_truth_without_classes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("masks", "truth"):
        write_mask(tmp_path / name / "a.png", np.array([[0, 255]], np.uint8), 3)
    arguments = ["evaluate", str(tmp_path / "masks"), str(tmp_path / "truth"), "--classes", "cat,dog,bus"]
    assert main(arguments) == 0
    assert "the truth shows no class" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--json", str(tmp_path / "masks" / "a.png")])
    assert "argument --json: a .json file is written, not" in capsys.readouterr().err
