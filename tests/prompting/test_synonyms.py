"""Which sense is meant, which of its words may stand for a class, and the shipped sets made so."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from wordnet_files import write_wordnet

import clipes
from clipes.cli import main
from clipes.clip.text import TextEncoder, encode_sentences
from clipes.generator import MaskGenerator
from clipes.prompting.senses import synonyms
from clipes.prompting.thesaurus import IN_PROMPT, Choice, with_synonyms
from clipes.prompting.wordnet import WordNet, open_wordnet
from clipes.vocabulary import Vocabulary, load_vocabulary
from clipes.vocabulary.class_file import Synonyms

PROMPTS = Path(__file__).parents[2] / "prompts"
CHOSEN = json.loads(Path(__file__).with_name("wordnet_senses.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return open_wordnet(write_wordnet(tmp_path_factory.mktemp("wordnet")))


def unit(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


class Space:
    """What stands for a generator's text side: a unit vector for every sentence, seeded by its letters or given."""

    def __init__(self, class_names: Sequence[str] = (), **given: Sequence[float]) -> None:
        self.class_names = tuple(class_names)
        self.given = {sentence.replace("_", " "): unit(vector) for sentence, vector in given.items()}
        self.asked: list[str] = []
        self.clip = SimpleNamespace(text=self.tower())

    def vector(self, sentence: str) -> list[float]:
        for part, vector in self.given.items():
            if part in sentence:
                return vector
        return unit(np.random.default_rng(list(sentence.encode())).normal(1, 1, 4).tolist())

    def tower(self) -> TextEncoder:
        """The same as a tower; a sentence's tokens are its place among those asked for."""

        def tokenize(sentences: Sequence[str]) -> Tensor:
            start = len(self.asked)
            self.asked += sentences
            return torch.arange(start, len(self.asked))[:, None]

        def encode(tokens: Tensor) -> Tensor:
            return torch.tensor([self.vector(self.asked[i]) for i in tokens[:, 0].tolist()])

        return TextEncoder(tokenize, encode, secrets.token_hex(8))


def names(choice: Choice) -> list[str]:
    return [synonym.name for synonym in choice.taken]


# --- which sense is meant


def test_without_a_generator_the_order_is_that_of_wordnet(small: WordNet) -> None:
    assert synonyms("mouse", wordnet=small) == small.senses("mouse")
    assert [sense.score for sense in synonyms("mouse", wordnet=small)] == [None, None]
    assert clipes.prompting.synonyms is synonyms
    assert synonyms("xyzzy", wordnet=small) == ()


@pytest.mark.parametrize("name", ["dog", "cat", "board", "mouse", "hotdog", "sports ball"])
def test_the_score_is_that_of_the_docstring(small: WordNet, name: str) -> None:
    space = Space(["diningtable", "cat", "xyzzy", "mouse", "oven"])
    found = synonyms(name, generator=space, wordnet=small)  # type: ignore[arg-type]

    classes = [space.vector(f"a photo of a {name}.") for name in ("dining table", "cat", "xyzzy", "mouse", "oven")]
    others = [sum(dot(t, u) for u in classes if u is not t) / 4 for t in classes]
    mean = sum(others) / 5
    spread = math.sqrt(sum((other - mean) ** 2 for other in others) / 5)
    expected = {}
    for place, sense in enumerate(small.senses(name)):
        feature = space.vector(f"a photo of a {sense.matched}, {sense.gloss}.")
        expected[sense.key] = sum(dot(feature, t) for t in classes) / 5 - place * spread
    assert [sense.key for sense in found] == sorted(expected, key=lambda key: -expected[key])
    assert [sense.score for sense in found] == pytest.approx([expected[sense.key] for sense in found], abs=1e-6)
    assert [replace(sense, score=None) for sense in found] == [small.sense(sense.key) for sense in found] or (
        {sense.key for sense in found} == {sense.key for sense in small.senses(name)}
    )


def test_a_sense_that_agrees_with_the_classes_passes_a_commoner_one(small: WordNet) -> None:
    given = {"oven": [4, 1, 0], "microwave": [4, 2, 0], "mouse.": [4, 0, 1], "rodent": [-1, 0, 0], "cursor": [4, 1, 1]}
    space = Space(["oven", "microwave", "mouse"], **given)
    assert [sense.key for sense in synonyms("mouse", generator=space, wordnet=small)] == [  # type: ignore[arg-type]
        "mouse%1:06:00::",
        "mouse%1:05:00::",
    ]
    equal = Space(["oven", "microwave", "mouse"], **{**given, "rodent": given["cursor"]})
    assert [sense.key for sense in synonyms("mouse", generator=equal, wordnet=small)] == [  # type: ignore[arg-type]
        "mouse%1:05:00::",
        "mouse%1:06:00::",
    ]


