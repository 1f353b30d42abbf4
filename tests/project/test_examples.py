"""The examples run as their own first lines say."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipes.clip.text import encode_sentences
from clipes.clip.weights import load_clip
from clipes.commands import generate
from clipes.commands.demo_run import write_scenes
from clipes.commands.parser import Parser
from clipes.scenes import draw_scene, draw_scenes

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCS = EXAMPLES.parent / "docs"


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs an example as a program, in this process; gives what it prints."""

    def run(name: str, *arguments: str | Path) -> str:
        path = str(EXAMPLES / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run


def test_one_image(tmp_path):
    """In a process of its own, as a reader runs it."""
    command = [sys.executable, str(EXAMPLES / "one_image.py"), "--out", str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "of the picture, confidence" in output
    assert Image.open(tmp_path / "mask.png").mode == "P"
    assert Image.open(tmp_path / "overlay.png").size == (336, 336)  # three times the scene


def test_many_images(run):
    assert "mean IoU of 3 scenes: " in run("many_images", "--count", "3")


def test_walkthrough(run, tmp_path):
    """docs/walkthrough.md shows the files that it writes, and quotes what it prints."""
    page = (DOCS / "walkthrough.md").read_text(encoding="utf-8")
    command, quoted = re.search(r"^\$ python (.*?)\n(.*?)\n```", page, re.DOTALL | re.MULTILINE).groups()
    assert command == "examples/walkthrough.py --preset clip-es-scenes --out docs/walkthrough"
    printed = run("walkthrough", "--preset", "clip-es-scenes", "--out", tmp_path)
    printed = printed.replace(str(tmp_path), "docs/walkthrough").splitlines()
    number = re.compile(r"\d+(?:\.\d+)?")
    assert [number.sub("#", line) for line in printed] == [number.sub("#", line) for line in quoted.splitlines()]
    for found, expected in zip(number.findall("\n".join(printed)), number.findall(quoted), strict=True):
        allowed = max(1.5 * 10.0 ** -len(expected.partition(".")[2]), 1e-2 * float(expected))
        assert abs(float(found) - float(expected)) < allowed, "another processor, torch or Pillow may round otherwise"

    prose = page.replace(quoted, "").partition("## 1.")[2]
    measured = set(re.findall(r"\d+\.\d+", prose)) - {"0.4", "0.7", "0.6", "0.95"}  # settings' values
    assert measured <= set(re.findall(r"\d+\.\d+", quoted))

    shown = re.findall(r"!\[[^\]]+\]\(walkthrough/([^)]+)\)", page)
    assert shown == sorted(shown) == sorted(path.name for path in (DOCS / "walkthrough").iterdir())
    assert shown == sorted(path.name for path in tmp_path.iterdir())
    for name in shown:
        assert (DOCS / "walkthrough" / name).stat().st_size <= 200_000, name


def test_a_walk_with_a_picture_of_ones_own(run, tmp_path):
    Image.fromarray(draw_scene(3_104_007, (40, 64)).image).save(tmp_path / "a.png")
    chosen = (
        "--label",
        "fish",
        "--patch",
        "1",
        "2",
        "--affinity",
        "none",
        "--refine",
        "none",
        "--background",
        "sky,water",
    )
    output = run("walkthrough", tmp_path / "a.png", "--labels", "cat,fish", *chosen, "--out", tmp_path / "walk")
    assert "patch 1,2 of fish" in output and "truth" not in output and "mask after" not in output
    assert sorted(path.name for path in (tmp_path / "walk").iterdir()) == [
        "1-patches.png",
        "2-words.png",
        "3-initial-maps.png",
        "7-scores.png",
        "9-masks.png",
    ]


@pytest.mark.parametrize("given", [["a.png"], ["--labels", "cat"], ["a.png", "--labels", "cat", "--patch", "3"]])
def test_a_walk_says_what_is_wrong_with_its_arguments(run, capsys, given):
    with pytest.raises(SystemExit, match="2"):
        run("walkthrough", *given)
    wrong = "--patch: expected 2 arguments" if "3" in given else "an image needs its --labels"
    assert wrong in capsys.readouterr().err


def test_settings_that_the_walkthrough_names_are_there():
    page = (DOCS / "walkthrough.md").read_text(encoding="utf-8")
    parser = Parser()
    generate.add(parser.add_subparsers())
    (commands,) = (action for action in parser._actions if action.choices)
    known = {option for action in commands.choices["generate"]._actions for option in action.option_strings}
    assert set(re.findall(r"--[a-z][a-z-]+", page)) - known == {"--label", "--patch"}


def test_readme_picture(run, tmp_path):
    write_scenes(tmp_path, 2)
    run("readme_picture", tmp_path, "--scenes", "0", "1", "--out", tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (5 * 176 - 8, 30 + 2 * 176 - 8)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium (apt install chromium)")
def test_report_picture(run, tmp_path):
    pytest.importorskip("playwright", reason="playwright is not installed")
    run("report_picture", "--scenes", "3", "--out", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width == 1400 and 1400 < picture.height < 1500
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100, "there are pictures in it"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium (apt install chromium)")
def test_tag_pictures(run, tmp_path):
    pytest.importorskip("playwright", reason="playwright is not installed")
    run("tag_pictures", "--scenes", "6", "--out", tmp_path)
    for name in ("tags-page.jpg", "doubts-page.jpg"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width == 1400 and picture.height > 900
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 100, "there are pictures in it"


@pytest.mark.slow
@pytest.mark.parametrize("close", ["0", "1"])
def test_training_runs_stops_and_goes_on(run, tmp_path, close):
    settings = ("--work", tmp_path, "--scenes", "200", "--batch", "8", "--check", "16", "--close", close)
    run("train_tiny", *settings, "--images", "16")
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    output = run("train_tiny", *settings, "--images", "32")
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (first["seen"], second["seen"]) == (16, 32)
    assert output.startswith("      32 pictures"), "it resumed and did not restart"
    moved = (first["model"]["visual.conv1.weight"] - second["model"]["visual.conv1.weight"]).abs().max()
    assert 0 < moved < 0.1
    features = encode_sentences(load_clip(f"local-dir:{tmp_path / 'latest'}").text, ["a boat", "a fish"])
    assert features.isfinite().all()


@pytest.mark.slow
def test_a_student_is_trained_and_judged(run):
    output = run("train_student", "--scenes", "8", "--test", "2", "--steps", "2", "--threshold", "0")
    assert output.startswith("mean IoU of 2 unseen scenes\nmasks made with their labels: 0.")
    assert "student, without labels:      0." in output


def test_a_student_learns_from_confident_pixels_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_student as example

    monkeypatch.setattr(example, "VIEW", 32)
    images, truth = example.tensors(list(draw_scenes(4, example.TEST_SEED)))
    unsure = torch.where(truth > 0, 0.9, 1.0)
    views = [example.view(truth[:1], truth[0], unsure[0]) for _ in range(20)]
    assert all(torch.equal(image[0], mask) and mask.shape == (32, 32) for image, mask, _ in views), "cut alike"

    def things(threshold: float) -> torch.Tensor:
        """The probability of any thing at each pixel."""
        student = example.train(images, truth, unsure, threshold, steps=50, seed=1)
        with torch.inference_mode():
            return 1 - student(images.float()).softmax(1)[:, 0]

    taught, untaught = things(0.9), things(0.95)
    assert taught[truth > 0].mean() > taught[truth == 0].mean() + 0.2
    assert untaught[truth > 0].mean() < 0.05, "it has seen the background alone"


def test_examples_are_short():
    """All but the trainings, SAM's rounds and the pictures of tags, which are programs."""
    longer = {"train_tiny.py": 340, "train_student.py": 130, "sam_refine.py": 120, "tag_pictures.py": 80}
    for file in EXAMPLES.glob("*.py"):
        most = longer.get(file.name, 60)
        assert len(file.read_text().splitlines()) <= most, file.name
