"""Class sets, files and lists become vocabularies; what is wrong is named, with its cure."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipes.ids import is_background
from clipes.vocabulary import (
    Vocabulary,
    background_set_names,
    class_set_names,
    load_vocabulary,
    template_set_names,
)
from clipes.vocabulary.class_file import Synonyms

WriteFile = Callable[[str, "str | bytes"], Path]

NAMES = st.lists(
    st.text("abcdefghij -'{}é", min_size=1, max_size=12)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda name: bool(name) and not is_background(name)),
    min_size=1,
    max_size=12,
    unique_by=str.casefold,
)


PROMPTS = Path(__file__).parents[2] / "prompts"
FUSES = ("sentence", "features", "max")


def shipped(file: str) -> Any:
    return json.loads((PROMPTS / file).read_text("utf-8"))


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# --- the shipped data -------------------------------------------------------------------------------------


def test_names_of_the_shipped_sets() -> None:
    assert {"coco14", "scenes", "voc12"} <= set(class_set_names())
    assert background_set_names() == ("voc12", "coco14", "scenes", "general")
    assert template_set_names() == ("clip-es", "clip-es-runner-up", "plain", "imagenet")


@pytest.mark.parametrize(
    ("name", "classes", "backgrounds"), [("voc12", 20, 25), ("coco14", 80, 23), ("scenes", 16, 10)]
)
def test_sizes_of_the_shipped_sets(name: str, classes: int, backgrounds: int) -> None:
    loaded = load_vocabulary(name)
    assert loaded.name == name
    assert len(loaded.class_names) == len(loaded.prompt_names) == classes
    assert len(loaded.background_names) == backgrounds
    assert loaded.templates == ("a clean origami {}.",)
    assert {len(names) for names in loaded.prompt_names} == {1}


@pytest.mark.parametrize("name", class_set_names())
def test_a_shipped_file_names_itself(name: str) -> None:
    data = shipped(f"{name}.json")
    assert data["name"] == name and data["description"]
    assert data["background"] == data["config"] == name.removesuffix("-wordnet")


def test_each_class_set_names_its_settings_and_own_names_have_the_papers() -> None:
    assert [load_vocabulary(name).preset for name in ("voc12", "coco14", "scenes")] == ["voc12", "coco14", "scenes"]
    assert load_vocabulary(["dog", "cat"]).preset == load_vocabulary({"dog": "dog"}).preset == "voc12"


def test_voc_prompts_are_those_of_the_reference() -> None:
    voc = load_vocabulary("voc12")
    assert voc.class_names == tuple(sorted(voc.class_names))
    renamed = {
        name: prompts for name, prompts in zip(voc.class_names, voc.prompt_names, strict=True) if prompts != (name,)
    }
    assert renamed == {
        "bird": ("bird avian",),
        "chair": ("chair seat",),
        "person": ("person with clothes,people,human",),
        "tvmonitor": ("tvmonitor screen",),
    }
    assert "a clean origami person with clothes,people,human." in voc.sentences()[14][0]


def test_coco_prompts_are_those_of_the_reference() -> None:
    coco = load_vocabulary("coco14")
    prompts = {
        name: names[0] for name, names in zip(coco.class_names, coco.prompt_names, strict=True) if names[0] != name
    }
    voc_spelling = {
        "airplane": "aeroplane",
        "couch": "sofa",
        "dining table": "diningtable",
        "motorcycle": "motorbike",
        "potted plant": "pottedplant",
    }
    renamed = {
        "backpack": "backpack,bag",
        "baseball glove": "glove",
        "bird": "bird avian",
        "chair": "chair seat",
        "hair drier": "hairdrier,blowdrier",
        "handbag": "handbag,purse",
        "person": "person with clothes,people,human",
        "remote": "remote control",
        "snowboard": "sknowboard",
        "spoon": "dessertspoon",
        "tie": "necktie",
        "tv": "tvmonitor screen",
        "umbrella": "umbrella,parasol",
    }
    assert len(renamed) == 13
    assert prompts == voc_spelling | renamed


def test_coco_keeps_its_sparse_category_ids() -> None:
    classes = shipped("coco14.json")["classes"]
    ids = [entry["id"] for entry in classes]
    assert ids == sorted(ids)
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    known = {entry["name"]: entry["id"] for entry in classes}
    assert [known[name] for name in ("person", "stop sign", "backpack", "tv", "toothbrush")] == [
        1,
        13,
        27,
        72,
        90,
    ]
    # In the masks ids are positions.
    assert load_vocabulary("coco14").ids(["person", "stop sign", "toothbrush"]) == (1, 12, 80)


def test_backgrounds_of_voc_and_coco_differ_by_two_words() -> None:
    voc, coco = load_vocabulary("voc12").background_names, load_vocabulary("coco14").background_names
    assert (voc[0], voc[-1]) == ("ground", "sign")
    assert coco == tuple(word for word in voc if word not in ("keyboard", "sign"))


def test_templates() -> None:
    assert load_vocabulary("voc12", templates="clip-es-runner-up").templates == ("a rendering of a weird {}.",)
    assert load_vocabulary("voc12", templates="plain").templates == ("a photo of a {}.",)
    imagenet = load_vocabulary("voc12", templates="imagenet").templates
    assert len(imagenet) == len(set(imagenet)) == 80
    assert {"a origami {}.", "a rendering of a {}.", "itap of my {}."} <= set(imagenet)


@pytest.mark.parametrize("classes", class_set_names())
@pytest.mark.parametrize("templates", template_set_names())
def test_every_shipped_set_loads_with_every_template_set(classes: str, templates: str) -> None:
    loaded = load_vocabulary(classes, templates=templates)
    sentences = [text for rows in loaded.sentences() for row in rows for text in row]
    assert len(sentences) == len(set(sentences))
    assert not any("{" in sentence for sentence in sentences)


def test_shipped_json_has_one_class_per_line() -> None:
    text = (PROMPTS / "coco14.json").read_text("utf-8")
    assert sum('"name"' in line and '"prompts"' in line for line in text.splitlines()) == 80


# --- labels and sentences ---------------------------------------------------------------------------------


def test_ids_keep_the_order_given_and_drop_repeats() -> None:
    voc = load_vocabulary("voc12")
    assert voc.ids(["tvmonitor", "aeroplane", "tvmonitor", "dog"]) == (20, 1, 12)
    assert voc.ids(iter(["dog"])) == (12,)
    assert voc.ids([]) == ()


@given(names=NAMES, data=st.data())
def test_ids_are_positions(names: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.sampled_from(names)))
    ids = load_vocabulary(names).ids(labels)
    assert [names[number - 1] for number in ids] == list(dict.fromkeys(labels))


def test_sentences_go_template_by_template() -> None:
    loaded = load_vocabulary({"dog": ["dog", "puppy"], "cat": "cat"}, ["sky"], ["a {}.", "the {}."])
    sky = [["a sky.", "the sky."]]
    assert loaded.fuse == "sentence"
    assert loaded.sentences() == [[["a dog,puppy.", "the dog,puppy."]], [["a cat.", "the cat."]], sky]
    features = replace(loaded, fuse="features").sentences()
    assert features == [[["a dog.", "a puppy.", "the dog.", "the puppy."]], [["a cat.", "the cat."]], sky]
    likeliest = replace(loaded, fuse="max").sentences()
    assert likeliest == [[["a dog.", "the dog."], ["a puppy.", "the puppy."]], [["a cat.", "the cat."]], sky]


@given(names=NAMES, templates=st.lists(st.sampled_from(["{}", "a {}.", "{} x"]), min_size=1, unique=True))
def test_names_stand_in_sentences_untouched_even_with_braces(names: list[str], templates: list[str]) -> None:
    loaded = load_vocabulary(names, [], templates)
    for name, rows in zip(names, loaded.sentences(), strict=True):
        assert rows == [[name.join(template.split("{}")) for template in templates]]


def test_a_vocabulary_is_a_value() -> None:
    voc = load_vocabulary("voc12")
    assert voc.ids(["dog"]) == (12,)
    assert voc == load_vocabulary("voc12")
    assert hash(voc) == hash(load_vocabulary("voc12"))
    assert pickle.loads(pickle.dumps(voc)) == voc
    with pytest.raises(AttributeError):
        voc.name = "other"  # type: ignore[misc]


UNKNOWN_LABELS = [
    ("voc12", ["aeroplan"], "unknown class 'aeroplan' in voc12; did you mean 'aeroplane'?"),
    ("voc12", ["Dog"], "unknown class 'Dog' in voc12; did you mean 'dog'?"),
    ("coco14", ["sofa"], "unknown class 'sofa' in coco14; did you mean 'couch'?"),
    (["owl", "elk"], ["qqq"], "unknown class 'qqq' in custom; its classes are owl, elk"),
    (
        ["owl", "elk"],
        ["owls", "elk", "qqq", "qqq"],
        "unknown classes 'owls' (did you mean 'owl'?), 'qqq' in custom; its classes are owl, elk",
    ),
    (
        "voc12",
        ["qqq"],
        f"unknown class 'qqq' in voc12; its classes are {', '.join(load_vocabulary('voc12').class_names)}",
    ),
]


@pytest.mark.parametrize(("classes", "labels", "message"), UNKNOWN_LABELS)
def test_unknown_labels(classes: Any, labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_vocabulary(classes).ids(labels)


def test_unknown_label_lists_no_more_than_twenty_classes() -> None:
    with pytest.raises(ValueError, match=r"its classes are person, bicycle, .*, cow, …$"):
        load_vocabulary("coco14").ids(["qqqq"])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ("dog", TypeError, "labels: expected a list of strings, got 'dog'; write ['dog']"),
        (None, TypeError, "labels: expected a list of strings, got None"),
        ({"dog"}, TypeError, "labels: expected a list of strings, got {'dog'}"),
        ({"dog": 1}, TypeError, "labels: expected a list of strings, got {'dog': 1}"),
        (b"dog", TypeError, "labels: expected a list of strings, got b'dog'"),
        (["dog", 12], TypeError, "labels: entry 2 is 12, not a string"),
        (["dog", ""], ValueError, "labels: entry 2 is blank; remove it"),
        (["dog "], ValueError, "labels: entry 1, 'dog ', has stray white space; write 'dog'"),
    ],
)
def test_malformed_labels(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        load_vocabulary("voc12").ids(labels)


# --- one's own classes ------------------------------------------------------------------------------------


def test_a_list_of_names() -> None:
    own = load_vocabulary(["duck", "Sky"])
    assert own.name == "custom"
    assert own.class_names == ("duck", "Sky")
    assert own.prompt_names == (("duck",), ("Sky",))
    assert own.background_names == tuple(w for w in load_vocabulary("voc12").background_names if w != "sky")
    assert load_vocabulary(name for name in ("duck", "Sky")) == own


def test_a_mapping_of_names_to_prompts() -> None:
    own = load_vocabulary({"bridge": "Viaduct", "brook": ("brook", "River")})
    assert own.class_names == ("bridge", "brook")
    assert own.prompt_names == (("Viaduct",), ("brook", "River"))
    assert set(load_vocabulary("voc12").background_names) - set(own.background_names) == {"bridge", "river"}


@given(names=NAMES)
def test_default_background_shares_no_word_with_the_classes(names: list[str]) -> None:
    own = load_vocabulary([*names, "TREE"])
    assert {w.casefold() for w in own.background_names}.isdisjoint(n.casefold() for n in own.class_names)
    assert set(own.background_names) < set(load_vocabulary("voc12").background_names)


CLASS_SET = """{
  "name": "anything", "description": "two pets", "config": "scenes", "background": ["sofa", "lawn"],
  "templates": ["my {}.", "a {}"], "fuse": "max",
  "classes": [
    {"name": "cat", "prompts": ["cat", "kitten"]},
    {"name": "dog", "synonyms": {"dog%1:05:00::": ["domestic dog", "hound"], "cat%1:05:00::": [], "": ["pooch"]}},
    "owl"
  ]
}"""
DOG = (Synonyms("dog%1:05:00::", ("domestic dog", "hound")), Synonyms("cat%1:05:00::", ()), Synonyms("", ("pooch",)))


def test_a_class_set_file(write: WriteFile) -> None:
    path = write("pets.json", CLASS_SET)
    pets = load_vocabulary(path)
    assert pets == Vocabulary(
        "pets",
        ("cat", "dog", "owl"),
        (("cat", "kitten"), ("dog",), ("owl",)),
        ((), DOG, ()),
        ("sofa", "lawn"),
        ("my {}.", "a {}"),
        fuse="max",
        preset="scenes",
    )
    assert pets.description == "two pets"
    assert pets.names()[1] == ("dog", "domestic dog", "hound", "pooch")
    assert load_vocabulary(str(path)) == pets
    assert load_vocabulary(path, background=["grass"]).background_names == ("grass",)
    assert load_vocabulary(path, background=[]).background_names == ()
    assert load_vocabulary(path, templates="plain").templates == ("a photo of a {}.",)
    assert load_vocabulary(path, fuse="features").fuse == "features"


@pytest.mark.parametrize("name", class_set_names())
def test_a_saved_set_reads_back_the_same(name: str, tmp_path: Path) -> None:
    shipped_set = load_vocabulary(name)
    shipped_set.save(tmp_path / "deep" / f"{name}.json")
    again = load_vocabulary(tmp_path / "deep" / f"{name}.json")
    assert again == shipped_set and again.description == shipped_set.description
    assert json.loads((tmp_path / "deep" / f"{name}.json").read_text("utf-8"))["background"] in background_set_names()


def test_what_is_saved_is_whole(write: WriteFile, tmp_path: Path) -> None:
    pets = load_vocabulary(write("pets.json", CLASS_SET))
    pets.save(tmp_path / "other.json")
    assert load_vocabulary(tmp_path / "other.json") == replace(pets, name="other")
    lines = (tmp_path / "other.json").read_text("utf-8").splitlines()
    assert '    {"name": "cat", "prompts": ["cat", "kitten"]},' in lines


@given(
    names=NAMES, words=st.lists(st.sampled_from(["sky", "Ünder {}", "😀"]), unique=True), fuse=st.sampled_from(FUSES)
)
def test_any_vocabulary_is_saved(names: list[str], words: list[str], fuse: Any, tmp_path_factory: Any) -> None:
    own = load_vocabulary({name: [name, f"{name}!"] for name in names}, words, fuse=fuse)
    path = tmp_path_factory.mktemp("own") / "custom.json"
    own.save(path)
    assert load_vocabulary(path) == own


def test_where_nothing_is_saved(tmp_path: Path) -> None:
    voc = load_vocabulary("voc12")
    with pytest.raises(ValueError, match=r"a class file is JSON, not 'voc.txt'; end its name in .json"):
        voc.save(tmp_path / "voc.txt")
    (tmp_path / "voc.json").mkdir()
    with pytest.raises(FileExistsError, match="is no ordinary file; choose another name"):
        voc.save(tmp_path / "voc.json")
    for content in ("[]", '["a {}"]', '{"a": "b"}', "{", '{"classes": [], "rows": 1}', '{"classes": ["owl"]}'):
        (tmp_path / "foreign.json").write_text(content)
        with pytest.raises(FileExistsError, match=r"foreign.json exists and is not a class file that clipes wrote"):
            voc.save(tmp_path / "foreign.json")
        assert (tmp_path / "foreign.json").read_text() == content
    (tmp_path / "foreign.json").write_text("")  # what a full disk leaves
    for _ in range(2):
        voc.save(tmp_path / "foreign.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "foreign.json")
    with pytest.raises(FileExistsError, match=r"link.json is no ordinary file"):
        voc.save(tmp_path / "link.json")
    (tmp_path / "foreign.json").unlink()
    (tmp_path / "link.json").unlink()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="lies in a file, not in a folder; choose another name"):
        voc.save(tmp_path / "file" / "deep" / "voc.json")
    assert set(tmp_path.iterdir()) == {tmp_path / "voc.json", tmp_path / "file"}


def test_the_fingerprint_is_of_what_is_encoded() -> None:
    own = load_vocabulary({"dog": ["dog", "puppy"], "cat": "cat"}, ["sky"])
    same = load_vocabulary({"dog": "dog,puppy", "cat": "cat"}, ["sky"])
    assert own.fingerprint == same.fingerprint
    others = [replace(own, fuse="max"), replace(own, background_names=("sea",)), replace(own, templates=("a {}",))]
    others.append(load_vocabulary({"hound": ["dog", "puppy"], "cat": "cat"}, ["sky"]))
    assert len({own.fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.json", '["tree", "owl"]'),
        ("own.json", '{"tree": "tree", "owl": ["owl"]}'),
        ("own.json", '{"classes": ["tree", "owl"]}'),
        ("OWN.JSON", '[{"name": "tree"}, {"name": "owl", "prompts": "owl"}]'),
        ("own.txt", "# birds\n\n  tree \nowl\n"),
        ("own.names", "\ufefftree\r\nowl"),
    ],
)
def test_other_files(write: WriteFile, name: str, content: str) -> None:
    own = load_vocabulary(write(name, content))
    assert own.name == Path(name).stem
    assert own.class_names == ("tree", "owl")
    assert own.prompt_names == (("tree",), ("owl",))
    assert own.background_names == load_vocabulary(["tree"]).background_names


def test_a_file_may_name_a_background_set(write: WriteFile) -> None:
    path = write("own.json", '{"classes": ["owl"], "background": "scenes"}')
    assert load_vocabulary(path).background_names == load_vocabulary("scenes").background_names


def test_a_shipped_set_goes_before_a_file_of_its_name(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("voc12", "owl\n")
    monkeypatch.chdir(path.parent)
    assert len(load_vocabulary("voc12").class_names) == 20
    assert load_vocabulary(path).class_names == ("owl",)


@given(names=NAMES)
def test_a_list_and_its_json_file_agree(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("own") / "custom.json"
    path.write_text(json.dumps(names), "utf-8")
    assert load_vocabulary(path) == load_vocabulary(names)


def test_explicit_backgrounds() -> None:
    assert load_vocabulary("voc12", background="scenes").background_names[0] == "carpet"
    assert load_vocabulary("voc12", background=["Lawn", "sky"]).background_names == ("Lawn", "sky")
    empty = load_vocabulary(["owl"], background=[])
    assert empty.background_names == ()
    assert empty.sentences() == [[["a clean origami owl."]]]


def test_own_templates() -> None:
    assert load_vocabulary("voc12", templates="my {}").templates == ("my {}",)
    assert load_vocabulary("voc12", templates=("my {}", "{}")).templates == ("my {}", "{}")


# --- what is refused --------------------------------------------------------------------------------------

SETS = f"choose one of {', '.join(class_set_names())}, or give a list of names, or a .json or text file"


LISTED = SETS.replace("list of names,", "list of names (['owl', 'elk']),")
ALONE = SETS.replace("list of names,", "list of names (['qqq'], on the command line 'qqq,'),")


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ("voc13", ValueError, "unknown class set 'voc13'; did you mean 'voc12'? choose one of"),
        ("VOC12", ValueError, "unknown class set 'VOC12'; did you mean 'voc12'? choose one of"),
        ("qqq", ValueError, f"unknown class set 'qqq'; {ALONE}"),
        ("", ValueError, f"unknown class set ''; {SETS}"),
        ("owl, elk", ValueError, f"unknown class set 'owl, elk'; {LISTED}"),
        (
            "gone.json",
            FileNotFoundError,
            "no class file 'gone.json'; give a list of names, or a .json or text file, or one of coco14, ",
        ),
        ("some/where", FileNotFoundError, "no class file 'some/where'; give"),
        (Path("gone"), FileNotFoundError, "no class file 'gone'; give"),
        (Path(), FileNotFoundError, "no class file '.'; give"),
        (3, TypeError, "class names: expected a list of strings, got 3"),
        (None, TypeError, "class names: expected a list of strings, got None"),
        ({"owl"}, TypeError, "class names: expected a list of strings, got {'owl'}"),
        ([], ValueError, "class names: the list is empty; give at least one"),
        ({}, ValueError, "class names: the list is empty; give at least one"),
        (["owl", "owl"], ValueError, "class names: 'owl' repeats 'owl'; remove one"),
        (["owl", "elk", "Owl"], ValueError, "class names: 'Owl' repeats 'owl'; remove one"),
        (["owl", "\t"], ValueError, "class names: entry 2 is blank; remove it"),
        (
            ["barn\nowl"],
            ValueError,
            "class names: entry 1, 'barn\\nowl', has stray white space; write 'barn owl'",
        ),
        (["owl", 5], TypeError, "class names: entry 2 is 5, not a string"),
        ({5: ["owl"]}, TypeError, "class names: entry 1 is 5, not a string"),
        ({"owl": None}, TypeError, "prompts of 'owl': expected a list of strings, got None"),
        ({"owl": []}, ValueError, "prompts of 'owl': the list is empty; give at least one"),
        ({"owl": ""}, ValueError, "prompts of 'owl': entry 1 is blank; remove it"),
        ({"owl": ["owl", "OWL"]}, ValueError, "prompts of 'owl': 'OWL' repeats 'owl'; remove one"),
        (
            [{"name": "owl", "prompt": "owl"}],
            ValueError,
            "unknown key in class 1: 'prompt'; did you mean 'prompts'? "
            "choose one of id, name, prompts, synonyms, attributes, or leave it out",
        ),
        ([{"prompts": "owl"}], TypeError, "class names: entry 1 is None, not a string"),
    ],
)
def test_refused_classes(classes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        load_vocabulary(classes)


@pytest.mark.parametrize(
    "twins", [("café", "cafe\u0301"), ("dog", "\uff24\uff4f\uff47"), ("fish", "\ufb01sh"), ("ß", "SS")]
)
def test_names_that_are_one_to_the_tokenizer_are_repeats(twins: tuple[str, str]) -> None:
    for words in (twins, twins[::-1]):
        with pytest.raises(ValueError, match=f"^class names: '{words[1]}' repeats '{words[0]}'; remove one$"):
            load_vocabulary(list(words))
        with pytest.raises(ValueError, match=f"^prompts of 'owl': '{words[1]}' repeats '{words[0]}'; remove one$"):
            load_vocabulary({"owl": words})
        with pytest.raises(ValueError, match=f"^background: '{words[1]}' repeats '{words[0]}'; remove one$"):
            load_vocabulary(["owl"], words)


def test_what_is_too_long_to_be_a_name_is_refused() -> None:
    load_vocabulary(["x" * 1000])
    with pytest.raises(ValueError, match=r"^class names: entry 1, 'xxx.*xxx', has 1001 letters; 1000 is most$"):
        load_vocabulary(["x" * 1001])
    with pytest.raises(ValueError, match=r"^templates: entry 1, .* has 5002 letters; 1000 is most$"):
        load_vocabulary("voc12", templates="x" * 5000 + "{}")


def test_more_classes_than_a_mask_can_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        load_vocabulary([f"thing {index}" for index in range(65535)], [])


def test_classes_of_the_same_names_are_told() -> None:
    with pytest.warns(UserWarning, match="the classes 'cat' and 'dog' of custom have the same names in the prompts"):
        load_vocabulary({"cat": "Dog", "dog": "dog"}, [])


def test_an_unknown_fuse_is_refused_wherever_it_comes_from() -> None:
    own = replace(load_vocabulary(["owl"]), fuse="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown fuse 'mean'"):
        own.sentences()


@pytest.mark.parametrize("word", ["o\0wl", "owl\x1b[31m", "o\ud800l", "o\x7fl"])
def test_what_is_no_text_is_refused(word: str) -> None:
    for load in (lambda: load_vocabulary([word]), lambda: load_vocabulary(["elk"], [word])):
        with pytest.raises(ValueError, match=r"entry 1, 'o.*, holds a control character; remove it$"):
            load()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.json", '[\n"owl"\n"elk"]', "bad JSON: Expecting ',' delimiter: line 3 column 1 (char 8)"),
        ("own.json", "", "bad JSON: Expecting value: line 1 column 1 (char 0)"),
        ("own.json", '{"owl": "a", "owl": "b"}', "the key 'owl' comes twice; remove one"),
        ("own.json", "3", "class names: expected a list of strings, got 3"),
        ("own.json", '"owl"', "class names: expected a list of strings, got 'owl'; write ['owl']"),
        ("own.json", '["owl", 5]', "class names: entry 2 is 5, not a string"),
        ("own.json", '{"classes": []}', "class names: the list is empty; give at least one"),
        ("own.json", '{"classes": 3}', "class names: expected a list of strings, got 3"),
        (
            "own.json",
            '{"classes": ["owl"], "backgrounds": []}',
            "unknown key in the class set: 'backgrounds'; did you mean 'background'? "
            "choose one of name, description, config, background, templates, fuse, numbers_from, attribute_centres, "
            "classes, or leave",
        ),
        (
            "own.json",
            '{"classes": ["owl"], "background": "voc"}',
            "unknown background set 'voc'; did you mean 'voc12'?",
        ),
        (
            "own.json",
            '{"classes": ["owl"], "background": ["sky", "Sky"]}',
            "background: 'Sky' repeats 'sky'; remove one",
        ),
        ("own.json", '{"classes": ["owl"], "config": "voc"}', "unknown config 'voc'; did you mean 'voc12'? choose one"),
        ("own.json", '{"classes": ["owl"], "fuse": "mean"}', "unknown fuse 'mean'; "),
        ("own.json", '{"classes": ["owl"], "fuse": ["max"]}', "unknown fuse \"['max']\"; "),
        ("own.json", '{"classes": ["owl"], "templates": "a"}', "unknown template set 'a'; choose one of"),
        ("own.json", '{"classes": ["owl"], "templates": ["a {}", "b"]}', "template 'b' needs exactly one {}"),
        ("own.json", '{"classes": ["owl"], "background": "auto"}', "background 'auto' needs your images: run"),
        (
            "own.json",
            '[{"name": "owl", "synonyms": ["bird"]}]',
            "synonyms of 'owl': expected sense keys and their words, got ['bird']; write {\"\": ['bird']}",
        ),
        ("own.json", '[{"name": "owl", "synonyms": {"a": "bird"}}]', "synonyms of 'owl': expected a list of strings"),
        ("own.json", '[{"name": "owl", "synonyms": {"a": ["Owl"]}}]', "prompts and synonyms of 'owl': 'Owl' repeats"),
        ("own.json", '[{"name": "owl", "id": 1}, "elk"]', "ids: every class needs one of its own, or none has one"),
        ("own.json", '[{"name": "a", "id": 1}, {"name": "b", "id": 1}]', "ids: every class needs one of its own"),
        ("own.json", '{"classes": ["owl"], "name": null}', "name is None, not a string"),
        ("own.json", '{"classes": ["owl"], "description": ["a"]}', "description is ['a'], not a string"),
        (
            "own.json",
            '[{"name": "owl", "synonyms": {"\\u001b[31m": ["bird"]}}]',
            "senses of 'owl': entry 1, '\\x1b[31m', holds a control character",
        ),
        ("own.json", '[{"name": "owl", "id": "1"}]', "id of 'owl' is '1'; it must be a whole number of at least 0"),
        ("own.json", '[{"name": "owl", "id": true}]', "id of 'owl' is True; it must be a whole number"),
        (
            "own.json",
            '{"classes": ["owl"], "background": 3}',
            "background: expected a list of strings, got 3",
        ),
        ("own.txt", "# nothing\n\n", "class names: the list is empty; give at least one"),
        ("own.txt", "owl\nelk\nowl\n", "class names: 'owl' repeats 'owl'; remove one"),
        ("own.txt", b"owl\n\xff", "not UTF-8 text (byte 4); save it as UTF-8"),
    ],
)
def test_refused_files_are_value_errors_that_name_the_file(
    write: WriteFile, name: str, content: str | bytes, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}"):
        load_vocabulary(path)


BACKGROUNDS = f"choose one of {', '.join(background_set_names())}, or give a list of words"


@pytest.mark.parametrize(
    ("background", "error", "message"),
    [
        (
            "voc",
            ValueError,
            f"unknown background set 'voc'; did you mean 'voc12'? {BACKGROUNDS} (['voc'], on the command line 'voc,')",
        ),
        ("sky", ValueError, f"unknown background set 'sky'; {BACKGROUNDS} (['sky'], on the command line 'sky,')"),
        (
            "auto",
            ValueError,
            "background 'auto' needs your images: run `clipes generate --background auto`, or take the words from "
            "`clipes background` or clipes.prompting.suggest_background",
        ),
        (["sky", "Sky"], ValueError, "background: 'Sky' repeats 'sky'; remove one"),
        (["sky", ""], ValueError, "background: entry 2 is blank; remove it"),
        (["sky", 3], TypeError, "background: entry 2 is 3, not a string"),
        (3, TypeError, "background: expected a list of strings, got 3"),
    ],
)
def test_refused_backgrounds(background: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        load_vocabulary({"owl": "owl", "deer": "Fawn"}, background)


@pytest.mark.parametrize(
    ("background", "named"),
    [
        (["sky", "OWL"], "custom compete with it: 'OWL' ('owl'); leave them out"),
        (["barn-owl nest", "fawn"], "'barn-owl nest' ('owl'), 'fawn' ('Fawn'); leave them out"),
        (["a person", "some people"], "'a person' ('person'), 'some people' ('people'); leave them out"),
        (["warm-blooded animal"], "'warm-blooded animal' ('Warm-Blooded Animal'); leave them out"),
        (["owls", "bird houses"], "'owls' ('owl'); leave them out"),
        (["barnowl nest", "old people s"], "'old people s' ('people'); leave them out"),
        (["warmblooded animals"], "'warmblooded animals' ('Warm-Blooded Animal'); leave them out"),
        ([f"owl {letter}" for letter in "abcdefg"], "'owl e' ('owl') and 2 more; leave them out"),
    ],
)
def test_a_background_word_that_names_a_class_is_kept_with_a_warning(background: list[str], named: str) -> None:
    classes = [
        {"name": "owl"},
        {"name": "deer", "prompts": "Fawn"},
        {"name": "person", "prompts": "person with clothes,people,human"},
        {"name": "beast", "synonyms": {"animal%1:03:00::": ["Warm-Blooded Animal"]}},
    ]
    with pytest.warns(UserWarning, match=re.escape(named)):
        assert load_vocabulary(classes, background).background_names == tuple(background)


def test_an_explicit_set_is_not_thinned_out_silently() -> None:
    with pytest.warns(UserWarning, match=r"name a class of coco14 compete with it: 'keyboard' \('keyboard'\); leave"):
        assert "keyboard" in load_vocabulary("coco14", background="voc12").background_names


def test_words_that_hold_no_class_pass_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_vocabulary(["owl", "sign"], ["bowl", "howls", "signpost"])
        for name in class_set_names():
            load_vocabulary(name)


def test_the_default_background_leaves_out_what_holds_a_class() -> None:
    assert "railway" in load_vocabulary(["rail"]).background_names
    assert "railway" not in load_vocabulary({"train": "train on a railway,railway"}).background_names


TEMPLATES = "choose one of clip-es, clip-es-runner-up, plain, imagenet, or give a template such as 'a photo of a {}.'"


@pytest.mark.parametrize(
    ("templates", "error", "message"),
    [
        ("clip_es", ValueError, f"unknown template set 'clip_es'; did you mean 'clip-es'? {TEMPLATES}"),
        ("a photo of a {c}.", ValueError, f"unknown template set 'a photo of a {{c}}.'; {TEMPLATES}"),
        ("", ValueError, f"unknown template set ''; {TEMPLATES}"),
        ("{} and {}", ValueError, "template '{} and {}' needs exactly one {} and no other brace"),
        (["a {}", "none"], ValueError, "template 'none' needs exactly one {} and no other brace"),
        (
            ["a {} in {style}"],
            ValueError,
            "template 'a {} in {style}' needs exactly one {} and no other brace",
        ),
        (["{{}}"], ValueError, "template '{{}}' needs exactly one {} and no other brace"),
        (["a {} }"], ValueError, "template 'a {} }' needs exactly one {} and no other brace"),
        ([], ValueError, "templates: the list is empty; give at least one"),
        (["a {}", " "], ValueError, "templates: entry 2 is blank; remove it"),
        (["a {}", "a {}"], ValueError, "templates: 'a {}' repeats 'a {}'; remove one"),
        ([3], TypeError, "templates: entry 1 is 3, not a string"),
        (3, TypeError, "templates: expected a list of strings, got 3"),
    ],
)
def test_refused_templates(templates: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        load_vocabulary("voc12", templates=templates)
