"""clipes.prompting.background and .competition: words against labels, what is chosen and left out, the command."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import make_clip
from PIL import Image
from torch.nn.functional import normalize

import clipes
from clipes.cams.compute import encode_images
from clipes.cams.probabilities import label_probabilities
from clipes.cli import main
from clipes.clip.head import image_features
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.text import TextEncoder
from clipes.clip.weights import CLIP
from clipes.commands.arguments import parse_words
from clipes.config import GradCamConfig, ImageConfig
from clipes.datasets import Sample
from clipes.io.images import open_image
from clipes.prompting import feature_pass
from clipes.prompting.background import MIN_CLASSES
from clipes.prompting.background import judge_background as judge
from clipes.prompting.background import suggest_background as suggest
from clipes.prompting.competition import TIE, closest, closest_classes, compete_alone, compete_together
from clipes.scenes import draw_scene
from clipes.vocabulary import background_set_names, class_set_names, load_vocabulary, stuff_words

WIDTH = 48
VOC = [",".join(names) for names in load_vocabulary("voc12").prompt_names]  # as sentences of the template {}


# --- the competition, by loops


def dot(one, other):
    return sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))


def slow_alone(features, classes, words, present, scale):
    """Wins, mean probability and what each class loses, image by image and word by word."""
    wins, shares, taken = [], [], []
    for word in words:
        won, total, lost = 0, 0.0, [0.0] * len(classes)
        for feature, labelled in zip(features, present.tolist(), strict=True):
            labels = {k: max(dot(feature, name) for name in classes[k]) for k, has in enumerate(labelled) if has}
            own = dot(feature, word)
            won += all(own > cosine + TIE for cosine in labels.values())
            powers = {k: math.exp(scale * cosine) for k, cosine in labels.items()}
            share = math.exp(scale * own) / (math.exp(scale * own) + sum(powers.values()))
            total += share
            for k, power in powers.items():
                lost[k] += share * power / sum(powers.values())
        wins.append(won)
        shares.append(total / len(features))
        taken.append(lost)
    return wins, shares, taken


def slow_kept(features, classes, words, present, scale):
    """The labels' mean probability beside the words, and each word's."""
    kept, shares = 0.0, [0.0] * len(words)
    for feature, labelled in zip(features, present.tolist(), strict=True):
        labels = [max(dot(feature, name) for name in classes[k]) for k, has in enumerate(labelled) if has]
        powers = [math.exp(scale * cosine) for cosine in labels]
        others = [math.exp(scale * dot(feature, word)) for word in words]
        kept += sum(powers) / (sum(powers) + sum(others)) / len(features)
        for m, power in enumerate(others):
            shares[m] += power / (sum(powers) + sum(others)) / len(features)
    return kept, shares


@st.composite
def competitions(draw):
    """Unit features of images, classes and words; some words equal a class's name; labels, at least one each."""
    b, k, m, v, e = (draw(st.integers(1, top)) for top in (4, 4, 5, 3, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    features, classes, words = (
        normalize(torch.randn(*shape, e, generator=generator, dtype=torch.float64), dim=-1)
        for shape in ((b,), (k, v), (m,))
    )
    if draw(st.booleans()):
        words[0] = classes[-1, -1]
    present = torch.rand(b, k, generator=generator) < 0.5
    present[range(b), torch.randint(k, (b,), generator=generator)] = True
    return features, classes, words, present, draw(st.sampled_from([1.0, 14.3]))


@given(competitions())
@settings(deadline=None)
def test_alone_equals_loops(case):
    found, (wins, shares, taken) = compete_alone(*case), slow_alone(*case)
    assert found.wins.tolist() == wins
    torch.testing.assert_close(found.share.tolist(), shares)
    torch.testing.assert_close(found.taken.tolist(), taken)


@given(competitions())
@settings(deadline=None)
def test_together_equals_loops(case):
    features, classes, words, present, scale = case
    found = compete_together(*case)
    kept, shares = slow_kept(*case)
    assert found.kept == pytest.approx(kept)
    torch.testing.assert_close(found.share.tolist(), shares)
    for m, gain in enumerate(found.gain.tolist()):
        fewer = [word for index, word in enumerate(words) if index != m]
        without, _ = slow_kept(features, classes, fewer, present, scale)
        assert gain == pytest.approx(without - kept, abs=1e-12)


@given(competitions())
@settings(deadline=None)
def test_both_are_the_methods_own_softmax(case):
    features, classes, words, present, scale = case
    names = words[:, None].expand(-1, classes.shape[1], -1)
    both = label_probabilities(features, torch.cat([classes, names]), present, scale)[:, len(classes) :]
    torch.testing.assert_close(compete_together(*case).share, both.mean(0))
    for m, share in enumerate(compete_alone(*case).share):
        one = label_probabilities(features, torch.cat([classes, names[m : m + 1]]), present, scale)[:, -1]
        torch.testing.assert_close(share, one.mean())


def test_without_words_the_labels_keep_all():
    features = torch.eye(2)
    found = compete_together(features, features[:, None], torch.zeros(0, 2), torch.ones(2, 2, dtype=torch.bool), 9.0)
    assert (found.kept, found.share.shape, found.gain.shape) == (1, (0,), (0,))


def test_gain_where_a_word_takes_everything():
    """At a real model's scale of 100 the labels keep 2e-44, which float32 cannot hold; without the word, all."""
    sky, cat = torch.eye(2)
    found = compete_together(sky[None], cat[None, None], sky[None], torch.ones(1, 1, dtype=torch.bool), 100.0)
    assert (found.kept, found.gain.tolist()) == (pytest.approx(0, abs=1e-40), [1])


def test_ties_do_not_win():
    cat = torch.tensor([0.6, 0.8], dtype=torch.float64)
    picture = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    words = torch.stack([cat, cat + torch.tensor([TIE / 2, 0.0]), cat + torch.tensor([2 * TIE, 0.0])])
    found = compete_alone(picture, cat[None, None], words, torch.ones(1, 1, dtype=torch.bool), 100.0)
    assert found.wins.tolist() == [0, 0, 1]


@given(competitions())
@settings(deadline=None)
def test_closest_equals_loops(case):
    _, classes, words, _, _ = case
    values, indices = closest(classes, words)
    for word, value, index in zip(words, values.tolist(), indices.tolist(), strict=True):
        cosines = [max(dot(name, word) for name in names) for names in classes]
        assert value == pytest.approx(max(cosines)) == pytest.approx(cosines[index])
    if len(classes) == 1:
        return
    pairs = [
        (max(dot(a, b) for a in classes[i] for b in classes[j]), i, j)
        for i in range(len(classes))
        for j in range(len(classes))
        if i != j
    ]
    found = closest_classes(classes)
    assert found[0] == pytest.approx(max(pairs)[0]) == pytest.approx({(i, j): c for c, i, j in pairs}[found[1:]])


# --- words planted among features that are known


def planted(features: dict[str, torch.Tensor]) -> TextEncoder:
    """A text side that knows these sentences alone."""
    sentences = list(features)
    stacked = torch.stack([normalize(feature.float(), dim=-1) for feature in features.values()])
    mark = hashlib.sha256(repr((sentences, stacked.tolist())).encode()).hexdigest()  # features are kept on disk by it
    return TextEncoder(
        lambda given: torch.tensor([[sentences.index(s)] for s in given]), lambda t: stacked[t[:, 0]], mark
    )


@pytest.fixture(scope="module")
def encoder():
    return vision_encoder(make_clip(seed=3, embed=WIDTH))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Sample]:
    """Six pictures of three sizes, with labels in turn: cat, dog, both."""
    samples = []
    for index, size in enumerate([(40, 64), (64, 40), (40, 64), (33, 33), (40, 64), (64, 40)]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(draw_scene(index, size).image).save(path)
        samples.append(Sample(f"p{index}", path, (("cat",), ("dog",), ("cat", "dog"))[index % 3]))
    return samples


def feature_of(encoder, sample: Sample, config=clipes.VOC12) -> torch.Tensor:
    ((_, encoded),) = encode_images(encoder, [open_image(sample.image)], config)
    return normalize(image_features(encoder.head, encoded.last_block, config.pool)[0], dim=-1)


def frame(feature: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows, the first of them this unit vector."""
    rows = torch.cat([feature[None], torch.randn(WIDTH - 1, WIDTH, generator=torch.Generator().manual_seed(0))])
    found = torch.linalg.qr(rows.T).Q.T
    return found * torch.sign(found[0] @ feature)


def towards(feature: torch.Tensor, cosine: float, other: torch.Tensor) -> torch.Tensor:
    """A unit vector at this cosine to a unit vector, the rest of it along another at a right angle."""
    return cosine * feature + math.sqrt(1 - cosine**2) * other


def vocabulary(names=("cat", "dog"), **given):
    return load_vocabulary(list(names), templates="{}", **{"background": ["nothing"], **given})


CONFIGS = [
    clipes.VOC12,
    replace(clipes.VOC12, map=GradCamConfig("cls")),
    replace(clipes.VOC12, image=ImageConfig(max_patches=4)),
    replace(clipes.VOC12, affinity=None),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["published", "cls", "small", "no affinity"])
def test_a_word_that_is_the_picture_wins_in_it(encoder, pictures, config):
    own, x, y, *others = frame(feature_of(encoder, pictures[0], config))
    far = {"cat": towards(own, 0.9, x), "dog": towards(own, 0.92, x), "sky": own, "sea": towards(own, 0.89, y)}
    far = {**dict(zip(VOC, others, strict=False)), **far}
    found = suggest(CLIP(encoder, planted(far)), vocabulary(), pictures[:1], config, candidates=["sea", "sky"])
    assert found.words == ("sky",)
    first, second = found.rows
    assert (first.word, first.wins, first.takes_from, first.near, first.reason) == ("sky", 1, "cat", "dog", "")
    assert first.similarity == pytest.approx(0.92, abs=1e-6)
    scale = encoder.head.logit_scale
    assert first.p_pairwise == pytest.approx(1 / (1 + math.exp(scale * (0.9 - 1))), abs=1e-4)
    assert first.p_joint == pytest.approx(first.p_pairwise, abs=1e-12)
    assert found.kept == pytest.approx(1 - first.p_pairwise, abs=1e-12)
    assert first.gain == pytest.approx(first.p_pairwise, abs=1e-12)
    assert (second.word, second.wins, second.reason, second.p_joint) == ("sea", 0, "never wins", None)
    assert second.gain is None


@pytest.fixture
def crowd(encoder, pictures):
    """Two classes at a cosine of 0.5, and words at known cosines to them or to the first picture."""
    own, *other = frame(feature_of(encoder, pictures[0]))
    cat = towards(own, -0.9, other[0])
    features = {"cat": cat, "dog": towards(cat, 0.5, other[1]), "sky": own, "air": towards(own, 0.995, other[2])}
    features |= {"haze": towards(own, 0.985, other[3]), "cat tree": own, "kitten": towards(cat, 0.51, other[4])}
    features |= {"puma": towards(cat, 0.49, other[5]), "sea": towards(own, 0.6, other[6]), "nothing": own}
    return CLIP(encoder, planted({**dict(zip(VOC, other[7:], strict=False)), **features})), pictures


CROWD = ["kitten", "sea", "air", "cat tree", "haze", "sky", "puma"]


def reasons(table):
    return {row.word: row.reason for row in table.rows}


def test_what_is_left_out_and_why(crowd):
    clip, pictures = crowd
    found = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD, count=3)
    told = reasons(found)
    assert told["cat tree"] == "names 'cat'"
    assert told["kitten"] == "near-synonym of 'cat'"
    assert told["puma"] in ("", "never wins", "after the first 3")  # 0.49 is below the two classes' 0.5
    assert found.near_pair == ("cat", "dog")
    assert found.near_limit == pytest.approx(0.5, abs=1e-6)
    repeated = {"sky": "air", "air": "sky"}
    (repeat,) = [word for word in repeated if told[word].startswith("the same")]
    assert told[repeat] == f"the same to the model as {repeated[repeat]!r}"
    assert told["haze"] == ""  # a cosine of 0.985 is another word
    assert set(found.words) == {word for word, reason in told.items() if not reason}
    assert [row.word for row in found.rows if row.p_joint is not None] == list(found.words)


def test_the_most_frequent_winners_come_first(crowd):
    clip, pictures = crowd
    every = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD)
    ranks = [(-row.wins, -row.p_pairwise) for row in every.rows]
    assert ranks == sorted(ranks)
    assert every.rows[0].wins > every.rows[-1].wins
    assert all(row.wins for row in every.rows if row.word in every.words)
    assert len(every.words) > 2
    fewer = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD, count=2)
    assert fewer.words == every.words[:2]
    assert {"after the first 2"} == {reasons(fewer)[word] for word in every.words[2:]}


def test_wins_count_before_probability(encoder, pictures):
    """Among random words some take more while winning less."""
    words = [f"w{index}" for index in range(30)]
    rows = normalize(torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(1)), dim=-1)
    tower = planted(dict(zip([*VOC, "cat", "dog", *words], [*torch.eye(WIDTH)[: len(VOC)], *rows], strict=True)))
    samples = [replace(sample, labels=("cat", "dog")) for sample in pictures]
    found = suggest(CLIP(encoder, tower), vocabulary(), samples, clipes.VOC12, candidates=words)
    ranks = [(-row.wins, -row.p_pairwise) for row in found.rows]
    assert ranks == sorted(ranks)
    shares = [row.p_pairwise for row in found.rows]
    assert shares != sorted(shares, reverse=True)


def test_equal_words_keep_the_order_given(crowd):
    clip, pictures = crowd
    for words in (["sky", "nothing"], ["nothing", "sky"]):
        found = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=words)
        assert [row.word for row in found.rows] == words
        assert found.words == (words[0],)


def test_the_limit_can_be_given(crowd):
    clip, pictures = crowd
    options = {"candidates": CROWD, "count": 9}
    loose = suggest(clip, vocabulary(), pictures, clipes.VOC12, near=1, **options)
    assert (loose.near_limit, loose.near_pair) == (1, None)
    assert "near-synonym" not in reasons(loose)["kitten"]
    strict = suggest(clip, vocabulary(), pictures, clipes.VOC12, near=0.48, **options)
    assert reasons(strict)["puma"] == "near-synonym of 'cat'"


def test_few_classes_are_helped_by_vocs(encoder, pictures):
    """Two classes at a right angle say nothing of how close things are; VOC's bus and train, at 0.8, do."""
    own, bus, *others = frame(feature_of(encoder, pictures[0]))
    features = {**dict(zip(VOC, others, strict=False)), "bus": bus, "train": towards(bus, 0.8, others[20])}
    features |= {f"c{index}": other for index, other in enumerate(others[:MIN_CLASSES])}
    features |= {"far": towards(features["c0"], 0.79, own), "near": towards(features["c0"], 0.81, own)}
    for count, limit, pair in (
        (1, 0.8, ("bus", "train")),
        (MIN_CLASSES - 1, 0.8, ("bus", "train")),
        (MIN_CLASSES, 0, None),
    ):
        names = [f"c{index}" for index in range(count)]
        samples = [replace(pictures[0], labels=("c0",))]
        clip = CLIP(encoder, planted(features))
        found = suggest(clip, vocabulary(names), samples, clipes.VOC12, candidates=["far", "near"])
        assert found.near_limit == pytest.approx(limit, abs=1e-6)
        if pair:
            assert found.near_pair == pair
            assert (reasons(found)["far"], reasons(found)["near"]) == ("", "near-synonym of 'c0'")
    close = {**features, "c0": bus, "c1": towards(bus, 0.9, others[21])}
    found = suggest(CLIP(encoder, planted(close)), vocabulary(["c0", "c1"]), samples, clipes.VOC12, candidates=["far"])
    assert (found.near_limit, found.near_pair) == (pytest.approx(0.9), ("c0", "c1"))


def test_names_of_classes_in_every_form(encoder, pictures):
    """Names, prompts, the parts of a prompt and synonyms; a word that holds one, and the end of one."""
    given = {"dining table": ["writing desk,board"], "tv": "tv"}
    words = {"Dining Table": "names 'dining table'", "old board": "names 'board'", "tv set": "names 'tv'"}
    words |= {"table": "the end of 'dining table'", "desk": "the end of 'writing desk'"}
    words |= {"dining": "", "able": "", "tvs": ""}
    own = load_vocabulary(given, background=[], templates="{}", fuse="max")
    own = replace(own, synonyms=((), (clipes.vocabulary.vocabulary.Synonyms("", ("telly",)),)))
    words["the telly"] = "names 'telly'"
    names = ["writing desk,board", "tv", "telly", *words]
    tower = planted(dict(zip([*VOC, *names], torch.eye(WIDTH), strict=False)))
    samples = [replace(sample, labels=("tv",)) for sample in pictures]
    told = reasons(suggest(CLIP(encoder, tower), own, samples, clipes.VOC12, candidates=list(words)))
    for word, reason in words.items():
        assert told[word] == reason if reason else not told[word].startswith(("names", "the end"))


def test_of_several_names_the_closest_counts(encoder, pictures):
    own, x, y, z, *others = frame(feature_of(encoder, pictures[0]))
    features = dict(zip(VOC, others, strict=False))
    features |= {"cat": towards(own, -0.5, x), "puss": towards(own, 0.7, y), "sky": towards(own, 0.6, z)}
    clip, names = CLIP(encoder, planted(features)), {"cat": ["cat", "puss"]}
    for fuse, wins in (("max", 0), ("features", 1)):
        words = load_vocabulary(names, background=["sky"], templates="{}", fuse=fuse)
        assert judge(clip, words, pictures[:1], clipes.VOC12).rows[0].wins == wins


def test_the_order_of_the_samples_changes_nothing(crowd):
    clip, pictures = crowd
    first = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD)
    assert suggest(clip, vocabulary(), pictures[::-1], clipes.VOC12, candidates=CROWD) == first


def test_the_vocabularys_own_words_play_no_part(crowd):
    clip, pictures = crowd
    first = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD)
    assert suggest(clip, vocabulary(background=[]), pictures, clipes.VOC12, candidates=CROWD) == first


def test_images_do_not_change_each_other(crowd):
    """Encoded alone or among others of its size, an image has the same numbers."""
    clip, pictures = crowd
    alone = [judge(clip, vocabulary(background=CROWD[:3]), [one], clipes.VOC12) for one in pictures]
    every = judge(clip, vocabulary(background=CROWD[:3]), pictures, clipes.VOC12)
    for row in every.rows:
        parts = [next(one for one in table.rows if one.word == row.word) for table in alone]
        assert row.wins == sum(part.wins for part in parts)
        assert row.p_pairwise == pytest.approx(sum(part.p_pairwise for part in parts) / 6, abs=1e-15)
        assert row.p_joint == pytest.approx(sum(part.p_joint for part in parts) / 6, abs=1e-15)


def test_the_sample_depends_on_the_ids_alone(crowd):
    clip, pictures = crowd
    seen: list[Sample] = []

    def watch(items, total, unit):
        for item in items:
            seen.append(item)
            yield item
        assert (total, unit) == (len(seen), "images")

    found = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD, sample=4, progress=watch)
    assert found.images == 4
    assert [one.id for one in seen] == sorted(
        (one.id for one in pictures), key=lambda i: hashlib.sha256(i.encode()).digest()
    )[:4]


