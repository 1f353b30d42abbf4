"""From the flags of a run to its plan: what they take, what the launcher's environment says, what contradicts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from clipes.cli import main
from clipes.commands import generate
from clipes.commands.parser import Parser
from clipes.commands.plan import plan_of
from clipes.config import COCO14, SCENES
from clipes.runs.execute import local_device, reader_count
from clipes.runs.plan import Faults, LocalEngine, ModelChoice, Placement, Plan, RayEngine, VocabularyChoice, read_plan
from clipes.runs.shards import Shard
from clipes.store.output import Output

LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID", "SLURM_ARRAY_TASK_ID")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


def _options(*given: str) -> argparse.Namespace:
    parser = Parser()
    generate.add(parser.add_subparsers())
    return parser.parse_args(["generate", *given])


def _plan(*given: str) -> Plan:
    return plan_of(_options("photos", "--out", "m", *given))


def test_defaults() -> None:
    assert _plan() == Plan("photos", Output(Path("m")), config=SCENES, preset="scenes")


def test_what_is_given_is_taken() -> None:
    flags = "--save-confidence --save-patch-cams --out-format tar --tar-size 7 --shard 2/5 --workers 0 --threads 2"
    more = "--model ViT-B-16 --pretrained openai --precision bf16 --classes dog,cat --background grass, --fuse max"
    other = (
        "--preset coco14 --missing skip --unknown skip --strict --max-failure-rate 0.5 --labels dog,cat --device cpu"
    )
    ray = "--engine ray --actors 2-8 --gpus-per-actor 0.5 --ray-address auto --batch-size 3"
    assert _plan(*flags.split(), *more.split(), *other.split(), *ray.split()) == Plan(
        "photos",
        Output(Path("m"), confidence=True, cams="patch", format="tar", tar_size=7),
        labels=("dog", "cat"),
        model=ModelChoice("ViT-B-16", "openai", precision="bf16"),
        vocabulary=VocabularyChoice(("dog", "cat"), ("grass",), fuse="max"),
        config=COCO14,
        preset="coco14",
        placement=Placement(
            RayEngine((2, 8), 0.5, address="auto"), Shard(2, 5), device="cpu", batch_size=3, readers=0, threads=2
        ),
        faults=Faults("skip", "skip", 0.5, strict=True),
    )
    assert _plan("--engine", "ray", "--actors", "3").placement.engine == RayEngine((3, 3))
    assert _plan("--devices", "cpu,cpu").placement.engine == LocalEngine(("cpu", "cpu"))


def test_a_plan_is_read_back_from_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With absolute paths, without the shard, the rank and --overwrite of one start."""
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("dog\ncat\n")
    plan = _plan(
        "--model", "tiny", "--classes", "names.txt", "--labels", "l.csv", "--engine", "ray", "--crf-iterations", "3"
    )
    here = {"source": str(tmp_path / "photos"), "output": Output(tmp_path / "m"), "labels": str(tmp_path / "l.csv")}
    absolute = replace(plan, **here, vocabulary=VocabularyChoice(str(tmp_path / "names.txt")))
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == absolute
    local = Plan.from_dict(_plan("--overwrite", "--devices", "cpu,cpu").to_dict())
    assert not local.faults.overwrite and local.placement.engine == LocalEngine(("cpu", "cpu"))
    assert Plan.from_dict(_plan("--shard", "1/2").to_dict()).placement.shard == Shard(0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.pop("source"), "not the plan of a run of this version of clipes: 'source'"),
        (lambda plan: plan["faults"].update(x=1), "Faults has unknown or missing names: x"),
        (lambda plan: plan["faults"].update(unknown="ask"), "unknown is 'ask'; it is 'refuse' or 'skip'"),
        (lambda plan: plan["placement"].update(engine={"spark": {}}), "'spark'"),
        (
            lambda plan: plan["placement"].update(batch_size=0),
            "batch_size is 0; it must be a whole number of at least 1",
        ),
        (lambda plan: plan["config"]["mask"]["confidence"].update(background_power=-1), "background_power"),
    ],
)
def test_a_broken_plan_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    plan = _plan().to_dict()
    change(plan)
    (tmp_path / "run.json").write_text(json.dumps({"plan": plan}))
    with pytest.raises(ValueError, match=message):
        read_plan(tmp_path)


