"""Text features on disk: used again, and never when they are stale, foreign or broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import build, clip_config, save_folder, text_encoder
from torch import Tensor

from clipes.clip import text_cache
from clipes.clip.text import TextEncoder, encode_sentences
from clipes.clip.text_cache import cache_folder, load_or_encode
from clipes.clip.weights import load_clip

WORDS = ["a dog", "a cat", "grass"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPES_CACHE", str(tmp_path / "own"))
    return tmp_path / "own" / "text"


@pytest.fixture
def counted() -> tuple[TextEncoder, list[int]]:
    """A tower, and how many sentences each call encoded."""
    plain, calls = text_encoder(6), []

    def encode(tokens: Tensor) -> Tensor:
        calls.append(len(tokens))
        return plain.encode(tokens)

    return replace(plain, encode=encode), calls


def test_a_second_run_encodes_nothing(folder: Path, counted: tuple[TextEncoder, list[int]]) -> None:
    tower, calls = counted
    first = encode_sentences(tower, WORDS)
    assert calls == [3] and len(list(folder.iterdir())) == 1
    again = encode_sentences(tower, [*WORDS, "a dog"])
    assert calls == [3]
    assert torch.equal(again[:3], first) and torch.equal(again[3], first[0])


def test_other_words_weights_or_versions_are_encoded(
    folder: Path, counted: tuple[TextEncoder, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tower, calls = counted
    encode_sentences(tower, WORDS)
    encode_sentences(tower, WORDS[::-1])
    encode_sentences(tower, WORDS[:2])
    encode_sentences(replace(tower, fingerprint="other weights"), WORDS)
    monkeypatch.setattr(text_cache, "version", lambda package: "99")
    encode_sentences(tower, WORDS)
    assert calls == [3, 3, 2, 3, 3]
    assert len(list(folder.iterdir())) == 5


def _other_key(path: Path) -> None:
    other = Path(path.parent, "other.npz")
    with np.load(path) as arrays:
        np.savez(other, key=np.array("0" * 64), features=arrays["features"])
    other.replace(path)


def _features(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with np.load(path) as arrays:
            key, features = arrays["key"], arrays["features"]
        np.savez(path, key=key, features=change(features))

    return write


SPOILED = {
    "a foreign key": _other_key,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"not a zip"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a flipped bit": lambda path: path.write_bytes(_flipped(path.read_bytes())),
    "no features": lambda path: np.savez(path, key=np.load(path)["key"]),
    "fewer": _features(lambda features: features[:2]),
    "one axis": _features(lambda features: features[:, 0]),
    "float64": _features(lambda features: features.astype(np.float64)),
    "NaN": _features(lambda features: features * np.nan),
    "not unit": _features(lambda features: features * 2),
    "an encrypted file": lambda path: path.write_bytes(_central(path.read_bytes(), 8, 0x01)),
    "another zip": lambda path: path.write_bytes(_central(path.read_bytes(), 6, 0x80)),
    "an array": lambda path: _array(path),
    "objects": _features(lambda features: np.array([{}, {}, {}])),
}


def _central(data: bytes, offset: int, bit: int) -> bytes:
    """Flip a bit of the zip's first directory entry."""
    place = data.index(b"PK\x01\x02") + offset
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def _array(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def _flipped(data: bytes) -> bytes:
    middle = data.index(b"features.npy") + 100
    return data[:middle] + bytes([data[middle] ^ 0x40]) + data[middle + 1 :]


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_file_is_not_used_but_written_anew(
    spoil: Callable[[Path], object], folder: Path, counted: tuple[TextEncoder, list[int]]
) -> None:
    tower, calls = counted
    want = encode_sentences(tower, WORDS)
    (path,) = folder.iterdir()
    spoil(path)
    assert torch.equal(encode_sentences(tower, WORDS), want)
    assert torch.equal(encode_sentences(tower, WORDS), want)
    assert calls == [3, 3]


def test_a_folder_that_cannot_be_written_costs_nothing(
    tmp_path: Path, counted: tuple[TextEncoder, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tower, calls = counted
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CLIPES_CACHE", str(tmp_path / "file"))
    assert torch.equal(encode_sentences(tower, WORDS), encode_sentences(tower, WORDS))
    assert calls == [3, 3]


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPES_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("CLIPES_CACHE", "~/own")
    assert cache_folder() == Path.home() / "own"
    monkeypatch.delenv("CLIPES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "clipes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "clipes"


def test_a_user_without_a_home_keeps_nothing(
    counted: tuple[TextEncoder, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    tower, calls = counted
    for name in ("CLIPES_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", expanduser)
    assert cache_folder() is None
    assert torch.equal(encode_sentences(tower, WORDS), encode_sentences(tower, WORDS))
    assert calls == [3, 3]


def test_what_is_kept_is_what_was_encoded(folder: Path) -> None:
    tower = text_encoder(4)
    tokens = tower.tokenize(WORDS)
    made = load_or_encode(lambda: tower.encode(tokens), tower.fingerprint, tokens)
    kept = load_or_encode(lambda: pytest.fail("encoded twice"), tower.fingerprint, tokens)
    assert torch.equal(made, kept) and torch.equal(made, tower.encode(tokens))


def test_a_models_fingerprint_tells_weights_and_structure(tmp_path: Path) -> None:
    def fingerprint(name: str, seed: int = 0, **changes: object) -> str:
        cfg = clip_config()
        cfg["text_cfg"] |= changes.pop("text", {})
        cfg |= changes
        folder = save_folder(build(cfg, seed), tmp_path / name, cfg)
        return load_clip(f"local-dir:{folder}").text.fingerprint

    plain = fingerprint("plain")
    assert plain == fingerprint("again")
    others = [
        fingerprint("seed", 1),
        fingerprint("heads", text={"heads": 2}),  # of the same weights
        fingerprint("gelu", quick_gelu=True),
    ]
    assert len({plain, *others}) == 4