def test_images_that_cannot_be_read_are_named(crowd, tmp_path):
    clip, pictures = crowd
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    bad = [Sample(name, tmp_path / name, ("cat",)) for name in ("empty.png", "text.png", "missing.png")]
    bare = Sample("bare", tmp_path / "empty.png", ())
    found = suggest(clip, vocabulary(), [*bad, bare, *pictures], clipes.VOC12, candidates=CROWD)
    assert (found.images, found.unlabelled, len(found.failed)) == (6, 1, 3)
    for name in ("empty.png", "text.png", "missing.png"):
        assert sum(error.startswith(f"{tmp_path / name}: ") for error in found.failed) == 1
    assert found.rows == suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD).rows


def test_images_are_encoded_once(crowd, tmp_path, monkeypatch):
    clip, pictures = crowd
    encode, encoded = feature_pass.encode_images, []

    def counted(encoder, images, config):
        encoded.append(len(images))
        return encode(encoder, images, config)

    monkeypatch.setattr(feature_pass, "encode_images", counted)
    options = {"candidates": CROWD, "folder": tmp_path / "cache"}
    first = suggest(clip, vocabulary(), pictures, clipes.VOC12, **options)
    assert encoded == [1] * 6
    assert suggest(clip, vocabulary(), pictures, clipes.VOC12, **options) == first and len(encoded) == 6
    judged = judge(clip, vocabulary(background=CROWD[:3]), pictures, clipes.VOC12, folder=tmp_path / "cache")
    assert judged == judge(clip, vocabulary(background=CROWD[:3]), pictures, clipes.VOC12) and len(encoded) == 12
    (tmp_path / "file").touch()  # where nothing can be written, nothing is cached
    assert suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD, folder=tmp_path / "file") == first
    os.utime(pictures[0].image, ns=(0, 12345))
    assert suggest(clip, vocabulary(), pictures, clipes.VOC12, **options) == first and len(encoded) == 24


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_an_image_too_large_for_the_memory_is_named_and_the_others_go_on(crowd, monkeypatch, error):
    clip, pictures = crowd
    encode, first = feature_pass.encode_images, []

    def scarce(*arguments):
        if not first:
            first.append(1)
            raise error
        return encode(*arguments)

    monkeypatch.setattr(feature_pass, "encode_images", scarce)
    found = suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD)
    assert found.images == len(pictures) - 1
    assert len(found.failed) == 1 and "out of memory" in found.failed[0]


