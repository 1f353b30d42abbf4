"""``clipes show``: the file it writes, what a terminal is sent, and what is refused before the model is loaded."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generating import TOY
from PIL import Image

from clipes.cli import main
from clipes.commands import inline
from clipes.commands.inline import escapes, find_protocol, iterm, kitty
from clipes.generator import MaskGenerator, load
from clipes.scenes import draw_scenes

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a drawn picture of a cat and a flower, and nothing else."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(_scene().image).save("scene.png")


def _scene():  # type: ignore[no-untyped-def]
    return next(scene for scene in draw_scenes(60, 3_102_000, (60, 80)) if len(scene.labels) == 2)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run ``clipes show`` on the picture; returns its exit code, what it printed and its errors."""

    def run(*arguments: object, image: str = "scene.png", labels: str | None = None) -> tuple[int, str, str]:
        capsys.readouterr()
        names = ",".join(_scene().labels) if labels is None else labels
        try:
            code = main(["show", image, "--labels", names, *map(str, arguments)])
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]
        out, err = capsys.readouterr()
        return code, out, err.replace(TOY, "")

    return run


@pytest.fixture
def plot() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, the extra `plot`, is not installed")


@pytest.mark.usefixtures("plot")
def test_the_figure_is_written_beside_where_one_is(said: Said) -> None:
    code, out, err = said()
    assert (code, err) == (0, "")
    assert out.endswith("Look at scene-clipes.png\n") and "\033" not in out
    assert sorted(os.listdir()) == ["scene-clipes.png", "scene.png"]
    with Image.open("scene-clipes.png") as image:
        assert image.width == 2070 and image.info["Software"] == "clipes show"


@pytest.mark.usefixtures("plot")
def test_what_each_label_won_is_said(said: Said, tiny: MaskGenerator) -> None:
    labels = (*_scene().labels, "umbrella")
    out = said("--refine", "none", "--ignore-below", "0.6", labels=",".join(labels))[1]
    config = replace(tiny.config, refine=None, mask=replace(tiny.config.mask, ignore_below=0.6))
    result = load(config=config, device="cpu")("scene.png", labels)
    won = {segment.label: segment for segment in result.segments()}
    assert won and len(won) < 3
    for label in labels:
        here = won.get(label)
        share = f"{here.mask.mean():.1%} of the picture, confidence {here.confidence:.2f}" if here else "nowhere"
        assert re.search(rf"^{label} +{re.escape(share)}$", out, re.M)
    assert re.search(rf"^ignored +{(result.mask == 255).mean():.1%}$", out, re.M)


@pytest.mark.usefixtures("plot")
@pytest.mark.parametrize("name", ["a.svg", "sub/a.pdf", "a.PNG"])
def test_our_own_file_is_replaced_in_every_format(said: Said, name: str) -> None:
    assert said("--out", name)[0] == 0
    first = Path(name).stat().st_mtime_ns
    assert said("--out", name)[0] == 0
    assert Path(name).stat().st_mtime_ns > first


