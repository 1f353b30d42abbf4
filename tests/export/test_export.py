"""clipes.export and its command: what is written where, what is refused, what is told."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from exporting import NAMES, drawn, hard_masks, paint, saved_run
from generating import draw, runner
from PIL import Image

from clipes.cli import main
from clipes.export import export
from clipes.export.names import file_name, label_name
from clipes.export.pictures import Picture
from clipes.io.atomic import MACHINE_ID
from clipes.store.manifest import overwrite_manifest
from clipes.store.row import Row

TARGETS = ("coco", "voc", "yolo", "huggingface")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def two() -> dict[str, np.ndarray]:
    """photos/ of two pictures and m/, their run."""
    masks = {"a": drawn("12 x."), "b": drawn("11 .2")}
    paint(masks)
    saved_run(masks)
    return masks


def files(folder: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def leftovers() -> list[str]:
    return [name for name in os.listdir() if name.startswith(".clipes")]


# --- what is written


@pytest.mark.parametrize("to", TARGETS)
def test_shards_give_what_files_give(to: str) -> None:
    masks = hard_masks()
    paint(masks)
    saved_run(masks, confidence=True)
    saved_run(masks, confidence=True, folder="t", format="tar")
    export("m", to, "out")
    export("t", to, "shards")
    first, second = files("out"), files("shards")
    assert json.loads(first.pop(".clipes-export")).keys() == json.loads(second.pop(".clipes-export")).keys()
    assert first == second and len(first) > len(masks)
    assert leftovers() == []


@pytest.mark.parametrize("to", TARGETS)
def test_pictures_inside_tar_files(to: str, two: dict[str, np.ndarray]) -> None:
    with tarfile.open("pictures.tar", "w") as tar:
        tar.add("photos/a.png", "a.png")
        tar.add("photos/b.jpg", "b.jpg")
    export("m", to, "out")
    export("m", to, "packed", source="pictures.tar")
    first, second = files("out"), files("packed")
    del first[".clipes-export"], second[".clipes-export"]
    assert first == second
    with pytest.raises(ValueError, match=r"pictures of pictures.tar are inside .tar files, which nothing can link to"):
        export("m", to, "linked", source="pictures.tar", images="link")


@pytest.mark.parametrize("to", TARGETS)
def test_links_are_to_the_pictures(to: str, two: dict[str, np.ndarray]) -> None:
    export("m", to, "out", images="link")
    links = [path for path in Path("out").rglob("*") if path.is_symlink()]
    assert {path.resolve() for path in links} == {
        Path(f"photos/{name}").resolve() for name in (("b.jpg",) if to == "voc" else ("a.png", "b.jpg"))
    }


@pytest.mark.parametrize("to", TARGETS)
def test_a_generated_run(to: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The source is found where `clipes generate` found it; what failed there is told."""
    Path("photos").mkdir()
    draw(5)
    Path("photos/bad.png").write_bytes(b"no picture")
    assert runner(capsys)("--save-confidence", "--max-failure-rate", "0.5")[0] == 0
    assert main(["export", "m", "--to", to, "--out", "out"]) == 0
    said, told = capsys.readouterr()
    assert said == "5 image(s) exported to out\n"
    assert "1 image(s) of the run have no mask and are left out" in told
    mark = json.loads(Path("out/.clipes-export").read_text())
    assert (mark["images"], mark["failed"], mark["without_mask"], mark["to"]) == (5, 0, 1, to)
    assert mark["run"] == json.loads(Path("m/run.json").read_text())["digest"]
    assert set(mark["entries"]) == {path.name for path in Path("out").iterdir()} - {".clipes-export"}


def test_pictures_are_not_left_out_by_a_list_that_names_more(two: dict[str, np.ndarray]) -> None:
    Path("list.txt").write_text("photos/a.png\nphotos/gone.png\nphotos/b.jpg\n")
    saved_run({"photos/a": two["a"], "photos/gone": two["b"]}, source="list.txt", folder="l")
    report = export("l", "yolo", "out")
    assert (report.images, report.failed, report.problems) == (1, 1, ("no such image: photos/gone.png",))
    assert export("l", "yolo", "none", images="none").problems == report.problems


