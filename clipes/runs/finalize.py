"""Masks decided again from saved maps: other thresholds, powers and refinements, without the network.

The loop is that of ``clipes generate``; the maps come from the run's files instead of the encoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from clipes.config import STAGES, Config, GivenRegionsConfig
from clipes.datasets.sample import AnySource
from clipes.ids import MANIFEST
from clipes.io.images import TarMember
from clipes.io.paths import existing_folders, resolved
from clipes.regions.folder import FoundRegions, find_regions
from clipes.regions.superpixels import check_installed
from clipes.store.images import run_images
from clipes.store.lease import take_lease
from clipes.store.manifest import MIXED, overwrite_manifest, settings_digest
from clipes.store.output import Output
from clipes.store.record import read_records
from clipes.store.row import Row
from clipes.store.rows import LatestRows
from clipes.store.store import Store

from .decoding import SavedSample
from .local_engine import MaskWriter
from .outcome import Outcome
from .preflight import check_folder
from .run import Remaining, claim_folder, record_header
from .saved_maps import MasksFromSavedMaps, needs_images

_COPIED = ("source", "model", "pretrained", "like", "classes", "class_set", "preset", "category_ids")
"""What the ``run.json`` of a new folder says as that of the run does."""


def read_run(folder: str | os.PathLike[str]) -> SavedRun:
    """The run of ``folder``.

    Raises FileNotFoundError where there is no run or none with maps, ValueError where its record cannot be read.
    """
    store = Store.open(folder)
    try:
        config = Config.from_dict(store.settings["config"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{store.folder / MANIFEST}: no record of a run: {error}") from error
    if store.has("cams") and (run := SavedRun(store, config)).count:
        return run
    store.close()
    raise FileNotFoundError(f"{folder} has no saved maps; make it with `clipes generate --save-cams`")


class SavedRun:
    """A run with saved maps. Made by :func:`read_run`; use it in a ``with``.

    Attributes:
        store: its folder.
        config: the settings that its masks were made with.
        count: how many images have saved maps.
        unsaved: how many images have a mask and no maps.
        first_unsaved: the id of the first of those; empty where there is none.
    """

    def __init__(self, store: Store, config: Config):
        self.store, self.config = store, config
        self.count, self.unsaved, self.first_unsaved = 0, 0, ""
        self._remaining: Remaining | None = None
        for row in store.rows():
            if _maps_of(store, row):
                self.count += 1
            elif row.status == "ok":
                self.first_unsaved, self.unsaved = self.first_unsaved or row.id, self.unsaved + 1

    def __enter__(self) -> SavedRun:
        return self

    def __exit__(self, *raised: object) -> None:
        self.store.close()

    @property
    def finished(self) -> int:
        """How many images :meth:`finalize` has left out so far, because an earlier start has finished them."""
        return self._remaining.finished if self._remaining else 0

    def finalize(
        self,
        config: Config,
        source: AnySource | None = None,
        *,
        regions: str | os.PathLike[str] | None = None,
        out: str | os.PathLike[str] | None = None,
        readers: int = 0,
        jobs: int = 1,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[Outcome, None, None]:
        """Decide the masks again with the refinement and the decision of ``config``, lazily; yields how each ends.

        Images that an earlier start has finished with these settings are left out. Saved confidences are written again
        with the masks. An image whose maps or pixels cannot be read has failed. Images that had no mask before, and
        have no maps, get the same row as before.

        Args:
            config: the settings; all but ``refine``, ``mask``, ``regions`` and ``vote`` must be those of the run.
            source: where the images are, as in ``clipes generate``; it is read only if the refinement or superpixels
                need their colours.
            regions: where the images' regions are, as in ``clipes generate``, if ``config`` says that they are given;
                by default where the run found them.
            out: a folder for the masks, without maps, in the run's format; None overwrites the run's masks. Then
                ``run.json`` holds the new settings at the end, and masks of images that failed stay as they are.
            readers, jobs, stop: as for :class:`clipes.runs.local_engine.MaskWriter`.

        Raises ValueError for a ``config`` that needs the network, and for a run of .tar files without ``out``;
        FileNotFoundError for a missing source; ImportError for superpixels without scikit-image; other errors as
        :func:`clipes.datasets.find_images` and :func:`clipes.runs.run.claim_folder`.
        """
        self._check(config, source, out)
        try:
            images: Mapping[str, Path | TarMember] = {}
            if needs_images(config) and source is not None:
                images = run_images(self.store.manifest, source)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; say where the images are (--source), or --refine none") from error
        settings = {**self.store.settings, "config": config.to_dict()}
        output_settings = settings.get("output", {})
        folder = self.store.folder if out is None else Path(out)
        output = Output(folder, self.store.has("confidence"), format=output_settings.get("format", "png"))
        if out is not None:
            settings["output"] = output.settings()
            if images and source is not None:
                check_folder(source, self._samples(images), output)
        found = None
        if isinstance(config.regions, GivenRegionsConfig):
            found = find_regions(self._samples(images), self._regions_source(regions))
        elif regions is not None:
            raise ValueError(f"regions are in {regions}, but the settings do not take them; change config.regions")
        folders = existing_folders(source) if images and source is not None else ()
        masks = MasksFromSavedMaps(self.store.class_names, config, (self.store.folder.absolute(), *folders))
        return self._write(images, found, masks, output, settings, stop, readers, jobs)

    def _regions_source(self, regions: str | os.PathLike[str] | None) -> Path:
        plan = self.store.manifest.get("plan")
        place = regions or (plan.get("regions") if isinstance(plan, dict) else None)
        if not place:
            raise ValueError("the settings take regions that come with each picture; say where they are (--regions)")
        return Path(place)

    def _check(self, config: Config, source: object, out: str | os.PathLike[str] | None) -> None:
        for name in set(STAGES) - {"refine", "mask", "regions", "vote"}:
            if getattr(config, name) != getattr(self.config, name):
                raise ValueError(f"{name} settings differ from those of the saved maps; run `clipes generate` for that")
        if config.scope is not None and config.regions != self.config.regions:
            raise ValueError("the saved maps were made within other regions; run `clipes generate` for that")
        if needs_images(config) and source is None:
            raise ValueError(
                "a refinement by colours, or superpixels, need the images: give their source (--source), or --refine "
                "none and --regions none"
            )
        check_installed(config.regions)
        folder = self.store.folder
        if out is None and self.store.settings.get("output", {}).get("format") == "tar":
            raise ValueError(f"{folder} holds .tar files, which are not overwritten; give another folder (--out)")
        if out is not None and resolved(out) == resolved(folder):
            raise ValueError(f"{out} is the run itself; give another folder, or none to overwrite the masks")

    def _write(
        self,
        images: Mapping[str, Path | TarMember],
        regions: FoundRegions | None,
        masks: MasksFromSavedMaps,
        output: Output,
        settings: Mapping[str, object],
        stop: Callable[[], bool],
        readers: int,
        jobs: int,
    ) -> Generator[Outcome, None, None]:
        in_place = output.folder == self.store.folder
        written = 0
        with ExitStack() as stack:
            store = stack.enter_context(self._begin(settings) if in_place else self._copy(output, settings))
            digests = {record.settings for record in read_records(store.folder)} - {store.digest}
            others = [stack.enter_context(LatestRows(store.folder, digest)) for digest in digests]
            samples: Iterable[SavedSample] = self._samples(images)
            samples = samples if regions is None else regions.added_to(samples)
            self._remaining = Remaining(samples, store, output, stop=stop, others=others)
            total = self.store.status(0).total
            header = {**record_header(store), "total": len(self.store.latest) if total is None else total}

            def ended() -> bool:
                return stop() or store.is_lost

            loop = MaskWriter(masks, output, header, readers=readers, jobs=jobs, stop=ended, keep_masks=in_place)
            with loop as writer:
                writer.record(self._rows_to_keep(store))
                for outcome in writer.write(self._remaining):
                    written += outcome.status == "ok"
                    yield outcome
            store.check_lease()
            if in_place and not stop():
                self._end(settings, changed=written + self.finished > 0)

    def _begin(self, settings: Mapping[str, object]) -> Store:
        """The run itself, as one of the new settings; from here on ``run.json`` says that masks may be mixed."""
        old, digest = self.store, settings_digest(settings)
        new = Store(old.folder, {**old.manifest, "settings": settings, "digest": digest})
        mixed = Store(old.folder, {**old.manifest, "mixed": MIXED})
        new.lease = take_lease(old.folder, digest, "clipes finalize", alone=True)
        try:
            old.check_unchanged()
            overwrite_manifest(old.folder, old.settings, mixed.manifest)
            new.lease.check = mixed.check_unchanged
            new.remove_stale()
        except BaseException:
            new.close()
            raise
        return new

    def _end(self, settings: Mapping[str, object], changed: bool) -> None:
        """Write the new settings to ``run.json``; what it said before, where no mask has them."""
        about = {name: value for name, value in self.store.manifest.items() if name != "mixed" or not changed}
        overwrite_manifest(self.store.folder, settings if changed else self.store.settings, about)

    def _copy(self, output: Output, settings: Mapping[str, object]) -> Store:
        about = {name: self.store.manifest[name] for name in _COPIED if name in self.store.manifest}
        return claim_folder(settings, self.store.class_names, output, about)

    def _samples(self, images: Mapping[str, Path | TarMember]) -> Iterator[SavedSample]:
        """The images whose maps are saved, by id; memory does not grow with their number."""
        for row in self.store.rows():
            if maps := _maps_of(self.store, row):
                yield SavedSample(row.id, images.get(row.id, maps), row.labels, maps=maps, row=row)

    def _rows_to_keep(self, store: Store) -> Iterator[Row]:
        """The rows of images without mask and maps that ``store`` does not have yet."""
        for row in self.store.latest.not_done():
            if not _maps_of(self.store, row) and store.latest.get(row.id) is None:
                yield row


def _maps_of(store: Store, row: Row) -> Path | TarMember | None:
    """Where the maps of an image are; None where it has none."""
    try:
        path = store.path(row, "cams")
    except ValueError:
        return None
    return path if isinstance(path, TarMember) or path.is_file() else None
