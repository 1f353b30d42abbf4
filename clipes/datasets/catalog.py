"""The samples of a data set, in a private temporary database, because ten million rows would not fit the memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from clipes.io.images import TarMember
from clipes.io.kinds import IMAGE_SUFFIXES
from clipes.io.tempdb import decode_name, encode_name, temporary_database, transaction

from . import unread
from .match import is_named
from .sample import AnyImage, DatasetError, RawSample, Sample, check_id, without_suffix

_TABLES = """
CREATE TABLE sample (
    position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, name BLOB NOT NULL,
    path BLOB NOT NULL, member BLOB, start INTEGER, size INTEGER,
    labels TEXT, origin BLOB NOT NULL, row INTEGER, joined INTEGER NOT NULL DEFAULT 0, clash TEXT
);
CREATE TABLE row (
    position INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, labels TEXT NOT NULL, origin BLOB NOT NULL,
    used INTEGER NOT NULL DEFAULT 0, joined INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE other (name BLOB NOT NULL);
"""  # `used`: 1 by an image, 2 by a file that is not read

_LABELS = "coalesce(row.labels, sample.labels)"

_SAMPLES = """
SELECT id, path, member, start, size, coalesce(row.labels, sample.labels), coalesce(row.origin, sample.origin)
FROM sample LEFT JOIN row ON row.position = sample.row
"""


class Samples(Sequence[Sample]):
    """The samples of a data set, in order, read from disk as they are asked for. Made by :func:`find_samples`.

    It may be used from any thread, and lives through a fork in the parent; it cannot be pickled.

    Attributes:
        unused_rows: how many rows of the given labels file name no image.
        first_unused: the image that the first of them names; empty if there is none.
        category_ids: of COCO: class name to the JSON's own category id; None elsewhere.
        notes: what was joined and what was left out, a sentence each, files of kinds that are not read among it.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        unused_rows: int = 0,
        first_unused: str = "",
        category_ids: dict[str, int] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._database = database
        self._length: int = database.execute("SELECT count(*) FROM sample").fetchone()[0]
        self.unused_rows = unused_rows
        self.first_unused = first_unused
        self.category_ids = category_ids
        self.notes = notes

    def __repr__(self) -> str:
        return f"<{len(self)} samples{f', the first {self[0]}' if len(self) else ''}>"

    @property
    def without_label(self) -> int:
        """How many images are known to have no label, so that their masks are all background."""
        return self._count(f"{_LABELS} = '[]'")

    @property
    def unlabelled(self) -> int:
        """How many images have labels that are not known."""
        return self._count(f"{_LABELS} IS NULL")

    def _count(self, condition: str) -> int:
        query = f"SELECT count(*) FROM sample LEFT JOIN row ON row.position = sample.row WHERE {condition}"
        return int(self._database.execute(query).fetchone()[0])

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        for row in self._database.execute(f"{_SAMPLES} ORDER BY sample.position"):
            yield _sample(row)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        places = range(self._length)[index]  # IndexError as of any sequence
        if isinstance(places, range):
            return [self[place] for place in places]
        row = self._database.execute(f"{_SAMPLES} WHERE sample.position = ?", (places + 1,)).fetchone()
        return _sample(row)


class Images(Mapping[str, AnyImage]):
    """The images of a data set by their ids, read from disk as they are asked for."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._length: int = database.execute("SELECT count(*) FROM sample").fetchone()[0]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        for (sample_id,) in self._database.execute("SELECT id FROM sample ORDER BY position"):
            yield decode_name(sample_id)

    def __getitem__(self, sample_id: str) -> AnyImage:
        row = self._database.execute(f"{_SAMPLES} WHERE id = ?", (encode_name(sample_id),)).fetchone()
        if row is None:
            raise KeyError(sample_id)
        return _sample(row).image


def _sample(row: tuple[Any, ...]) -> Sample:
    sample_id, path, member, start, size, labels, origin = row
    image = Path(decode_name(path))
    return Sample(
        decode_name(sample_id),
        image if member is None else TarMember(image, decode_name(member), start, size),
        _labels(labels) if labels is not None else (),
        decode_name(origin),
        unlabelled=labels is None,
    )


@lru_cache(maxsize=4096)
def _labels(text: str) -> tuple[str, ...]:
    """The labels of a row; most images share theirs with others."""
    return tuple(json.loads(text))


@contextmanager
def catalogue() -> Iterator[sqlite3.Connection]:
    """Yield a new, empty catalogue to be filled. Raises OSError when the disk is full."""
    database = temporary_database()
    database.executescript(_TABLES + unread.TABLE)
    with transaction(database, "the list of images"):
        yield database


def add_images(
    database: sqlite3.Connection, source: str, images: Iterable[RawSample], check: Callable[[str], bool] | None
) -> None:
    """Fill the catalogue, whose rows are there, with the images of `source`.

    `check` says whether an image that a list names exists. An image that is named twice has the labels of both. Of two
    images of one id, the one whose suffix a row names is kept.
    Raises DatasetError for no image at all, for ids that cannot name a mask, two images of one id, missing images.
    """
    insert = (
        "INSERT INTO sample (id, name, path, member, start, size, labels, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING"
    )
    missing = 0
    first: list[str] = []
    for image in images:
        if not image.listed and unread.is_unread(image.name):
            unread.add_unread(database, image)
            continue
        sample_id = without_suffix(image.name)
        check_id(sample_id, image.listed or str(image.image))
        labels = None if image.labels is None else json.dumps(image.labels)
        names = (encode_name(sample_id), encode_name(image.name))
        values = (*names, *_place(image.image), labels, encode_name(image.origin))
        if database.execute(insert, values).rowcount != 1:
            _handle_duplicate(database, sample_id, image)
        elif check is not None and image.listed and not check(str(image.image)):
            missing += 1
            if len(first) < 5:
                first.append(f"{image.listed}: no such image: {image.name!r} (looked for {image.image})")
    clash = database.execute("SELECT clash FROM sample WHERE clash IS NOT NULL ORDER BY position LIMIT 1").fetchone()
    if clash:
        raise DatasetError(clash[0])
    if missing:
        raise DatasetError(
            f"{missing} image(s) are not there: {'; '.join(first)}{'; ...' if missing > len(first) else ''}; correct "
            "the names, or go on without them (--missing skip)"
        )
    if database.execute("SELECT 1 FROM sample LIMIT 1").fetchone() is None:
        note = unread.unread_note(database, source)
        raise DatasetError(note or f"{source}: no image found; known are {' '.join(sorted(IMAGE_SUFFIXES))}")


def joined_and_left_out(database: sqlite3.Connection) -> Iterator[str]:
    """Yield a sentence on images with several rows, and one on images that differ from others in their suffix alone."""
    rows = "FROM sample LEFT JOIN row ON row.position = sample.row WHERE sample.joined OR row.joined"
    joined, first = database.execute(f"SELECT count(*), min(name) {rows}").fetchone()
    if joined:
        yield f"{joined} image(s) have several rows, whose labels are joined, {decode_name(first)!r} the first"
    others, first = database.execute("SELECT count(*), min(name) FROM other").fetchone()
    if others:
        yield (
            f"{others} image(s) are left out, as the labels file names another of their name with its suffix, "
            f"{decode_name(first)!r} the first"
        )


def _place(image: AnyImage) -> tuple[bytes, bytes | None, int | None, int | None]:
    if isinstance(image, TarMember):
        return encode_name(str(image.tar)), encode_name(image.name), image.offset, image.size
    return encode_name(str(image)), None, None, None


def _handle_duplicate(database: sqlite3.Connection, sample_id: str, image: RawSample) -> None:
    """Join the labels of an image that is named twice; of two images of one id, keep the one that a row names."""
    row = database.execute(f"{_SAMPLES} WHERE id = ?", (encode_name(sample_id),)).fetchone()
    other, key = _sample(row), (encode_name(sample_id),)
    if other.image == image.image:
        if set(other.labels) != set(image.labels or ()):
            labels = json.dumps(tuple(dict.fromkeys((*other.labels, *(image.labels or ())))))
            database.execute("UPDATE sample SET labels = ?, joined = 1 WHERE id = ?", (labels, *key))
        return
    (name,) = database.execute("SELECT name FROM sample WHERE id = ?", key).fetchone()
    named = [is_named(database, decode_name(name), other.image), is_named(database, image.name, image.image)]
    if named[0] == named[1]:  # a further image may be the one that is named
        database.execute("UPDATE sample SET clash = ? WHERE id = ?", (_clash(other.image, image.image), *key))
    if named[1] and not named[0]:
        values = (encode_name(image.name), *_place(image.image), *key)
        database.execute(
            "UPDATE sample SET name = ?, path = ?, member = ?, start = ?, size = ?, clash = NULL WHERE id = ?", values
        )
    database.execute("INSERT INTO other VALUES (?)", (name if named[1] else encode_name(image.name),))


def _clash(one: AnyImage, other: AnyImage) -> str:
    return (
        f"{one} and {other} would both become one mask; name the one that is meant, with its suffix, in a labels file "
        "or a table, give a pattern such as 'photos/*.jpg', or rename one"
    )
