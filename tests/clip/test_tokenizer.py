"""Tokenizers of Hugging Face, as SigLIP's are: from a folder, from the hub's cache, and not there."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import open_clip
import pytest
from towers import save_tokenizer

from clipes.clip import download
from clipes.clip.errors import ModelError
from clipes.clip.tokenizer import load_tokenizer

pytest.importorskip("transformers")

NAME, SOURCE = "ViT-B-16-SigLIP", "timm/ViT-B-16-SigLIP"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "host_is_unknown", lambda _: True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that was saved for open_clip, without weights and tokenizer."""
    (tmp_path / "saved").mkdir()
    config = {"model_cfg": open_clip.get_model_config(NAME), "preprocess_cfg": {}}
    (tmp_path / "saved" / "open_clip_config.json").write_text(json.dumps(config))
    return tmp_path / "saved"


def test_a_folder(folder: Path) -> None:
    save_tokenizer(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokens = load_tokenizer(f"local-dir:{folder}")(["a clean origami cat.", "A Boat"])
    assert tokens.shape == (2, 64)
    assert tokens[:, :6].tolist() == [[3, 4, 5, 6, 1, 1], [3, 7, 1, 1, 1, 1]] and (tokens[:, 6:] == 1).all()


def test_a_sentence_that_is_cut(folder: Path) -> None:
    save_tokenizer(folder)
    with pytest.warns(UserWarning, match=r"reads 64 tokens; the end of 'cat cat .*' is cut"):
        load_tokenizer(f"local-dir:{folder}")(["a cat", "cat " * 64])


def test_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a download leaves it, with a note of the files that the repository does not have."""
    from huggingface_hub import constants

    kept = tmp_path / "hub" / f"models--{SOURCE.replace('/', '--')}"
    save_tokenizer(kept / "snapshots" / "0123")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123")
    for absent in ("config.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja"):
        (kept / ".no_exist" / "0123").mkdir(parents=True, exist_ok=True)
        (kept / ".no_exist" / "0123" / absent).touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert load_tokenizer(NAME)(["a boat"])[0, :3].tolist() == [3, 7, 1]


def test_no_tokenizer(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    cure = (
        r"check the network; or load it once elsewhere and copy the cache; or save the model .* give local-dir:FOLDER"
    )
    with pytest.raises(ModelError, match=rf"the tokenizer of {NAME}, {SOURCE} of Hugging Face, .*{cure}"):
        load_tokenizer(NAME)
    with pytest.raises(ModelError, match=rf"{folder} has no tokenizer that can be read .*put the tokenizer\.json"):
        load_tokenizer(f"local-dir:{folder}")
