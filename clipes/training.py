"""The masks of a run as a torch Dataset, beside their images and confidences."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clipes.datasets.sample import AnySource
from clipes.ids import ignore_index
from clipes.io.images import TarMember, open_image
from clipes.io.masks import check_size, read_ids, read_png
from clipes.io.paths import source_text
from clipes.store.layout import TAR_FILE
from clipes.store.store import Store, open_run

AnyPath = str | os.PathLike[str]
Triple = tuple[Tensor, Tensor, Tensor]


class PseudoMaskDataset(Dataset[Any]):
    """The images of a run that have a mask, in the order of their ids: ``(image, mask, confidence)`` each.

    - image: (3, H, W) float32 in [0, 1], RGB, upright, read exactly as the run read it;
    - mask: (H, W) int64, 0 background, 1..K, :attr:`ignore_index` undecided;
    - confidence: (H, W) float32 in [0, 1]; 1 everywhere if the run did not save any (:attr:`has_confidence`).

    >>> from clipes.datasets import PseudoMaskDataset
    >>> pairs = PseudoMaskDataset("masks")  # doctest: +SKIP
    >>> loader = torch.utils.data.DataLoader(pairs, batch_size=1, shuffle=True, num_workers=2)  # doctest: +SKIP

    The files are found when it is made and read when they are asked for, by any process: it pickles.

    Args:
        run: the folder of a run (``--out``), its masks as files or in .tar files; or one of these .tar files, for the
            masks in that file.
        source: where the images are if they have moved; by default where the run found them.
        transform: takes an image, its mask and its confidence, and returns what indexing returns in their place:
            crops of one size, for batches of more than one image.

    Attributes:
        class_names: K names, in the order of their ids, without the background.
        ignore_index: the value of undecided pixels in the masks: 255, or 65535 for more than 254 classes.
        has_confidence: whether the run saved confidences.

    Raises FileNotFoundError where there is no run or no source, ValueError for a run without masks, for masks of mixed
    settings, and for masks whose image the source does not have. Warns if images of the run have no mask. Indexing
    raises ValueError, naming the file, for an image, mask or confidence that cannot be read or is of another size.
    """

    def __init__(
        self,
        run: AnyPath,
        source: AnySource | None = None,
        *,
        transform: Callable[[Tensor, Tensor, Tensor], Any] | None = None,
    ) -> None:
        folder, tar = _folder_and_tar(Path(run))
        with open_run(folder) as store:
            self.class_names = store.class_names
            self.ignore_index = ignore_index(len(store.class_names))
            self.has_confidence = store.has("confidence")
            self.transform = transform
            # one block of bytes: worker processes share it, and millions of Python objects would not fit the memory
            lines = [json.dumps(entry).encode() for entry in _entries(store, source, tar)]
            self._check_complete(store, len(lines), tar)
        if not lines:
            raise ValueError(f"{run}: no image has a mask; `clipes status {folder}` says why")
        self._data = np.frombuffer(b"".join(lines), np.uint8)
        self._ends = np.cumsum([len(line) for line in lines])

    def __repr__(self) -> str:
        return f"<{len(self)} images with masks of {len(self.class_names)} classes>"

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        entry = self._entry(index)
        image_file, mask_file, confidence_file = map(_place, entry["files"])
        image = np.asarray(open_image(image_file))
        mask = read_ids(mask_file, len(self.class_names))
        check_size(image.shape[:2], image_file, mask.shape, mask_file)
        parts = _tensors(image, mask, self._confidence(confidence_file, mask))
        return parts if self.transform is None else self.transform(*parts)

    def id(self, index: int) -> str:
        """The id of an image: its relative path without the suffix."""
        return str(self._entry(index)["id"])

    def labels(self, index: int) -> tuple[str, ...]:
        """The labels that the run was given for an image."""
        return tuple(self._entry(index)["labels"])

    def _entry(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # IndexError as of any sequence
        start = self._ends[index - 1] if index else 0
        entry: dict[str, Any] = json.loads(self._data[start : self._ends[index]].tobytes())
        return entry

    def _confidence(self, file: Path | TarMember, mask: NDArray[Any]) -> NDArray[np.uint8]:
        if not self.has_confidence:
            return np.full(mask.shape, 255, np.uint8)
        grey = read_png(file, ("L",), "is no confidence, which is 8-bit grey")
        check_size(grey.shape, file, mask.shape, "its mask")
        return grey

    @staticmethod
    def _check_complete(store: Store, found: int, tar: str | None) -> None:
        """Warn if the run has images without a mask."""
        total = max(store.latest.total or 0, len(store.latest))
        if tar is None and found < total:
            warnings.warn(
                f"{store.folder}: {total - found} of {total} images have no mask and are left out; "
                f"`clipes status {store.folder}` says why",
                stacklevel=3,
            )


def _folder_and_tar(run: Path) -> tuple[Path, str | None]:
    """The folder of a run, and the name of its .tar file if that is what was given."""
    if not run.is_file():
        return run, None
    if not TAR_FILE.fullmatch(run.name):
        raise ValueError(f"{run}: neither the folder of a run nor one of its masks-*.tar files; give the run's folder")
    return run.parent, run.name


def _entries(store: Store, source: AnySource | None, tar: str | None) -> Iterator[dict[str, Any]]:
    """Yield the id, the labels and the files of each image that has a mask."""
    place = store.source(source)
    images = store.images(place)
    for row in store.rows("ok"):
        if tar is not None and row.shard != tar:
            continue
        if row.id not in images:
            raise ValueError(
                f"{store.folder}: {source_text(place)} has no image {row.id!r}; "
                "give the source of the run's images (source=)"
            )
        mask = store.path(row)
        confidence = store.path(row, "confidence") if store.has("confidence") else mask
        files = [_listed(file) for file in (images[row.id], mask, confidence)]
        yield {"id": row.id, "labels": row.labels, "files": files}


def _listed(file: Path | TarMember) -> list[Any]:
    """A file as JSON holds it; :func:`_place` is the way back."""
    return [str(file.tar), file.name, file.offset, file.size] if isinstance(file, TarMember) else [str(file)]


def _place(values: list[Any]) -> Path | TarMember:
    return Path(values[0]) if len(values) == 1 else TarMember(Path(values[0]), *values[1:])


def _tensors(image: NDArray[np.uint8], mask: NDArray[Any], confidence: NDArray[np.uint8]) -> Triple:
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) / 255
    grades = torch.from_numpy(confidence.astype(np.float32)) / 255
    return pixels, torch.from_numpy(mask.astype(np.int64)), grades