# --- what cannot be read


@pytest.mark.parametrize("to", TARGETS)
def test_what_cannot_be_read_is_told_and_the_rest_is_done(to: str, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {
        name: drawn("12 x.") for name in ("edited", "good", "gone", "lost", "other size", "resized", "torn", "wild")
    }
    paint(masks)
    Path("photos/torn.png").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8)).save("photos/torn.jpg")
    saved_run(masks)
    Path("m/gone.png").unlink()
    Image.fromarray(drawn("1x 21")).save("m/edited.png")
    Image.fromarray(drawn("1")).save("m/other size.png")
    Image.fromarray(np.full((2, 2), 77, np.uint8)).save("m/wild.png")
    next(Path("photos").glob("lost.*")).unlink()
    resized = next(Path("photos").glob("resized.*"))
    Image.new("RGB", (3, 2)).save(resized)
    torn = Path("photos/torn.jpg")
    torn.write_bytes(torn.read_bytes()[:-30])
    assert main(["export", "m", "--to", to, "--out", "out"]) == 3
    said, told = capsys.readouterr()
    assert said == "2 image(s) exported to out\n" and "6 image(s) could not be exported:\n" in told
    for reason in (
        "m/gone.png: no such file",
        "'lost': no such image in the source; say where the images are (--source)",
        "m/other size.png: 1 x 1 pixels (height x width), but its record has 2 x 2; was one of them replaced?",
        f"{resized}: 2 x 3 pixels (height x width), but its mask has 2 x 2; was one of them replaced?",
        "photos/torn.jpg: cannot be",
        "m/wild.png holds 77, but 3 classes allow 0..3 and 255 (ignore)",
    ):
        assert reason in told
    mark = json.loads(Path("out/.clipes-export").read_text())
    assert (mark["images"], mark["ignored_pixels"], mark["pixels"], mark["failed"]) == (2, 2, 8, 6)
    assert len(mark["problems"]) == 6


def test_only_the_first_reasons_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    masks = {f"{number:02}": drawn("1") for number in range(23)}
    paint(masks)
    saved_run(masks)
    for number in range(22):
        Path(f"m/{number:02}.png").unlink()
    assert main(["export", "m", "--to", "voc", "--out", "out"]) == 3
    told = capsys.readouterr().err
    assert told.count("no such file") == 20 and told.endswith("and 2 more failed\n")


