"""clipes.io.paths and clipes.io.walk: names that every file system takes, links that lead out, folders walked once."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipes.io.paths import check_inside, check_name
from clipes.io.walk import walk_files


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("a\0b", "holds a control character"),
        ("a\nb", "holds a control character"),
        ("a\x85", "holds a control character"),
        ("", "no relative path free of"),
        ("/a", "no relative path free of"),
        ("a//b", "no relative path free of"),
        ("a/../b", "no relative path free of"),
        ("./a", "no relative path free of"),
        ("\ud800", "cannot be the name of a file: surrogates not allowed"),
        ("é" * 124, "would be 252 bytes long, above 250"),
        ("a" * 251 + "/b", "would be 251 bytes long, above 250"),
    ],
)
def test_names_that_no_file_can_have(name: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        check_name(name, ".png")


@pytest.mark.parametrize("name", ["a", "été/日本", "caf\udce9", "a" * 246, "a" * 250 + "/b", "..a/b..", "-a/_/b-"])
def test_names_that_a_file_can_have(name: str) -> None:
    check_name(name, ".png")


def test_links_that_lead_out_of_a_folder(tmp_path: Path) -> None:
    for name in ("m/real", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "m/out").symlink_to("../elsewhere")
    (tmp_path / "m/in").symlink_to("real")
    for name in ("a", "in/a", "real/sub/a"):
        check_inside(tmp_path / "m" / name, tmp_path / "m")
    with pytest.raises(ValueError, match="leads out of the output folder through a link; remove the link"):
        check_inside(tmp_path / "m" / "out" / "a", tmp_path / "m")


def test_a_folder_is_walked_once(tmp_path: Path) -> None:
    for name in (
        "b/x.png",
        "a.PNG",
        "b.c.png",
        "a.txt",
        ".hidden.png",
        "b/.h.png",
        "skip/x.png",
        "b/skip/x.png",
        "o/y.png",
    ):
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "m/b/loop").symlink_to("..")
    (tmp_path / "m/broken.png").symlink_to("nowhere")
    (tmp_path / "m/linked").symlink_to("o")
    names = ["a.PNG", "b/skip/x.png", "b/x.png", "b.c.png", "broken.png", "linked/y.png", "o/y.png"]
    assert list(walk_files(tmp_path / "m", {".png"}, skip={"skip"})) == names


@pytest.mark.parametrize("folder", ["out", "out/", "link", ".", "out/sub"])
@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "sub/a.png",
        "no/such/a.png",
        "away/a.png",
        "away/sub/a.png",
        "here/a.png",
        "sub/../a.png",
        "../out/a.png",
    ],
)
def test_inside_is_told_as_by_resolving_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("out/sub", "elsewhere/sub"):
        Path(place).mkdir(parents=True)
    Path("link").symlink_to("out")
    Path("out/away").symlink_to(tmp_path / "elsewhere")
    Path("out/here").symlink_to("sub")
    path = Path(folder) / name
    if path.parent.resolve().is_relative_to(Path(folder).resolve()):
        check_inside(path, folder)
    else:
        with pytest.raises(ValueError, match="leads out of the output folder through a link"):
            check_inside(path, folder)
