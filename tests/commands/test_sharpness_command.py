"""``clipes sharpness``: what is typed, written and said, and that what it applies is what `clipes generate` reads."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from generating import TOY
from PIL import Image

from clipes.cli import main
from clipes.commands import sharpness as command
from clipes.commands import terminal
from clipes.io.masks import write_mask
from clipes.scenes import THINGS, draw_scenes
from clipes.vocabulary import load_vocabulary

pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")

TITLES = ["rank", "template", "sharpness", "95 % of the draws", "macro", "mIoU"]
FOUR = ("--templates", "clip-es", "--templates", "plain", "--templates", "a {} drawn.", "--templates", "the {}.")
HOSTILE = ["=cmd|' /C calc'!A0 {}", "+1 {}", "-{}", "@sum({})", 'a, "quoted" {}', "\u202eturned {}"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen scenes with truth and labels.csv."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "photos").mkdir()
    rows = ["image,labels"]
    for index, scene in enumerate(draw_scenes(12, 7, (48, 64))):
        Image.fromarray(scene.image).save(folder / "photos" / f"{index:02}.png")
        write_mask(folder / "truth" / f"{index:02}.png", scene.mask, 16)
        rows.append(f"{index:02}.png,{';'.join(scene.labels)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def data(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil, where the command is run."""
    folder = shutil.copytree(drawn, tmp_path / "data")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """Run `clipes sharpness photos --labels labels.csv --out o` with more; exit code, output, errors."""

    def run(*more: object) -> tuple[int, str, str]:
        capsys.readouterr()
        given = ["sharpness", "photos", "--labels", "labels.csv", "--out", "o", *map(str, more)]
        try:
            code = main(given)
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]
        out, err = capsys.readouterr()
        return code, out, err.replace(TOY, "")

    return run


def files(folder: str = "o") -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def rows(name: str = "o/sharpness.csv") -> list[dict[str, str]]:
    with open(name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def record() -> dict:
    return json.loads(Path("o/sharpness.json").read_text())


def templates() -> list[str]:
    return [row["template"] for row in record()["rows"]]


def test_from_scenes_to_a_class_file_that_generate_reads(said):
    code, out, err = said(*FOUR, "--truth", "truth", "--apply", "best.json")
    assert (code, err) == (0, "")
    assert files() == {"sharpness.csv", "sharpness.json", "sharpness.png", "miou.png", "partial"}
    found = record()
    assert sorted(templates()) == sorted(["a clean origami {}.", "a photo of a {}.", "a {} drawn.", "the {}."])
    assert [row["sharpness"] for row in found["rows"]] == sorted(row["sharpness"] for row in found["rows"])
    table = [{**row, "rank": str(row["rank"])} for row in found["rows"]]
    for written, row in zip(rows(), table, strict=True):
        assert written == {key: str(value) for key, value in row.items()}
    best = found["rows"][0]["template"]
    applied = load_vocabulary("best.json")
    assert applied == replace(load_vocabulary("scenes"), name="best", templates=(best,))
    assert f"best.json holds the classes with '{best}'" in out
    assert main(["generate", "photos", "--labels", "labels.csv", "--classes", "best.json", "--out", "applied"]) == 0
    assert main(["generate", "photos", "--labels", "labels.csv", "--templates", best, "--out", "typed"]) == 0
    masks = sorted(path.name for path in Path("applied").glob("*.png"))
    assert len(masks) == 12
    for name in masks:
        assert Path("applied", name).read_bytes() == Path("typed", name).read_bytes()


def test_what_is_said(said):
    code, out, _ = said(*FOUR, "--truth", "truth")
    lines = out.splitlines()
    assert code == 0 and re.split(" {2,}", lines[0].strip()) == TITLES
    first = record()["rows"][0]
    assert lines[1].split()[0] == "1" and first["template"] in lines[1] and f"{first['sharpness']:.4f}" in lines[1]
    assert f"[{first['low']:.4f}, {first['high']:.4f}]" in lines[1] and lines[1].endswith(f"{first['miou']:.3f}")
    for row, line in zip(record()["rows"], lines[1:5], strict=True):
        assert ("~" in line) == (row["template"] in record()["rivals"])
    labels = [len(row["labels"].split(";")) for row in rows("labels.csv")]
    several, single = sum(n > 1 for n in labels), labels.count(1)
    assert f"sharpness over {several} images with two labels or more; left out: {single} with one, 0 with none" in out
    assert "mIoU over 12 images, masks without refinement by colours; 0 without truth" in out
    assert "rank correlation" in out and "12 images encoded; all rows are in o/sharpness.csv" in out


def test_the_record_tells_what_was_done(said):
    said(*FOUR)
    found = record()
    labels = [len(row["labels"].split(";")) for row in rows("labels.csv")]
    assert found["source"].endswith("photos") and found["model"] == "tiny" and found["dtype"] == "float32"
    assert found["images"] == found["encoded"] == sum(n > 1 for n in labels)
    assert found["single_label"] == labels.count(1) and found["truth"] is None and found["correlation"] is None
    assert len(found["weights"]) == 64 and found["class_names"] == list(THINGS) and found["config"]["refine"] is None
    assert found["versions"].keys() == {"clipes", "python", "torch", "open_clip_torch", "numpy", "scipy", "pillow"}
    assert "miou" not in found["rows"][0] and not Path("o/miou.png").exists()


def test_the_default_is_imagenets_templates_the_papers_and_the_classes_own(said):
    Path("own.json").write_text(
        json.dumps({"classes": list(THINGS), "templates": ["our own {}.", "A clean origami {}."]})
    )
    code, out, _ = said("--classes", "own.json", "--background", "scenes")
    assert code == 0 and len(templates()) == 83
    assert "our own {}." in templates() and "a rendering of a weird {}." in templates()
    assert "A clean origami {}." in templates() and "a clean origami {}." not in templates(), "the same to a tokenizer"
    shown = [line for line in out.splitlines() if "{}" in line]
    assert 15 <= len(shown) <= 17 and out.count("  ...\n") in (1, 2, 3)
    for template in (*templates()[:10], *templates()[-5:], "a rendering of a weird {}."):
        assert any(f" {template[:45]}" in line for line in shown)


def test_a_second_run_encodes_nothing_and_a_stale_picture_goes(said):
    assert said(*FOUR, "--truth", "truth")[0] == 0
    first = record()["rows"]
    code, out, _ = said(*FOUR)
    assert code == 0 and "\n0 images encoded" in out
    assert [row["sharpness"] for row in record()["rows"]] == [row["sharpness"] for row in first]
    assert not Path("o/miou.png").exists(), "it was of the run with truth"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.txt", "# ours\n\na {}.\nthe {}.\r\n"),
        ("own.json", '["a {}.", "the {}."]'),
        ("own.TXT", "\ufeffa {}.\nthe {}."),
        ("a {} file.txt", "a {}.\nthe {}."),
    ],
)
def test_templates_from_a_file(said, name, content):
    Path(name).write_text(content, encoding="utf-8")
    assert said("--templates", name, "--templates", "a {}.")[0] == 0
    assert sorted(templates()) == ["a {}.", "the {}."]


