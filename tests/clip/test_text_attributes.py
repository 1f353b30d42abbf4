"""Texts of classes with the centres of sentences about them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from generating import CommandLine
from PIL import Image
from torch.nn import functional as F

import clipes
from clipes.clip.attributes import attribute_centres, vocabulary_features, with_attributes
from clipes.clip.settings import model_settings
from clipes.clip.text import encode_sentences, text_features
from clipes.clip.weights import load_clip
from clipes.generator import MaskGenerator
from clipes.vocabulary import load_vocabulary

ABOUT = {"cat": ["it has whiskers", "it purrs"], "dog": ["it barks", "it has a tail"]}


def test_centres_are_the_means_of_what_is_near() -> None:
    generator = torch.Generator().manual_seed(1)
    middles = F.normalize(torch.randn(4, 16, generator=generator), dim=-1)
    groups = [
        middle + 0.01 * torch.randn(size, 16, generator=generator)
        for middle, size in zip(middles, (3, 5, 2, 9), strict=True)
    ]
    rows = torch.cat(groups)[torch.randperm(19, generator=generator)]
    found = attribute_centres(rows, 4)
    assert found.dtype == torch.float32 and torch.equal(found, attribute_centres(rows, 4)), "the seed is fixed"
    nearest = torch.cdist(middles, found).argmin(1)
    torch.testing.assert_close(found[nearest], torch.stack([group.mean(0) for group in groups]), rtol=0, atol=1e-6)


def test_a_sentence_each_where_there_are_fewer_than_centres() -> None:
    rows = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(2)), dim=-1)
    found = attribute_centres(torch.cat([rows, rows[:2]]), 112)
    assert len(found) == 5 and torch.equal(found[torch.cdist(rows, found).argmin(1)], rows)


def test_one_centre_is_added_as_it_is() -> None:
    text, centre = torch.tensor([[[0.6, 0.8]]]), torch.tensor([[0.5, 0.0]])
    assert torch.allclose(with_attributes(text, centre), F.normalize(text + centre, dim=-1))


def test_classes_are_enriched_and_background_words_stay() -> None:
    encoder = load_clip("tiny", device="cpu").text
    own = load_vocabulary(["cat", "dog", "boat"], ["sky", "sea"], attributes=ABOUT, attribute_centres=2)
    plain = text_features(encoder, own.sentences())
    sentences = [sentence for said in own.attributes for sentence in said]
    centres = attribute_centres(encode_sentences(encoder, sentences), 2)
    found = vocabulary_features(encoder, own)
    assert torch.equal(found[3:], plain[3:])
    for got, text in zip(found[:3, 0], plain[:3, 0], strict=True):
        weights = (centres @ text).softmax(0)  # int(0.1 * 2) = 0 of them are left out
        torch.testing.assert_close(got, F.normalize(text + weights @ centres, dim=-1))
    without = load_vocabulary(["cat", "dog", "boat"], ["sky", "sea"])
    assert torch.equal(vocabulary_features(encoder, without), plain)


def test_every_name_of_a_class_is_enriched() -> None:
    encoder = load_clip("tiny", device="cpu").text
    names = {"cat": ["cat", "kitten"], "dog": "dog"}
    own = load_vocabulary(names, ["sky"], fuse="max", attributes=ABOUT)
    plain, found = text_features(encoder, own.sentences()), vocabulary_features(encoder, own)
    assert found.shape == plain.shape == (3, 2, found.shape[-1])
    assert not torch.allclose(found[:2], plain[:2], atol=1e-3) and torch.equal(found[2], plain[2])


def test_masks_and_settings_depend_on_them() -> None:
    clip = load_clip("tiny", device="cpu")
    plain = load_vocabulary("scenes")
    sentences = {name: [f"{name} of the {place}" for place in ("hills", "sea")] for name in plain.class_names}
    own = load_vocabulary("scenes", attributes=sentences)
    first, second = model_settings(clip, plain), model_settings(clip, own)
    assert first["attribute_centres"] is None and second["attribute_centres"] == 112
    assert first["vocabulary"] != second["vocabulary"]
    scene = clipes.scenes.draw_scene(seed=7)
    maps = [
        MaskGenerator(clip, words, clipes.config.SCENES)(scene.image, scene.labels).patch_cams for words in (plain, own)
    ]
    assert not np.allclose(*maps, atol=1e-3)


def test_the_flags(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((32, 40, 3), random.Random(0).randrange(256), np.uint8)).save("a.png")
    Path("about.json").write_text(json.dumps({"cat": ["it has whiskers"], "tree": ["it has leaves"]}))
    arguments = ("generate", "a.png", "--labels", "cat", "--out", "m")
    assert cli(*arguments, "--attributes", "about.json", "--attribute-centres", "2").code == 0
    manifest = json.loads(Path("m/run.json").read_text())
    assert manifest["settings"]["attribute_centres"] == 2
    cat = next(entry for entry in manifest["class_set"]["classes"] if entry["name"] == "cat")
    assert cat["attributes"] == ["it has whiskers"]
    assert manifest["plan"]["vocabulary"]["attributes"] == str(tmp_path / "about.json")
    code, _, err = cli(*arguments)
    assert code == 2 and "attribute_centres: 2 → null" in err
    assert cli("generate", "a.png", "--like", "m", "--labels", "cat", "--out", "m").code == 0, "--like has them"
    code, _, err = cli(*arguments, "--attributes", "none.json")
    assert code == 2 and "no such file: none.json" in err