def test_another_error_of_the_model_is_no_fault_of_an_image(crowd, monkeypatch):
    clip, pictures = crowd

    def broken(*arguments):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(feature_pass, "encode_images", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        suggest(clip, vocabulary(), pictures, clipes.VOC12, candidates=CROWD)


def test_a_feature_that_is_not_finite_is_named(crowd, encoder):
    clip, pictures = crowd
    broken = replace(encoder, head=replace(encoder.head, projection=encoder.head.projection * torch.nan))
    with pytest.raises(
        ValueError, match=r"none of 1 images could be read; the first: .*0.png: an image feature is not finite"
    ):
        suggest(replace(clip, vision=broken), vocabulary(), pictures[:1], clipes.VOC12, candidates=CROWD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0; it must be a whole number of at least 1"),
        ({"sample": 0}, "sample is 0; it must be"),
        ({"sample": 2.5}, "sample is 2.5; it must be a whole number"),
        ({"near": 1.5}, r"near is 1.5; it is a cosine, in \[-1, 1\]"),
        ({"near": math.nan}, "near is nan; it is a cosine"),
        ({"candidates": []}, "candidates: the list is empty"),
        ({"candidates": ["sky", ""]}, "candidates: entry 2 is blank"),
        ({"candidates": ["sky", "SKY"]}, "candidates: 'SKY' repeats 'sky'"),
        ({"candidates": ["café", "cafe\u0301"]}, "candidates: .* repeats 'café'"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(crowd, changes, message):
    clip, _ = crowd
    with pytest.raises(ValueError, match=message):
        suggest(clip, vocabulary(), [Sample("a", Path("missing.png"), ("cat",))], clipes.VOC12, **changes)


def test_samples_that_do_not_do(crowd):
    clip, pictures = crowd
    with pytest.raises(ValueError, match="no image has a label, so that there is nothing to win against"):
        suggest(clip, vocabulary(), [replace(pictures[0], labels=())], clipes.VOC12)
    with pytest.raises(ValueError, match="unknown class 'cow'"):
        suggest(clip, vocabulary(), [replace(pictures[0], labels=("cow",))], clipes.VOC12, candidates=CROWD)
    for changes, message in (({"sample": 0}, "sample is 0"), ({"near": -2}, "near is -2")):
        with pytest.raises(ValueError, match=message):
            judge(clip, vocabulary(), pictures, clipes.VOC12, **changes)
    with pytest.raises(ValueError, match="there is no background word to judge; give some"):
        judge(clip, vocabulary(background=[]), pictures, clipes.VOC12)


def test_given_words_all_stay_with_what_speaks_against_them(crowd):
    clip, pictures = crowd
    with pytest.warns(UserWarning, match="'cat tree'"):
        own = vocabulary(background=CROWD)
    found = judge(clip, own, pictures, clipes.VOC12)
    assert sorted(found.words) == sorted(CROWD)
    told = reasons(suggest(clip, own, pictures, clipes.VOC12, candidates=CROWD))
    assert {word for word in CROWD if reasons(found)[word]} == {word for word in CROWD if told[word]}
    text = {word: feature for word, feature in zip(CROWD, clip.text.encode(clip.text.tokenize(CROWD)), strict=True)}
    classes = clip.text.encode(clip.text.tokenize(["cat", "dog"]))[:, None].double()
    features = torch.stack([feature_of(clip.vision, one) for one in pictures]).double()
    present = torch.tensor([["cat" in one.labels, "dog" in one.labels] for one in pictures])
    chosen = [text[row.word].double() for row in found.rows]
    kept, shares = slow_kept(features, classes, chosen, present, clip.vision.head.logit_scale)
    assert found.kept == pytest.approx(kept, abs=1e-6)
    torch.testing.assert_close([row.p_joint for row in found.rows], shares, rtol=0, atol=1e-6)
    _, alone, taken = slow_alone(features, classes, chosen, present, clip.vision.head.logit_scale)
    torch.testing.assert_close([row.p_pairwise for row in found.rows], alone, rtol=0, atol=1e-6)
    assert [row.takes_from for row in found.rows] == [("cat", "dog")[row.index(max(row))] for row in taken]


HOSTILE = ["{}", "{0}", "a" * 300, "🦕 🌋", "<b>sky</b>", "%s", "sky;rm -rf", "\u202esky", "C:\\temp", "a'b\"c"]


@pytest.mark.filterwarnings("ignore:.*is cut")
def test_hostile_words_are_words(photos, tmp_path, capsys):
    """Whatever they hold they are judged, printed on lines of their own and escaped, and written."""
    file = tmp_path / "words.json"
    file.write_text(json.dumps(HOSTILE), "utf-8")
    out = tmp_path / "own.json"
    code = main(command(photos, "--candidates", file, "--near", "1", "--out", out))
    printed = capsys.readouterr()
    assert code in (0, 2)  # 2: none wins
    assert "\u202e" not in printed.out + printed.err
    if code == 0:
        assert set(load_vocabulary(out).background_names) <= set(HOSTILE)
    assert main(command(photos, "--background", "{},🦕 🌋,%s")) == 0
    assert "{}" in capsys.readouterr().out


# --- the data


def test_stuff_words_are_clean():
    words = stuff_words()
    assert 200 <= len(words) <= 350
    assert list(words) == sorted(set(words))
    assert all(word == " ".join(word.lower().split()) and word.isascii() for word in words)
    classes = {name for one in ("voc12", "coco14") for name in load_vocabulary(one).class_names}
    assert not classes & set(words)
    assert {"sky", "brick wall", "railroad", "ocean", "parterre", "glacier"} <= set(words)


def test_sets_are_of_stuff():
    stuff = set(stuff_words())
    assert {"general", "voc12", "coco14", "scenes"} <= set(background_set_names())
    for name in ("general", "scenes", "coco14"):
        assert set(load_vocabulary(["thing"], background=name).background_names) <= stuff
    assert set(load_vocabulary(["thing"], background="voc12").background_names) - stuff == {"keyboard"}
    assert 30 <= len(load_vocabulary(["thing"], background="general").background_names) <= 45


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [name for name in class_set_names() if name.startswith(("voc12", "coco14"))])
def test_the_general_set_names_no_class(classes):
    assert load_vocabulary(classes, background="general").background_names


# --- the command


def command(photos: Path, *more: object) -> list[str]:
    return ["background", str(photos), "--labels", str(photos.parent / "labels.csv"), *map(str, more)]


def pasted(printed: str) -> list[str]:
    """The words of the line to be pasted, as a shell and then --background read them."""
    (line,) = [line for line in printed.splitlines() if line.startswith("--background")]
    _, given = shlex.split(line)
    return list(parse_words(given))


ODD = ["sky", "the 'blue' sea", "wall; road"]


@pytest.fixture
def winners(encoder, pictures, tmp_path, monkeypatch):
    """A command line on six pictures, with a model in which these words win in the first, in this order."""
    own, *other = frame(feature_of(encoder, pictures[0]))
    words = [*ODD, "sky, blue"]
    features = {**dict(zip(VOC, other, strict=False)), "cat": -own, "dog": -own}
    features |= {word: towards(own, 0.9 - index / 10, other[20 + index]) for index, word in enumerate(words)}
    monkeypatch.setattr("clipes.clip.weights.load_clip", lambda **_: CLIP(encoder, planted(features)))
    rows = "".join(f"{one.image.name},{';'.join(one.labels)}\n" for one in pictures)
    (tmp_path / "labels.csv").write_text(f"image,labels\n{rows}")
    (tmp_path / "words.json").write_text(json.dumps(words))
    start = ["background", str(tmp_path / "[0-5].png"), "--labels", str(tmp_path / "labels.csv"), "--templates", "{}"]
    return [*start, "--model", "tiny", "--classes", "cat,dog", "--near", "0.99", "--candidates"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_words_as_asked_for_can_be_pasted(winners, tmp_path, capsys, count):
    out = tmp_path / "own.json"
    (tmp_path / "odd.json").write_text(json.dumps(ODD[::-1]))
    assert main([*winners, str(tmp_path / "odd.json"), "--count", str(count), "--out", str(out)]) == 0
    assert pasted(capsys.readouterr().out) == list(load_vocabulary(out).background_names) == ODD[:count]


def test_words_with_commas_cannot_be_pasted(winners, tmp_path, capsys):
    assert main([*winners, str(tmp_path / "words.json")]) == 0
    printed = capsys.readouterr()
    assert "\n--background" not in printed.out
    assert "a word with a comma cannot be given to --background; write a class file with --out" in printed.err


def test_the_command_looks_at_a_sample(winners, tmp_path, capsys):
    for count in ("2", "6", "9"):
        assert main([*winners, str(tmp_path / "words.json"), "--sample", count]) == 0
        assert f"by {min(int(count), 6)} images\n" in capsys.readouterr().out


def test_the_command_ends_in_a_class_file_that_generate_reads(photos, tmp_path, capsys):
    out, masks = tmp_path / "own.json", tmp_path / "masks"
    assert main(command(photos, "--candidates", "sky,grass,tree,glacier", "--near", 1, "--out", out)) == 0
    printed = capsys.readouterr().out
    words = load_vocabulary(out).background_names
    assert words and set(words) <= {"sky", "grass", "glacier"}
    assert f"{len(words)} of 4 words chosen by 3 images" in printed
    assert "  names 'tree': tree\n" in printed
    assert "cosine above 1.000, as given" in printed
    assert pasted(printed) == list(words)
    assert load_vocabulary(out) == replace(load_vocabulary("scenes"), name="own", background_names=words)
    labels = str(photos.parent / "labels.csv")
    generate = ["generate", str(photos), "--labels", labels, "--out", str(masks), "--classes", str(out)]
    assert main(generate) == 0
    assert len(list(masks.rglob("*.png"))) == 3


def test_the_table_fits_a_terminal(photos, tmp_path, capsys):
    """Whatever the words' and the classes' lengths; the line to paste apart."""
    (photos.parent / "labels.csv").write_text(
        "image,labels\na.jpg,{0}\nb.png,{0};cat\nsub/c.jpg,cat\n".format("n" * 60)
    )
    names = json.dumps({"n" * 60: "bird", "cat": "cat"})
    (tmp_path / "classes.json").write_text(names, "utf-8")
    assert main(command(photos, "--classes", tmp_path / "classes.json", "--near", "1")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("--background")]
    assert max(map(len, lines)) <= 100
    assert "n" * 17 + "…" in "\n".join(lines)


def test_the_command_judges_given_words(photos, capsys):
    assert main(command(photos, "--background", "scenes")) == 0
    printed = capsys.readouterr().out
    assert "10 words judged by 3 images" in printed
    assert not any(line.startswith("--background") for line in printed.splitlines())
    assert all(f" {word} " in printed for word in load_vocabulary("scenes").background_names)
    assert "cosine above 0." in printed and "different things; --near sets another." in printed


def test_auto_is_what_it_does_anyway(photos, capsys):
    assert main(command(photos, "--count", "3")) == 0
    plain = capsys.readouterr().out
    assert main(command(photos, "--count", "3", "--background", "auto")) == 0
    assert capsys.readouterr().out == plain
    assert f"of {len(stuff_words())} words chosen" in plain


@pytest.mark.parametrize("flag", [("--count", "3"), ("--candidates", "sky,"), ("--out", "own.json")])
def test_given_words_are_not_chosen_from(photos, capsys, flag):
    assert main(command(photos, "--background", "scenes", *flag)) == 2
    assert f"suggests none; leave out {flag[0]}" in capsys.readouterr().err


def test_a_bad_out_is_told_before_anything_else(tmp_path, capsys):
    (tmp_path / "folder.json").mkdir()
    for name, message in (("own.txt", "a class file is JSON, not 'own.txt'"), ("folder.json", "is no ordinary file")):
        assert main(["background", "missing", "--labels", "cat", "--out", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_no_word_wins(photos, tmp_path, capsys):
    """Names of classes never do; there is nothing to write then."""
    out = tmp_path / "own.json"
    assert main(command(photos, "--candidates", "bird,cat,")) == 0
    printed = capsys.readouterr()
    assert "0 of 2 words chosen" in printed.out
    assert "no word wins in any image" in printed.err
    assert main(command(photos, "--candidates", "bird,cat", "--out", out)) == 2
    assert "there is no word to write to" in capsys.readouterr().err
    assert not out.exists()


def test_a_class_set_without_words_of_its_own(photos, tmp_path, capsys):
    """A single label needs words to be decided at all; here they are still to be found."""
    bare = tmp_path / "bare.json"
    replace(load_vocabulary("scenes"), background_names=()).save(bare)
    (photos.parent / "labels.csv").write_text("image,labels\na.jpg,cat\nb.png,cat\nsub/c.jpg,\n")
    assert main(command(photos, "--classes", bare)) == 0
    assert "by 2 images, 1 without a label left out" in capsys.readouterr().out
    assert main(command(photos, "--classes", "cat,")) == 0
    assert "that of " in capsys.readouterr().out


def test_images_that_fail_are_told(photos, capsys):
    (photos / "a.jpg").write_bytes(b"")
    assert main(command(photos, "--candidates", "sky,grass")) == 3
    printed = capsys.readouterr()
    assert f"{photos / 'a.jpg'}: the file is empty" in printed.err
    assert "by 2 images" in printed.out


def test_wrong_labels_are_told_with_their_line(photos, capsys):
    (photos.parent / "labels.csv").write_text("image,labels\na.jpg,cat\nb.png,cta\nsub/c.jpg,cat\n")
    assert main(command(photos)) == 2
    assert "labels.csv, line 3: unknown class 'cta' in scenes; did you mean 'cat'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.json", b'["sky", "Sky"]', "w.json: candidates: 'Sky' repeats 'sky'"),
        ("w.json", b'["sky"', "w.json: bad JSON: Expecting"),
        ("w.json", b'{"sky": 1}', "w.json: candidates: expected a list of strings"),
        ("w.json", b"[1]", "w.json: candidates: entry 1 is 1, not a string"),
        ("w.txt", b"# none\n\n", "w.txt: candidates: the list is empty"),
        ("w.txt", b"sky\n\xff", "w.txt: not UTF-8 text (byte 4)"),
        ("w.txt", None, "w.txt'; give one that exists"),
    ],
)
def test_bad_files_of_candidates(photos, tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(command(photos, "--candidates", tmp_path / name)) == 2
    assert message in capsys.readouterr().err


def test_files_of_candidates(photos, tmp_path, capsys):
    (tmp_path / "w.txt").write_text("\ufeff# ground\nsky\n\n  grass \n", "utf-8")
    (tmp_path / "w.json").write_text('["sky", "grass"]')
    printed = []
    for words in (tmp_path / "w.txt", tmp_path / "w.json", "sky, grass", "sky,grass,"):
        assert main(command(photos, "--candidates", words)) == 0
        printed.append(capsys.readouterr().out)
    assert "of 2 words" in printed[0]
    assert all(text == printed[0] for text in printed)
    assert main(command(photos, "--candidates", "y" * 300)) == 0  # no file has such a name; it is a word
    assert "of 1 words" in capsys.readouterr().out