def test_hostile_templates_are_escaped_where_it_matters(said):
    Path("hostile.json").write_text(json.dumps(HOSTILE))
    code, out, _ = said("--templates", "hostile.json", "--apply", "best.json")
    assert code == 0 and "\u202e" not in out and "\\u202eturned {}" in out
    assert sorted(templates()) == sorted(HOSTILE), "JSON holds them as they are"
    cells = {row["template"] for row in rows()}
    assert cells == {f"'{t}" if t[0] in "=+-@" else t for t in HOSTILE}
    assert load_vocabulary("best.json").templates == (templates()[0],)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--templates", "imagnet"),
            r"unknown template set 'imagnet'; did you mean 'imagenet'\?.*or give a template such as",
        ),
        (
            ("--templates", "none.txt"),
            "no such file: none.txt; give a .json file, or a text file with one entry a line",
        ),
        (("--templates", "a photo"), "unknown template set 'a photo'"),
        (("--templates", "a {} and a {}"), "needs exactly one {}"),
        (("--templates", "a {x} {}"), "needs exactly one {}"),
        (("--templates", "bare.txt"), "template 'a photo' needs exactly one {}"),
        (("--templates", "twice.txt"), "twice.txt: templates: 'A {}' repeats 'a {}'; remove one"),
        (("--templates", "empty.txt"), "empty.txt: templates: the list is empty"),
        (("--templates", "broken.json"), "broken.json: bad JSON"),
        (("--templates", "object.json"), "object.json: templates: expected a list"),
        (("--templates", "control.json"), "control.json: .*holds a control character"),
        (("--truth", "none"), "no such folder of truth masks: none"),
        (("--truth", "labels.csv"), "labels.csv is a file; give the folder of the truth masks"),
        (("--truth", "other"), "no truth mask has the name of an image"),
        (("--labels", "train"), "none of 12 images has two labels or more"),
        (("--labels", "train,catt"), "unknown class 'catt' in scenes; did you mean 'cat'"),
        (("--apply", "best.txt"), "a class file is JSON, not 'best.txt'; end its name in .json"),
        (("--apply", "folder.json"), "folder.json is no ordinary file; choose another name"),
        (
            ("--apply", "labels.json"),
            "labels.json exists and is not a class file that clipes wrote",
        ),
        (("--out", "labels.csv"), "labels.csv is not a folder; give one for the results"),
        (("--apply", "list.json"), "list.json exists and is not a class file that clipes wrote; choose another name"),
        (("--apply", "link.json"), "link.json is no ordinary file; choose another name"),
        (("--apply", "o/sharpness.json"), "--apply o/sharpness.json would replace the results"),
        (("--out", "labels.csv/deep"), "Not a directory"),
        (("--out", "photos/o"), "folder photos/o lies in photos, so that the next run would take the plots for its"),
        (("--out", "truth", "--truth", "truth"), "the output folder truth lies in truth"),
        (("--crf-iterations", "5"), "--crf-iterations needs --refine crf; it is none"),
        (("--model", "ViT-B-16"), "no classes given for ViT-B-16"),
        (("--apply", ""), "it is empty"),
    ],
)
def test_wrong_use_is_told_before_the_model_is_loaded(said, never_loaded, arguments, message):
    Path("bare.txt").write_text("a photo\n")
    Path("twice.txt").write_text("a {}\nA {}\n")
    Path("empty.txt").write_text("# nothing\n")
    Path("broken.json").write_text("[")
    Path("object.json").write_text('{"a": 1}')
    Path("control.json").write_text(json.dumps(["\x1b[31m {}"]))
    Path("labels.json").write_text("[]")
    Path("list.json").write_text('["a {}", "the {}"]')
    Path("own.json").write_text('{"classes": ["cat"]}')
    Path("link.json").symlink_to("own.json")
    Path("folder.json").mkdir()
    Path("other").mkdir()
    code, out, err = said(*arguments)
    assert code == 2 and out == ""
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)
    assert not Path("o").exists()


