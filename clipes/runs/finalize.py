"""Masks decided again from saved maps: other thresholds, powers and refinements, without the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from clipes.config import Config
from clipes.datasets import Sample, find_images
from clipes.decision import decide_masks
from clipes.device.errors import is_out_of_memory
from clipes.ids import read_class_names
from clipes.io.atomic import remove_stale, write_bytes
from clipes.io.cams_npz import read_maps
from clipes.io.images import TarMember, open_image
from clipes.io.paths import inside
from clipes.result import PseudoMask
from clipes.store.layout import MANIFEST, SAVED
from clipes.store.manifest import overwrite_manifest, read_manifest, settings_digest
from clipes.store.output import encode_mask
from clipes.store.record import Recorder, Row
from clipes.store.store import Store

from .outcome import Outcome

MIXED = "finalize was stopped: some masks are of other settings than config says; run it again"
"""What ``run.json`` says while masks are decided again."""


@dataclass(frozen=True)
class SavedRun:
    """A folder that ``clipes generate --save-cams`` wrote. Made by :func:`read_run`.

    Attributes:
        folder: where the masks are.
        class_names: the data set's classes, in its order.
        config: the settings that the masks were made with.
        record: all of ``run.json``.
        ids: of the images whose maps are saved.
        unsaved: ids of masks whose maps are not.
    """

    folder: Path
    class_names: tuple[str, ...]
    config: Config
    record: dict[str, Any]
    ids: tuple[str, ...]
    unsaved: tuple[str, ...]


def read_run(folder: str | os.PathLike[str]) -> SavedRun:
    """The run of ``folder``.

    Raises FileNotFoundError where there is no run or none with maps, ValueError where its record cannot be read.
    """
    folder = Path(folder)
    record = read_manifest(folder)
    record.pop("mixed", None)
    try:
        config = Config.from_dict(record["settings"]["config"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST}: no record of a run: {error}") from error
    if record["settings"].get("output", {}).get("format") == "tar":
        raise ValueError(f"{folder} holds .tar shards, whose maps are not read; generate with --out-format png")
    ids = _ids(folder / "cams", ".npz")
    if not ids:
        raise FileNotFoundError(f"{folder} has no saved maps; make it with `clipes generate --save-cams`")
    masks = [name for name in _ids(folder, ".png") if name.split("/")[0] not in SAVED or "/" not in name]
    saved = set(ids)
    unsaved = tuple(name for name in masks if name not in saved)
    return SavedRun(folder, read_class_names(folder, None), config, record, ids, unsaved)


def finalize(run: SavedRun, config: Config, source: str | os.PathLike[str] | None = None) -> Iterator[Outcome]:
    """Decide the masks of ``run`` again with the refinement and the decision of ``config``, in place, lazily.

    Saved confidences are renewed with their masks; ``run.json`` holds the new settings at the end, if any mask does.
    ``source`` is where the images are, as in ``clipes generate``; it is read only if ``config.refine`` is not None,
    for it needs their colours. An image whose maps or pixels cannot be read yields an outcome with an error; its mask
    stays.

    Raises ValueError for a ``config`` whose image, CAM or affinity differ from the run's: those need the network.
    FileNotFoundError for a missing source; other errors as :func:`clipes.datasets.find_images`.
    """
    for name in ("image", "cam", "affinity"):
        if getattr(config, name) != getattr(run.config, name):
            raise ValueError(f"{name} settings differ from those of the saved maps; run `clipes generate` for that")
    if config.refine is not None and source is None:
        raise ValueError("a refinement by colours needs the images: give their source (--source), or --refine none")
    try:
        images = find_images(source) if config.refine is not None and source is not None else {}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; say where the images are (--source), or --refine none") from error
    return _finalized(run, config, images)


def _finalized(run: SavedRun, config: Config, images: Mapping[str, Path | TarMember]) -> Iterator[Outcome]:
    remove_stale(run.folder)
    settings = {**run.record["settings"], "config": config.to_dict()}
    recorder = None
    try:
        for name in run.ids:
            maps_path = run.folder / "cams" / f"{name}.npz"
            sample = Sample(name, images.get(name, maps_path), ())
            try:
                result = _decided(run, config, images, name)
                path = inside(run.folder / f"{name}.png", run.folder)
                beside = inside(run.folder / "confidence" / f"{name}.png", run.folder)
            except (ValueError, FloatingPointError, OSError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                    raise
                reason = str(error) or "out of memory"
                yield Outcome(sample, "failed", reason.removeprefix(f"{sample.image}: "))
                continue
            if recorder is None:
                overwrite_manifest(run.folder, run.record["settings"], {**run.record, "mixed": MIXED})
                recorder = _new_record(run, settings)
            saves_confidence = (run.folder / "confidence").is_dir()
            beside.unlink(missing_ok=True)
            data = encode_mask(result)
            write_bytes(path, data)
            if saves_confidence:
                result.save_confidence(beside)
            checksum = hashlib.sha256(data).hexdigest()
            recorder.add(Row(name, "ok", labels=result.labels, size=result.size, checksum=checksum))
            yield Outcome(sample, "ok")
        if recorder:
            overwrite_manifest(run.folder, settings, run.record)
    finally:
        if recorder:
            recorder.close()


def _new_record(run: SavedRun, settings: dict[str, Any]) -> Recorder:
    """A record of the new settings, which holds the images that have no mask to decide again."""
    with Store(run.folder, run.record) as store:
        total = store.status().total or len(run.ids)
        recorder = Recorder(run.folder, {"settings": settings_digest(settings), "total": total})
        try:
            store.copy_failures(recorder)
        except BaseException:
            recorder.close()
            raise
    return recorder


def _decided(run: SavedRun, config: Config, images: Mapping[str, Path | TarMember], name: str) -> PseudoMask:
    """The result of an image from its saved maps; ValueError if they, or its pixels, do not fit."""
    maps_path = run.folder / "cams" / f"{name}.npz"
    class_ids, patch_cams, (height, width) = read_maps(maps_path, len(run.class_names))
    if config.refine is None:
        image = Image.new("RGB", (width, height))  # only its size is looked at
    elif name not in images:
        raise ValueError(f"{maps_path}: no image {name!r} in the source; say where the images are (--source)")
    else:
        image = open_image(images[name])
    if (image.height, image.width) != (height, width):
        raise ValueError(
            f"{images[name]} is {image.height} x {image.width}, its maps are of {height} x {width}; "
            "it is another picture than the one that the maps were made from"
        )
    maps = torch.from_numpy(patch_cams)
    return decide_masks([image], [class_ids.tolist()], [maps], run.class_names, config)[0]


def _ids(folder: Path, suffix: str) -> tuple[str, ...]:
    files = folder.rglob(f"*{suffix}") if folder.is_dir() else ()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in files if path.is_file())
    return tuple(sorted(name for name in names if not name.rpartition("/")[2].startswith(".")))
