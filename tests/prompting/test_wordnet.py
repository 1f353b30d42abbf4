"""Names find their senses in WordNet's files, wherever these lie; what is broken or absent is told."""

from __future__ import annotations

import re
import shutil
import time
import zipfile
from pathlib import Path

import nltk.data
import pytest
from wordnet_files import write_wordnet

from clipes.prompting import wordnet
from clipes.prompting.wordnet import Sense, WordNet, WordNetMissing, letters, open_wordnet


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordnet(tmp_path_factory.mktemp("wordnet"))


@pytest.fixture(scope="session")
def small(files: Path) -> WordNet:
    return open_wordnet(files)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No WordNet on this machine."""
    monkeypatch.delenv("CLIPES_WORDNET", raising=False)
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(wordnet, "_DEBIAN", "/no/such/folder")


def keys(senses: tuple[Sense, ...]) -> list[str]:
    return [sense.key for sense in senses]


# --- senses, on a few nouns


def test_a_sense(small: WordNet) -> None:
    first, second = small.senses("dog")
    assert first == Sense(
        key="dog%1:05:00::",
        synset="dog.n.01",
        gloss="it barks",
        lemmas=("dog", "domestic dog", "Canis familiaris"),
        hypernyms=("animal", "thing"),
        matched="dog",
        head=False,
        score=None,
    )
    assert (second.key, second.lemmas, second.synset) == ("cad%1:18:00::", ("cad", "dog"), "cad.n.01")


@pytest.mark.parametrize(
    ("name", "matched", "found"),
    [
        ("dining table", "dining table", ["dining_table%1:06:00::"]),
        ("diningtable", "dining table", ["dining_table%1:06:00::"]),
        ("Dining-Table", "dining table", ["dining_table%1:06:00::"]),
        ("  DINING__tables ", "dining table", ["dining_table%1:06:00::"]),
        ("diningtables", "dining table", ["dining_table%1:06:00::"]),
        ("\uff44\uff4f\uff47", "dog", ["dog%1:05:00::", "cad%1:18:00::"]),
        ("mice", "mouse", ["mouse%1:05:00::", "mouse%1:06:00::"]),
        ("computer mice", "computer mouse", ["mouse%1:06:00::"]),
        ("potted plant", "pot plant", ["pot_plant%1:20:00::"]),
        ("pottedplants", "pot plant", ["pot_plant%1:20:00::"]),
        ("hot-dogs", "hot dog", ["hot_dog%1:18:00::", "hotdog%1:13:02::"]),
        ("st bernard", "st. bernard", ["st._bernard%1:05:00::"]),
        ("gas", "gas", ["gas%1:27:00::"]),
        ("pass", "pass", ["pass%1:17:00::"]),
        ("board", "board", ["committee%1:14:00::", "dining_table%1:06:00::"]),
    ],
)
def test_a_name_is_found_however_it_is_spelled(small: WordNet, name: str, matched: str, found: list[str]) -> None:
    senses = small.senses(name)
    assert keys(senses) == found
    assert {sense.matched for sense in senses} == {matched}
    assert not any(sense.head for sense in senses)


def test_the_spelling_that_was_written_comes_first(small: WordNet) -> None:
    assert keys(small.senses("hot dog")) == ["hot_dog%1:18:00::", "hotdog%1:13:02::"]
    assert keys(small.senses("hotdog")) == ["hotdog%1:13:02::", "hot_dog%1:18:00::"]


def test_a_plural_that_is_a_word_itself_comes_before_its_singular(small: WordNet) -> None:
    assert [(sense.key, sense.matched) for sense in small.senses("glasses")] == [
        ("glasses%1:06:00::", "glasses"),
        ("glass%1:27:00::", "glass"),
    ]
    assert keys(small.senses("glass")) == ["glass%1:27:00::"]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("sports ball", "ball"),
        ("sportsball", "ball"),
        ("big brown dining tables", "dining table"),
        ("dog with a ball", "dog"),
        ("DOG WITH A BALL", "dog"),
        ("brown dog of the cat", "dog"),
    ],
)
def test_the_head_noun_is_the_last_resort_and_marked(small: WordNet, name: str, head: str) -> None:
    senses = small.senses(name)
    assert senses
    assert {(sense.matched, sense.head) for sense in senses} == {(head, True)}


@pytest.mark.parametrize(
    "name",
    ["xyzzy", "dogs🐶", "{}", "{0.__class__}", "../../dog", "dog/cat", "c++", "a\x00b", "dog\x1b[2J", "ipad", "1"],
)
def test_unknown_and_hostile_names_have_no_sense(small: WordNet, name: str) -> None:
    assert small.senses(name) == ()


@pytest.mark.parametrize("name", ["", "  ", "_", "___", "-", " _-\t\n"])
def test_a_blank_name_is_refused(small: WordNet, name: str) -> None:
    with pytest.raises(ValueError, match=f"the name {re.escape(repr(name))} is blank; give a noun"):
        small.senses(name)


def test_a_name_is_a_string(small: WordNet) -> None:
    with pytest.raises(TypeError, match="a name is a string, not 12"):
        small.senses(12)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dog" * 40, "x" * 300, "dog " * 100, "a_" * 10**6, "dog" * 10**6, "-" * 10**6 + "q"])
def test_long_names_take_no_time(small: WordNet, name: str) -> None:
    start = time.perf_counter()
    assert small.senses(name) == ()
    assert small.near(name) == ()
    assert time.perf_counter() - start < 5  # the quadratic way takes hours


def test_near(small: WordNet) -> None:
    assert small.near("dining tabel") == ("dining table",)
    assert small.near("Motorcicle") == ("motorcycle",)
    assert small.near("ining table") == ("dining table",)
    assert small.near("dining tables in a row") == ()
    assert small.near("xyzzy") == ()


@pytest.mark.parametrize(
    ("one", "other"), [("T-Shirt", "t shirt"), ("St. Bernard", "st_bernard"), ("cat\u2019s", "CAT'S")]
)
def test_letters(one: str, other: str) -> None:
    assert letters(one) == letters(other)
    assert letters(one) != letters(f"{other}s")


# --- sense keys


def test_a_key_of_any_lemma_finds_the_sense(small: WordNet) -> None:
    dog = small.sense("dog%1:05:00::")
    assert dog == small.senses("dog")[0]
    other = small.sense("Canis_familiaris%1:05:00::")
    assert (other.key, other.matched) == (dog.key, "canis familiaris")
    assert small.sense("dog%1:18:00::").synset == "cad.n.01"
    assert small.sense("st._bernard%1:05:00::").lemmas == ("St. Bernard",)


@pytest.mark.parametrize(
    "key", ["dog", "dog.n.01", "dog%1", "dog%2:05:00::", "dog%1:5:0::", "", "dog%1:05:00::\n", "%"]
)
def test_what_is_no_key_of_a_noun(small: WordNet, key: str) -> None:
    message = f"{key!r} is not the sense key of a noun; it looks like dining_table%1:06:00::"
    with pytest.raises(ValueError, match=re.escape(message)):
        small.sense(key)


def test_a_key_that_wordnet_lacks_leads_to_those_it_has(small: WordNet) -> None:
    message = "WordNet 3.0 has no sense 'dog%1:06:00::'; its senses of 'dog' are dog%1:05:00::, dog%1:18:00::"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small.sense("dog%1:06:00::")
    with pytest.raises(ValueError, match="has no sense 'owl%1:05:00::'; it has no such noun"):
        small.sense("owl%1:05:00::")


# --- where it is looked for


def test_a_named_folder_is_the_only_one_that_counts(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPES_WORDNET", str(files))
    assert open_wordnet().folder == str(files)
    with pytest.raises(WordNetMissing, match=f"no WordNet in {re.escape(str(tmp_path))}; get it by"):
        open_wordnet(tmp_path)
    monkeypatch.setenv("CLIPES_WORDNET", str(tmp_path))
    with pytest.raises(WordNetMissing, match=f"no WordNet in {re.escape(str(tmp_path))}; get it by"):
        open_wordnet()
    assert open_wordnet(files).folder == str(files)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["wordnet", "wordnet31"])
def test_nltk_data_unpacked_or_zipped(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, name: str
) -> None:
    folder = tmp_path / "nltk_data" / "corpora" / name
    shutil.copytree(files, folder)
    (folder / "index.sense").write_text("nonsense")
    if zipped:
        shutil.make_archive(str(folder), "zip", folder.parent, name)
        shutil.rmtree(folder)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "none"), str(tmp_path / "nltk_data")])
    found = open_wordnet()
    assert found.folder == str(folder) + (".zip" if zipped else "")
    assert keys(found.senses("diningtable")) == ["dining_table%1:06:00::"]


@pytest.mark.usefixtures("nowhere")
def test_debian_comes_after_nltk(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordnet, "_DEBIAN", str(files))
    assert open_wordnet().folder == str(files)
    folder = tmp_path / "corpora" / "wordnet"
    shutil.copytree(files, folder)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert open_wordnet().folder == str(folder)


@pytest.mark.usefixtures("nowhere")
def test_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        "no WordNet in nltk's data folders and /no/such/folder; get it by `python -m nltk.downloader wordnet` or "
        "`apt install wordnet-base`, or name the folder that holds data.noun (wordnet=, --wordnet or CLIPES_WORDNET); "
        "class files that were built once need no WordNet"
    )
    monkeypatch.setattr(nltk.data, "path", ["/a", "/b"])
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$") as error:
        open_wordnet()
    assert error.type is WordNetMissing


def test_it_is_read_once(files: Path, tmp_path: Path) -> None:
    assert open_wordnet(files) is open_wordnet(f"{files}/")
    (tmp_path / "link").symlink_to(files)
    assert open_wordnet(tmp_path / "link") is open_wordnet(files)


def test_nltk_itself_is_left_as_it_was(files: Path, tmp_path: Path) -> None:
    before = list(nltk.data.path), dict(vars(nltk.corpus.reader.wordnet.WordNetCorpusReader))
    open_wordnet(shutil.copytree(files, tmp_path / "copy")).senses("dog")
    assert before == (list(nltk.data.path), dict(vars(nltk.corpus.reader.wordnet.WordNetCorpusReader)))


# --- broken files


@pytest.mark.parametrize("name", ["index.noun", "noun.exc"])
def test_a_file_is_missing(files: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(files, tmp_path / "copy")
    (folder / name).unlink()
    message = f"the WordNet files in {folder} are broken: there is no {name}; download them again"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_wordnet(folder)


def test_modifiers_and_lexnames_may_be_missing(files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "copy")
    (folder / "index.verb").unlink()
    (folder / "verb.exc").unlink()
    less = open_wordnet(folder)
    assert keys(less.senses("dog")) == ["dog%1:05:00::", "cad%1:18:00::"]
    assert [(sense.matched, sense.head) for sense in less.senses("potted plant")] == [("plant", True)]


@pytest.mark.parametrize("name", ["index.noun", "data.noun", "noun.exc"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_a_file_is_cut_short(files: Path, tmp_path: Path, name: str, share: float) -> None:
    folder = shutil.copytree(files, tmp_path / "copy")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * (len(content) - 2))])
    with pytest.raises(ValueError, match=rf"files in .*copy are broken: {name} is cut short; download them again"):
        open_wordnet(folder)


def test_lines_are_missing_at_the_end(files: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = shutil.copytree(files, tmp_path / "copy")
    lines = (folder / "data.noun").read_bytes().splitlines(keepends=True)
    (folder / "data.noun").write_bytes(b"".join(lines[:-1]))
    broken = open_wordnet(folder)
    assert keys(broken.senses("dog")) == ["dog%1:05:00::", "cad%1:18:00::"]
    for look in (lambda: broken.senses("pas"), lambda: broken.sense("pas%1:04:00::")):
        with pytest.raises(ValueError, match=r"the WordNet files in .*copy are broken: .*; download them again"):
            look()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("index.noun", b"\ndog n 2", b"\ndog n x"),
        ("index.noun", b"\ndog n 2", b"\ndog n 3"),
        ("index.noun", b"\ndog n 2 1 @ 2 0", b"\ndog n 2 1 @ 2"),
        ("index.noun", b"\ncat n", b"\nc\xe9t n"),
        ("noun.exc", b"mice mouse", b"\xff"),
    ],
)
def test_a_line_is_broken(files: Path, tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    folder = shutil.copytree(files, tmp_path / "copy")
    content = (folder / name).read_bytes()
    assert content.count(old) == 1
    (folder / name).write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match=r"the WordNet files in .*copy are broken: .+; download them again"):
        open_wordnet(folder)


def test_a_circle(files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "copy")
    data = (folder / "data.noun").read_bytes()
    (animal,) = re.findall(rb"\n(\d{8}) 05 n 02 animal", data)
    (dog,) = re.findall(rb"\n(\d{8}) 05 n 03 dog", data)
    line = next(line for line in data.splitlines() if line.startswith(animal))
    circle = re.sub(rb"@ \d{8}", b"@ " + dog, line)
    (folder / "data.noun").write_bytes(data.replace(line, circle))
    with pytest.raises(ValueError, match=r"the WordNet files in .*copy are broken: .+; download them again"):
        open_wordnet(folder).senses("dog")


def test_a_zip_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "wordnet.zip").write_bytes(b"PK no")
    with pytest.raises(ValueError, match=r"wordnet\.zip are broken: File is not a zip file; download them again"):
        open_wordnet(tmp_path / "wordnet.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("wordnet/data.noun", "x\n")
    with pytest.raises(ValueError, match=r"other\.zip are broken: there is no index\.noun; download them again"):
        open_wordnet(tmp_path / "other.zip")


# --- the real database


@pytest.mark.parametrize(
    ("name", "matched", "synset"),
    [
        ("diningtable", "dining table", "dining_table.n.01"),
        ("pottedplant", "pot plant", "pot_plant.n.01"),
        ("potted plant", "pot plant", "pot_plant.n.01"),
        ("tvmonitor", "tv monitor", "television_monitor.n.01"),
        ("hot dog", "hot dog", "hotdog.n.01"),
        ("hotdog", "hotdog", "hotdog.n.01"),
        ("cell phone", "cellphone", "cellular_telephone.n.01"),
        ("wine glass", "wineglass", "wineglass.n.01"),
        ("aeroplane", "aeroplane", "airplane.n.01"),
        ("airplane", "airplane", "airplane.n.01"),
        ("TV", "tv", "television.n.01"),
        ("tennisracket", "tennis racket", "tennis_racket.n.01"),
        ("T-shirts", "t-shirt", "jersey.n.03"),
        ("skis", "ski", "ski.n.01"),
        ("steak knives", "steak knife", "steak_knife.n.01"),
        ("St Bernard", "st bernard", "saint_bernard.n.01"),
        ("cup of tea", "cup of tea", "cup_of_tea.n.01"),
        ("gas", "gas", "gas.n.01"),
    ],
)
def test_names_in_the_real_database(real: WordNet, name: str, matched: str, synset: str) -> None:
    first = real.senses(name)[0]
    assert (first.matched, first.synset, first.head) == (matched, synset, False)


def test_the_head_noun_in_the_real_database(real: WordNet) -> None:
    for name, head in (("sports ball", "ball"), ("stop sign", "sign"), ("person with clothes", "person")):
        assert {(sense.matched, sense.head) for sense in real.senses(name)} == {(head, True)}


def test_every_sense_is_found_by_its_key(real: WordNet) -> None:
    for name in ("cat", "house", "mouse", "train", "keyboard", "tv", "T-shirt", "fork"):
        for sense in real.senses(name):
            found = real.sense(sense.key)
            assert (found.synset, found.gloss, found.lemmas, found.hypernyms) == (
                sense.synset,
                sense.gloss,
                sense.lemmas,
                sense.hypernyms,
            )


def test_what_the_real_database_says(real: WordNet) -> None:
    dog = real.senses("dog")[0]
    assert dog.lemmas == ("dog", "domestic dog", "Canis familiaris")
    assert dog.hypernyms[:3] == ("canine", "carnivore", "placental")
    assert dog.hypernyms[-1] == "entity"
    assert real.senses("tv")[0].gloss == "broadcasting visual images of stationary or moving objects"
    assert real.near("sknowboard")[0] == "snowboard"
    assert real.senses("sknowboard") == real.senses("🐶") == real.senses("ipad") == ()
