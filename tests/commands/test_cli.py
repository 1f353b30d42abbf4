"""clipes.cli: what a user types, what is written, what is said, and the exit code."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
from generating import TOY, CliRun, CommandLine, files, mask_ids, masks
from models import build, clip_config, whole_state
from open_clip import factory, pretrained
from PIL import Image
from safetensors.torch import save_file
from towers import few_blocks

import clipes
from clipes import cli
from clipes.clip.weights import CLIP, load_clip
from clipes.commands.flags import add_config_flags, read_config
from clipes.config import (
    CHOICES,
    MEMBERS,
    SHARED,
    STAGES,
    AgreementConfig,
    ArgmaxConfig,
    AttentionAffinityConfig,
    ClassAttentionConfig,
    ConfidenceConfig,
    CrfConfig,
    DenseConfig,
    GradCamConfig,
    PamrConfig,
    ParConfig,
    PatchTextConfig,
    TileConfig,
    choice_name,
)
from clipes.datasets import find_samples
from clipes.generator import MaskGenerator, load
from clipes.ids import voc_palette
from clipes.prompting.background import suggest_background
from clipes.scenes import THINGS
from clipes.vocabulary import Vocabulary, load_vocabulary, stuff_words

COMMAND = [sys.executable, "-m", "clipes.cli"]


@pytest.fixture(autouse=True)
def _in_the_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("COLUMNS", "200")  # argparse breaks lines within words


@pytest.fixture
def said(cli: CommandLine) -> CommandLine:
    """Runs one command; its speed is left out of what it prints."""

    def run(*arguments: object) -> CliRun:
        code, out, err = cli(*arguments)
        return CliRun(code, re.sub(r"; \S+ images/s", "", out), err)

    return run


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the command line loads and makes a generator of; the bundled model and its vocabulary are used instead."""
    calls: list[dict[str, object]] = []
    bundled = load_clip("tiny", device="cpu")

    def instead(model: str, pretrained: str | None, **settings: object) -> CLIP:
        calls.append({"model": model, "pretrained": pretrained, **settings})
        return bundled

    def generator(clip: CLIP, vocabulary: Vocabulary, config: clipes.Config) -> MaskGenerator:
        calls[-1] |= {"vocabulary": vocabulary, "config": config}
        return MaskGenerator(clip, load_vocabulary("scenes"), config)

    monkeypatch.setattr("clipes.clip.weights.load_clip", instead)
    monkeypatch.setattr("clipes.runs.execute.MaskGenerator", generator)
    return calls


# --- generate: sources, labels, masks


def test_a_folder_with_a_table(said) -> None:
    code, out, err = said("generate", "photos", "--labels", "labels.csv", "--out", "m")
    assert (code, out, err) == (0, "3 of 3 masks written to m\n", "")
    assert files("m").keys() == {"a.png", "b.png", "sub/c.png", "classes.json", "run.json"}
    for row in Path("labels.csv").read_text().splitlines()[1:]:
        name, labels = row.split(",")
        mask = f"m/{Path(name).with_suffix('.png')}"
        with Image.open(f"photos/{name}") as image, Image.open(mask) as drawn:
            assert drawn.size == image.size and drawn.mode == "P"
            assert drawn.getpalette() == voc_palette().ravel().tolist()
        assert mask_ids(mask) <= {0, *(THINGS.index(label) + 1 for label in labels.split(";"))}
    names = json.loads(Path("m/classes.json").read_text())
    assert names == {"0": "background", **{str(i): name for i, name in enumerate(THINGS, 1)}}


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("photos/a.jpg", {"a.png"}),
        ("photos/*.*", {"a.png", "b.png"}),
        ("photos/**/*.jpg", {"a.png", "sub/c.png"}),
        ("list.txt", {"photos/b.png", "photos/sub/c.png"}),
    ],
)
def test_sources(said, source: str, written: set[str]) -> None:
    Path("list.txt").write_text("# two\nphotos/b.png\n\nphotos/sub/c.jpg\n")
    assert said("generate", source, "--labels", "labels.csv", "--out", "m")[0] == 0
    assert files("m").keys() == {"classes.json", "run.json", *written}


def test_labels_of_every_kind(said) -> None:
    rows = [row.split(",") for row in Path("labels.csv").read_text().splitlines()[1:]]
    lines = [json.dumps({"image": image, "labels": names.split(";")}) for image, names in rows]
    Path("labels.jsonl").write_text("\n".join(lines))
    for number, labels in enumerate(["labels.csv", "labels.jsonl", "cat,tree"]):
        assert said("generate", "photos", "--labels", labels, "--out", f"m{number}")[0] == 0
    assert masks("m0") == masks("m1") and masks("m2").keys() == masks("m0").keys()
    assert all(mask_ids(f"m2/{name}") <= {0, 7, 15} for name in masks("m2"))


def test_all_kinds_of_labels_give_the_same_masks(said) -> None:
    Path("one.csv").write_text("image,labels\na.jpg,cat;tree\n")
    Path("one.jsonl").write_text('{"image": "a.jpg", "labels": ["cat", "tree"]}\n')
    for number, labels in enumerate(["one.csv", "one.jsonl", "cat,tree", " cat , tree,cat"]):
        assert said("generate", "photos/a.jpg", "--labels", labels, "--out", f"m{number}")[0] == 0
    masks = {Path(f"m{number}/a.png").read_bytes() for number in range(4)}
    assert len(masks) == 1


def test_a_name_that_happens_to_be_a_file_is_a_name(said) -> None:
    Path("cat").touch()
    assert said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m")[0] == 0


