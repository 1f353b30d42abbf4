"""clipes.clip.download: a machine without a network waits for nothing and says one line; nobody is asked here."""

from __future__ import annotations

import logging
import socket

import pytest
from huggingface_hub import constants
from open_clip import factory

from clipes.clip.download import downloading, host_is_unknown
from clipes.clip.weights import load_clip


@pytest.fixture(autouse=True)
def _no_name_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*address: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def _noisy(*given: object, **named: object) -> None:
    """What open_clip and the hub log of a download, which then fails."""
    assert constants.HF_HUB_OFFLINE
    logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
    record = logging.LogRecord("root", logging.ERROR, "/site/open_clip/factory.py", 1, "Failed to download", (), None)
    logging.getLogger().handle(record)
    raise RuntimeError("Failed to download weights for tag 'openai'")


def test_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(factory, "download_pretrained", _noisy)
    message = (
        r"could not be downloaded: huggingface\.co is not found, and the file is not in the cache; check the network; "
        r"or get the weights file elsewhere, and pass it as pretrained \(--pretrained FILE\)"
    )
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(ValueError, match=message):
        load_clip("ViT-B-32", "openai")
    assert not caplog.records and before == constants.HF_HUB_OFFLINE


def test_a_configuration_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"could not be fetched \(huggingface\.co is not found, .*\); check the id"):
        load_clip("hf-hub:org/clip")


def test_all_else_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with downloading():
        logging.getLogger().warning("of the application")
    logging.getLogger("huggingface_hub").warning("afterwards")
    assert caplog.messages == ["of the application", "afterwards"]


def test_a_proxy_may_know_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_is_unknown("https://huggingface.co")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert not host_is_unknown("https://huggingface.co")
