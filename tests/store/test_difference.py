"""clipes.store.difference: what differs between two runs, in the words of the one who started them."""

from __future__ import annotations

from typing import Any

import pytest

from clipes.store.difference import differences


def _manifest(classes: Any, names: list[str], **settings: Any) -> dict[str, Any]:
    about = {"model": "ViT-B-16", "pretrained": "openai", "classes": classes, "preset": "voc12"}
    class_set = {"classes": [{"name": name} for name in names]}
    plain = {"weights": "1" * 64, "vocabulary": "2" * 64, "background": ["sky", "sea", "grass"], "templates": ["a {}."]}
    return {**about, "class_set": class_set, "settings": {**plain, **settings}}


BASE = _manifest("voc12", ["cat", "dog"])
OTHER = "3" * 64


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (_manifest(list("abcdef"), list("abcdef"), vocabulary=OTHER), "classes: voc12 → 6 own names"),
        (_manifest("own.json", ["cat"], vocabulary=OTHER), "classes: voc12 → own.json"),
        (_manifest("voc12", ["cat", "cow"], vocabulary=OTHER), "classes: other names than before in voc12"),
        (
            _manifest("voc12", ["cat", "dog"], vocabulary=OTHER),
            "classes: other prompts or attributes than before for voc12",
        ),
        (_manifest("voc12", ["cat", "dog"], vocabulary=OTHER, templates=["my {}."]), 'templates: "a {}." → "my {}."'),
        (_manifest("voc12", ["cat", "dog"], templates=["a {}.", "b {}."]), 'templates: 1 → 2 (with "b {}.")'),
        (
            _manifest("voc12", ["cat", "dog"], background=["ice", "sky"]),
            'background: 3 → 2 (without "sea", "grass", with "ice")',
        ),
        (_manifest("voc12", ["cat", "dog"], background=[]), 'background: 3 → 0 (without "sky", "sea" and 1 more)'),
        (
            _manifest("voc12", ["cat", "dog"], background=["sea", "sky", "grass"]),
            "background: 3 → 3 (in another order)",
        ),
        (_manifest("voc12", ["cat", "dog"], weights=OTHER), "model: other weights of ViT-B-16 openai"),
        (
            {**_manifest("voc12", ["cat", "dog"], weights=OTHER), "model": "tiny", "pretrained": None},
            "model: ViT-B-16 openai → tiny",
        ),
        (
            {**_manifest("voc12", ["cat", "dog"], config={"affinity": {"hops": 3}}), "preset": "scenes"},
            "preset: voc12 → scenes; config.affinity.hops: absent → 3",
        ),
    ],
)
def test_in_words(new: dict[str, Any], told: str) -> None:
    assert differences(BASE, new) == told and not differences(BASE, BASE)


def test_another_method_is_told_by_its_name() -> None:
    crf, votes = {"crf": {"iterations": 10, "sigma": 3}}, {"crf": {"iterations": 5, "sigma": 3}}
    one = _manifest("voc12", [], config={"map": {"committee": {"members": [1, 2]}}, "refine": crf, "regions": None})
    other = _manifest(
        "voc12", [], config={"map": {"gradcam": {"pool": "mean"}}, "refine": None, "regions": {"slic": {}}}
    )
    assert differences(one, other) == (
        "config.map: committee → gradcam; config.refine: crf → none; config.regions: none → slic"
    )
    same = _manifest("voc12", [], config={**one["settings"]["config"], "refine": votes})
    assert differences(one, same) == "config.refine.crf.iterations: 10 → 5"


def test_names_in_the_settings_are_told_once() -> None:
    one, other = (_manifest("voc12", [], class_names=names, vocabulary=names[0]) for names in (["cat"], ["dog", "cow"]))
    assert differences(one, other) == "classes: other names than before in voc12"
    other["classes"] = ["dog", "cow"]
    assert differences(one, other) == "classes: voc12 → 2 own names"


def test_of_a_generator_without_names() -> None:
    """`clipes.run` with a generator: neither its model nor its classes have names."""
    bare = {"settings": {"weights": "1", "vocabulary": "1"}}
    other = {"settings": {"weights": "2", "vocabulary": "2"}}
    assert differences(bare, other) == (
        "model: other weights of a generator's own; classes: other prompts or attributes than before for unknown"
    )