def test_masks_do_not_depend_on_the_batch_size(said) -> None:
    for size in (1, 3):
        arguments = ("--labels", "labels.csv", "--out", f"m{size}", "--batch-size", size)
        assert said("generate", "photos", *arguments)[0] == 0
    for name in ("a.png", "b.png", "sub/c.png"):
        assert Path("m1", name).read_bytes() == Path("m3", name).read_bytes()


def test_a_second_run_writes_the_same(said) -> None:
    said("generate", "photos", "--labels", "labels.csv", "--out", "m")
    before = {name: Path("m", name).read_bytes() for name in files("m")}
    again = said("generate", "photos", "--labels", "labels.csv", "--out", "m")
    assert again == (0, "0 of 3 masks written to m, 3 finished before\n", "")
    assert {name: Path("m", name).read_bytes() for name in files("m")} == before
    again = said("generate", "photos", "--labels", "labels.csv", "--out", "m", "--overwrite")
    assert again == (0, "3 of 3 masks written to m\n", "")
    assert masks("m") == {name: data for name, data in before.items() if name.endswith(".png")}


def test_to_begin_anew_after_a_kill(said) -> None:
    """Its last masks have no rows yet, and its record may end in the middle of one."""
    generate = ("generate", "photos", "--labels", "labels.csv", "--out", "m")
    said(*generate)
    before = masks("m")
    (record,) = Path("m/records").glob("*.jsonl")
    record.write_text(record.read_text()[:-80])
    assert said(*generate, "--overwrite", "--refine", "none") == (0, "3 of 3 masks written to m\n", "")
    assert masks("m") != before and len(list(Path("m/records").glob("*.jsonl"))) == 1
    for gone in Path("m/records").iterdir():
        gone.unlink()
    assert said(*generate, "--overwrite") == (0, "3 of 3 masks written to m\n", "")
    assert masks("m") == before


def test_an_edited_mask_is_never_replaced(said) -> None:
    generate = ("generate", "photos", "--labels", "labels.csv", "--out", "m")
    said(*generate)
    with Image.open("m/a.png") as image:
        image.copy().save("m/a.png")
    before = Path("m/a.png").read_bytes()
    code, _, err = said(*generate)
    assert code == 0 and "m/a.png was edited since the run wrote it, and is kept" in err
    code, _, err = said(*generate, "--overwrite")
    assert code == 2 and "photos/a.jpg: m/a.png exists and is no mask of an earlier run; move it away" in err
    assert Path("m/a.png").read_bytes() == before and len(masks("m")) == 3


# --- generate: failures


def test_unreadable_images_are_named_and_the_others_done(said) -> None:
    Path("photos/b.png").write_bytes(b"no picture")
    Path("photos/d.jpg").write_bytes(Path("photos/a.jpg").read_bytes()[:500])
    code, out, err = said("generate", "photos", "--labels", "cat", "--out", "m", "--batch-size", 4)
    assert code == 3
    assert out.splitlines()[0] == "2 of 4 masks written to m, 2 failed" and len(out.splitlines()) == 4
    assert [line.split(":")[0] for line in err.splitlines()] == ["photos/b.png", "photos/d.jpg"]
    assert files("m").keys() == {"a.png", "sub/c.png", "classes.json", "run.json"}


def test_nothing_written(said) -> None:
    Path("photos/a.jpg").write_bytes(b"")
    code, out, err = said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m")
    assert (code, out) == (3, "0 of 1 masks written to m, 1 failed\n")
    assert err == "photos/a.jpg: the file is empty\n"


def test_errors_of_the_method_are_named(said) -> None:
    code, _, err = said("generate", "photos", "--labels", "cat", "--background", "", "--out", "m")
    assert code == 2 and "'cat' is the only label and there is no background word" in err
    assert not Path("m").exists()


