"""Sentences to one feature per class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from models import build, clip_config, save_folder
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.text import text_features
from clipes.weights import Clip, load_clip


class Recorder:
    """An encoder that gives every sentence a direction of its own, and remembers what it was given."""

    def __init__(self, embed: int = 5) -> None:
        self.embed = embed
        self.batches: list[list[str]] = []

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        self.batches.append(list(sentences))
        return torch.stack([self.feature(sentence) for sentence in sentences])

    def feature(self, sentence: str) -> Tensor:
        generator = torch.Generator().manual_seed(sum(map(ord, sentence)) * 31 + len(sentence))
        return F.normalize(torch.randn(self.embed, generator=generator), dim=-1)


@pytest.fixture(scope="module")
def model() -> Any:
    return build(clip_config())


@pytest.fixture(scope="module")
def clip(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = save_folder(model, tmp_path_factory.mktemp("clip"), clip_config())
    return load_clip(f"local-dir:{folder}")


def test_features_are_averaged_and_normalised_again() -> None:
    encode = Recorder()
    features = text_features(encode, [["a", "bb", "ccc"], ["dd"]])
    mean = (encode.feature("a") + encode.feature("bb") + encode.feature("ccc")) / 3
    assert mean.norm() < 0.9  # so that to normalise again is something
    torch.testing.assert_close(features[0], mean / mean.norm())
    torch.testing.assert_close(features[1], encode.feature("dd"))
    assert features.dtype == torch.float32 and features.shape == (2, 5)


def test_every_sentence_is_encoded_once() -> None:
    encode = Recorder()
    text_features(encode, [["a", "b"], ["b", "c"], ["a"], ["c", "c"]])
    assert encode.batches == [["a", "b", "c"]]


def test_a_repeated_sentence_counts_as_often_as_it_stands() -> None:
    encode = Recorder()
    features = text_features(encode, [["a", "a", "b"]])
    want = 2 * encode.feature("a") + encode.feature("b")
    torch.testing.assert_close(features[0], want / want.norm())


def test_many_sentences_go_in_batches_and_keep_their_order() -> None:
    encode = Recorder()
    sentences = [[f"class {index}"] for index in range(600)]
    features = text_features(encode, sentences)
    assert [len(batch) for batch in encode.batches] == [256, 256, 88]
    want = torch.stack([encode.feature(group[0]) for group in sentences])
    torch.testing.assert_close(features, want)


def test_classes_in_another_order_give_the_rows_in_that_order() -> None:
    groups = [["a", "b"], ["c"], ["b"], ["d", "a"]]
    features = text_features(Recorder(), groups)
    torch.testing.assert_close(text_features(Recorder(), groups[::-1]), features.flip(0))


def test_no_classes_give_no_rows() -> None:
    assert text_features(Recorder(7), []).shape == (0, 7)
    assert text_features(Recorder(7), []).dtype == torch.float32


# --- with a model -------------------------------------------------------------------------------------------


def test_a_models_features(clip: Clip, model: Any) -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    features = text_features(clip.encode_text, [["a dog", "a photo of a dog"], ["a cat"]])
    dogs = F.normalize(model.encode_text(tokenizer(["a dog", "a photo of a dog"])), dim=-1)
    cat = F.normalize(model.encode_text(tokenizer(["a cat"])), dim=-1)
    torch.testing.assert_close(features[0].clone(), F.normalize(dogs.mean(0), dim=-1))
    torch.testing.assert_close(features[1].clone(), cat[0])
    assert F.cosine_similarity(features[0], features[1], dim=0) < 0.99


def test_encoded_sentences_are_unit_features_and_independent(clip: Clip) -> None:
    together = clip.encode_text(["a dog", "a cat on a mat", "sky"])
    torch.testing.assert_close(together.norm(dim=-1).clone(), torch.ones(3))
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[1:2].clone(), clip.encode_text(["a cat on a mat"]).clone())


def test_no_classes_with_a_model(clip: Clip) -> None:
    assert text_features(clip.encode_text, []).shape == (0, 24)


WORDS_THAT_FIT = 14  # context 16, less the start and the end


def test_a_sentence_longer_than_the_context_warns(clip: Clip) -> None:
    fits = " ".join(["dog"] * WORDS_THAT_FIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_text(["a dog", fits, ""])
    with pytest.warns(UserWarning, match=r"reads 16 tokens; the end of 'dog dog .*' is cut") as caught:
        clip.encode_text(["a dog", f"{fits} dog", fits])
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
        clip.encode_text(["a dog", " ".join(["word"] * 16), " ".join(["dog"] * 15)])
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
    torch.testing.assert_close(clip.encode_text(["a dog"]).clone(), want)
