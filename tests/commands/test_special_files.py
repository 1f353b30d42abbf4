"""What is no ordinary file in the place of one, wherever a command looks: told by its name, and never waited for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from generating import CommandLine, draw

pytest.importorskip("resource", reason="pipes and alarms of POSIX")

KINDS = ("pipe", "socket", "folder", "loop", "dangling", "endless")
PATIENCE = 30
"""Seconds after which a command waits for ever."""

TABLE = ("--labels", "labels.csv", "--classes", "scenes", "--model", "tiny")
STORED = ("--save-confidence", "--save-cams")
GENERATE = ("generate", "photos", *TABLE, *STORED, "--out", "m")
READERS = (
    ("status", "m"),
    ("export", "m", "--to", "voc", "--out", "voc"),
    ("export", "m", "--to", "huggingface", "--out", "hf"),
    ("prompts", "m", "--out", "prompts.json"),
    ("report", "m", "--out", "report"),
    ("evaluate", "m", "truth"),
    ("finalize", "m", "--refine", "none", "--out", "f"),
    ("generate", "photos", *TABLE, "--like", "m", "--out", "like", "--dry-run"),
    ("repair", "m"),
    GENERATE,
    (*GENERATE, "--overwrite"),
)
RECORD = "20990101T000000.000000-00000000-1-00000000"
PLACES = (
    *("run.json", "classes.json", "records", "records/run.json", f"records/{RECORD}.jsonl", f"records/{RECORD}.hand"),
    *(f".clipes-00000000-1-{'0' * 16}.lease", f".clipes-00000000-1-{'0' * 16}.tmp.png", f"masks-{RECORD}-000000.tar"),
    *("000.png", "confidence", "confidence/000.png", "cams", "cams/000.npz"),
)


class Hang(BaseException):
    """A command that waits for ever."""


@contextmanager
def limited() -> Iterator[None]:
    """Raise :class:`Hang` where the block takes too long."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over photos/ in m/, and its masks as truth/."""
    from clipes.cli import main

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("photos").mkdir()
        draw(3)
        Path("labels.csv").write_text("image,labels\n" + "".join(f"{number:03}.png,cat;tree\n" for number in range(3)))
        assert main(list(GENERATE)) == 0
        Path("truth").mkdir()
        for path in Path("m").glob("*.png"):
            shutil.copy(path, "truth")
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def put(kind: str, place: str) -> None:
    """Something of this kind in the place of a file or a folder."""
    path = Path(place)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(place)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"loop": path.name, "dangling": "nowhere", "endless": "/dev/zero"}[kind])


def check(cli: CommandLine, command: Sequence[str], place: str) -> None:
    """Run a command; where it does not end well it says why, with the place's name."""
    with limited():
        code, out, err = cli(*command)
    assert code in (0, 2, 3) and "Traceback" not in err, (command, out, err)
    assert code == 0 or Path(place).name.split(".")[0] in out + err, (command, out, err)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_in_the_folder_of_a_run(cli: CommandLine, place: str, kind: str) -> None:
    if (place, kind) in (("records", "folder"), ("confidence", "folder"), ("cams", "folder")):
        return  # as ordinary as can be
    put(kind, f"m/{place}")
    for command in READERS:
        check(cli, command, place)
        shutil.rmtree("f", ignore_errors=True)


