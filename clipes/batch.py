"""Many images to mask files: read, generate, write, and an account of what failed."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from clipes._version import __version__
from clipes.datasets import Sample
from clipes.image import open_image
from clipes.result import PseudoMask
from clipes.vocabulary import Vocabulary
from clipes.writer import sweep, write_json

if TYPE_CHECKING:  # it loads torch, and the checks here are done before that
    from clipes.generator import MaskGenerator


SAVED = {"confidence": ".png", "cams": ".npz"}
"""The folders beside the masks, of confidences and maps, and their files' suffixes."""

MapsKind = Literal["patch", "full"]


@dataclass(frozen=True)
class Outcome:
    """How one image ended: its mask file, or why there is none; the error begins with the image's path."""

    sample: Sample
    mask: Path | None
    error: str = ""


def check_labels(samples: Iterable[Sample], vocabulary: Vocabulary) -> None:
    """Raise ValueError for the first label that is no class, with near names and where it was read."""
    for sample in samples:
        try:
            vocabulary.ids(sample.labels)
        except ValueError as error:
            raise ValueError(f"{sample.origin}: {error}" if sample.origin else str(error)) from error


def check_folder(
    source: str | os.PathLike[str],
    samples: Iterable[Sample],
    folder: str | os.PathLike[str],
    class_names: Sequence[str],
) -> None:
    """Raise ValueError if masks in ``folder`` would replace what no run with these classes wrote, or later be taken
    for images of ``source``.

    Raises NotADirectoryError if ``folder`` is a file.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder} is a file; give a folder for the masks")
    ours = _is_ours(Path(folder), class_names)
    root, would_be_found = Path(folder).resolve(), finder(Path(source))
    for sample in samples:
        first = sample.id.split("/")[0]
        if first in SAVED and sample.id != first:
            raise ValueError(
                f"{sample.image}: in the output, {first}/ is for what is saved beside the masks; rename the folder, or "
                "run it by itself"
            )
        if would_be_found(root / f"{sample.id}.png"):
            raise ValueError(
                f"the output folder {folder} lies in the source {source}, so that the next run would take "
                "the masks for images; choose a folder outside it"
            )
        path = mask_path(sample, folder)
        if path.is_dir() or (path.exists() and not ours):
            raise ValueError(
                f"{path} exists and is no mask of an earlier run with these classes; choose another folder"
            )


def _class_table(class_names: Sequence[str]) -> dict[str, str]:
    """What ``classes.json`` holds: id to name."""
    return {str(index): name for index, name in enumerate(("background", *class_names))}


def _is_ours(folder: Path, class_names: Sequence[str]) -> bool:
    """Whether a run with these classes has written to ``folder``; ValueError if one with others has."""
    file = folder / "classes.json"
    if not file.exists():
        return False
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if found != _class_table(class_names):
        raise ValueError(f"{file} is of other classes or no clipes file; choose another folder for these masks")
    return True


def mask_path(sample: Sample, folder: str | os.PathLike[str]) -> Path:
    """``folder/ID.png``. Raises ValueError if that is outside the folder, or the sample's image itself."""
    path = Path(folder, f"{sample.id}.png")
    if os.path.isabs(sample.id) or ".." in path.relative_to(folder).parts:
        raise ValueError(f"{sample.image}: its id {sample.id!r} leads out of the output folder; use a relative one")
    inside(path, folder)
    if isinstance(sample.image, Path) and path.exists() and sample.image.exists() and path.samefile(sample.image):
        raise ValueError(f"{sample.image}: its mask would replace it; choose another folder than {folder}")
    return path


def inside(path: Path, folder: str | os.PathLike[str]) -> Path:
    """``path`` itself; ValueError if a link leads it out of ``folder``."""
    if not path.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{path} leads out of the output folder through a link; remove the link")
    return path


def write_masks(
    generator: MaskGenerator,
    samples: Iterable[Sample],
    folder: str | os.PathLike[str],
    batch_size: int | None = None,
    *,
    save_confidence: bool = False,
    save_cams: MapsKind | None = None,
    record: Mapping[str, Any] | None = None,
) -> Iterator[Outcome]:
    """Write ``folder/ID.png`` for every sample, and what is beside them, lazily, in order.

    ``batch_size`` images (None: the generator's ``default_batch_size``) are read and encoded together. An
    image that cannot be read, or whose maps are not finite, or that alone is too large for the memory, yields
    an outcome with an error, and the others are done. A file is whole or absent.

    Beside the masks: ``classes.json`` (id to name); ``run.json``, the settings and what ``record`` adds to them;
    ``confidence/ID.png`` if ``save_confidence`` (grey, 255 for 1); ``cams/ID.npz`` if ``save_cams`` (see
    :mod:`clipes.maps`), ``"patch"`` on the patch grid, ``"full"`` at the image's size, too.

    Raises ValueError for a ``batch_size`` below 1, and OSError when the folder cannot be written to (a full
    disk, no permission): nothing would go well then.
    """
    size = generator.default_batch_size if batch_size is None else batch_size
    if size < 1:
        raise ValueError(f"batch_size is {size}; it must be at least 1")
    if save_cams not in (None, "patch", "full"):
        raise ValueError(f"save_cams is {save_cams!r}; it is 'patch', 'full' or None")
    run = {"clipes": __version__, "config": generator.config.to_dict(), **(record or {})}

    return _written(generator, iter(samples), Path(folder), size, run, partial(_save, save_confidence, save_cams))