def test_like_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no no\.json; give the run.json of an earlier run"):
        plan_of(_options("--like", "no.json"))


def test_flags_on_top_of_an_earlier_plan(tmp_path: Path) -> None:
    before = _plan(
        "--labels", "dog,cat", "--preset", "coco14", "--save-confidence", "--unknown", "skip", "--workers", "3"
    )
    (tmp_path / "run.json").write_text(json.dumps({"plan": before.to_dict()}))
    like = Plan.from_dict(before.to_dict())

    def plan(*given: str) -> Plan:
        return plan_of(_options("--like", str(tmp_path / "run.json"), *given))

    assert plan() == like
    assert plan("--out", "n") == replace(like, output=replace(like.output, folder=Path("n")))
    assert plan("other") == replace(like, source="other", labels=None)
    assert plan("--refine", "none") == replace(like, config=replace(like.config, refine=None))
    assert plan("--preset", "scenes") == replace(like, config=SCENES, preset="scenes")
    other = plan("--model", "tiny", "--classes", "voc12")
    assert other.vocabulary == VocabularyChoice("voc12") and other.preset == "voc12"
    assert plan("--missing", "skip").faults == replace(like.faults, missing="skip")


def test_no_images_or_no_folder() -> None:
    with pytest.raises(ValueError, match=r"no images are named; give a SOURCE .* or --like run\.json"):
        plan_of(_options("--out", "m"))
    with pytest.raises(ValueError, match="no folder for the masks is named; give --out DIR"):
        plan_of(_options("photos"))


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--actors", "0", "not a whole number of at least 1"),
        ("--actors", "4-2", "the least is more than the most"),
        ("--actors", "1,4", "not a whole number"),
        ("--gpus-per-actor", "-1", "not a number of at least 0"),
        ("--gpus-per-actor", "inf", "not a number of at least 0"),
        ("--cpus-per-actor", "two", "not a number of at least 0"),
        ("--max-failure-rate", "2", "'2' is not a number between 0 and 1, such as 0.01"),
        ("--max-failure-rate", "nan", "not a number between"),
        ("--max-failure-rate", "1%", "not a number between"),
        ("--workers", "-1", "not a whole number"),
        ("--tar-size", "0", "not a whole number of at least 1"),
        ("--engine", "spark", "invalid choice"),
    ],
)
def test_what_is_none_is_told(flag: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        _options("photos", f"{flag}={value}")
    assert message in capsys.readouterr().err


def test_the_launcher_says_which_part_and_which_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    part = _plan().placement
    assert part == Placement(shard=Shard(5, 8), local_rank=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device(part) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert local_device(part) == "cuda:1"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert local_device(part) == "cuda:0"  # each process sees only its own
    assert local_device(_plan("--device", "cpu").placement) == "cpu"
    assert _plan("--shard", "0/2").placement == Placement(shard=Shard(0, 2))
    with pytest.raises(ValueError, match="--overwrite by one of 8 shards would remove what the others write"):
        _plan("--overwrite")


@pytest.mark.parametrize(
    ("device", "given", "images", "expected"),
    [
        ("cpu", [], 100, 1),
        ("cpu", [], 1, 0),
        ("cuda", [], 1, 0),
        ("cpu", ["--workers", "3"], 100, 3),
        ("cpu", ["--workers", "0"], 100, 0),
    ],
)
def test_reading_processes(device: str, given: list[str], images: int, expected: int) -> None:
    assert reader_count(_plan(*given).placement, device, images) == expected


def test_a_gpu_is_fed_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (2, 1), (6, 5), (64, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert reader_count(Placement(), "cuda", 100) == expected


def test_ray_that_is_not_there_is_told_before_anything(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "m", "--engine", "ray"]) == 2
    assert (
        'pip install "ray[data]", or in a clone of clipes pip install ".[ray]"' in capsys.readouterr().err
        and not Path("m").exists()
    )


@pytest.mark.parametrize(
    ("flags", "device", "dtype"),
    [
        ([], "cpu", "float32"),
        (["--gpus-per-actor", "1"], "cuda", "float16"),
        (["--gpus-per-actor", "1", "--precision", "bf16"], "cuda", "bfloat16"),
        (["--gpus-per-actor", "0.5", "--device", "cuda:0"], "cuda:0", "float16"),
        (["--gpus-per-actor", "1", "--device", "cpu"], "cpu", "float32"),
    ],
)
def test_a_driver_without_a_gpu(
    photos: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], device: str, dtype: str
) -> None:
    """It loads the model on its CPU, whatever the actors have; `run.json` tells of theirs."""
    pytest.importorskip("ray")
    asked: list[partial[Any]] = []

    def write(load: partial[Any], *rest: Any, **options: Any) -> Iterator[Any]:
        asked.append(load)
        yield from ()

    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr("clipes.runs.ray_engine.write_with_ray", write)
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "m", "--engine", "ray", *flags]) == 3
    assert asked[0].args[-1] == device
    assert json.loads(Path("m/run.json").read_text())["settings"]["dtype"] == dtype