def test_an_overlay_needs_no_matplotlib(said: Said, tiny: MaskGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert said("--overlay")[0] == 0
    with Image.open("scene-clipes.png") as image:
        assert image.info["Software"] == "clipes show"
        expected = tiny("scene.png", _scene().labels).overlay(legend=True)
        assert (np.asarray(image) == np.asarray(expected)).all()


@pytest.mark.usefixtures("plot")
def test_our_file_is_known_by_its_beginning_and_its_end(said: Said) -> None:
    for before, after, code in ((100, 200_000, 0), (200_000, 100, 0), (100_000, 100_000, 2)):
        Path("a.pdf").write_bytes(bytes(before) + b"clipes show" + bytes(after))
        assert said("--out", "a.pdf")[0] == code


@pytest.mark.usefixtures("never_loaded")
class TestRefusals:
    """All before the model is loaded."""

    def _refused(self, outcome: tuple[int, str, str], message: str, code: int = 2) -> None:
        assert outcome[:2] == (code, "") and re.search(message, outcome[2]), outcome
        assert "Traceback" not in outcome[2]

    def test_no_matplotlib(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        self._refused(said(), r"^clipes show: plots need matplotlib .*: pip install matplotlib, or in a clone")

    def test_labels(self, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
        self._refused(said(labels="catt"), r"unknown class 'catt' in scenes; did you mean 'cat'\?")
        self._refused(said(labels=""), "--labels: it is empty")
        self._refused(said(labels=" , "), r"^clipes show: --labels is ' , ', which names no class; say what")
        with pytest.raises(SystemExit):
            main(["show", "scene.png"])
        assert "the following arguments are required: --labels" in capsys.readouterr().err
        self._refused(said("--model", "ViT-B-16"), "no classes given for ViT-B-16; pass --classes")

    def test_a_name_too_long_for_a_file(self, said: Said) -> None:
        Path("scene.png").rename(f"{'é' * 120}.png")
        outcome = said(image=f"{'é' * 120}.png")
        self._refused(outcome, r"^clipes show: é{39}… is above 250 bytes long; give a shorter --out")

    @pytest.mark.parametrize("data", [b"", b"no picture", None])
    def test_a_bad_picture(self, said: Said, data: bytes | None) -> None:
        whole = Path("scene.png").read_bytes()
        Path("bad.png").write_bytes(whole[:400] if data is None else data)
        self._refused(said(image="bad.png"), r"^bad\.png: ", code=3)
        assert sorted(os.listdir()) == ["bad.png", "scene.png"]

    def test_no_picture(self, said: Said) -> None:
        self._refused(said(image="none.png"), "none.png")
        os.mkdir("photos")
        self._refused(said(image="photos"), "photos is a folder; give one picture, or use `clipes generate`")

    def test_files_of_others(self, said: Said) -> None:
        for name in ("scene-clipes.png", "a.pdf", "a.svg"):
            Path(name).write_bytes(b"precious")
            self._refused(
                said("--out", name), f"{name} is there and not of `clipes show`; move it away or give another"
            )
            assert Path(name).read_bytes() == b"precious"
        self._refused(said(), "scene-clipes.png is there and not of")
        Image.new("RGB", (4, 4)).save("b.png")
        self._refused(said("--overlay", "--out", "b.png"), "b.png is there and not of")
        os.symlink("nowhere", "c.png")
        self._refused(said("--out", "c.png"), "c.png is there and not of")
        Path("ours.svg").write_bytes(b"clipes show")
        os.symlink("ours.svg", "e.svg")
        self._refused(said("--out", "e.svg"), "e.svg is there and not of")
        os.mkdir("d.png")
        self._refused(said("--out", "d.png"), "d.png is there and not of")

    def test_the_picture_itself(self, said: Said) -> None:
        self._refused(said("--out", "scene.png"), "scene.png is the picture itself; give another --out")

    def test_other_formats(self, said: Said) -> None:
        self._refused(said("--out", "a.jpg"), r"a plot is \.png, \.svg, \.pdf, not 'a\.jpg'")
        self._refused(said("--overlay", "--out", "a.svg"), r"an overlay is a PNG file, not 'a\.svg'; end its name in")

    def test_places_where_nothing_can_be_written(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        self._refused(said("--out", "scene.png/a.png"), "scene.png is no folder; give another --out")
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        self._refused(said("--out", "sub/a.png"), "cannot be written to; give an --out elsewhere")

    def test_settings(self, said: Said) -> None:
        self._refused(said("--refine", "none", "--crf-iterations", "3"), "--crf-iterations needs --refine crf")
        self._refused(said("--ignore-below", "7"), "ignore_below")


KITTY, ITERM = {"TERM": "xterm-kitty"}, {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}
XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (KITTY, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        (XTERM | {"TERM_PROGRAM": "ghostty"}, "kitty"),
        (XTERM | {"KITTY_WINDOW_ID": "1"}, "kitty"),
        (XTERM | {"KONSOLE_VERSION": "220400"}, "kitty"),
        (XTERM | {"KONSOLE_VERSION": "211203"}, None),
        (XTERM | {"KONSOLE_VERSION": "new"}, None),
        (ITERM, "iterm"),
        (XTERM | {"TERM_PROGRAM": "WezTerm"}, "iterm"),
        (XTERM | {"TERM_PROGRAM": "mintty"}, "iterm"),
        (XTERM | {"LC_TERMINAL": "iTerm2"}, "iterm"),
        (XTERM, None),
        ({}, None),
        (XTERM | {"TERM_PROGRAM": "Apple_Terminal"}, None),
        (XTERM | {"TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, None),  # started from kitty
        (KITTY | {"TERM_PROGRAM": "iTerm.app"}, "kitty"),  # kitty, started from iTerm2
        (KITTY | {"TMUX": "/tmp/tmux-0/default,1,0"}, None),
        (ITERM | {"STY": "1.pts"}, None),
        (KITTY | {"ZELLIJ": "0"}, None),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),  # tmux on another machine
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, None),
    ],
)
def test_terminals_are_known_by_their_environment(environment: dict[str, str], expected: str | None) -> None:
    assert find_protocol(environment) == expected


def test_kittys_escapes_carry_the_file_in_chunks() -> None:
    png = np.random.default_rng(0).bytes(10_000)  # 13,336 of base64
    sent = re.findall(rb"\033_G([^;]*);([^\033]*)\033\\", kitty(png, 70))
    assert [keys for keys, _ in sent] == [b"a=T,f=100,c=70,q=2,m=1", b"q=2,m=1", b"q=2,m=1", b"q=2,m=0"]
    assert [len(chunk) for _, chunk in sent] == [4096, 4096, 4096, 1048]
    assert b64decode(b"".join(chunk for _, chunk in sent)) == png
    assert kitty(b"123", 1) == b"\033_Ga=T,f=100,c=1,q=2,m=0;MTIz\033\\"


def test_a_chunk_that_is_just_full_is_the_last() -> None:
    assert kitty(bytes(3072), 9).count(b"\033_G") == 1 and kitty(bytes(3073), 9).count(b"\033_G") == 2


def test_iterms_escape_carries_the_file_whole() -> None:
    assert iterm(b"123", 70) == b"\033]1337;File=inline=1;size=3;width=70;preserveAspectRatio=1:MTIz\a"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("width", "columns"), [(2000, 79), (160, 20), (161, 21), (1, 1)])
def test_a_picture_is_as_wide_as_it_is_and_no_wider_than_the_terminal(
    width: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    file = io.BytesIO()
    Image.new("RGB", (width, 30)).save(file, format="PNG")
    for environment, expected in ((KITTY, b",c=%d,q" % columns), (ITERM, b";width=%d;" % columns)):
        sent = escapes(file.getvalue(), environment, _Terminal())
        assert expected in sent and sent.endswith(b"\n")


def test_nothing_is_sent_where_no_picture_can_be_shown() -> None:
    assert escapes(b"", KITTY, io.StringIO()) == b""
    assert escapes(b"", XTERM, _Terminal()) == b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_is_sent_the_picture() -> None:
    import pty

    environment = {**os.environ, **KITTY, "COLUMNS": "60"}
    for name in ("TMUX", "STY", "ZELLIJ"):
        environment.pop(name, None)
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "clipes.cli", "show", "scene.png", "--labels", _scene().labels[0], "--overlay"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=environment) as process:
        os.close(writer)
        said = b""
        try:
            while part := os.read(reader, 1 << 16):
                said += part
        except OSError:  # Linux says so that the other side is closed
            pass
        os.close(reader)
        assert process.wait() == 0
    text, *sent = re.split(rb"(?=\033_G)", said)
    assert b"Look at scene-clipes.png" in text
    shown = b"".join(re.findall(rb"\033_G[^;]*;([^\033]*)\033\\", b"".join(sent)))
    assert b64decode(shown) == Path("scene-clipes.png").read_bytes()