def test_many_failures_are_counted(said) -> None:
    for number in range(25):
        Path(f"photos/{number:02}.png").write_bytes(b"")
    code, out, err = said("generate", "photos", "--labels", "cat", "--out", "m")
    assert code == 3 and "3 of 28" in out
    assert len(err.splitlines()) == 21 and err.endswith("and 5 more failed\n")


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX systems only")
def test_hostile_names_stay_on_one_line(said) -> None:
    name = b"photos/new\nline\x1b[31m\xff.png"
    Path(os.fsdecode(name)).write_bytes(b"")
    code, _, err = said("generate", "photos", "--labels", "cat", "--out", "m")
    assert code == 2 and not Path("m").exists()
    assert len(err.splitlines()) == 1 and "new\\nline\\x1b[31m\\udcff" in err


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("no.jpg --labels cat", "no such image, folder or list: no.jpg"),
        ("photos --labels no.csv", "no such file: no.csv; a labels file is .csv, .tsv"),
        ("photos --labels labels.csv --classes no.json", "no class file 'no.json'"),
        ("photos --labels labels.csv --classes voc21", "unknown class set 'voc21'; did you mean 'voc12'?"),
        ("photos --labels cta", "clipes generate: unknown class 'cta' in scenes; did you mean 'cat'?"),
        ("photos --labels cat,,tree", "labels: label 2 of 3 is blank; remove it"),
        ("photos --labels bad.csv", "bad.csv, line 3: unknown class 'dgo' in scenes"),
        ("photos --labels rows.csv", "rows.csv, line 3: 3 columns where the header has 2"),
        (
            "photos --labels list.txt",
            "list.txt: a labels file is .csv, .tsv, .jsonl, .json; to give names, pass a list",
        ),
        ("photos --labels few.csv", "2 image(s) without a row in the labels file: b.png, sub/c.jpg"),
        ("empty --labels cat", "empty: no image found"),
        ("photos --labels cat --background sky,Sky", "background: 'Sky' repeats 'sky'; remove one"),
        ("photos --labels cat --background voc2", "unknown background set 'voc2'; did you mean 'voc12'?"),
        ("photos --labels cat --templates photo", "unknown template set 'photo'; choose one of clip-es,"),
        (
            "photos --labels cat --model ViT-B-16",
            "no classes given for ViT-B-16; pass --classes voc12, coco14 or",
        ),
        ("photos --labels cat --box-threshold 1.5", "box_threshold is 1.5; it must be in [0, 1)"),
        ("photos --labels cat --background-power nan", "background_power is nan; it must be above 0"),
        ("photos --labels cat --max-patches 0", "max_patches is 0; it must be at least 1"),
        ("photos --labels cat --tile 448", "'448' is neither SIZE/STRIDE, such as 448/224, nor 'none'"),
        ("photos --labels cat --tile 224/448", "tile stride is 448; it must be at most the size, 224"),
        (
            "photos --labels cat --affinity none --hops 3",
            "--hops needs --affinity attention; it is none",
        ),
        ("photos --labels cat --pool max", "argument --pool: invalid choice: 'max'"),
        ("photos --labels cat --last-blocks many", "argument --last-blocks: invalid int value: 'many'"),
        (
            "photos --labels cat --batch-size 0",
            "argument --batch-size: '0' is not a whole number of at least 1",
        ),
        ("photos --labels cat --box 0.5", "unrecognized arguments: --box 0.5"),
        ("photos --labels cat --precision fp8", "invalid choice: 'fp8'"),
        (
            "photos --labels cat --out photos/masks",
            "photos/masks lies in the source photos, so that the next run",
        ),
        (
            "photos/b.png --labels cat --out photos",
            "photos/b.png: its mask would replace it; choose another folder",
        ),
        ("photos --labels cat --out labels.csv", "labels.csv is a file; give another name, or move it away"),
    ],
)
def test_wrong_use_is_told_at_once(said, arguments: str, message: str) -> None:
    Path("empty").mkdir()
    Path("list.txt").touch()
    Path("bad.csv").write_text("image,labels\na.jpg,cat\nb.png,dgo\nc.jpg,cat\n")
    Path("rows.csv").write_text("image,labels\na.jpg,cat\nb.png,cat,tree\n")
    Path("few.csv").write_text("image,labels\na.jpg,cat\n")
    before = files(".").keys()
    given = arguments.split() + ([] if "--out" in arguments else ["--out", "m"])
    code, out, err = said("generate", *given)
    assert code == 2 and out == ""
    assert message in err
    assert "Traceback" not in err
    assert files(".").keys() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "abacus"], "unknown device 'abacus'; use 'cpu', 'cuda' or 'cuda:0'"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 is about ten times slower than fp32 on a CPU"),
        (["--model", "ViT-B-61", "--classes", "scenes"], "open_clip has no model 'ViT-B-61'; did you mean"),
        (["--model", "ViT-B-16", "--classes", "scenes"], "no weights given for ViT-B-16"),
        (["--model", "local-dir:empty", "--classes", "scenes"], "open_clip_config.json does not exist"),
        (["--pretrained", "openai"], "openai"),
    ],
)
def test_models_that_cannot_be_had(said, arguments: list[str], message: str) -> None:
    code, out, err = said("generate", "photos", "--labels", "cat", "--out", "m", *arguments)
    assert code == 2 and out == ""
    *notes, told = err.splitlines()
    assert told.startswith("clipes generate: ") and message in told and not notes[1:]
    assert not Path("m").exists()


# --- generate: interruptions