def _save(confidence: bool, cams: MapsKind | None, result: PseudoMask, sample: Sample, folder: Path) -> Path:
    """Write a result's files, and remove those that an earlier run left and this one does not renew."""
    path = mask_path(sample, folder)
    beside = {name: inside(folder / name / f"{sample.id}{suffix}", folder) for name, suffix in SAVED.items()}
    for stale in beside.values():
        stale.unlink(missing_ok=True)
    result.save(path)
    if confidence:
        result.save_confidence(beside["confidence"])
    if cams:
        result.save_cams(beside["cams"], full=cams == "full")
    return path


def _record(folder: Path) -> dict[str, Any]:
    """What ``run.json`` holds; empty where it cannot be read."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _makes_maps(run: Mapping[str, Any]) -> str:
    """The part of a run's record on which its maps depend."""
    given = {
        name: value for name, value in run.items() if name not in ("clipes", "source", "classes", "preset", "config")
    }
    config = run.get("config") if isinstance(run.get("config"), dict) else {}
    stages = {name: value for name, value in (config or {}).items() if name not in ("refine", "mask")}
    return json.dumps([given, stages], sort_keys=True, default=str)


def _written(
    generator: MaskGenerator,
    samples: Iterator[Sample],
    folder: Path,
    size: int,
    run: Mapping[str, Any],
    save: Callable[[PseudoMask, Sample, Path], Path],
) -> Iterator[Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    taken = [name for name in (*SAVED, "run.json") if os.path.lexists(folder / name)]
    if not _is_ours(folder, generator.class_names) and taken:
        raise ValueError(f"{folder / taken[0]} is not of an earlier run; choose another folder for the masks")
    if "cams" in taken and _makes_maps(run) != _makes_maps(_record(folder)):
        raise ValueError(f"{folder / 'cams'} holds maps of other settings; choose another folder, or remove that one")
    write_json(folder / "classes.json", _class_table(generator.class_names))
    write_json(folder / "run.json", run)
    while batch := list(islice(samples, size)):
        opened = [_opened(sample, folder) for sample in batch]
        good = [(image, sample) for image, sample in zip(opened, batch, strict=True) if isinstance(image, Image.Image)]
        made = iter(_made(generator, good))
        for image, sample in zip(opened, batch, strict=True):
            result = image if isinstance(image, str) else next(made)
            if isinstance(result, str):
                yield Outcome(sample, None, _named(sample, result))
            else:
                yield Outcome(sample, save(result, sample, folder))


def _opened(sample: Sample, folder: Path) -> Image.Image | str:
    """The sample's image, or why it cannot be had."""
    try:
        mask_path(sample, folder)
        return open_image(sample.image)
    except (ValueError, OSError, MemoryError) as error:
        return str(error) or "out of memory"


def _made(generator: MaskGenerator, batch: Sequence[tuple[Image.Image, Sample]]) -> list[PseudoMask | str]:
    """The result of each image, or why there is none; a batch that fails is halved down to the culprit."""
    if not batch:
        return []
    try:
        return list(generator.generate([image for image, _ in batch], [s.labels for _, s in batch], len(batch)))
    except (ValueError, FloatingPointError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        cause = str(error)
    # Out of the handler: the error's traceback keeps the failed batch's tensors alive.
    if len(batch) == 1:
        return [cause or "out of memory"]
    middle = len(batch) // 2
    return [*_made(generator, batch[:middle]), *_made(generator, batch[middle:])]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` is torch's, of a GPU or of its allocator on a CPU, for want of memory."""
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


def _named(sample: Sample, reason: str) -> str:
    path = str(sample.image)
    return reason if reason.startswith(f"{path}:") else f"{path}: {reason.removesuffix(f': {path}')}"


def finder(source: Path) -> Callable[[Path], bool]:
    """Return a function that says whether a resolved path would be among the images of a folder or a pattern."""
    if source.is_dir():
        root = source.resolve()
        return lambda path: path.is_relative_to(root)
    if source.exists() or not glob.has_magic(str(source)):
        return lambda path: False
    fixed = list(takewhile(lambda part: not glob.has_magic(part), source.parts))
    base, rest = Path(*fixed).resolve(), source.parts[len(fixed) :]
    if "**" in rest:
        return lambda path: path.is_relative_to(base) and path.match(rest[-1])
    pattern = os.sep.join((glob.escape(str(base)), *rest))
    return lambda path: path.match(pattern)
