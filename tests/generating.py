"""`clipes` commands in this process, for tests: what they print, write and record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from clipes.cli import main
from clipes.datasets import Sample
from clipes.generator import MaskGenerator
from clipes.runs.generation import MasksFromImages
from clipes.runs.local_engine import MaskWriter
from clipes.runs.outcome import Outcome
from clipes.runs.run import Remaining, claim_folder, record_header
from clipes.runs.shards import WHOLE, Shard
from clipes.scenes import draw_scenes
from clipes.store.output import Output
from clipes.store.record import read_records
from clipes.store.row import Row

TOY = "model: tiny, a toy for drawings\n"
"""What a command that takes the bundled model says first; left out of what most tests read."""


class CliRun(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., CliRun]


def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs the command that its arguments, of any type, make up; wrong use gives its exit code, too."""

    def run(*arguments: object) -> CliRun:
        capsys.readouterr()
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return CliRun(code, out, err.replace(TOY, ""))

    return run


Run = Callable[..., CliRun]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `clipes generate` over photos/ into m/, unless told otherwise."""
    cli = command_line(capsys)

    def run(*arguments: object, source: str = "photos", labels: str = "cat,tree", out: str = "m") -> CliRun:
        return cli("generate", source, *(["--labels", labels] if labels else []), "--out", out, *arguments)

    return run


def draw(count: int, size: tuple[int, int] = (40, 56)) -> None:
    """Pictures in photos/."""
    for number, scene in enumerate(draw_scenes(count, 3_000_900, size)):
        Image.fromarray(scene.image).save(f"photos/{number:03}.png")


def rows(folder: str | Path = "m") -> dict[str, Row]:
    """The last row of each image."""
    return {row.id: row for record in read_records(folder) for row in record.rows()}


def files(folder: str | Path = "m") -> dict[str, bytes]:
    """All files by name, without the records: their names tell the time."""
    paths = (path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.parent.name != "records")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def masks(folder: str | Path = "m") -> dict[str, bytes]:
    """All masks by name."""
    return {name: data for name, data in files(folder).items() if name.endswith(".png")}


def mask_ids(path: str | Path) -> set[int]:
    """The ids in a mask file, without that of ignored pixels."""
    with Image.open(path) as image:
        return set(np.unique(np.asarray(image)).tolist()) - {255}


def same_as_clean(run: Run, folder: str = "m") -> bool:
    """Whether the folder has the masks of a run without faults."""
    assert run(out="clean")[0] == 0
    return masks(folder) == masks("clean")


def write_masks(
    generator: MaskGenerator,
    samples: Iterable[Sample],
    output: Output,
    *,
    shard: Shard = WHOLE,
    batch_size: int | None = None,
    readers: int = 0,
    skip: Collection[str] = (),
    stop: Callable[[], bool] = lambda: False,
    about: Mapping[str, Any] | None = None,
) -> Generator[Outcome, None, None]:
    """Write the masks of a list of samples, as a plan's run does those of a source.

    Arguments as in :class:`clipes.runs.run.Remaining` and :class:`clipes.runs.local_engine.MaskWriter`; errors, too.
    """
    with ExitStack() as stack:
        store = stack.enter_context(claim_folder(generator.settings, generator.class_names, output, about))
        header = {**record_header(store), "shard": str(shard)}
        source = MasksFromImages(generator)
        writer = MaskWriter(source, output, header, batch_size=batch_size, readers=readers, skip=skip, stop=stop)
        stack.enter_context(writer)
        yield from writer.write(Remaining(samples, store, output, shard, stop))
