"""clipes.store.manifest: one run.json for all processes, and what differs where it is another run's."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clipes.config import VOC12
from clipes.store.manifest import create_or_verify_manifest, read_manifest, settings_digest

SETTINGS = {"config": VOC12.to_dict(), "model": "tiny", "classes": ["cat", "dog"]}


def _record(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def test_the_first_claim_writes_everything(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    found = create_or_verify_manifest(folder, SETTINGS, {"machine": "here", "settings": "hidden by the real ones"})
    assert _record(folder) == {"machine": "here", "settings": SETTINGS, "digest": found} == read_manifest(folder)
    assert found == settings_digest(SETTINGS) and len(found) == 64
    assert os.listdir(folder) == ["run.json"] and os.stat(folder / "run.json").st_nlink == 1


def test_equal_settings_change_nothing(tmp_path: Path) -> None:
    create_or_verify_manifest(tmp_path, SETTINGS, {"machine": "here"})
    before = (tmp_path / "run.json").stat()
    assert create_or_verify_manifest(
        tmp_path, dict(reversed(SETTINGS.items())), {"machine": "there"}
    ) == settings_digest(SETTINGS)
    after = (tmp_path / "run.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert _record(tmp_path)["machine"] == "here"


def test_the_digest_is_of_what_json_holds() -> None:
    assert settings_digest({"a": 1, "b": (1, 2.0)}) == settings_digest({"b": [1.0, 2], "a": 1.0})
    others = [{}, {"a": None}, {"a": True}, {"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": []}, {"a": [1]}, {"b": 1}]
    assert len({settings_digest(settings) for settings in others}) == len(others)
    with pytest.raises(ValueError, match="not JSON compliant"):
        settings_digest({"a": float("inf")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        settings_digest({"a": {1}})


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    given: dict[str, Any] = json.loads(json.dumps(SETTINGS))
    create_or_verify_manifest(tmp_path, given, {})
    before = (tmp_path / "run.json").read_bytes()
    given["config"]["mask"]["confidence"]["background_power"] = 2.5
    given["classes"] = ["cat", "cow", "x" * 100]
    del given["model"]
    with pytest.raises(ValueError) as caught:
        create_or_verify_manifest(tmp_path, given, {})
    assert str(caught.value) == (
        f"{tmp_path / 'run.json'} is of a run with other settings (config.mask.confidence.background_power: 1 → 2.5; "
        f'model: "tiny" → absent; classes[1]: "dog" → "cow"; classes[2]: absent → "{"x" * 58}…); '
        "choose another folder, give the same settings, or remove what earlier runs wrote with --overwrite"
    )
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("differing", "more"), [(10, ""), (11, "0 → 1; and 1 more); "), (500, "0 → 1; and 490 more); ")]
)
def test_at_most_ten_differences_are_told(tmp_path: Path, differing: int, more: str) -> None:
    create_or_verify_manifest(tmp_path, {"words": [0] * differing}, {})
    with pytest.raises(ValueError) as caught:
        create_or_verify_manifest(tmp_path, {"words": [1] * differing}, {})
    assert str(caught.value).count("0 → 1") == 10
    assert more in str(caught.value) and ("more" in str(caught.value)) == bool(more)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": {}}, {"a": {"b": 1}}, "a: {} → absent; a.b: absent → 1"),
        ({"a": None}, {"a": 0}, "a: null → 0"),
        ({}, {"a": "absent"}, 'a: absent → "absent"'),
        ({"a": 1}, {}, "a: 1 → absent"),
    ],
)
def test_differences_of_kind_are_told(tmp_path: Path, old: dict[str, Any], new: dict[str, Any], told: str) -> None:
    create_or_verify_manifest(tmp_path, old, {})
    with pytest.raises(ValueError) as caught:
        create_or_verify_manifest(tmp_path, new, {})
    assert f"settings ({told}); " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("\xff", "can't decode byte"),
        ('{"settings": {"a": NaN}}', "NaN is no JSON"),
        ("[]", "it has no 'settings'"),
        ('{"config": {}}', "it has no 'settings'"),
        ('{"settings": {"a": 1}, "digest": "0"}', "its 'digest' is not that of its 'settings'; were they edited"),
    ],
)
def test_what_is_no_record_of_a_run_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    (tmp_path / "records").mkdir()
    for refused in (lambda: read_manifest(tmp_path), lambda: create_or_verify_manifest(tmp_path, SETTINGS, {})):
        with pytest.raises(
            ValueError, match=rf"run\.json is no record of a run: .*{why}.*`clipes repair .*--overwrite"
        ):
            refused()
    assert (tmp_path / "run.json").read_text("latin-1") == text


def test_a_folder_or_a_link_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "a" / "run.json").mkdir(parents=True)
    with pytest.raises(ValueError, match="is a link or no file"):
        create_or_verify_manifest(tmp_path / "a", SETTINGS, {})
    create_or_verify_manifest(tmp_path / "b", SETTINGS, {})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").symlink_to(tmp_path / "b" / "run.json")
    with pytest.raises(ValueError, match="is a link or no file"):
        create_or_verify_manifest(tmp_path / "c", SETTINGS, {})


def test_no_record_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no run\.json; give the --out folder"):
        read_manifest(tmp_path)


def test_without_hard_links_it_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert create_or_verify_manifest(tmp_path, SETTINGS, {}) == read_manifest(tmp_path)["digest"]
    assert os.listdir(tmp_path) == ["run.json"]


def test_other_errors_of_the_disk_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="No space left"):
        create_or_verify_manifest(tmp_path, SETTINGS, {})
    assert os.listdir(tmp_path) == []


def test_who_comes_second_reads_what_the_first_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes its run.json just before ours gets its name."""
    link = os.link

    def late(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        create_or_verify_manifest(tmp_path, {"model": "the first"}, {})
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(ValueError, match='model: "the first" → "tiny"'):
        create_or_verify_manifest(tmp_path, SETTINGS, {})
    assert read_manifest(tmp_path)["settings"] == {"model": "the first"}
    assert os.listdir(tmp_path) == ["run.json"]


RACE = """
import json, multiprocessing, sys
from pathlib import Path
from clipes.store.manifest import create_or_verify_manifest

def race(folder, number):
    for turn in range(20):
        for name, settings in (("same", {"model": "m"}), ("other", {"model": number})):
            barrier.wait()
            try:
                create_or_verify_manifest(folder / name / str(turn), settings, {"number": number})
                queue.put((name, turn, number))
            except ValueError:
                queue.put((name, turn, None))

context = multiprocessing.get_context("fork")
barrier, queue = context.Barrier(8), context.Queue()
processes = [context.Process(target=race, args=(Path(sys.argv[1]), number)) for number in range(8)]
for process in processes:
    process.start()
print(json.dumps([queue.get(timeout=60) for _ in range(8 * 2 * 20)]))
"""


@pytest.mark.skipif(os.name != "posix", reason="the processes are forked")
def test_eight_processes_at_once(tmp_path: Path) -> None:
    """With equal settings all may go on, with others only the one whose run.json it is."""
    done = subprocess.run([sys.executable, "-c", RACE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)
    for name in ("same", "other"):
        for turn in range(20):
            won = [number for kind, at, number in results if (kind, at) == (name, turn) and number is not None]
            found = read_manifest(tmp_path / name / str(turn))
            assert sorted(won) == (list(range(8)) if name == "same" else [found["number"]])
            assert found["settings"] == {"model": "m" if name == "same" else found["number"]}
            assert os.listdir(tmp_path / name / str(turn)) == ["run.json"]
