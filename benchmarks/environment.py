"""Where and with what a measurement was made, and the flag that all scripts have: ``--smoke``."""

import argparse
import datetime
import platform
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy
import open_clip
import PIL
import torch

import clipes


def processor() -> str:
    """The accelerator's or the processor's name, and how many threads torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{models[0] if models else platform.processor()}, {threads} thread{'s' * (threads > 1)}"


def describe() -> str:
    """One paragraph: date, commit, device, versions."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = {
        "clipes": clipes.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
    }
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{datetime.date.today()}, after commit {commit.stdout.strip() or 'unknown'}; {processor()}; {listed}."


_SCRATCH: list[tempfile.TemporaryDirectory[str]] = []  # each is removed when the process ends


def parse_options(parser: argparse.ArgumentParser, **smallest: Any) -> argparse.Namespace:
    """The options of a script. With ``--smoke`` they are the ``smallest``, and what is written is thrown away, but for
    paths that are given: ``--out``, ``--picture``.
    """
    parser.add_argument("--smoke", action="store_true", help="the smallest setting; its figures mean nothing")
    options = parser.parse_args()
    if options.smoke:
        vars(options).update(smallest)
        _SCRATCH.append(tempfile.TemporaryDirectory(prefix="smoke-"))
        scratch = Path(_SCRATCH[-1].name)
        for folder in ("benchmarks", "docs"):
            (scratch / folder).mkdir()
        for name in ("out", "picture"):
            path = parser.get_default(name)
            if path is not None and getattr(options, name) == path:
                setattr(options, name, scratch / path.name if path.suffix else scratch)
    return options


def write_section(page: Path, title: str, lines: list[str]) -> None:
    """Replace the section ``# title`` of a page that several scripts write, or append it; print it, too."""
    section = "\n".join([f"# {title}", "", *lines]) + "\n"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = [part for part in re.split(r"(?m)^(?=# )", old) if part.strip()]
    kept = [section if part.startswith(f"# {title}\n") else f"{part.rstrip()}\n" for part in sections]
    page.write_text("\n".join(kept if section in kept else [*kept, section]), encoding="utf-8")
    print(section)