def test_nothing_is_made_of_nothing(two: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("m").glob("*.png"):
        path.unlink()
    assert main(["export", "m", "--to", "voc", "--out", "out"]) == 3
    said, told = capsys.readouterr()
    assert said == "" and "2 image(s) could not be exported, and nothing is written:" in told
    assert not Path("out").exists() and leftovers() == []
    saved_run({}, folder="none")
    with pytest.raises(ValueError, match=r"none: the run has no mask to export; `clipes status` says why"):
        export("none", "voc", "out")


def test_a_name_that_becomes_too_long() -> None:
    masks = {"é€" * 30 + "#" * 60: drawn("1"), "ok": drawn("1")}
    paint(masks)
    saved_run(masks)
    report = export("m", "yolo", "out")
    assert (report.images, report.failed) == (1, 1)
    assert "its name would be above 250 bytes long in the export; shorten it" in report.problems[0]
    assert export("m", "huggingface", "hf").images == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_a_name_that_is_no_utf8() -> None:
    masks = {os.fsdecode(b"\xff"): drawn("1"), "ok": drawn("1")}
    paint(masks)
    saved_run(masks)
    for to in ("coco", "huggingface"):
        (problem,) = export("m", to, to).problems
        assert "its name is not UTF-8, which JSON must be; rename the image" in problem
    for to in ("voc", "yolo"):
        assert export("m", to, to).images == 2
    assert Path("voc/SegmentationClass/%FF.png").is_file()


def test_folders_named_like_files() -> None:
    masks = {"x": drawn("1"), "x.jpg/y": drawn("2"), "x.txt/y": drawn("3")}
    paint(masks)
    saved_run(masks)
    for to in TARGETS:
        assert export("m", to, to).images == 3
    assert Path("voc/ImageSets/Segmentation/train.txt").read_text().split() == ["x", "x%2Ejpg/y", "x%2Etxt/y"]


def test_a_picture_named_like_a_folder() -> None:
    """Which only a .tar can hold."""
    masks = {"x": drawn("12 x."), "x.png/y": drawn("11 .2"), "z": drawn("1")}
    with tarfile.open("p.tar", "w") as tar:
        for name, mask in masks.items():
            Image.new("RGB", mask.shape[::-1]).save("one.png")
            tar.add("one.png", f"{name}.png")
    saved_run(masks, source="p.tar", format="tar")
    report = export("m", "coco", "out")
    assert (report.images, report.problems) == (
        2,
        ("'x.png/y': its folder 'x.png' is the name of a picture, too; rename one",),
    )
    for to in TARGETS[1:]:
        assert export("m", to, to).images == 3


def test_a_named_pipe_is_not_waited_for(two: dict[str, np.ndarray]) -> None:
    Path("photos/a.png").unlink()
    os.mkfifo("photos/a.png")
    for how in ("none", "copy"):
        assert export("m", "coco", how, images=how).problems == ("photos/a.png: not a file",)  # type: ignore[arg-type]


def test_a_picture_too_long_for_a_jpeg(capfd: pytest.CaptureFixture[str]) -> None:
    """It is not counted as converted; libjpeg, which prints, is not asked."""
    masks = {"a": np.ones((1, 65_500), np.uint8), "b": np.ones((65_501, 1), np.uint8)}
    Path("photos").mkdir()
    for name, mask in masks.items():
        Image.new("RGB", mask.shape[::-1]).save(f"photos/{name}.png")
    saved_run(masks)
    report = export("m", "voc", "out")
    assert report.problems == ("photos/b.png: 65501 x 1 pixels; a JPEG has at most 65500 on a side",)
    assert (report.images, report.converted) == (1, 1) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mixed", [False, True])
def test_a_run_decided_again_meanwhile(two: dict[str, np.ndarray], mixed: bool) -> None:
    def changed(items: Iterable[Row], total: int, unit: str) -> Iterator[Row]:
        yield from items
        settings = json.loads(Path("m/run.json").read_text())["settings"]
        if mixed:
            overwrite_manifest("m", settings, {"mixed": "some are of other settings"})
        else:
            overwrite_manifest("m", {**settings, "config": {}}, {})

    with pytest.raises(ValueError, match=r"m: its masks were decided again meanwhile; start again"):
        export("m", "voc", "out", progress=changed)
    assert not Path("out").exists() and leftovers() == []


def test_masks_without_maps_that_finalize_left_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    draw(3)
    Path("photos/bad.png").write_bytes(b"no picture")
    assert runner(capsys)("--save-patch-cams", "--max-failure-rate", "0.5")[0] == 0
    assert main(["finalize", "m", "--refine", "none"]) == 0
    assert export("m", "voc", "all").notes == ()
    Path("m/cams/001.npz").unlink()
    assert main(["finalize", "m", "--refine", "none", "--ignore-below", "0.5"]) == 0
    report = export("m", "voc", "out")
    assert (report.images, report.notes) == (
        2,
        ("1 mask(s) of other settings are left out: `clipes finalize` had no maps to decide them again",),
    )


def test_a_jpeg_of_many_pictures_is_a_jpeg() -> None:
    Path("photos").mkdir()
    first, second = Image.new("RGB", (2, 1), "red"), Image.new("RGB", (2, 1), "blue")
    first.save("photos/a.jpg", format="MPO", save_all=True, append_images=[second])
    saved_run({"a": drawn("12")})
    assert export("m", "voc", "out").converted == 0
    assert Path("out/JPEGImages/a.jpg").read_bytes() == Path("photos/a.jpg").read_bytes()


# --- where it is written


def test_neither_into_the_run_nor_into_the_source(two: dict[str, np.ndarray]) -> None:
    before = files(".")
    Path("to-run").symlink_to("m")
    Path("to-photos").symlink_to("photos")
    for out in ("m", "m/out", "to-run/out", "to-run"):
        with pytest.raises(ValueError, match=r"is in the run's folder \(m\); choose another folder for the export"):
            export("m", "voc", out, overwrite=True)
    for out in ("photos", "photos/out", "to-photos/out", "to-photos/a/../b"):
        with pytest.raises(ValueError, match=r"would be among the files of .*photos; choose another"):
            export("m", "voc", out)
    with pytest.raises(ValueError, match=r"would be among the files of photos/\*/\*"):
        export("m", "voc", "photos/out", source="photos/*/*")
    assert files(".") == before and leftovers() == []


@pytest.mark.parametrize("source", ["voc:new/data:b", "coco:new/data", "new/data"])
def test_nor_in_the_place_of_either(source: str, two: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r" holds m, which it would replace; choose another folder"):
        export("m", "voc", ".", source="voc:elsewhere", overwrite=True)
    Path("new/data").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save("new/data/a.png")
    with pytest.raises(ValueError, match=r"new holds new/data, which it would replace; choose another folder"):
        export("m", "voc", "new", source=source, overwrite=True)


def test_a_folder_that_is_there(two: dict[str, np.ndarray]) -> None:
    Path("mine").mkdir()
    export("m", "voc", "mine")  # an empty one will do
    with pytest.raises(
        ValueError, match=r"mine holds an earlier export; choose another folder, or replace it with --ov"
    ):
        export("m", "coco", "mine")
    first = files("mine")
    export("m", "coco", "mine", overwrite=True)
    assert "labelmap.txt" in first and "labelmap.txt" not in files("mine")
    Path("mine/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"mine holds 'notes.txt', which no export wrote; move it away, or choose"):
        export("m", "voc", "mine", overwrite=True)
    Path("theirs").mkdir()
    Path("theirs/notes.txt").write_text("theirs")
    Path("file").write_text("theirs")
    for out in ("theirs", "file"):
        with pytest.raises(ValueError, match=f"{out} exists and is no earlier export; choose another folder"):
            export("m", "voc", out, overwrite=True)
    Path("link").symlink_to("mine")
    with pytest.raises(ValueError, match="link is a link, which is not written over"):
        export("m", "voc", "link", overwrite=True)
    Path("mine/notes.txt").unlink()
    Path("mine/.clipes-export").write_text("{}")
    with pytest.raises(ValueError, match=r"mine/.clipes-export was not written by clipes: .*; choose another folder"):
        export("m", "voc", "mine", overwrite=True)
    assert leftovers() == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("to", TARGETS)
def test_stopped_half_way_nothing_is_changed(
    to: str, error: BaseException, two: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    export("m", "voc", "out")
    before = files(".")

    def fail(self: Picture, path: Path) -> None:
        if path.name in ("b", "0000001"):
            raise error

    monkeypatch.setattr(Picture, "write", fail)
    expected = 4 if isinstance(error, OSError) else 130
    assert main(["export", "m", "--to", to, "--out", "out", "--overwrite"]) == expected
    assert main(["export", "m", "--to", to, "--out", "new"]) == expected
    assert files(".") == before and leftovers() == [] and not Path("new").exists()


def test_the_earlier_export_comes_back_if_the_new_one_cannot_take_its_place(
    two: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    export("m", "voc", "out")
    before, rename = files("."), os.rename

    def fail(old: Path, new: Path) -> None:
        if Path(new).name == "out" and Path(old, "data.yaml").exists():
            raise PermissionError("no")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(PermissionError):
        export("m", "yolo", "out", overwrite=True)
    assert files(".") == before and leftovers() == []


@pytest.mark.skipif(os.name != "posix", reason="processes are asked for on POSIX only")
def test_what_a_killed_export_left_is_removed(two: dict[str, np.ndarray]) -> None:
    code = (
        "import os, signal; from clipes.export import export; from clipes.export.pictures import Picture\n"
        "Picture.write = lambda *given: os.kill(os.getpid(), signal.SIGKILL)\nexport('m', 'voc', 'out')"
    )
    killed = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(leftovers()) == 1 and not Path("out").exists()
    others = (f".clipes-{MACHINE_ID}-{os.getpid()}-{'0' * 16}.tmp", f".clipes-{'0' * 8}-99999999-{'0' * 16}.tmp")
    for name in others:
        Path(name).mkdir()
    export("m", "voc", "out")
    assert sorted(leftovers()) == sorted(others)


def test_the_folder_beside_the_run(two: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "m/", "--to", "voc"]) == 0
    assert Path("m-voc/labelmap.txt").is_file()
    assert capsys.readouterr().out == f"2 image(s) exported to {Path('m-voc').absolute()}\n"
    export("m", "yolo")
    assert Path("m-yolo/data.yaml").is_file() and leftovers() == []


# --- wrong use


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"to": "pascal"}, r"to is 'pascal'; it is one of coco, voc, yolo, huggingface"),
        ({"images": "move"}, r"images is 'move'; it is one of copy, link, none"),
        ({"split": "../x"}, r"the split is '../x'; it names files and folders: letters, digits"),
        ({"split": ".x"}, r"the split is '.x'; it names"),
        ({"to": "coco", "split": "annotations"}, r"the split is 'annotations', where COCO's JSON is, not its pictures"),
        ({"to": "huggingface", "split": "a-b"}, r"the split is 'a-b'; Hugging Face takes letters, digits, _"),
        ({"to": "huggingface", "split": "a."}, r"the split is 'a.'; Hugging Face takes letters, digits, _"),
        ({"polygons": True}, r"polygons, instances and regions are for COCO; leave them out of an export to voc"),
        ({"instances": True}, r"polygons, instances and regions are for COCO"),
        ({"regions": "photos"}, r"polygons, instances and regions are for COCO"),
        ({"to": "coco", "regions": "nowhere"}, r"no such folder or file of regions: nowhere"),
        ({"source": "nowhere"}, r"no such image, folder or list: nowhere"),
    ],
)
def test_wrong_arguments(given: dict[str, object], words: str, two: dict[str, np.ndarray]) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        export("m", **{"to": "voc", "out": "out", **given})  # type: ignore[arg-type]
    assert not Path("out").exists()