def _interrupting(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int = 2) -> None:
    """Make the ``at``-th mask fail when half of it is written."""
    written = []
    write_bytes = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        written.extend([path] if path.suffix == ".png" else [])
        if len(written) == at:
            write_bytes(path, data[: len(data) // 2])
            raise error
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", half)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device"), 4),
        (PermissionError(13, "denied"), 2),
    ],
    ids=["interrupt", "disk full", "no permission"],
)
def test_no_half_file_is_left(said, monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: int) -> None:
    _interrupting(monkeypatch, error)
    code, _, err = said("generate", "photos", "--labels", "cat", "--out", "m")
    assert code == expected and err.startswith("clipes generate: ") and len(err.splitlines()) == 1
    written = files("m").keys() - {"classes.json", "run.json"}  # two threads write, and the other's may be the second
    assert 1 <= len(written) <= 2 and all(mask_ids(f"m/{name}") <= {0, 7} for name in written)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_signals(number: int, expected: int) -> None:
    for index in range(300):
        shutil.copy("photos/b.png", f"photos/x{index:03}.png")
    run = subprocess.Popen(
        [*COMMAND, "generate", "photos", "--labels", "cat", "--out", "m"], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not Path("m/a.png").exists() and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == expected, err
    assert "Traceback" not in err and "stopping after the images in progress; a second signal stops immediately" in err
    written = files("m").keys() - {"classes.json", "run.json"}
    assert "a.png" in written and len(written) < 303
    assert all(mask_ids(f"m/{name}") <= {0, 7} for name in written)


def test_as_a_process(photos: Path) -> None:
    command = shutil.which("clipes", path=Path(sys.executable).parent) or shutil.which("clipes")
    assert command, "the entry point is not installed"
    arguments = ["generate", "photos", "--labels", "labels.csv", "--out", "m"]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "no compiled CRF" not in line]
    assert (done.returncode, done.stdout.split(";")[0], said) == (0, "3 of 3 masks written to m", [TOY.strip()])
    bad = subprocess.run([command, "generate", "x", "--labels", "y", "--out", "z"], capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "clipes generate: no such image, folder or list: x\n"


def test_a_terminal_that_cannot_show_a_name() -> None:
    Path("labels.csv").write_text("image,labels\na.jpg,katze é\n", encoding="utf-8")
    arguments = [*COMMAND, "generate", "photos/a.jpg", "--labels", "labels.csv", "--out", "m"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and "unknown class 'katze \\xe9'" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_leaves_early() -> None:
    code = "from clipes import cli; cli.demo.run = lambda options: print('x' * 10**6) or 0; exit(cli.main(['demo']))"
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout and run.stderr
    run.stdout.close()
    assert run.stderr.read() == b""
    run.stderr.close()
    assert run.wait(60) == 0


# --- flags and settings


def _prefix(stage: type) -> str:
    """What the flags of a choice's settings begin with; some default choices have none."""
    names = {kind: name for choices in CHOICES.values() for name, kind in choices.items()}
    names |= dict.fromkeys((GradCamConfig, AttentionAffinityConfig, ConfidenceConfig), "")
    names[ClassAttentionConfig] = "class_attention"
    name = names.get(stage, "").replace("-", "_")
    return f"{name}_" if name else ""


def _destination(stage: type, setting: str) -> str:
    return setting if setting in SHARED else _prefix(stage) + setting


SETTINGS = [
    pytest.param(name, stage, item, id=_destination(stage, item.name))
    for name, stages in STAGES.items()
    for stage in stages
    for item in fields(stage)
]
OTHER = {
    "max_patches": 9,
    "square": 320,
    "normalisation": "imagenet",
    "antialias": False,
    "positions": "bicubic",
    "scales": (1.0, 1.5),
    "flip": True,
    "tile": TileConfig(320, 96),
    "pool": "cls",
    "patch_text_blocks": 3,
    "patch_text_temperature": 3.5,
    "patch_text_heads": "own",
    "patch_text_norm": "token",
    "patch_text_competitors": "all",
    "getam_blocks": 2,
    "getam_pool": "patch",
    "dense_attention": "kk+distance",
    "dense_residual": False,
    "dense_scale": 40.0,
    "dense_sigma": 3.5,
    "committee_members": (DenseConfig(), PatchTextConfig()),
    "committee_rule": "geometric",
    "class_attention_exponent": 0.5,
    "class_attention_blocks": 5,
    "last_blocks": 2,
    "skip_last": True,
    "oldest_block": "per-head",
    "votes": 4,
    "sinkhorn_iterations": 5,
    "symmetric": False,
    "power": 8.0,
    "radius": 5,
    "row_epsilon": 0.125,
    "box_threshold": 0.25,
    "boxes": "none",
    "hops": 1,
    "features_features": "keys",
    "features_blocks": 3,
    "features_centred": False,
    "features_threshold": 0.25,
    "features_power": 2.5,
    "features_hops": 2,
    "contrast_features": "values",
    "contrast_blocks": 1,
    "contrast_centred": False,
    "contrast_threshold": 0.2,
    "contrast_order": 3,
    "contrast_higher_threshold": 0.2,
    "contrast_higher_weight": 1.0,
    "contrast_foreground": 0.3,
    "contrast_background": 0.04,
    "crf_iterations": 3,
    "crf_smooth_sigma": 2.5,
    "crf_smooth_weight": 1.5,
    "crf_bilateral_sigma": 20.5,
    "crf_colour_sigma": 4.5,
    "crf_bilateral_weight": 0.0,
    "par_iterations": 2,
    "par_dilations": (1, 5),
    "par_colour_scale": 0.5,
    "par_position_weight": 0.25,
    "par_resolution": "full",
    "pamr_iterations": 2,
    "pamr_dilations": (1, 5),
    "pamr_colour_scale": 0.5,
    "background_power": 2.5,
    "ignore_below": 0.5,
    "agreement_background": "constant",
    "agreement_levels": (1.0, 12.0),
    "agreement_conflict": "foreground",
    "tagclip_blocks": 5,
    "tagclip_votes": 2,
    "tagclip_boxes": "paper",
    "tagclip_recheck": None,
    "tagclip_recheck_over": "all",
    "tagclip_stop_at_empty": True,
    "global_pool": "patch",
    "global_score": "sigmoid",
    "bank_file": "bank.npz",
    "bank_attention": "kk",
    "bank_residual": False,
    "bank_patches": 40,
    "bank_text_scale": 50.5,
    "bank_temperature": 0.25,
    "bank_divisor": 400.5,
    "bank_patch_scale": 100.5,
    "bank_class_scale": 10.5,
    "bank_class_weight": 0.25,
    "relative_part": 0.25,
    "relative_least": 0.125,
    "fixed_threshold": 0.25,
    "per_class_thresholds": (0.25, 0.5),
    "given_unsegmented": 255,
    "slic_segments": 50,
    "slic_compactness": 5.0,
    "slic_sigma": 1.5,
    "felzenszwalb_scale": 30.0,
    "felzenszwalb_sigma": 0.25,
    "felzenszwalb_min_size": 7,
    "corrclip_join": 0.2,
    "sepl_majority": 0.6,
    "sepl_share": 0.7,
    "sepl_keep": False,
}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, tuple(MEMBERS.values())):
        return choice_name("map", value)
    return "none" if value is None else str(value)


def _given(flag: str, value: object) -> tuple[str, ...]:
    """The flag with its value; a switch's is in its name."""
    if isinstance(value, bool):
        return (flag,) if value else (flag.replace("--", "--no-", 1),)
    return flag, _text(value)


def test_every_setting_has_its_flag() -> None:
    assert {_destination(stage, item.name) for _, stage, item in (one.values for one in SETTINGS)} == set(OTHER)
    assert {item.name for item in fields(clipes.Config)} == set(STAGES)


# A constant background is allowed with other levels only: test_flags_of_one_choice_are_read_together.
@pytest.mark.parametrize(("name", "stage", "item"), [one for one in SETTINGS if one.id != "agreement_background"])
def test_a_flag_shows_its_default_and_reaches_the_config(name: str, stage: type, item) -> None:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    destination = _destination(stage, item.name)
    flag, given = "--" + destination.replace("_", "-"), OTHER[destination]
    last_name = flag.replace("--", "--no-", 1) if isinstance(given, bool) else flag
    shown = " ".join(parser.format_help().split()).split(f"{last_name} ")[-1].split(" --")[0]
    assert " ".join(item.metadata["help"].split()) in shown
    assert f"(default: {_text(item.default)}" in shown
    choice = "--ignore" if name == "mask" else f"--{name.replace('_', '-')}"
    chosen = (choice, choice_name(name, stage())) if name in CHOICES else ()
    config = read_config(parser.parse_args(["--preset", "voc12", *_given(flag, given), *chosen]), "scenes")
    base = clipes.VOC12 if isinstance(getattr(clipes.VOC12, name), stage) else replace(clipes.VOC12, **{name: stage()})
    assert config == replace(base, **{name: replace(getattr(base, name), **{item.name: given})}) != base


@pytest.mark.parametrize(
    ("given", "refine", "below"),
    [
        ("", clipes.config.SCENES.refine, 0.95),
        ("--refine crf", clipes.config.SCENES.refine, 0.95),
        ("--preset voc12", CrfConfig(), 0.95),
        ("--refine par", ParConfig(), None),
        ("--refine none", None, None),
        ("--ignore none", clipes.config.SCENES.refine, None),
        ("--ignore agreement", clipes.config.SCENES.refine, None),
        ("--refine pamr", PamrConfig(), None),
        ("--refine none --ignore-below 0.25", None, 0.25),
    ],
)
def test_refinements(said, loads, given: str, refine: object, below: float | None) -> None:
    assert said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m", *given.split())[0] == 0
    assert loads[0]["config"].refine == refine and loads[0]["config"].effective_ignore_below == below


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--refine none --crf-iterations 3", "--crf-iterations needs --refine crf; it is none"),
        ("--refine par --crf-iterations 3", "--crf-iterations needs --refine crf; it is par"),
        ("--par-iterations 3", "--par-iterations needs --refine par; it is crf"),
        ("--row-epsilon auto", "'auto' is neither a number nor 'none'"),
        ("--ignore-below much", "'much' is neither a number nor 'auto'"),
        ("--ignore none --ignore-below 0.5", "--ignore-below needs --ignore confidence; it is none"),
        (
            "--ignore agreement --background-power 3",
            "--background-power needs --ignore confidence or none; it is agreement",
        ),
        ("--agreement-levels 4,24", "--agreement-levels needs --ignore agreement; it is confidence"),
        (
            "--ignore agreement --agreement-background constant",
            "levels is (4.0, 32.0); it must be two constants of at most 1, the larger first",
        ),
        ("--refine par --par-dilations 1,x", "'1,x' is not a list of whole numbers such as 1,2,4"),
    ],
)
def test_refinement_flags_that_do_not_fit(said, loads, given: str, message: str) -> None:
    code, _, err = said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m", *given.split())
    assert code == 2 and message in err and loads == []


