"""Folders of masks evaluated against folders of truth: which files belong together, and the counts over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from clipes.ids import read_class_names
from clipes.io.paths import as_spelled
from clipes.io.walk import walk_files

from .accumulate import Progress, Total, accumulate
from .judge import AS_WRITTEN, Judge, judge_files
from .result import Evaluation

AnyPath = str | os.PathLike[str]


class MatchedFiles(NamedTuple):
    """The relative names, with forward slashes and sorted, of a folder of masks and a folder of truth files."""

    names: list[str]  # in both
    missing: list[str]  # truth without a mask
    extra: list[str]  # masks without truth
    respelled: Mapping[str, str] = {}  # names of masks whose truth has the name in another form of Unicode


def evaluate(
    masks: AnyPath,
    truth: AnyPath,
    class_names: Sequence[str] | None = None,
    *,
    judges: Sequence[Judge] = (),
    workers: int | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> Evaluation:
    """Judge the PNG masks of a folder against the truth files of the same relative names, or one file against one.

    Files are palette, 8-bit or 16-bit grey PNGs of ids: 0 background, 1..K classes, 255 (65535 above 254 classes)
    ignore; colours mean nothing. Hidden files are left out, and, beside a ``classes.json``, the folders
    ``confidence`` and ``cams``. A file that cannot be judged is reported, and the others are judged.

    Args:
        masks, truth: two folders or two files.
        class_names: K names, the background apart; None: those of the ``classes.json`` beside the masks.
        judges: variants of the masks to be judged in the same pass, such as :data:`clipes.evaluation.judge.SWEEPS`, as
            far as their files exist: they become :attr:`Evaluation.sweeps`.
        workers: processes, at most one for 16 files; None: one per CPU. The result is the same. Where processes
            are not forked (macOS, Windows), a script needs its ``if __name__ == "__main__":``.
        progress: wraps the files in a progress bar; called with an iterable, its length and a unit.

    Raises:
        FileNotFoundError: ``masks`` or ``truth`` does not exist.
        ValueError: no mask has the name of a truth file; no class names, or others than in ``classes.json``; files for
            none of the ``judges``.
        ChildProcessError: a worker was killed.
    """
    masks, truth = Path(masks), Path(truth)
    matched = match_files(masks, truth)
    names = read_class_names(masks, class_names)
    saved = {judge: _saved_files(judge, masks, matched.names) for judge in judges}
    chosen = [AS_WRITTEN, *(judge for judge in judges if saved[judge])]
    if judges and len(chosen) == 1:
        raise ValueError(
            f"{masks} holds no confidence and no maps of its masks to sweep over; "
            "run `clipes generate` with --save-confidence or --save-cams"
        )

    def source(judge: Judge, name: str) -> Path | None:
        if judge is AS_WRITTEN:
            return masks / name
        file = name[:-4] + judge.suffix
        return masks / judge.folder / file if file in saved[judge] else None

    files = ((name, truth / matched.respelled.get(name, name)) for name in matched.names)
    tasks = (
        (name or masks.name, masks / name, true, [source(judge, name) for judge in chosen]) for name, true in files
    )
    shapes = [(judge.variants, 6, len(names) + 1) for judge in chosen]
    count = partial(judge_files, chosen, len(names))
    plain, *others = accumulate(count, tasks, len(matched.names), shapes, workers, progress)
    sweeps = tuple(_evaluation(names, judge, total) for judge, total in zip(chosen[1:], others, strict=True))
    return _evaluation(names, AS_WRITTEN, plain, matched, sweeps)


def match_files(masks: Path, truth: Path) -> MatchedFiles:
    """Return which PNG files of two folders have a name in common; two files are one pair with an empty name.

    Where the exact name has no truth, one in another form of Unicode counts.

    Raises FileNotFoundError for a path that does not exist, ValueError for a file and a folder, and when no name
    is in both.
    """
    for path, what in ((masks, "masks"), (truth, "truth")):
        if not path.exists():
            raise FileNotFoundError(f"no such folder or file of {what}: {path}")
    if masks.is_file() and truth.is_file():
        return MatchedFiles([""], [], [])
    if masks.is_file() or truth.is_file():
        raise ValueError(f"one of {masks} and {truth} is a file, one a folder; give two folders or two files")
    mask_names, truth_names = (set(_mask_names(folder)) for folder in (masks, truth))
    for folder, names in ((masks, mask_names), (truth, truth_names)):
        if not names:
            raise ValueError(f"no PNG file in {folder}; masks and truth are PNG files of class ids")
    places = {name: as_spelled(str(truth / name)) for name in mask_names - truth_names if not name.isascii()}
    respelled = {name: Path(place).relative_to(truth).as_posix() for name, place in places.items()}
    respelled = {name: other for name, other in respelled.items() if other in truth_names - mask_names}
    truth_names = (truth_names - set(respelled.values())) | respelled.keys()
    if not mask_names & truth_names:
        raise ValueError(
            f"no mask has the name of a truth file: {min(mask_names)!r} in {masks}, {min(truth_names)!r} in {truth}; "
            "give the folders below which the names agree"
        )
    both, missing, extra = mask_names & truth_names, truth_names - mask_names, mask_names - truth_names
    return MatchedFiles(sorted(both), sorted(missing), sorted(extra), respelled)


def _mask_names(folder: Path) -> Iterator[str]:
    is_run = (folder / "classes.json").is_file()  # `clipes generate` saves these two folders beside its masks
    return walk_files(folder, (".png",), ("confidence", "cams") if is_run else ())


def _saved_files(judge: Judge, masks: Path, names: Sequence[str]) -> frozenset[str]:
    """The files that a judge needs, of the masks in ``names`` alone."""
    folder = masks / judge.folder
    saved = frozenset(walk_files(folder, (judge.suffix,)) if folder.is_dir() else ())
    return saved & {name[:-4] + judge.suffix for name in names}


def _evaluation(
    names: tuple[str, ...],
    judge: Judge,
    total: Total,
    matched: MatchedFiles | None = None,
    sweeps: tuple[Evaluation, ...] = (),
) -> Evaluation:
    return Evaluation(
        class_names=names,
        counts=total.counts,
        images=total.images,
        missing=tuple(matched.missing) if matched else (),
        extra=tuple(matched.extra) if matched else (),
        mis_sized=tuple(total.mis_sized),
        failed=tuple(total.failed),
        setting=judge.setting,
        values=judge.values,
        sweeps=sweeps,
    )