def test_an_existing_class_file_may_be_replaced(said):
    load_vocabulary("scenes").save("best.json")
    assert said("--templates", "a {}.", "--apply", "best.json", "--classes", "best.json")[0] == 0
    assert load_vocabulary("best.json").templates == ("a {}.",)


def test_an_image_that_cannot_be_read_gives_its_exit_code(said):
    several = next(row["image"] for row in rows("labels.csv") if ";" in row["labels"])
    Path("photos", several).write_bytes(b"no picture")
    code, _, err = said(*FOUR)
    assert code == 3 and err.startswith(f"photos/{several}: ") and err.count("\n") == 1
    assert record()["failed"] == [{"name": several.removesuffix(".png"), "reason": err.strip()}]


def test_many_failures_are_told_in_short(said, monkeypatch):
    monkeypatch.setattr(terminal, "FAILURES_SHOWN", 2)
    several = [row["image"] for row in rows("labels.csv") if ";" in row["labels"]]
    for name in several[1:]:
        Path("photos", name).write_bytes(b"")
    code, _, err = said("--templates", "a {}.")
    assert code == 3 and err.splitlines()[2:] == [f"and {len(several) - 3} more failed"]


def test_without_matplotlib_the_tables_are_written_and_one_line_says_it(said, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = said(*FOUR, "--truth", "truth")
    assert code == 0 and "rank" in out
    assert err.startswith("no plots: plots need matplotlib") and err.count("\n") == 1
    assert 'pip install matplotlib, or in a clone of clipes pip install ".[plot]"' in err and files() == {
        "sharpness.csv",
        "sharpness.json",
        "partial",
    }


def test_refinement_is_off_unless_asked_for(said):
    assert said(*FOUR[:2], "--truth", "truth", "--refine", "par", "--par-iterations", "2")[0] == 0
    assert record()["refinement"] == "par" and record()["config"]["refine"]["par"]["iterations"] == 2
    said(*FOUR[:2], "--truth", "truth")
    assert record()["refinement"] == "none"


def test_a_stopped_run_goes_on(said, monkeypatch):
    def stopping(items, total, unit):
        for index, item in enumerate(items):
            if index == 3:
                raise KeyboardInterrupt
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(command, "progress_bar", stopping)
        code, _, err = said(*FOUR)
    assert code == 130 and "stopped; the files written so far are whole" in err and files() == {"partial"}
    code, out, _ = said(*FOUR)
    several = sum(";" in row["labels"] for row in rows("labels.csv"))
    assert code == 0 and f"\n{several - 4} images encoded" in out


def test_the_batch_size_is_passed_on(said, monkeypatch):
    from clipes.prompting import analysis

    given, analyse = [], analysis.analyse_templates
    monkeypatch.setattr(
        analysis, "analyse_templates", lambda *a, **k: (given.append(k["batch_size"]), analyse(*a, **k))[1]
    )
    assert said("--templates", "a {}.", "--batch-size", 4)[0] == 0 and given == [4]


def test_very_small_figures_are_shown_with_their_digits(said, monkeypatch, capsys):
    from clipes.prompting.analysis import TemplateAnalysis

    said(*FOUR)
    table = record()["rows"]
    monkeypatch.setattr(
        TemplateAnalysis, "table", lambda self: [{**row, "sharpness": row["sharpness"] / 1e6} for row in table]
    )
    _, out, _ = said(*FOUR)
    assert f"{table[0]['sharpness'] / 1e6:.2e}" in out
