"""The images of a data set and the labels of each: files, tables, VOC, COCO, .tar shards, imagefolder.

Nothing is decoded here: a sample holds the image's path, or its place in a .tar. `PseudoMaskDataset`, which reads the
masks of a run for a training, is of :mod:`clipes.training`, and torch is loaded when it is asked for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipes.io.paths import as_spelled, list_sources, source_text

from .catalog import Images, Samples, add_images, catalogue, joined_and_left_out
from .class_labels import read_class_labels
from .layouts import check_no_voc
from .match import add_rows, match_rows
from .own_labels import OwnLabels
from .piped import read_pipe
from .respelled import label_spelling
from .sample import (
    TAG,
    AnyImage,
    AnyPath,
    AnySource,
    DatasetError,
    LabelRow,
    RawSample,
    Sample,
    Unlabelled,
    clean_labels,
)
from .sources import absolute_source, open_source
from .table_format import DEFAULT_FORMAT, TableFormat
from .tables import read_table
from .unread import unread_note

if TYPE_CHECKING:
    from clipes.training import PseudoMaskDataset

__all__ = [
    "DatasetError",
    "PseudoMaskDataset",
    "Sample",
    "Samples",
    "TableFormat",
    "absolute_source",
    "find_images",
    "find_samples",
]


def __getattr__(name: str) -> Any:
    if name == "PseudoMaskDataset":
        return importlib.import_module("clipes.training").PseudoMaskDataset
    raise AttributeError(f"module 'clipes.datasets' has no attribute {name!r}")


def find_samples(
    source: AnySource,
    labels: AnyPath | Sequence[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    missing: Literal["refuse", "skip"] = "refuse",
    unlabelled: Unlabelled = "refuse",
    table: TableFormat = DEFAULT_FORMAT,
) -> Samples:
    """Return the samples of `source`, on disk, in the order of a list, otherwise sorted by path.

    `source` is one of

    - an image, a folder (searched with its sub-folders; hidden files and other suffixes are left out; images of
      kinds that are not read, such as HEIC, are counted in the `notes` of what is returned), a glob pattern, or a
      .txt list: one image path per line, relative to the list, blank lines and `#` lines ignored. Ids are relative
      to the folder, to the pattern's fixed part or to the list's folder; when a list names images outside its
      folder, to the folder that contains them all;
    - a .csv or .jsonl table, its images relative to it, their ids as of a list;
    - `voc:ROOT[:SPLIT]` (:func:`clipes.datasets.voc.read_voc`) and `coco:ROOT[:SPLIT]` or
      `coco:FILE.json[:IMAGES]` (:func:`clipes.datasets.coco.read_coco`);
    - `folders:ROOT`, a folder for each class (:func:`clipes.datasets.class_folders.read_class_folders`);
    - .tar files in WebDataset's layout (:func:`clipes.datasets.tar.read_shards`);
    - a folder with metadata.jsonl or metadata.csv (:func:`clipes.datasets.imagefolder.read_metadata`), if no
      labels are given;
    - several images and folders, whose ids are relative to the folder of them all, or several .tar files.

    `labels` is None for a source that has its own; otherwise they are replaced by a labels file (.csv, .tsv, .jsonl,
    .json, or a pipe with the content of one: :func:`clipes.datasets.tables.read_table`; .npy:
    :func:`clipes.datasets.class_labels.read_class_labels`) or the names that every image has. A row belongs to the
    image whose relative path it is; otherwise to the image whose full path ends with it, if only one does. The suffix
    may be left out. Where no name agrees as it is written, other forms of Unicode do, and the numbers of COCO's images.
    Rows without an image are fine, and the labels of several rows of an image are joined. Where two images differ in
    their suffix alone, a row that has it says which is meant. `table` says other columns and
    another separator of labels.

    `class_names`, in the data set's order, are needed where labels are indices, which count from 0; the background may
    be the first of them. Images that are named but do not exist are refused; with `missing="skip"` they are samples
    like others. Images without labels, because no row names them or nothing beside them does, are refused; with
    `unlabelled="skip"` they are left out; with `unlabelled="tag"` they are samples whose `unlabelled` is true, for CLIP
    to find their labels; so are all images with `labels="tag"`, whatever the source says. `Samples.notes` says what was
    joined and left out.

    Raises FileNotFoundError for a missing source or labels file, OSError for a full disk, and DatasetError for a
    source without images or labels, images with one id, missing images, anything malformed, images without a row.
    """
    if missing not in ("refuse", "skip"):
        raise ValueError(f"missing is {missing!r}; it is 'refuse' or 'skip'")
    if unlabelled not in ("refuse", "skip", "tag"):
        raise ValueError(f"unlabelled is {unlabelled!r}; it is 'refuse', 'skip' or 'tag'")
    if labels is not None:
        for one in list_sources(source):
            check_no_voc(Path(one))
    return _find(source, labels, class_names, missing == "refuse", unlabelled, table)


def find_images(
    source: AnySource, labels: AnyPath | None = None, table: TableFormat = DEFAULT_FORMAT
) -> Mapping[str, AnyImage]:
    """Return the images of ``source`` by their ids, including those that are named but do not exist.

    A file of ``labels`` says which is meant of images that differ in their suffix alone; ``table`` is its format, and
    that of a table as the source. Sources and other errors as in :func:`find_samples`.
    """
    with catalogue() as database:
        if labels is not None:
            add_rows(database, _rows(os.fspath(labels), None, table))
        add_images(database, source_text(source), open_source(source, False, None, table).images, None)
    return Images(database)


def _rows(file: str, class_names: Sequence[str] | None, table: TableFormat) -> Iterator[LabelRow]:
    return read_class_labels(file, class_names) if file.lower().endswith(".npy") else read_table(read_pipe(file), table)


def _with_labels(labels: tuple[str, ...] | None, images: Iterator[RawSample]) -> Iterator[RawSample]:
    return (image._replace(labels=labels, origin="") for image in images)


def _find(
    source: AnySource,
    labels: AnyPath | Sequence[str] | None,
    class_names: Sequence[str] | None,
    check: bool,
    unlabelled: Unlabelled,
    table: TableFormat,
) -> Samples:
    """The samples; `check` refuses images that are named but do not exist."""
    spelled = label_spelling(class_names)
    own = OwnLabels(source_text(source), unlabelled, spelled)
    given = None if labels == TAG else labels
    is_file = isinstance(given, str | os.PathLike)
    with catalogue() as database:
        opened = open_source(source, labels is None, class_names, table)
        names: tuple[str, ...] | None = None
        if isinstance(given, str | os.PathLike):
            rows = _rows(as_spelled(os.fspath(given)), class_names, table)
            add_rows(database, (row._replace(labels=spelled(row.labels)) for row in rows))
        elif given is not None:
            names = spelled(clean_labels(given, "labels"))
        images = own.labelled(opened.images) if labels is None else _with_labels(names, opened.images)
        add_images(database, source_text(source), images, os.path.isfile if check else None)
        unused, first, unmatched = match_rows(database, unlabelled) if is_file else (0, "", "")
        left_out = (unread_note(database, source_text(source)), *joined_and_left_out(database), own.note, unmatched)
    return Samples(database, unused, first, opened.category_ids, tuple(filter(None, (*opened.notes, *left_out))))
