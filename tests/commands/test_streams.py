"""Whatever becomes of stdout and stderr, the work goes on and the exit code is that of the outcome."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from generating import draw, rows

from clipes.cli import main

COUNT = 12


def shell(command: str) -> tuple[int, str]:
    """The exit code of clipes in a pipe of bash, and what the last program of the pipe printed."""
    script = f"set -o pipefail; {command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw(COUNT)
    return tmp_path


GENERATE = f"{sys.executable} -m clipes generate photos --labels cat,tree --out m"


def test_a_reader_that_ends_after_one_line(folder: Path) -> None:
    """As `head`, or a log collector that dies."""
    code, _ = shell(f"{GENERATE} 2>&1 | head -1")
    assert code == 0
    assert len(rows("m")) == COUNT and {row.status for row in rows("m").values()} == {"ok"}


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_outcome(folder: Path) -> None:
    for index in range(COUNT // 2):
        (folder / "photos" / f"{index:03}.png").write_bytes(b"broken")
    code, _ = shell(f"{GENERATE} 2>&1 | true")
    assert code == 3
    assert sorted(row.status for row in rows("m").values()) == ["failed"] * (COUNT // 2) + ["ok"] * (COUNT // 2)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full, which stands for a full disk")
@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_log_on_a_full_disk(folder: Path, stream: str) -> None:
    (folder / "photos" / "000.png").write_bytes(b"broken")
    code, _ = shell(f"{GENERATE} --max-failure-rate 0.5 {stream}> /dev/full")
    assert code == 0 and len(rows("m")) == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["1>&-", "1>&- 2>&-"])
def test_closed_streams(folder: Path, closed: str) -> None:
    code, _ = shell(f"{GENERATE} {closed}")
    assert code == 0 and len(rows("m")) == COUNT


def test_a_command_whose_output_is_its_result_ends_quietly(folder: Path) -> None:
    assert main(["generate", "photos", "--labels", "cat,tree", "--out", "m"]) == 0
    script = f"{sys.executable} -m clipes status m 2> error | true; echo ${{PIPESTATUS[0]}}"
    assert shell(script) == (0, "0\n")
    assert (folder / "error").read_text() == ""