INTO = ("--classes", "scenes", "--model", "tiny", "--out", "new")
EACH = ("generate", "photos", "--labels", "cat", *INTO)
REGIONS = (*EACH, "--regions", "regions")
INPUTS = (
    ("photos", ("generate", "photos", "--labels", "cat", *INTO)),
    ("photos/000.png", ("generate", "photos", "--labels", "cat", *INTO)),
    ("photos/000.png", ("generate", "photos/*.png", "--labels", "cat", *INTO)),
    ("photos/000.png", ("export", "m", "--to", "voc", "--out", "new")),
    ("photos/000.png", ("export", "m", "--to", "huggingface", "--images", "link", "--out", "new")),
    ("photos/000.png", ("report", "m", "--out", "new")),
    ("photos/000.png", ("finalize", "m", "--out", "new")),
    ("photos/000.png", ("show", "photos/000.png", "--labels", "cat", "--model", "tiny", "--out", "new.png")),
    ("photos/000.png", ("background", "photos", "--labels", "cat", "--model", "tiny", "--sample", "2", "--count", "2")),
    *((f"l{end}", ("generate", "photos", "--labels", f"l{end}", *INTO)) for end in (".csv", ".jsonl", ".tsv", ".npy")),
    *((f"s{end}", ("generate", f"s{end}", "--labels", "cat", *INTO)) for end in (".txt", ".csv", ".jsonl", ".tar")),
    ("photos/metadata.jsonl", ("generate", "photos", *INTO)),
    ("photos/metadata.csv", ("generate", "photos", *INTO)),
    ("coco.json", ("generate", "coco:coco.json:photos", *INTO)),
    ("coco/annotations/instances_train2014.json", ("generate", "coco:coco:train2014", *INTO)),
    ("voc/ImageSets/Segmentation/train.txt", ("generate", "voc:voc:train", *INTO)),
    ("folders/cat", ("generate", "folders:folders", *INTO)),
    *((f"c{end}", (*EACH, "--classes", f"c{end}")) for end in (".json", ".yaml", ".txt")),
    *((f"b{end}", (*EACH, "--background", f"b{end}")) for end in (".json", ".txt")),
    *((f"t{end}", (*EACH, "--templates", f"t{end}")) for end in (".json", ".txt")),
    *((f"settings{end}", (*EACH, "--config", f"settings{end}")) for end in (".json", ".yaml")),
    ("like.json", ("generate", "--like", "like.json", "--out", "new")),
    ("like/run.json", ("generate", "--like", "like", "--out", "new")),
    ("model", (*EACH, "--model", "local-dir:model")),
    ("model/open_clip_config.json", (*EACH, "--model", "local-dir:model")),
    *((f"w{end}", (*EACH, "--model", "ViT-B-32", "--pretrained", f"w{end}")) for end in (".pt", ".safetensors")),
    ("regions", REGIONS),
    *((f"regions/000{end}", REGIONS) for end in (".png", ".npz", ".json")),
    ("regions/000/metadata.csv", REGIONS),
    ("regions.json", (*EACH, "--regions", "regions.json")),
    ("regions/000.png", ("prompts", "m", "--regions", "regions", "--out", "new.json")),
    ("truth", ("evaluate", "m", "truth")),
    ("truth/000.png", ("evaluate", "m", "truth")),
    ("truth/000.png", ("evaluate", "m/000.png", "truth/000.png")),
    ("truth/000.png", ("report", "m", "--truth", "truth", "--out", "new")),
    ("truth/classes.json", ("evaluate", "truth", "m")),
    ("new", (*EACH,)),
    ("new", ("export", "m", "--to", "voc", "--out", "new")),
    ("new", ("report", "m", "--out", "new")),
    ("new", ("finalize", "m", "--out", "new")),
    ("new.png", ("show", "photos/001.png", "--labels", "cat", "--model", "tiny", "--out", "new.png")),
    ("new.json", ("status", "m", "--json", "new.json")),
    ("new.json", ("prompts", "m", "--out", "new.json")),
    ("new.json", ("evaluate", "m", "truth", "--json", "new.json")),
    ("m-report", ("report", "m")),
    ("m-report/.clipes-report", ("report", "m")),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("place", "command"), INPUTS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_among_what_a_command_reads_and_writes(cli: CommandLine, place: str, command: Sequence[str], kind: str) -> None:
    if (place, kind) == ("regions/000/metadata.csv", "folder"):
        return  # as ordinary as can be
    Path(place).parent.mkdir(exist_ok=True, parents=True)
    if place.startswith("voc/"):
        Path("voc/JPEGImages").mkdir()
    if place.startswith("folders/"):
        shutil.copytree("photos", "folders/tree")
    put(kind, place)
    check(cli, command, place)
