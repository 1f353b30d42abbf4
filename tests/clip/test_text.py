"""Sentences to one feature per class."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from models import build, clip_config, save_folder, text_encoder
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.clip.text import TextEncoder, encode_sentences, text_features
from clipes.clip.weights import CLIP, load_clip


class Recorder:
    """A tower that gives every sentence a direction of its own, and remembers what it was given to encode."""

    def __init__(self, embed: int = 5) -> None:
        self.batches: list[int] = []
        plain = text_encoder(embed)
        self.tower = TextEncoder(plain.tokenize, self.encode, f"recorder {embed} {id(self)} {time.time_ns()}")
        self._plain = plain

    def encode(self, tokens: Tensor) -> Tensor:
        self.batches.append(len(tokens))
        return self._plain.encode(tokens)

    def feature(self, sentence: str) -> Tensor:
        return self._plain.encode(self._plain.tokenize([sentence]))[0]


@pytest.fixture(scope="module")
def model() -> Any:
    return build(clip_config())


@pytest.fixture(scope="module")
def clip(model: Any, tmp_path_factory: pytest.TempPathFactory) -> CLIP:
    folder = save_folder(model, tmp_path_factory.mktemp("clip"), clip_config())
    return load_clip(f"local-dir:{folder}")


def test_rows_are_averaged_and_normalised_again() -> None:
    own = Recorder()
    features = text_features(own.tower, [[["a", "bb", "ccc"]], [["dd"]]])
    mean = (own.feature("a") + own.feature("bb") + own.feature("ccc")) / 3
    assert mean.norm() < 0.9  # so that to normalise again is something
    assert features.dtype == torch.float32 and features.shape == (2, 1, 5)
    torch.testing.assert_close(features[0, 0], mean / mean.norm())
    torch.testing.assert_close(features[1, 0], own.feature("dd"))


def test_entries_of_fewer_rows_repeat_their_first() -> None:
    own = Recorder()
    features = text_features(own.tower, [[["a"], ["b"]], [["c"]], [["d"], ["e", "f"], ["g"]]])
    assert features.shape == (3, 3, 5)
    torch.testing.assert_close(features[0], torch.stack([own.feature(word) for word in "aba"]))
    torch.testing.assert_close(features[1], torch.stack([own.feature("c")] * 3))
    torch.testing.assert_close(features[2, 2], own.feature("g"))


def test_every_sentence_is_encoded_once() -> None:
    own = Recorder()
    text_features(own.tower, [[["a", "b"], ["b", "c"]], [["a"]], [["c", "c"]]])
    assert own.batches == [3]


def test_a_repeated_sentence_counts_as_often_as_it_stands() -> None:
    own = Recorder()
    features = text_features(own.tower, [[["a", "a", "b"]]])
    want = 2 * own.feature("a") + own.feature("b")
    torch.testing.assert_close(features[0, 0], want / want.norm())


def test_many_sentences_go_in_batches_and_keep_their_order() -> None:
    own = Recorder()
    sentences = [f"class {index}" for index in range(600)]
    features = encode_sentences(own.tower, sentences)
    assert own.batches == [256, 256, 88]
    torch.testing.assert_close(features, torch.stack([own.feature(sentence) for sentence in sentences]))


def test_another_order_gives_the_rows_in_that_order() -> None:
    groups = [[["a", "b"]], [["c"]], [["b"]], [["d", "a"]]]
    features = text_features(Recorder().tower, groups)
    torch.testing.assert_close(text_features(Recorder().tower, groups[::-1]), features.flip(0))


# --- with a model -------------------------------------------------------------------------------------------


def test_a_models_features(clip: CLIP, model: Any) -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    features = text_features(clip.text, [[["a dog", "a photo of a dog"]], [["a cat"]]])[:, 0]
    dogs = F.normalize(model.encode_text(tokenizer(["a dog", "a photo of a dog"])), dim=-1)
    cat = F.normalize(model.encode_text(tokenizer(["a cat"])), dim=-1)
    torch.testing.assert_close(features[0].clone(), F.normalize(dogs.mean(0), dim=-1))
    torch.testing.assert_close(features[1].clone(), cat[0])
    assert F.cosine_similarity(features[0], features[1], dim=0) < 0.99


def test_encoded_sentences_are_unit_features_and_independent(clip: CLIP) -> None:
    together = encode_sentences(clip.text, ["a dog", "a cat on a mat", "sky"])
    torch.testing.assert_close(together.norm(dim=-1).clone(), torch.ones(3))
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[1:2].clone(), encode_sentences(clip.text, ["a cat on a mat"]).clone())


WORDS_THAT_FIT = 14  # context 16, less the start and the end


def test_a_sentence_longer_than_the_context_warns(clip: CLIP) -> None:
    fits = " ".join(["dog"] * WORDS_THAT_FIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_sentences(clip.text, ["a dog", fits, ""])
    with pytest.warns(UserWarning, match=r"reads 16 tokens; the end of 'dog dog .*' is cut") as caught:
        encode_sentences(clip.text, ["a dog", f"{fits} dog", fits])
    assert len(caught) == 1


def test_a_tokenizer_of_another_kind_warns_too(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Huggingface's: no ``encode``, an end token (2) that is never cut, padded with ones."""

    def tokenizer(texts: list[str], context_length: int | None = None) -> Tensor:
        length = context_length or 16
        rows = [[*[len(word) + 2 for word in text.split()[: length - 1]], 2] for text in texts]
        return torch.tensor([row + [1] * (length - len(row)) for row in rows])

    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: tokenizer)
    clip = load_clip(f"local-dir:{save_folder(model, tmp_path, clip_config())}")
    with pytest.warns(UserWarning, match="is cut") as caught:
        encode_sentences(clip.text, ["a dog", " ".join(["word"] * 16), " ".join(["dog"] * 15)])
    assert len(caught) == 1


def test_a_text_tower_of_its_own_class_is_read(tmp_path: Path) -> None:
    """CustomTextCLIP, whose text weights carry another prefix."""
    cfg = clip_config()
    whole = open_clip.model.CustomTextCLIP(**cfg).eval()
    for value in whole.parameters():
        nn.init.normal_(value, std=0.1)
    clip = load_clip(f"local-dir:{save_folder(whole, tmp_path, {**cfg, 'custom_text': True})}")
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a dog"])
    want = F.normalize(whole.encode_text(tokens), dim=-1).detach()
    torch.testing.assert_close(encode_sentences(clip.text, ["a dog"]).clone(), want)
