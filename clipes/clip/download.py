"""Downloads by open_clip and the Hugging Face hub, without their noise, and no wait where there is no network."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@contextmanager
def downloading() -> Iterator[None]:
    """In the block the hub's retries are not logged, and only files that are kept are used where its host is unknown.

    The hub would ask five times for each file, for half a minute, even for weights that it has kept.
    """
    from huggingface_hub import constants

    hub = logging.getLogger("huggingface_hub")
    level, offline = hub.level, constants.HF_HUB_OFFLINE
    hub.setLevel(logging.CRITICAL)
    constants.HF_HUB_OFFLINE = offline or host_is_unknown(constants.ENDPOINT)
    try:
        with without_open_clips_log():
            yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        hub.setLevel(level)


@contextmanager
def without_open_clips_log() -> Iterator[None]:
    """In the block nothing that open_clip logs is shown.

    It logs what it raises, too, and for a model that it builds without weights, before these are read from a file, that
    it is random.
    """
    root = logging.getLogger()  # open_clip has no logger of its own
    root.addFilter(_not_of_open_clip)
    try:
        yield
    finally:
        root.removeFilter(_not_of_open_clip)


def host_is_unknown(address: str) -> bool:
    """Whether the host of an address has no entry in the name service and there is no proxy that may know it."""
    if any(map(os.environ.get, _PROXIES)):
        return False
    try:
        socket.getaddrinfo(urlsplit(address).hostname, 443)
    except OSError:
        return True
    return False


def _not_of_open_clip(record: logging.LogRecord) -> bool:
    return "open_clip" not in record.pathname


def download_error(error: Exception) -> str:
    """What a failed download says, in one line; short where the host is unknown."""
    from huggingface_hub import constants

    if host_is_unknown(constants.ENDPOINT):
        return f"{urlsplit(constants.ENDPOINT).hostname} is not found, and the file is not in the cache"
    return one_line(error)


def one_line(error: Exception) -> str:
    """The error's message in one line of at most 300 characters."""
    text = " ".join(str(error).split())
    if "weights_only" in text or "Unpickling" in type(error).__name__:  # torch's own message advises unsafe loading
        return "it is not a state dict of tensors alone, and anything else could run code"
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 300 else text[:300] + " …"
