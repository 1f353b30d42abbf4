"""File names and class names that other tools can read."""

from __future__ import annotations

import re
from urllib.parse import quote

from clipes.io.paths import MAX_NAME

_TROUBLE = re.compile(r"[^\w./-]|(?<![^/])\.|\.(?=(?:jpg|png|txt)/)")
# White space, quotes, %, controls, broken bytes; the dot of a hidden file, or of a folder named like a file of ours.


def file_name(image_id: str) -> str:
    """The id as a path without suffix. Characters that lists or tools cannot hold are percent-encoded.

    Letters and digits of any script and ``. _ - /`` are kept. :func:`urllib.parse.unquote` restores the id, so that no
    two ids have the same name. Raises ValueError if a part becomes too long for a file name.

    >>> file_name("cats/my cat #1"), file_name("été"), file_name("100%")
    ('cats/my%20cat%20%231', 'été', '100%25')
    """
    name = _TROUBLE.sub(lambda found: _escaped(found[0]), image_id)
    if any(len(part.encode("utf-8", "surrogateescape")) > MAX_NAME - len(".png") for part in name.split("/")):
        raise ValueError(f"{image_id!r}: its name would be above {MAX_NAME} bytes long in the export; shorten it")
    return name


def check_unicode(image_id: str) -> None:
    """Raise ValueError for an id that is not valid Unicode, because its file name is not UTF-8: JSON cannot hold it."""
    try:
        image_id.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{image_id!r}: its name is not UTF-8, which JSON must be; rename the image") from error


def label_name(name: str) -> str:
    """A class name as a field of ``labelmap.txt``: no colon, ``#``, ``%``, line break or outer white space.

    >>> label_name("a:b"), label_name("potted plant")
    ('a%3Ab', 'potted plant')
    """
    return re.sub(r"[:#%]|^\s+|\s+$|[^\S ]|[\x00-\x1f\x7f]", lambda found: _escaped(found[0]), name)


def _escaped(characters: str) -> str:
    escaped = quote(characters, safe="", errors="surrogateescape")
    return escaped if escaped != characters else "".join(f"%{ord(character):02X}" for character in characters)