@pytest.mark.parametrize(
    ("given", "mask"),
    [
        ("--ignore none", ArgmaxConfig(2.0)),
        ("--ignore none --background-power 3", ArgmaxConfig(3.0)),
        ("--background-power 3", ConfidenceConfig(3.0)),
        (
            "--ignore agreement --agreement-background constant --agreement-levels 0.3,0.05",
            AgreementConfig("constant", (0.3, 0.05)),
        ),
    ],
)
def test_flags_of_one_choice_are_read_together(given: str, mask: object) -> None:
    """And the background's exponent, which two choices have, is kept where the choice changes."""
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    assert read_config(parser.parse_args(given.split()), "scenes").mask == mask


def test_a_warning_is_one_line(said) -> None:
    code, _, err = said("generate", "photos/a.jpg", "--labels", "cat", "--background", "sky,house cat", "--out", "m")
    expected = (
        "background words that name a class of scenes compete with it: 'house cat' ('cat', 'house'); leave them out"
    )
    assert code == 0 and err.splitlines() == [f"clipes generate: warning: {expected}"]


@pytest.mark.parametrize("fuse", ["sentence", "features", "max"])
def test_a_class_file_says_how_its_names_are_fused(said, fuse: str) -> None:
    names = {"name": "cat", "synonyms": {"cat%1:05:00::": ["kitten"]}}
    file = {"classes": [names, "tree"], "background": "scenes", "config": "scenes", "templates": ["my {}."]}
    Path("own.json").write_text(json.dumps({**file, "fuse": fuse}))
    Path("bare.json").write_text(json.dumps(file))
    for out, options in (("file", ["own.json"]), ("flag", ["bare.json", "--fuse", fuse])):
        assert said("generate", "photos", "--labels", "cat,tree", "--out", out, "--classes", *options)[0] == 0
    assert masks("file") == masks("flag")
    generator = load(classes="own.json")
    assert generator.config == clipes.config.SCENES
    for name in ("a", "b"):
        suffix = {"a": "jpg", "b": "png"}[name]
        mask = generator(f"photos/{name}.{suffix}", ["cat", "tree"]).mask
        np.testing.assert_array_equal(np.asarray(Image.open(f"file/{name}.png")), mask)
    record = json.loads(Path("file/run.json").read_text())
    settings = record["settings"]
    assert settings["fuse"] == fuse and settings["templates"] == ["my {}."] and len(settings["background"]) == 10