@pytest.mark.parametrize("classes", [["oven"], ["oven", "cat"]])
def test_one_or_two_classes_do_not_change_the_order(small: WordNet, classes: list[str]) -> None:
    space = Space(classes)
    assert synonyms("mouse", generator=space, wordnet=small) == small.senses("mouse")  # type: ignore[arg-type]
    assert space.asked == []


def test_a_real_generator(tiny: MaskGenerator, small: WordNet) -> None:
    found = synonyms("cat", generator=tiny, wordnet=small)
    assert {sense.key for sense in found} == {sense.key for sense in small.senses("cat")}
    scores = [sense.score for sense in found]
    assert None not in scores
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]


def test_a_long_gloss_is_cut_before_the_tokenizer_does(small: WordNet, monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(small.senses("oven")[0], gloss=" ".join(["hot"] * 90))
    monkeypatch.setattr(small, "senses", lambda name: (long,))
    space = Space(["oven", "cat", "dog"])
    synonyms("oven", generator=space, wordnet=small)  # type: ignore[arg-type]
    assert max(len(sentence.split()) for sentence in space.asked) < 50


def test_a_blank_name(small: WordNet) -> None:
    with pytest.raises(ValueError, match="the name ' ' is blank; give a noun"):
        synonyms(" ", wordnet=small)


# --- which of its words are taken

PETS = {"dog": "dog", "cat": "cat", "mouse": "mouse"}


def changed(small: WordNet, classes: Any, background: Sequence[str] = (), **options: Any) -> dict[str, Choice]:
    vocabulary, notes = with_synonyms(load_vocabulary(classes, list(background)), wordnet=small, **options)
    assert vocabulary.synonyms == tuple(choice.synonyms for choice in notes.choices)
    assert [choice.class_name for choice in notes.choices] == list(vocabulary.class_names)
    return {choice.class_name: choice for choice in notes.choices}


def test_the_lemmas_of_the_first_sense_with_its_key(small: WordNet) -> None:
    before = load_vocabulary(PETS, ["sky"], "a {}.", "max")
    after, notes = with_synonyms(before, wordnet=small)
    assert after == replace(
        before,
        synonyms=(
            (Synonyms("dog%1:05:00::", ("domestic dog", "Canis familiaris")),),
            (Synonyms("cat%1:05:00::", ("true cat",)),),
            (Synonyms(small.senses("mouse")[0].key, ()),),
        ),
    )
    dog = notes.choices[0]
    assert dog.sense == small.senses("dog")[0]
    assert (dog.note, dog.dropped) == ("", {"dog": IN_PROMPT})
    assert (notes.min_similarity, notes.similarity) == (None, "no model given: no lemma was compared with its class")


def test_a_chosen_sense(small: WordNet) -> None:
    found = changed(small, PETS, senses={"mouse": "mouse%1:06:00::", "cat": "pot%1:06:00::"})
    assert (names(found["mouse"]), names(found["cat"])) == (["computer mouse"], ["pot"])
    assert found["cat"].taken[0].sense == "pot%1:06:00::"


@pytest.mark.parametrize(
    ("classes", "background", "name", "taken", "dropped"),
    [
        ({"hot dog": "hot dog"}, [], "hot dog", [], {"hot dog": IN_PROMPT, "hotdog": IN_PROMPT}),
        (
            {"dog": "brown dog,Domestic-Dog"},
            [],
            "dog",
            ["Canis familiaris"],
            {"dog": IN_PROMPT, "domestic dog": IN_PROMPT},
        ),
        ({"microwave": "galley"}, [], "microwave", ["microwave", "microwave oven"], {}),
        (
            {"microwave": "microwave", "oven": "oven"},
            [],
            "microwave",
            [],
            {"microwave": IN_PROMPT, "microwave oven": "belongs to the class 'oven', too"},
        ),
        (
            {"microwave": "microwave", "oven": "stove"},
            [],
            "microwave",
            [],
            {"microwave": IN_PROMPT, "microwave oven": "belongs to the class 'oven', too"},
        ),
        (
            {"microwave": "microwave", "stove": "gas stove,OVEN"},
            [],
            "microwave",
            [],
            {"microwave": IN_PROMPT, "microwave oven": "belongs to the class 'stove', too"},
        ),
        (
            {"motorcycle": "motorcycle", "bicycle": "bicycle"},
            [],
            "motorcycle",
            [],
            {"motorcycle": IN_PROMPT, "bike": "belongs to the class 'bicycle', too"},
        ),
        (
            {"motorcycle": "motorcycle", "bicycle": "bicycle"},
            [],
            "bicycle",
            [],
            {"bicycle": IN_PROMPT, "bike": "belongs to the class 'motorcycle', too"},
        ),
        (
            {"train": "train"},
            ["railroad"],
            "train",
            [],
            {"train": IN_PROMPT, "railroad train": "has to do with the background word 'railroad'"},
        ),
        (
            {"train": "train"},
            ["old Railroad Train"],
            "train",
            [],
            {"train": IN_PROMPT, "railroad train": "has to do with the background word 'old Railroad Train'"},
        ),
        ({"train": "train"}, ["rail", "road"], "train", ["railroad train"], {"train": IN_PROMPT}),
        (
            {"person": "person"},
            [],
            "person",
            [],
            {"person": IN_PROMPT, "soul": "means more often: what outlives us"},
        ),
        (
            {"dining table": "dining table"},
            [],
            "dining table",
            [],
            {"dining table": IN_PROMPT, "board": "means more often: people who decide"},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:background words that name a class")
def test_what_is_dropped_and_why(
    small: WordNet, classes: Any, background: list[str], name: str, taken: list[str], dropped: dict[str, str]
) -> None:
    choice = changed(small, classes, background)[name]
    assert (names(choice), choice.dropped) == (taken, dropped)


def test_what_is_left_out_by_hand(small: WordNet) -> None:
    found = changed(small, PETS, without=["Domestic-Dog"])
    assert names(found["dog"]) == ["Canis familiaris"]
    assert found["dog"].dropped == {"dog": IN_PROMPT, "domestic dog": "left out by hand"}
    message = "without 'kitten', 'xyzzy': no synonym of any class is spelled so; leave it out"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        changed(small, PETS, without=["kitten", "true cat", "xyzzy"])


def test_classes_without_a_sense_stay_as_they_are(small: WordNet) -> None:
    found = changed(small, ["xyzzy", "sports ball", "cat"])
    assert found["xyzzy"].note == "WordNet does not know it; choose a sense for it, or leave it without"
    assert (
        found["sports ball"].note
        == "WordNet knows only its head noun, 'ball'; choose a sense for it, or leave it without"
    )
    assert found["xyzzy"].taken == found["sports ball"].taken == ()
    assert names(found["cat"]) == ["true cat"]
    chosen = changed(small, {"sports ball": "round thing"}, senses={"sports ball": "ball%1:06:00::"})
    assert names(chosen["sports ball"]) == ["ball"]


def test_synonyms_that_are_there_stay_unless_a_sense_is_chosen(small: WordNet) -> None:
    own = load_vocabulary({"dog": "dog", "cat": "cat"}, [])
    own = replace(own, synonyms=((Synonyms("", ("pooch",)), Synonyms("cad%1:18:00::", ("cad",))), ()))
    after, notes = with_synonyms(own, wordnet=small)
    assert after.synonyms == (own.synonyms[0], (Synonyms("cat%1:05:00::", ("true cat",)),))
    assert (notes.choices[0].sense, notes.choices[0].note) == (None, "its own synonyms are kept")
    after, _ = with_synonyms(own, wordnet=small, senses={"dog": "dog%1:05:00::"})
    assert after.names()[0] == ("dog", "domestic dog", "Canis familiaris")
    again, _ = with_synonyms(after, wordnet=small)
    assert again == after


# --- similarity


def similarities(space: Space, vocabulary: Vocabulary, name: str, prompts: Sequence[str]) -> float:
    """The cosine of a lemma and a class, in the vocabulary's templates: the slow way."""

    def feature(words: Sequence[str]) -> list[float]:
        rows = [space.vector(t.replace("{}", word)) for t in vocabulary.templates for word in words]
        return unit([sum(column) for column in zip(*rows, strict=True)])

    return dot(feature([name]), feature(prompts))


def test_the_default_threshold_is_the_mean_similarity_of_two_classes(small: WordNet) -> None:
    vocabulary = load_vocabulary({"dog": ["dog", "pup"], "cat": "cat", "mouse": "mouse"}, [], ["a {}.", "the {}!"])
    space = Space()
    after, notes = with_synonyms(vocabulary, tower=space.tower(), wordnet=small, senses={"mouse": "mouse%1:06:00::"})
    assert notes.similarity == "the mean similarity of two different classes of the set"

    prompts = vocabulary.prompt_names
    rows = [[space.vector(t.replace("{}", word)) for t in vocabulary.templates for word in words] for words in prompts]
    features = [unit([sum(column) for column in zip(*row, strict=True)]) for row in rows]
    pairs = [dot(a, b) for i, a in enumerate(features) for j, b in enumerate(features) if i != j]
    threshold = sum(pairs) / len(pairs)
    assert notes.min_similarity == pytest.approx(threshold, abs=1e-6)
    kept = []
    for choice, words in zip(notes.choices, prompts, strict=True):
        for synonym in choice.candidates:
            if choice.dropped.get(synonym.name) == IN_PROMPT:
                continue
            value = similarities(space, vocabulary, synonym.name, words)
            reason = f"similarity {value:.3f}, below {threshold:.3f}"
            assert choice.dropped.get(synonym.name) == (None if value >= threshold else reason)
            kept.append(value >= threshold)
    assert set(kept) == {True, False}  # or nothing is tested
    assert after.synonyms == tuple(choice.synonyms for choice in notes.choices)


def test_a_lemma_just_as_similar_as_asked_for_is_taken(small: WordNet) -> None:
    space = Space(**{"cat": [1, 0], "dog": [0, 1], "familiaris": [1, 0]})
    vocabulary = load_vocabulary({"cat": "cat", "dog": "dog"}, [])
    _, notes = with_synonyms(vocabulary, tower=space.tower(), min_similarity=1.0, wordnet=small)
    assert [names(choice) for choice in notes.choices] == [["true cat"], ["domestic dog"]]


@pytest.mark.parametrize(("least", "taken"), [(-1.0, ["true cat"]), (0.7, ["true cat"]), (0.72, []), (1.0, [])])
def test_a_given_threshold(small: WordNet, least: float, taken: list[str]) -> None:
    space = Space(**{"true_cat": [1, 1], "cat": [1, 0], "dog": [0, 1], "familiaris": [1, 1]})  # 0.7071
    vocabulary = load_vocabulary({"cat": "cat", "dog": "dog"}, [])
    _, notes = with_synonyms(vocabulary, tower=space.tower(), min_similarity=least, wordnet=small)
    assert names(notes.choices[0]) == taken
    assert (notes.min_similarity, notes.similarity) == (least, "as given")


def test_one_class_has_no_other_to_compare_with(small: WordNet) -> None:
    vocabulary = load_vocabulary(["cat"], ["sky"])
    _, notes = with_synonyms(vocabulary, tower=Space().tower(), wordnet=small)
    assert names(notes.choices[0]) == ["true cat"]
    assert notes.min_similarity is None
    assert notes.similarity == "one class has no other to compare with: no lemma was compared with it"
    _, notes = with_synonyms(vocabulary, tower=Space().tower(), min_similarity=1.0, wordnet=small)
    assert names(notes.choices[0]) == []


def test_the_tower_ranks_the_senses(small: WordNet) -> None:
    classes = ["oven", "microwave", "mouse"]
    given = {"oven": [4, 1, 0], "microwave": [4, 2, 0], "mouse.": [4, 0, 1], "rodent": [-1, 0, 0], "cursor": [4, 1, 1]}
    vocabulary = load_vocabulary(classes, [])
    _, notes = with_synonyms(vocabulary, tower=Space(**given).tower(), min_similarity=-1.0, wordnet=small)
    assert names(notes.choices[2]) == ["computer mouse"]
    assert names(with_synonyms(vocabulary, wordnet=small)[1].choices[2]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"senses": {"dig": "x"}}, "unknown class in senses 'dig'; did you mean 'dog'?"),
        ({"senses": {"dog": "dog"}}, "'dog' is not the sense key of a noun"),
        ({"senses": {"dog": "dog%1:06:00::"}}, "WordNet 3.0 has no sense 'dog%1:06:00::'; its senses of 'dog' are"),
        ({"min_similarity": 0.5}, "min_similarity is 0.5; give a model, too, whose text features are compared"),
        ({"min_similarity": 1.5, "tower": Space().tower()}, "min_similarity is 1.5; it is a cosine, -1..1"),
        ({"min_similarity": math.nan, "tower": Space().tower()}, "min_similarity is nan; it is a cosine, -1..1"),
    ],
)
def test_wrong_use(small: WordNet, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        with_synonyms(load_vocabulary(PETS, []), wordnet=small, **options)


# --- the command

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(small: WordNet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`clipes synonyms` with the small WordNet, at 100 columns: exit code, output, complaints."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("CLIPES_WORDNET", small.folder)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["synonyms", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert all(len(line) <= 100 for line in out.splitlines() if not {"/", "x" * 300} & {line, *line})
        return code, out.replace(small.folder, "FOLDER"), err

    return run


HEAD = """WordNet 3.0 in FOLDER
No model: senses in WordNet's order, most common first, and no synonym is compared with its class.
"""


def test_names_on_the_terminal(run: Run) -> None:
    assert run("dog", "sportsball", "diningtabel", "DiningTable", "--hypernyms") == (
        0,
        HEAD
        + """
dog
  1  dog%1:05:00::
     it barks
     = dog, domestic dog, Canis familiaris
     < animal < thing
  2  cad%1:18:00::
     a man who is no gentleman
     = cad, dog
     < thing

sportsball (only its head noun is in WordNet: ball)
  1  ball%1:06:00::
     it is thrown
     = ball
     < thing

diningtabel
  not in WordNet; near: dining table

DiningTable (in WordNet as dining table)
  1  dining_table%1:06:00::
     a table for meals
     = dining table, board
     < table < thing
""",
        "",
    )
    assert "<" not in run("dog")[1]


def test_no_name_is_known(run: Run) -> None:
    assert run("xyzzy", "qqq") == (3, HEAD + "\nxyzzy\n  not in WordNet\n\nqqq\n  not in WordNet\n", "")


def test_names_with_a_model(run: Run) -> None:
    code, out, err = run("cat", "--model", "tiny")
    assert code == 0
    assert "the bundled model knows the words of the drawn scenes alone: it cannot tell senses apart" in err
    assert len(re.findall(r"^  \d  (?:cat|guy)%\S+  score -?0\.\d{3}$", out, re.MULTILINE)) == 2
    assert "No model" not in out


def test_classes_on_the_terminal(run: Run) -> None:
    expected = """dog       1  dog%1:05:00::    it barks
          2  cad%1:18:00::    a man who is no gentleman
xyzzy        not in WordNet
big ball  1  ball%1:06:00::   (only 'ball') it is thrown
mouse     1  mouse%1:05:00::  a rodent
          2  mouse%1:06:00::  it moves a cursor
"""
    assert run("--classes", "dog,xyzzy,big ball,mouse") == (0, HEAD + expected, "")
    assert "1  mouse%1:05:00::  a rodent < animal\n" in run("--classes", "dog,mouse", "--hypernyms")[1]
    assert run("--classes", "xyzzy,")[0] == 3


def test_a_class_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    out = ["--out", path, "--sense", "mouse=mouse%1:06:00::", "--without", "Canis familiaris", "--fuse", "max"]
    code, said, err = run("--classes", "dog,mouse,train,person,xyzzy", "--background", "railroad,", *out)
    assert (code, err) == (0, "")
    expected = f"""dog     dog%1:05:00::  it barks
        + domestic dog
        - Canis familiaris: left out by hand
mouse   mouse%1:06:00::  it moves a cursor
        + computer mouse
train   train%1:06:00::  it runs on rails
        - railroad train: has to do with the background word 'railroad'
person  person%1:03:00::  a human being
        - soul: means more often: what outlives us
xyzzy   WordNet does not know it; choose a sense for it, or leave it without

4 lemmas that the prompts hold already are not shown; no model given: no lemma was compared with its
class.
2 synonyms for 2 of 5 classes in {path}
"""
    assert said.split(HEAD)[1] == expected
    loaded = load_vocabulary(path)
    assert loaded.fuse == "max"
    assert loaded.background_names == ("railroad",)
    assert loaded.synonyms[:2] == (
        (Synonyms("dog%1:05:00::", ("domestic dog",)),),
        (Synonyms("mouse%1:06:00::", ("computer mouse",)),),
    )


def test_a_class_file_with_a_model(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("--classes", "cat,dog,mouse", "--model", "tiny", "--out", tmp_path / "a.json")
    assert code == 0
    assert re.search(r"; least similarity -?0\.\d{3}, the mean similarity of two different", " ".join(said.split()))
    code, said, _ = run(
        "--classes", "cat,dog,mouse", "--model", "tiny", "--min-similarity", "1", "--out", tmp_path / "a.json"
    )
    assert code == 0
    assert "least similarity 1.000, as given." in said.replace("\n", " ")
    assert re.search(r"- true cat: similarity -?[01]\.\d{3}, below 1\.000", said) or "guy%1:18:00::" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to look up; give NAMEs, or --classes, such as voc12 or a file of names"),
        (["--model", "tiny"], "nothing to look up; give NAMEs, or --classes"),
        (["dog", "--out", "x.json"], "--out writes the classes of a set; leave the NAMEs out, or write --classes a,b"),
        (["dog", "--classes", "voc12"], "--classes only rank the senses of NAMEs if there is a --model; give one"),
        (["dog", "--sense", "dog=x"], "--sense: only for a class file; give --out FILE.json"),
        (
            ["--classes", "a,b", "--fuse", "max", "--without", "a"],
            "--without, --fuse: only for a class file; give --out",
        ),
        (["--classes", "a,b", "--min-similarity", "0"], "--min-similarity: only for a class file"),
        (["--classes", "a,b", "--background", "", "--templates", "{}"], "--background, --templates: only for a class"),
        (["dog", "--pretrained", "openai"], "--pretrained without a model; give --model, too"),
        (["--classes", "dog,cat", "--out", "x.txt"], "a class file is JSON, not 'x.txt'; end its name in .json"),
        (["--classes", "voc13", "--out", "x.json"], "unknown class set 'voc13'; did you mean 'voc12'"),
        (["--classes", "dog,cat", "--out", "x.json", "--sense", "cow=x"], "unknown class in senses 'cow'"),
        (["--classes", "dog,cat", "--out", "x.json", "--min-similarity", "0.5"], "min_similarity is 0.5; give a model"),
        (
            ["--classes", "dog,", "--out", "x.json", "--sense", "dog=a", "--sense", "dog=b"],
            "--sense: two senses for 'dog', a and b; give one",
        ),
        (["dog", "--wordnet", "/no/such"], "no WordNet in /no/such; get it by"),
        (["_"], "the name '_' is blank; give a noun"),
    ],
)
def test_wrong_use_of_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert err.startswith("clipes synonyms: ")
    assert message in err


@pytest.mark.parametrize("path", ["folder.json", "link.json"])
def test_out_that_is_no_file_is_refused_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to("/dev/null")
    monkeypatch.setattr("clipes.prompting.wordnet.open_wordnet", lambda folder: pytest.fail("looked for WordNet"))
    code, _, err = run("--classes", "dog,cat", "--out", tmp_path / path)
    assert code == 2
    assert "is no ordinary file; choose another name" in err


@pytest.mark.parametrize("text", ["dog", "=x", "dog=", " = "])
def test_what_is_no_choice_of_a_sense(run: Run, capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--classes", "dog,", "--out", "x.json", "--sense", text)
    assert f"{text!r} is not NAME=KEY, such as mouse=mouse%1:06:00::" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["\x1b[31mdog", "a\nb", "🐶", "{}", "%s", "../../etc/passwd", "x" * 300, "dog\x00"])
def test_hostile_names_are_escaped(run: Run, name: str) -> None:
    code, out, _ = run(name, "dog")
    assert code == 0
    assert "\x1b" not in out
    assert "\x00" not in out
    assert out.count("\n") == HEAD.count("\n") + 11
    assert "not in WordNet" in out


def test_a_hostile_database_is_escaped(
    run: Run, small: WordNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(small.folder, tmp_path / "copy")
    data = (folder / "data.noun").read_bytes()
    (folder / "data.noun").write_bytes(data.replace(b"it barks", b"it\x1b[2Jks"))
    monkeypatch.setenv("CLIPES_WORDNET", str(folder))
    for arguments in (["dog"], ["--classes", "dog,cat"], ["--classes", "dog,cat", "--out", tmp_path / "a.json"]):
        out = run(*arguments)[1]
        assert r"it\x1b[2Jks" in out
        assert "\x1b" not in out


def test_a_database_may_be_named_by_its_folder(small: WordNet) -> None:
    assert synonyms("cat", wordnet=small.folder) == synonyms("cat", wordnet=small)


def test_long_glosses_are_cut_in_silence(tiny: MaskGenerator, real: WordNet) -> None:
    """The bundled model reads 32 tokens."""
    long = [sense for sense in real.senses("tree") if len(sense.gloss.split()) > 20]
    assert long
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert synonyms("tree", generator=tiny, wordnet=real)
    with pytest.warns(UserWarning, match="is cut"):
        encode_sentences(tiny.clip.text, [f"a photo of a tree, {long[0].gloss}."])


def test_a_prompt_of_many_words_takes_no_time(small: WordNet) -> None:
    many = " ".join(f"w{index}" for index in range(200))
    after, _ = with_synonyms(load_vocabulary({"dog": ["dog", many], "cat": "cat"}, [many[::-1]]), wordnet=small)
    assert after.names()[0][:2] == ("dog", many)


def test_a_class_with_an_equals_sign(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("--classes", "a=b,cat", "--sense", "a=b=pot%1:06:00::", "--out", tmp_path / "a.json")
    assert code == 0
    assert re.search(r"^a=b  pot%1:06:00::  a vessel\n     \+ pot$", out, re.MULTILINE)


# --- the shipped sets

SETS = ("voc12", "coco14", "scenes")


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_is_what_the_command_builds(name: str, real: WordNet, tmp_path: Path) -> None:
    if real.version != "3.0":
        pytest.skip(f"the sets were made with WordNet 3.0; {real.folder} has {real.version}")
    name = f"{name}-wordnet"
    shipped = load_vocabulary(name)
    bare = replace(shipped, synonyms=((),) * len(shipped.class_names))
    bare.save(tmp_path / "bare.json")
    arguments = ["synonyms", "--classes", str(tmp_path / "bare.json"), "--out", str(tmp_path / f"{name}.json")]
    for class_name, key in CHOSEN[name]["senses"].items():
        arguments += ["--sense", f"{class_name}={key}"]
    for word in CHOSEN[name]["without"]:
        arguments += ["--without", word]
    assert main([*arguments, "--wordnet", real.folder]) == 0
    built = (tmp_path / f"{name}.json").read_text("utf-8")
    assert built == (PROMPTS / f"{name}.json").read_text("utf-8")


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_has_the_classes_of_its_data_set(name: str) -> None:
    plain, more = load_vocabulary(name), load_vocabulary(f"{name}-wordnet")
    assert more == replace(
        plain, name=more.name, prompt_names=more.prompt_names, synonyms=more.synonyms, preset=plain.preset
    )
    assert "WordNet 3.0" in more.description


def test_slips_are_mended_and_the_good_names_kept() -> None:
    mended: Mapping[str, dict[str, str]] = {
        "voc12": {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor screen"},
        "coco14": {
            "dining table": "dining table",
            "hair drier": "hair drier,blow drier",
            "potted plant": "potted plant",
            "snowboard": "snowboard",
            "spoon": "spoon",
            "tv": "tv monitor screen",
        },
        "scenes": {},
    }
    for name, names in mended.items():
        plain, more = load_vocabulary(name), load_vocabulary(f"{name}-wordnet")
        changes = {
            class_name: new[0]
            for class_name, old, new in zip(plain.class_names, plain.prompt_names, more.prompt_names, strict=True)
            if old != new
        }
        assert changes == names


@pytest.mark.parametrize(("name", "count", "words"), [("voc12", 11, 21), ("coco14", 28, 47), ("scenes", 2, 4)])
def test_every_sense_was_chosen_by_hand(name: str, count: int, words: int) -> None:
    shipped = load_vocabulary(f"{name}-wordnet")
    chosen = CHOSEN[f"{name}-wordnet"]["senses"]
    assert set(shipped.class_names) - set(chosen) == ({"stop sign"} if name == "coco14" else set())
    for class_name, found in zip(shipped.class_names, shipped.synonyms, strict=True):
        assert [one.sense for one in found] == ([chosen[class_name]] if class_name in chosen else [])
    more = [len(names) - 1 for names in shipped.names()]
    assert (sum(map(bool, more)), sum(more)) == (count, words)


def test_a_name_stands_for_one_class_alone() -> None:
    for name in SETS:
        shipped = load_vocabulary(f"{name}-wordnet")
        said = [part for names in shipped.names() for name in names for part in name.split(",")]
        assert len(said) == len(set(said))
