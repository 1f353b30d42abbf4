"""Runs with regions: matched to images, read beside them, and again when they change; finalize without the network."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipes
from clipes.config import GivenRegionsConfig, ScopeConfig, SeplVoteConfig
from clipes.regions.vote import vote
from clipes.runs.finalize import read_run
from clipes.runs.plan import Plan
from clipes.store.output import Output

NAMES = ("a", "sub/b", "c")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three scenes in ``photos`` with their labels, and regions of two halves in ``regions``."""
    rows = ["image,labels"]
    for name, scene in zip(NAMES, clipes.scenes.draw_scenes(3, seed=7), strict=True):
        for kind, pixels in (("photos", scene.image), ("regions", bands(2))):
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        rows.append(f"{name}.png,{';'.join(scene.labels)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def bands(across: int) -> np.ndarray:
    """Ids of so many bands from left to right."""
    return (np.arange(112) * across // 112 + 1).astype(np.uint8)[None].repeat(112, axis=0)


def run(folders: Path, generator, **changes):
    given = {"regions": folders / "regions", "generator": generator, **changes}
    return clipes.run(folders / "photos", folders / "masks", folders / "labels.csv", **given)


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(Image.open(folder / f"{name}.png")) for name in NAMES if (folder / f"{name}.png").exists()}


def test_masks_are_those_of_calls_with_the_regions(folders, tiny):
    assert run(folders, tiny).ok == 3
    labels = {row.id: row.labels for row in clipes.open_run(folders / "masks").rows()}
    for name, mask in masks(folders / "masks").items():
        result = tiny(folders / "photos" / f"{name}.png", labels[name], folders / "regions" / f"{name}.png")
        np.testing.assert_array_equal(mask, result.mask)
        assert result.regions.max() == 2


def test_only_images_whose_regions_changed_are_made_again(folders, tiny):
    run(folders, tiny)
    done: list[str] = []
    run(folders, tiny, progress=lambda outcome: done.append(outcome.sample.id))
    assert done == []
    before = masks(folders / "masks")
    Image.fromarray(np.zeros((112, 112), np.uint8)).save(folders / "regions" / "sub" / "b.png")
    status = run(folders, tiny, progress=lambda outcome: done.append(outcome.sample.id))
    after = masks(folders / "masks")
    assert done == ["sub/b"] and status.ok == 3
    assert [name for name in NAMES if (before[name] != after[name]).any()] == ["sub/b"]


def test_an_image_with_broken_foreign_or_missing_regions_fails_and_the_others_are_done(folders, tiny):
    (folders / "regions" / "a.png").write_bytes(b"\x89PNG")
    Image.fromarray(bands(2)[:50]).save(folders / "regions" / "sub" / "b.png")
    with pytest.warns(UserWarning, match=r"1 of the regions in .* belong to no image"):
        (folders / "regions" / "other.png").touch()
        status = run(folders, tiny)
    assert (status.ok, status.failed) == (1, 2) and set(masks(folders / "masks")) == {"c"}
    reasons = {row.id: row.reason for row in clipes.open_run(folders / "masks").rows("failed")}
    assert "a.png" in reasons["a"] and "50 x 112 pixels" in reasons["sub/b"]
    (folders / "regions" / "c.png").unlink()
    Image.fromarray(bands(2)).save(folders / "regions" / "a.png")
    with pytest.warns(UserWarning, match=r"1 image\(s\) have no regions in .* and will fail, 'c' the first"):
        status = run(folders, tiny)
    assert (status.ok, status.failed) == (1, 2) and set(masks(folders / "masks")) == {"a"}


def test_finalize_with_regions_is_the_vote_on_the_masks(folders, tiny):
    run(folders, tiny, regions=None, cams="patch")
    plain, config = masks(folders / "masks"), replace(tiny.config, regions=GivenRegionsConfig(), vote=SeplVoteConfig())
    with read_run(folders / "masks") as saved:
        with pytest.raises(ValueError, match=r"say where they are \(--regions\)"):
            saved.finalize(config, folders / "photos")
        with pytest.raises(ValueError, match="but the settings do not take them"):
            saved.finalize(tiny.config, folders / "photos", regions=folders / "regions")
        given = {"regions": folders / "regions", "out": folders / "voted"}
        assert {one.status for one in saved.finalize(config, folders / "photos", **given)} == {"ok"}
    for name, mask in masks(folders / "voted").items():
        np.testing.assert_array_equal(mask, vote(plain[name], bands(2), 255, config.vote))
    assert any((mask != plain[name]).any() for name, mask in masks(folders / "voted").items())


def test_finalize_without_a_refinement_needs_no_pictures(folders, tiny):
    run(folders, tiny, cams="patch")
    shutil.rmtree(folders / "photos")
    (folders / "regions" / "c.png").unlink()
    config = replace(tiny.config, refine=None, regions=GivenRegionsConfig())
    with read_run(folders / "masks") as saved:
        given = {"regions": folders / "regions", "out": folders / "voted"}
        ended = {one.sample.id: one.reason for one in saved.finalize(config, **given)}
    assert ended["a"] == ended["sub/b"] == "" and "no such file" in ended["c"]


def test_maps_of_a_scope_go_with_their_own_regions(folders, tiny):
    config = replace(tiny.config, regions=GivenRegionsConfig(), scope=ScopeConfig())
    generator = clipes.MaskGenerator(tiny.clip, tiny.vocabulary, config)
    run(folders, generator, cams="patch")
    Image.fromarray(np.zeros((112, 112), np.uint8)).save(folders / "regions" / "c.png")
    with read_run(folders / "masks") as saved:
        with pytest.raises(ValueError, match="were made within other regions"):
            saved.finalize(replace(config, regions=None), folders / "photos")
        given = {"regions": folders / "regions", "out": folders / "voted"}
        again = saved.finalize(replace(config, vote=None), folders / "photos", **given)
        ended = {one.sample.id: one.reason for one in again}
    assert ended["a"] == ended["sub/b"] == "" and "made within other regions" in ended["c"]


def test_the_plan_names_the_regions_and_checks_them(folders):
    given = replace(clipes.VOC12, regions=GivenRegionsConfig())
    plan = Plan("photos", Output(folders), config=given, regions="regions")
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.config.regions == GivenRegionsConfig() and Path(again.regions).is_absolute()
    for config, regions in ((given, None), (clipes.VOC12, "regions")):
        with pytest.raises(ValueError, match="give a folder of regions with the settings 'given'"):
            Plan("photos", Output(folders), config=config, regions=regions)


def test_superpixels_without_scikit_image_are_refused_before_the_model_is_loaded(folders, tiny, cli, monkeypatch):
    run(folders, tiny, regions=None, cams="patch")
    monkeypatch.setitem(sys.modules, "skimage", None)
    data = folders / "photos", "--labels", folders / "labels.csv"
    for given in (
        ("generate", *data, "--out", folders / "m", "--model", "ViT-none", "--classes", "scenes"),
        ("finalize", folders / "masks", "--out", folders / "m"),
    ):
        refused = cli(*given, "--regions", "superpixels")
        assert refused.code == 2 and "superpixels need scikit-image: pip install scikit-image" in refused.err
        assert not (folders / "m").exists()


def test_the_flags(folders, cli):
    """``--regions DIR`` and superpixels, kept by ``--like`` and by finalize."""
    photos, labels = folders / "photos", folders / "labels.csv"
    made = cli(
        "generate",
        photos,
        "--labels",
        labels,
        "--out",
        folders / "m",
        "--regions",
        folders / "regions",
        "--save-patch-cams",
    )
    assert made.code == 0 and "3 of 3 masks" in made.out
    assert cli("finalize", folders / "m", "--out", folders / "f", "--vote", "mode").code == 0
    for name, mask in masks(folders / "m").items():
        np.testing.assert_array_equal(mask, masks(folders / "f")[name])
    shown = cli("generate", photos, "--labels", labels, "--like", folders / "m", "--dry-run", "--vote", "sepl").out
    assert "given.unsegmented 0" in shown and "sepl.majority 0.5" in shown
    shown = cli(
        "generate", photos, "--labels", labels, "--out", folders / "x", "--regions", "superpixels", "--dry-run"
    ).out
    assert "felzenszwalb.scale 100.0" in shown
    shown = cli(
        "generate",
        photos,
        "--labels",
        labels,
        "--out",
        folders / "x",
        "--like",
        folders / "m",
        "--regions",
        "none",
        "--dry-run",
    ).out
    assert "regions    none" in shown
    wrong = cli("generate", photos, "--labels", labels, "--out", folders / "x", "--regions", folders / "no")
    assert wrong.code == 2 and "no such folder or file of regions" in wrong.err
    wrong = cli("generate", photos, "--labels", labels, "--out", folders / "x", "--slic-segments", "7")
    assert wrong.code == 2 and "--slic-segments needs --regions slic; it is none" in wrong.err