def test_names_of_any_kind_are_names(said) -> None:
    names = ["{}", "{0.__class__}", "😀", "x" * 300, "a/../b", "=cmd()", "<b>", "c%1:05:00::", "%s", "日本 語"]
    Path("odd.json").write_text(json.dumps(names), encoding="utf-8")
    rows = [json.dumps({"image": image, "labels": names}) for image in ("a.jpg", "b.png", "sub/c.jpg")]
    Path("odd.jsonl").write_text("\n".join(rows))
    arguments = ("generate", "photos", "--labels", "odd.jsonl", "--classes", "odd.json", "--model", "tiny")
    for fuse in ("sentence", "features", "max"):
        code, out, err = said(*arguments, "--fuse", fuse, "--out", fuse)
        assert code == 0 and out.startswith(f"3 of 3 masks written to {fuse}\n")
        assert len(err.splitlines()) == 1 and "reads 32 tokens; the end of 'a clean origami xxx" in err
    assert json.loads(Path("max/classes.json").read_text()) == {
        str(index): name for index, name in enumerate(["background", *names])
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dog", ""], "class names: entry 2 is blank; remove it"),
        (["dog", "DOG"], "class names: 'DOG' repeats 'dog'; remove one"),
        (["fish", "\ufb01sh"], "repeats 'fish'; remove one"),
        (["dog", "a\0b"], "class names: entry 2, 'a\\x00b', holds a control character; remove it"),
        (["dog", None], "class names: entry 2 is None, not a string"),
    ],
)
def test_names_that_are_none(said, never_loaded, names: list[str], message: str) -> None:
    Path("odd.json").write_text(json.dumps(names))
    code, out, err = said("generate", "photos", "--labels", "dog", "--classes", "odd.json", "--out", "m")
    assert code == 2 and not out and "odd.json: " in err and message in err
    assert not Path("m").exists()


def test_the_images_choose_the_background_words(said) -> None:
    code, out, _ = said("generate", "photos", "--labels", "labels.csv", "--background", "auto", "--out", "m")
    clip, samples = load_clip("tiny"), find_samples("photos", "labels.csv")
    table = suggest_background(clip, load_vocabulary("scenes"), samples, clipes.config.SCENES)
    assert code == 0 and 0 < len(table.words) < 25
    assert out.splitlines()[0] == f"background words by 3 images: {', '.join(table.words)}"
    assert json.loads(Path("m/run.json").read_text())["settings"]["background"] == list(table.words)
    given = f"{','.join(table.words)},"
    assert said("generate", "photos", "--labels", "labels.csv", "--background", given, "--out", "n")[0] == 0
    assert masks("m") == masks("n")


def test_images_that_want_no_background_word(said) -> None:
    """A single label that every word is a name of."""
    Path("own.json").write_text(json.dumps({"classes": {"all": list(stuff_words())}, "fuse": "max"}))
    arguments = ("--labels", "all", "--background", "auto", "--classes", "own.json", "--model", "tiny", "--out", "m")
    code, _, err = said("generate", "photos", *arguments)
    assert code == 2 and "--background auto: no word wins in any image, or each is too near to a class" in err
    assert not Path("m").exists()


