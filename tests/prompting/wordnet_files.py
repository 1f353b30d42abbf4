"""A WordNet of a few nouns, written as the database's own files are: see wndb(5WN)."""

from __future__ import annotations

from pathlib import Path

HEADER = "  1 This software and database is being provided to you.  \n  2 WordNet 3.0 Copyright 2006 by nobody.  \n"
# lemmas, the commonest sense of each first; lexicographer file and id in it; gloss; the row of the hypernym
ROWS: tuple[tuple[str, int, int, str, int | None], ...] = (
    ("thing", 3, 0, "what is", None),
    ("animal beast", 5, 0, 'a living thing; "the animal slept"', 0),
    ("dog domestic_dog Canis_familiaris", 5, 0, 'it barks; "the dog barked all night"; "a dog"', 1),
    ("cad dog", 18, 0, "a man who is no gentleman", 0),
    ("cat true_cat", 5, 0, "it purrs", 1),
    ("guy cat", 18, 0, "informal for a man", 0),
    ("table", 6, 0, "a piece of furniture", 0),
    ("committee board", 14, 0, "people who decide", 0),
    ("dining_table board", 6, 0, "a table for meals", 6),
    ("plant", 20, 0, "it grows", 0),
    ("pot", 6, 0, "a vessel", 0),
    ("pot_plant", 20, 0, "a plant in a pot", 9),
    ("ball", 6, 0, "it is thrown", 0),
    ("hot_dog hotdog", 18, 0, "one who shows off", 0),
    ("hotdog hot_dog red_hot", 13, 2, "a sausage in a bun", 0),
    ("sport sports", 4, 0, "what is played", 0),
    ("motorcycle bike", 6, 0, "it has an engine", 0),
    ("bicycle bike", 6, 0, "it has pedals", 0),
    ("mouse", 5, 0, "a rodent", 1),
    ("mouse computer_mouse", 6, 0, "it moves a cursor", 0),
    ("St._Bernard", 5, 0, "a large dog", 2),
    ("person soul", 3, 0, "a human being", 0),
    ("spirit soul", 18, 0, "what outlives us", 0),
    ("glass", 27, 0, "a brittle solid", 0),
    ("glasses", 6, 0, "two lenses in a frame", 0),
    ("gas", 27, 0, "neither solid nor liquid", 0),
    ("gallium Ga", 27, 0, "a metal", 0),
    ("oven", 6, 0, "it bakes", 0),
    ("microwave microwave_oven", 6, 0, "it heats", 0),
    ("railroad", 6, 0, "a line of track", 0),
    ("train railroad_train", 6, 0, "it runs on rails", 0),
    ("pass", 17, 0, "a way through", 0),
    ("pas", 4, 0, "a step of a dance", 0),
)
EXCEPTIONS = "mice mouse\n"
COMMONEST = {"board": 7, "dog": 2, "cat": 4, "bike": 16, "soul": 22, "hotdog": 14}  # lemma to its first row


def write_wordnet(folder: Path) -> Path:
    """Write index.noun, data.noun, noun.exc and two lists of modifiers to `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets: list[int] = []
    place = len(HEADER)
    for row in range(len(ROWS)):
        offsets.append(place)
        place += len(_line(row, [0] * len(ROWS)))
    data = HEADER + "".join(_line(row, offsets) for row in range(len(ROWS)))
    (folder / "data.noun").write_text(data, encoding="ascii", newline="\n")
    index: dict[str, list[int]] = {}
    for row, (lemmas, *_) in enumerate(ROWS):
        for lemma in lemmas.lower().split():
            index.setdefault(lemma, []).append(row)
    lines = []
    for lemma, rows in sorted(index.items()):
        order = sorted(rows, key=lambda row, lemma=lemma: (row != COMMONEST.get(lemma, rows[0]), row))  # type: ignore[misc]
        places = " ".join(f"{offsets[row]:08}" for row in order)
        lines.append(f"{lemma} n {len(rows)} 1 @ {len(rows)} 0 {places}  \n")
    (folder / "index.noun").write_text(HEADER + "".join(lines), encoding="ascii", newline="\n")
    (folder / "noun.exc").write_text(EXCEPTIONS, encoding="ascii", newline="\n")
    (folder / "index.verb").write_text(f"{HEADER}pot v 1 0 1 0 00000000  \n", encoding="ascii", newline="\n")
    (folder / "verb.exc").write_text("potted pot\n", encoding="ascii", newline="\n")
    return folder


def _line(row: int, offsets: list[int]) -> str:
    lemmas, file, number, gloss, hypernym = ROWS[row]
    words = lemmas.split()
    named = " ".join(f"{word} {number:x}" for word in words)
    pointers = "000" if hypernym is None else f"001 @ {offsets[hypernym]:08} n 0000"
    return f"{offsets[row]:08} {file:02} n {len(words):02x} {named} {pointers} | {gloss}  \n"