def test_a_run_that_does_not_say_where_its_images_are(two: dict[str, np.ndarray]) -> None:
    saved_run(two, source="", folder="n")
    with pytest.raises(ValueError, match=r"n: its record does not say where the images are; say it \(--source\)"):
        export("n", "voc", "out")
    assert export("n", "voc", "out", source="photos").images == 2
    with pytest.raises(
        FileNotFoundError, match=r"photos has no run.json; give the --out folder of a `clipes generate`"
    ):
        export("photos", "voc", "other")


def test_what_the_command_says_of_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (2, 1)).save("photos/a.jpg", exif=exif)
    Image.new("RGB", (2, 1)).save("photos/b.bmp")
    saved_run({"a": drawn("1x"), "b": drawn("xx")})
    assert main(["export", "m", "--to", "voc", "--out", "out"]) == 0
    told = capsys.readouterr().err
    assert "3 of 4 pixels (75.0%) are ignored: not decided" in told
    assert "1 picture(s) were upright only by their EXIF; they are saved upright" in told
    assert "1 picture(s) were converted to a format that is read there" in told
    assert main(["export", "m", "--to", "voc", "--out", "none", "--images", "none"]) == 0
    told = capsys.readouterr().err
    assert "1 picture(s) are upright only by their EXIF, as their masks are; readers must heed it" in told
    assert "converted" not in told


# --- names


def test_names_are_given_back_and_never_meet() -> None:
    ids = [
        "a",
        "A",
        "a b",
        "a%20b",
        "a%2520b",
        "sub/x",
        "sub%2Fx",
        ".x/.y",
        "x/..y",
        "\udcff",
        "a\u2028",
        "~",
        "日本é_-.1",
        *NAMES,
    ]
    found = [file_name(one) for one in ids]
    assert len(set(found)) == len(ids)
    assert [unquote(name, errors="surrogateescape") for name in found] == ids
    for name in found:
        assert (
            name.split() == [name]
            and "#" not in name
            and '"' not in name
            and not name.startswith(".")
            and "/." not in name
        )


def test_names_of_labels_are_fields() -> None:
    for name in (*NAMES, " x ", "a\nb", "#a", "a\tb", "\x7f", "%3A"):
        found = label_name(name)
        assert unquote(found) == name and found.strip() == found and not set(found) & set(":#\n\t")