def test_a_second_run_encodes_no_text(said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPES_CACHE", str(tmp_path / "cache"))
    encoded = []
    encode_text = open_clip.CLIP.encode_text
    monkeypatch.setattr(open_clip.CLIP, "encode_text", lambda *a, **k: encoded.append(1) or encode_text(*a, **k))
    for out in ("m", "n"):
        assert said("generate", "photos", "--labels", "cat", "--out", out)[0] == 0
    assert encoded == [1]
    assert masks("m") == masks("n")


def test_presets(said, loads) -> None:
    base = ("generate", "photos/a.jpg", "--labels", "cat", "--overwrite", "--out", "m")
    assert said(*base)[0] == said(*base, "--preset", "coco14")[0] == said(*base, "--affinity", "none")[0] == 0
    assert said(*base, "--preset", "coco14", "--hops", "3")[0] == 0
    stepped = clipes.Config(affinity=AttentionAffinityConfig(box_threshold=0.7, hops=3))
    initial = replace(clipes.config.SCENES, affinity=None)
    assert [call["config"] for call in loads] == [clipes.config.SCENES, clipes.COCO14, initial, stepped]
    assert "(default: 0.4; coco14: 0.7; scenes: 0.6)" in " ".join(said("generate", "--help-all")[1].split())


def test_a_preset_goes_with_its_run(said) -> None:
    """`finalize` takes a refinement from the preset that was asked for, not from the class set's."""
    arguments = ("--labels", "cat,tree", "--preset", "coco14", "--refine", "none", "--save-patch-cams", "--out", "m")
    assert said("generate", "photos", *arguments)[0] == said("finalize", "m", "--refine", "crf")[0] == 0
    record = json.loads(Path("m/run.json").read_text())
    settings = record["settings"]
    assert record["preset"] == "coco14" and settings["config"]["refine"]["crf"]["bilateral_sigma"] == 67
    assert settings["dtype"] == "float32" and settings["mean"] == [0.5] * 3


def test_prompts_of_a_file_and_sets_go_together(said, loads) -> None:
    Path("mine.txt").write_text("# mine\nmy {}\na photo of a {}.\n")
    flags = ("--templates", "plain", "--templates", "mine.txt", "--templates", "clip-es")
    assert said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m", *flags)[0] == 0
    assert loads[0]["vocabulary"].templates == ("a photo of a {}.", "my {}", "a clean origami {}.")


def test_no_affinity_gives_the_initial_maps(said) -> None:
    assert said("generate", "photos/a.jpg", "--labels", "cat,tree", "--out", "m", "--affinity", "none")[0] == 0
    initial = load(config=replace(clipes.config.SCENES, affinity=None))("photos/a.jpg", ["cat", "tree"])
    with Image.open("m/a.png") as image:
        assert np.array_equal(np.asarray(image), initial.mask)


def test_ignored_pixels_reach_the_mask(said) -> None:
    arguments = ("--labels", "cat,car,tree", "--ignore-below", "0.9")
    assert said("generate", "photos", "--out", "m", *arguments)[0] == 0
    strict = load(config=replace(clipes.config.SCENES, mask=replace(clipes.config.SCENES.mask, ignore_below=0.9)))
    for mask, image in (("m/a.png", "photos/a.jpg"), ("m/b.png", "photos/b.png")):
        with Image.open(mask) as written:
            expected = strict(image, ["cat", "car", "tree"])
            assert np.array_equal(np.asarray(written), expected.mask)
            assert np.array_equal(expected.mask == 255, expected.confidence < 0.9)


@pytest.mark.parametrize(
    ("given", "background"),
    [
        (["--background", "grass, sky"], ("grass", "sky")),
        (["--background", "grass,"], ("grass",)),
        (["--background", ""], ()),
        (["--background", "voc12"], load_vocabulary("voc12").background_names),
        ([], load_vocabulary("scenes").background_names),
    ],
)
@pytest.mark.filterwarnings("ignore:background words")
def test_background_words(said, loads, given: list[str], background: tuple[str, ...]) -> None:
    assert said("generate", "photos/a.jpg", "--labels", "cat,tree", "--out", "m", *given)[0] == 0
    assert loads[0]["vocabulary"].background_names == background


@pytest.mark.parametrize(
    ("given", "templates"),
    [
        (["a {}."], ("a {}.",)),
        (["a {}.", "the {}."], ("a {}.", "the {}.")),
        (["plain"], ("a photo of a {}.",)),
        ([], ("a clean origami {}.",)),
    ],
)
def test_templates(said, loads, given: list[str], templates: tuple[str, ...]) -> None:
    flags = [part for text in given for part in ("--templates", text)]
    assert said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m", *flags)[0] == 0
    assert loads[0]["vocabulary"].templates == templates


def test_the_model_flags_reach_the_model(said, loads) -> None:
    Path("names.txt").write_text("cat\ndog\n")
    flags = "--model ViT-B-16 --pretrained openai --classes names.txt --device cpu --precision fp32 --trusted"
    assert said("generate", "photos/a.jpg", "--labels", "cat", "--out", "m", *flags.split())[0] == 0
    expected = {"model": "ViT-B-16", "pretrained": "openai", "device": "cpu", "precision": "fp32", "trusted": True}
    assert {name: loads[0][name] for name in expected} == expected
    assert loads[0]["vocabulary"] == load_vocabulary("names.txt")


def test_a_weights_file_has_the_training_of_its_tag(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activation, mean, deviation and interpolation are in the record, and other ones are another run."""
    small, openai = (
        clip_config(),
        {"url": "x", "quick_gelu": True, "mean": (0.5, 0.4, 0.3), "interpolation": "bilinear"},
    )
    monkeypatch.setitem(factory._MODEL_CONFIGS, "small", small)
    monkeypatch.setitem(pretrained._PRETRAINED, "small", {"openai": openai, "plain": {"url": "x"}})
    save_file(whole_state(build(small)), "w.safetensors")
    told = ("generate", "photos", "--labels", "cat", "--classes", "cat,dog", "--refine", "none", "--out", "m")
    told += ("--model", "small", "--pretrained", "w.safetensors")
    assert cli(*told, "--weights-of", "openai").code == 0
    record = json.loads(Path("m/run.json").read_text())
    assert record["like"] == "openai" and record["settings"]["activation"] == "quick_gelu"
    assert record["settings"]["mean"] == [0.5, 0.4, 0.3] and record["settings"]["interpolation"] == "bilinear"
    code, _, err = cli(*told, "--weights-of", "plain")
    assert code == 2 and 'activation: "quick_gelu" → "gelu"' in err and 'interpolation: "bilinear" → "bicubic"' in err
    assert cli("generate", "--like", "m", "--out", "again").code == 0 and masks("again") == masks("m")
    code, _, err = cli(*told[:-2], "--pretrained", "w.safetensors", "--weights-of", "nonsense")
    assert (
        code == 2 and "small has no tag 'nonsense' that its weights file could be like; its tags: openai, plain" in err
    )


def test_ones_own_classes(said) -> None:
    arguments = ("--labels", "dog", "--classes", "cat,dog", "--model", "tiny", "--background", "sky,", "--out", "m")
    assert said("generate", "photos/a.jpg", *arguments)[0] == 0
    assert json.loads(Path("m/classes.json").read_text()) == {"0": "background", "1": "cat", "2": "dog"}
    assert mask_ids("m/a.png") <= {0, 2}


def test_help_is_whole() -> None:
    parser = cli.make_parser()
    parser.format_help()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert list(commands) == [
        "demo",
        "generate",
        "tag",
        "show",
        "status",
        "finalize",
        "repair",
        "evaluate",
        "compare",
        "report",
        "export",
        "prompts",
        "sharpness",
        "synonyms",
        "background",
        "models",
    ]
    for command in commands.values():
        assert command.format_help().isascii()
        assert all(action.help for action in command._actions)


# --- demo and models


def test_demo(said) -> None:
    code, out, err = said("demo", "--count", 3, "--out", "d")
    assert code == 0 and err == ""
    report = json.loads(Path("d/demo.json").read_text())
    assert report["count"] == 3 and report["model"] == "tiny"
    assert out.startswith(f"3 scenes, model tiny: mean IoU {report['miou']:.3f} over background and classes\n")
    assert out.endswith("Look at d/report/index.html\n")
    names = {f"{number:05}" for number in range(3)}
    folders = {f"{folder}/{name}.png" for name in names for folder in ("masks", "truth")}
    tops = {"demo.json", "labels.csv", "report/index.html", "masks/run.json"}
    assert files("d").keys() >= tops | folders | {f"images/{name}.jpg" for name in names}

    arguments = ("--labels", "d/labels.csv", "--out", "m", "--ignore", "none")
    assert said("generate", "d/images", *arguments)[0] == 0
    for name in names:
        with Image.open(f"m/{name}.png") as ours, Image.open(f"d/masks/{name}.png") as theirs:
            assert np.array_equal(np.asarray(ours), np.asarray(theirs)) and ours.getpalette() == theirs.getpalette()


def test_demo_in_a_folder_of_ones_own(said) -> None:
    Path("masks").mkdir()
    code, _, err = said("demo", "--count", 1, "--out", ".")
    assert code == 2 and "masks was not written by `clipes demo`" in err


def test_models(said) -> None:
    code, out, err = said("models")
    assert code == 0 and err == "" and "Not supported" not in out
    assert re.search(r"^tiny +14 x 14 of 8 px +\d M +\d+ MB\n    bundled: a toy for drawings$", out, re.MULTILINE)
    assert re.search(r"^ViT-B-16 +14 x 14 of 16 px +150 M +0\.60 GB\n    openai, ", out, re.MULTILINE)
    assert re.search(r"^ViT-L-14-336 +24 x 24 of 14 px +428 M +1\.71 GB\n    openai$", out, re.MULTILINE)
    assert "For photographs: --model ViT-B-16 --pretrained openai, the paper's" in out
    assert re.search(r"^\d+ others are not supported; `clipes models --all` says why\.$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 100
    unsupported = said("models", "--all")[1].partition("\nNot supported:\n")[2]
    assert re.search(r"^RN50  \(its image tower is a ResNet", unsupported, re.MULTILINE)
    assert re.search(
        r"^convnext_base  \(its image tower, timm's convnext_base, is convolutional", unsupported, re.MULTILINE
    )
    assert re.search(
        r"^MobileCLIP-B +14 x 14 of 16 px +150 M +0\.60 GB\n    datacompdr, datacompdr_lt$", out, re.MULTILINE
    )
    some = said("models", "rn50")[1]
    assert some.startswith("Not supported:\nRN50") and "RN50x4" in some and "ViT-B-16" not in some
    assert "tiny" not in some
    assert "no model's name contains 'xyzzy'" in said("models", "xyzzy")[2]


def test_rows_without_an_image_and_links_to_nothing_are_told(said) -> None:
    Path("labels.csv").write_text("image,labels\na.jpg,cat\nb.png,tree\nsub/c.jpg,car\ngone.jpg,cat\nx.heic,cat\n")
    code, out, err = said("generate", "photos", "--labels", "labels.csv", "--out", "m")
    assert code == 0 and "3 of 3" in out
    assert err == "2 row(s) of labels.csv name no image of photos, 'gone.jpg' the first\n"
    Path("photos/gone.jpg").symlink_to("nowhere.jpg")
    code, out, err = said("generate", "photos", "--labels", "labels.csv", "--out", "m")
    assert (code, out) == (3, "0 of 4 masks written to m, 3 finished before, 1 failed\n")
    assert "photos/gone.jpg: no such image" in err


@pytest.mark.parametrize("flag", ["--out", "--labels", "--classes"])
def test_an_empty_argument_is_wrong_use(said, flag: str) -> None:
    arguments = {"--out": "m", "--labels": "cat", flag: ""}
    code, _, err = said("generate", "photos", *(part for pair in arguments.items() for part in pair))
    assert code == 2 and "it is empty" in err


def test_a_model_with_random_weights(said) -> None:
    with few_blocks():
        code, out, err = said("models", "--check", "MobileCLIP-B")
    assert code == 0 and err == "building MobileCLIP-B ...\n"
    assert re.match(r"MobileCLIP-B with random weights: .*2 blocks of width 768.*; a mask of 112 x 112 pixels in ", out)
    code, _, err = said("models", "--check", "RN50")
    assert code == 2 and "RN50 is not supported: its image tower is a ResNet" in err
    assert said("models", "--check", "ViT-B-17")[0] == 2


def test_no_model_of_that_name(said) -> None:
    code, _, err = said("models", "zzzz")
    assert code == 2 and "no model's name contains 'zzzz'" in err