def test_the_parts_of_a_run_are_the_whole(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """And each says how many of its own it has done."""
    monkeypatch.chdir(photos.parent)
    said = []
    for index in range(3):
        flags = ["--labels", "labels.csv", "--shard", f"{index}/3", "--max-failure-rate", "1"]
        assert main(["generate", "photos", *flags, "--out", "m"]) == 0
        said.append(capsys.readouterr().out.split(" masks")[0])
    counts = [int(text.split(" of ")[1]) for text in said]
    assert sum(counts) == 3 and said == [f"{count} of {count}" for count in counts]
    assert main(["status", "m"]) == 0
    words = capsys.readouterr().out.split()
    assert words[:10] == ["images", "3", "ok", "3", "skipped", "0", "failed", "0", "left", "0"]


def test_devices_for_each_process_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    placement = _plan("--devices", "cpu,cpu").placement  # one process on each machine
    assert placement.shard == Shard(1, 2) and placement.engine == LocalEngine(("cpu", "cpu"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="--devices cpu,cpu for each of several processes that torchrun started"):
        _plan("--devices", "cpu,cpu")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--devices cpu,cpu --device cpu", "--devices cpu,cpu and --device cpu; give one of the two"),
        ("--devices cpu --engine ray", "--devices cpu and --engine ray, whose actors have --gpus-per-actor"),
        ("--devices all", "devices are 'all', but torch sees no CUDA device"),
        ("--devices cpu,cuda:0", "torch sees 0 CUDA devices"),
        ("--overwrite --shard 0/2", "--overwrite by one of 2 shards would remove what the others write"),
    ],
)
def test_what_contradicts_is_told(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _plan(*given.split())


def test_a_dry_run_prints_the_plan_and_writes_nothing(photos: Path, monkeypatch, never_loaded, capsys) -> None:
    monkeypatch.chdir(photos.parent)
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "m", "--shard", "0/1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    for line in ("source     photos", "images     3", "labels     labels.csv", "model      tiny", "output     m png"):
        assert line in out
    assert not Path("m").exists()
    assert main(["generate", "photos", "--labels", "yeti", "--out", "m", "--dry-run"]) == 2
    assert "unknown class 'yeti'" in capsys.readouterr().err


def test_a_run_is_repeated_from_its_run_json(photos: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(photos.parent)
    first = "generate photos --labels labels.csv --out m --refine none --save-confidence"
    assert main(first.split()) == 0
    monkeypatch.chdir(photos)
    assert main(["generate", "--like", "../m/run.json", "--out", "../n"]) == 0
    assert main(["generate", "--like", "../m"]) == 0
    assert "0 of 3 masks written" in capsys.readouterr().out
    for name in ("a.png", "sub/c.png", "confidence/b.png"):
        assert (photos.parent / "m" / name).read_bytes() == (photos.parent / "n" / name).read_bytes()
