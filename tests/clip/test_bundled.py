"""The bundled model is a toy: it makes masks of what it has never learnt only where it is asked for by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from generating import TOY

import clipes
from clipes.cli import main
from clipes.clip.bundled import unlearnt_classes
from clipes.generator import load
from clipes.vocabulary import load_vocabulary

REFUSED = "it has never learnt 'aeroplane', 'bicycle', 'bottle' and 12 more, of the 20 classes of voc12; name a model"


def test_what_is_learnt() -> None:
    """The drawn things by their names and synonyms, whatever their letters' case; a class by one of its prompts."""
    for name in ("scenes", "scenes-wordnet"):
        assert unlearnt_classes(load_vocabulary(name)) == []
    own = load_vocabulary({"ship": ["boat", "ship"], "TREE": "TREE", "zebra": ["zebra"]})
    assert unlearnt_classes(own) == ["zebra"]


def test_in_python() -> None:
    with pytest.raises(ValueError, match=REFUSED):
        load(classes="voc12")
    with pytest.raises(ValueError, match="never learnt 'zebra', of the 2 classes"):
        load(classes=["boat", "zebra"])
    assert len(load("tiny", classes="voc12").class_names) == 20
    assert clipes.load(classes=["boat", "tree"]).class_names == ("boat", "tree")


@pytest.mark.parametrize(
    "command",
    [
        "generate photos --labels labels.csv --out m",
        "generate photos --labels labels.csv --out m --dry-run",
        "show photos/a.jpg --labels car --overlay",
        "sharpness photos --labels labels.csv --out m",
        "background photos --labels labels.csv",
        "compare photos --labels labels.csv --presets scenes --out m",
        "tag photos --out m.csv",
        "generate photos --labels tag --out m",
    ],
)
@pytest.mark.usefixtures("never_loaded")
def test_every_command_that_makes_masks(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(photos.parent)
    assert main([*command.split(), "--classes", "voc12"]) == 2
    assert REFUSED in capsys.readouterr().err and not Path("m").exists()


def test_asked_for_by_its_name(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then, and for classes that it has learnt, it is said what it is; `--like` repeats what was said."""
    monkeypatch.chdir(photos.parent)
    generate = ["generate", "photos", "--labels", "cat,dog", "--classes", "voc12", "--model", "tiny", "--out", "m"]
    assert main(generate) == 0 and TOY in capsys.readouterr().err
    assert main(["generate", "--like", "m", "--out", "n"]) == 0
    assert TOY in capsys.readouterr().err
    assert main(["generate", "--like", "m", "--out", "o", "--dry-run"]) == 0
    assert "model      tiny, a toy for drawings\n" in capsys.readouterr().out
    assert main(["generate", "--like", "m", "--out", "o", "--classes", "coco14"]) == 2
    assert "it has never learnt 'person', 'bicycle'" in capsys.readouterr().err
    assert main(["show", "photos/a.jpg", "--labels", "car", "--overlay"]) == 0
    assert TOY in capsys.readouterr().err
