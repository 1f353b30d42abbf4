"""Masks decided again from saved maps: the same bytes where nothing changed, the right ones where something did."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generating import files, masks, write_masks
from PIL import Image

import clipes
from clipes.cli import main
from clipes.config import AttentionAffinityConfig, ConfidenceConfig, Config, CrfConfig, ParConfig
from clipes.datasets import find_samples
from clipes.export import export
from clipes.io.cams_npz import PatchCams, read_cams, write_cams
from clipes.refine import REFINERS
from clipes.runs.finalize import read_run
from clipes.runs.preflight import check_folder
from clipes.store.output import Output
from clipes.store.store import Store

OTHER = replace(clipes.config.SCENES, mask=ConfidenceConfig(background_power=3, ignore_below=0.99))


@pytest.fixture
def saved(tiny, photos: Path) -> Path:
    """A run over the pictures with everything saved; "sub/c" has no label."""
    table = photos.parent / "labels.csv"
    table.write_text("image,labels\na.jpg,cat;tree\nb.png,car\nsub/c.jpg,\n")
    samples = find_samples(photos, table)
    output = Output(photos.parent / "m", confidence=True, cams="full")
    assert all(outcome.status == "ok" for outcome in write_masks(tiny, samples, output, about={"x": 1}))
    return photos.parent / "m"


def test_a_run_saves_what_was_asked_for(saved: Path) -> None:
    names = {"a", "b", "sub/c"}
    expected = {f"{name}.png" for name in names} | {f"confidence/{name}.png" for name in names}
    assert set(files(saved)) == {"classes.json", "run.json", *expected, *(f"cams/{name}.npz" for name in names)}
    record = json.loads((saved / "run.json").read_text())
    assert record["x"] == 1 and record["settings"]["clipes"] == clipes.__version__
    assert Config.from_dict(record["settings"]["config"]) == clipes.config.SCENES


def test_saved_files_hold_what_the_result_does(tiny, saved: Path, photos: Path) -> None:
    result = tiny(photos / "a.jpg", ["cat", "tree"])
    maps = read_cams(saved / "cams" / "a.npz", 16)
    assert np.array_equal(maps.patch_cams, result.patch_cams) and maps.size == result.size
    assert np.array_equal(maps.class_ids, result.class_ids)
    with np.load(saved / "cams" / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["attn_highres"], result.cams.astype(np.float16))
    with Image.open(saved / "confidence" / "a.png") as image:
        assert image.mode == "L"
        np.testing.assert_allclose(np.asarray(image) / 255, result.confidence, atol=0.5 / 255 + 1e-6)
    assert read_cams(saved / "cams" / "sub" / "c.npz", 16).patch_cams.shape[0] == 0


def test_back_at_the_first_settings_are_the_same_bytes(saved: Path, photos: Path) -> None:
    before = files(saved)
    with read_run(saved) as run:
        assert run.config == clipes.config.SCENES and run.count == 3 and run.unsaved == 0
        assert [outcome.status for outcome in run.finalize(OTHER, photos)] == ["ok"] * 3
    assert files(saved)["a.png"] != before["a.png"]
    with read_run(saved) as run:
        assert [outcome.status for outcome in run.finalize(clipes.config.SCENES, photos)] == ["ok"] * 3
    assert files(saved) == before


def test_what_has_the_settings_is_finished(saved: Path, photos: Path) -> None:
    """At once, and where a start with other settings was stopped."""
    before = files(saved)
    with read_run(saved) as run:
        assert list(run.finalize(clipes.config.SCENES, photos)) == [] and run.finished == 3
        assert files(saved) == before
        outcomes = run.finalize(OTHER, photos, jobs=1)
        next(outcomes)
        outcomes.close()
    with read_run(saved) as run:
        statuses = [outcome.status for outcome in run.finalize(OTHER, photos)]
        assert run.finished + len(statuses) == 3 and run.finished >= 1
    half = read_run(saved).finalize(clipes.config.SCENES, photos)
    assert next(half).status == "ok"
    half.close()
    assert [outcome.status for outcome in read_run(saved).finalize(clipes.config.SCENES, photos)].count("ok") >= 1
    assert files(saved) == before


@pytest.mark.parametrize("format", ["png", "tar"])
def test_into_another_folder(tiny, photos: Path, format: str) -> None:
    """The masks of a new run without maps, which `generate` takes for its own; the run stays as it is."""
    samples, folder = find_samples(photos, photos.parent / "labels.csv"), photos.parent / "maps"
    output = Output(folder, confidence=True, cams="patch", format=format)
    assert all(outcome.status == "ok" for outcome in write_masks(tiny, samples, output, about={"source": "photos"}))
    before, out = files(folder), photos.parent / "again"
    with read_run(folder) as run:
        if format == "tar":
            with pytest.raises(ValueError, match=r"holds \.tar files, which are not overwritten; give another folder"):
                run.finalize(OTHER, photos)
        with pytest.raises(ValueError, match="is the run itself"):
            run.finalize(OTHER, photos, out=folder)
        outcomes = run.finalize(OTHER, photos, out=out, jobs=2, readers=1)
        assert next(outcomes).status == "ok"
        outcomes.close()
        rest = list(run.finalize(OTHER, photos, out=out))
        assert run.finished + len(rest) == 3 and {outcome.status for outcome in rest} <= {"ok"}
    assert files(folder) == before
    fresh = Output(photos.parent / "fresh", confidence=True, format=format)
    generator = clipes.load(config=OTHER)
    list(write_masks(generator, samples, fresh))
    for name in ("mask", "confidence"):
        with clipes.open_run(out) as ours, clipes.open_run(fresh.folder) as theirs:
            assert ours.digest == theirs.digest and ours.manifest["source"] == "photos"
            for row in theirs.rows("ok"):
                assert np.array_equal(getattr(ours, name)(row.id), getattr(theirs, name)(row.id))
    assert list(write_masks(generator, samples, Output(out, confidence=True, format=format))) == []


@pytest.mark.parametrize("in_place", [True, False])
def test_images_that_had_failed_count_under_the_new_settings(tiny, photos: Path, in_place: bool) -> None:
    (photos / "b.png").write_bytes(b"")
    samples, folder = find_samples(photos, photos.parent / "labels.csv"), photos.parent / "maps"
    list(write_masks(tiny, samples, Output(folder, cams="patch")))
    out = None if in_place else photos.parent / "out"
    for _ in range(2):
        with read_run(folder) as run:
            assert run.count == 2 and run.unsaved == 0
            list(run.finalize(OTHER, photos, out=out))
    with Store.open(out or folder) as store:
        status = store.status()
    assert (status.total, status.ok, status.failed, status.left) == (3, 2, 1, 0)
    assert [reason.text for reason in status.reasons] == ["the file is empty"]


@pytest.mark.parametrize(
    "config",
    [
        replace(clipes.config.SCENES, refine=None),
        replace(
            clipes.config.SCENES,
            refine=ParConfig(iterations=3),
            mask=ConfidenceConfig(background_power=2, ignore_below=0.5),
        ),
        replace(clipes.config.SCENES, refine=CrfConfig(iterations=2), mask=ConfidenceConfig(ignore_below=0.99)),
    ],
    ids=["none", "par", "crf"],
)
def test_other_settings_give_what_a_new_run_gives(saved: Path, photos: Path, config: Config) -> None:
    before = files(saved)
    list(read_run(saved).finalize(config, photos))
    again = Output(photos.parent / "again", confidence=True, cams="full")
    samples = find_samples(photos, photos.parent / "labels.csv")
    generator = clipes.load(config=config)
    list(write_masks(generator, samples, again))
    found = files(saved)
    maps = [name for name in found if name.startswith("cams/")]
    assert {name: found[name] for name in maps} == {name: before[name] for name in maps}
    assert masks(saved) == masks(again.folder) and found["a.png"] != before["a.png"]
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (saved, again.folder))
    assert (ours["settings"], ours["digest"]) == (theirs["settings"], theirs["digest"])
    assert _fits(saved) == _fits(again.folder)
    assert [*write_masks(generator, samples, Output(saved, confidence=True, cams="full"))] == []  # all are finished


def _fits(folder: Path) -> list[tuple[object, ...]]:
    """What the newest rows say of how the masks fit their labels."""
    with Store.open(folder) as store:
        return [(row.id, row.missing, row.foreground) for row in store.rows("ok")]


def test_without_refinement_no_image_is_needed(saved: Path, photos: Path) -> None:
    shutil.rmtree(photos)
    outcomes = list(read_run(saved).finalize(replace(clipes.config.SCENES, refine=None)))
    assert [outcome.error for outcome in outcomes] == ["", "", ""]


def test_patch_maps_are_smaller_and_enough(tiny, saved: Path, photos: Path) -> None:
    samples = find_samples(photos, photos.parent / "labels.csv")
    small = photos.parent / "small"
    list(write_masks(tiny, samples, Output(small, cams="patch")))
    assert (small / "cams/a.npz").stat().st_size < (saved / "cams/a.npz").stat().st_size / 2
    before = files(small)
    list(read_run(small).finalize(clipes.config.SCENES, photos))
    assert files(small) == before and not (small / "confidence").exists()


def test_what_no_run_wrote_is_not_touched(tiny, photos: Path) -> None:
    folder = photos.parent / "mine"
    (folder / "cams").mkdir(parents=True)
    (folder / "cams" / "a.npz").write_bytes(b"mine")
    samples = find_samples(photos, ["cat"])
    with pytest.raises(ValueError, match="cams is not of an earlier run; choose another folder for the masks"):
        list(write_masks(tiny, samples, Output(folder, cams="patch")))
    assert files(folder) == {"cams/a.npz": b"mine"}


def test_maps_of_other_settings_are_not_mixed(saved: Path, photos: Path) -> None:
    samples, before = find_samples(photos, photos.parent / "labels.csv"), files(saved)
    initial = clipes.load(config=replace(clipes.config.SCENES, affinity=None))
    with pytest.raises(ValueError, match=r"is of a run with other settings \(config\.affinity"):
        list(write_masks(initial, samples, Output(saved, confidence=True, cams="full")))
    assert files(saved) == before


def test_images_in_a_folder_of_a_reserved_name(photos: Path) -> None:
    (photos / "sub").rename(photos / "cams")
    samples = find_samples(photos, ["cat"])
    with pytest.raises(ValueError, match="cams/ is for what is saved beside the masks; rename the folder"):
        check_folder(photos, samples, Output(photos.parent / "m"))


# --- what cannot be decided again


def test_settings_that_need_the_network(saved: Path, photos: Path) -> None:
    config = replace(clipes.config.SCENES, affinity=AttentionAffinityConfig())
    with pytest.raises(
        ValueError, match="affinity settings differ from those of the saved maps; run `clipes generate`"
    ):
        read_run(saved).finalize(config, photos)


def test_the_crf_needs_the_images(saved: Path, photos: Path) -> None:
    with pytest.raises(ValueError, match="a refinement by colours, or superpixels, need the images: give their source"):
        read_run(saved).finalize(clipes.config.SCENES)
    before = (saved / "a.png").read_bytes()
    (photos / "a.jpg").unlink()
    outcomes = list(read_run(saved).finalize(OTHER, photos))
    assert "no image 'a' in the source" in outcomes[0].error and outcomes[0].status == "failed"
    assert [outcome.error for outcome in outcomes[1:]] == ["", ""]
    assert (saved / "a.png").read_bytes() == before


def test_another_picture_of_that_name(saved: Path, photos: Path) -> None:
    Image.new("RGB", (20, 10)).save(photos / "a.jpg")
    outcomes = list(read_run(saved).finalize(OTHER, photos))
    assert "a.jpg is 10 x 20, its maps are of 64 x 96" in outcomes[0].error


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_broken_file_of_maps_is_told_and_the_others_are_done(saved: Path, photos: Path, damage: bytes) -> None:
    (saved / "cams" / "b.npz").write_bytes(damage)
    outcomes = list(read_run(saved).finalize(OTHER, photos))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok"]
    assert "b.npz has changed since the run wrote it; start the run again" in outcomes[1].error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_ids": np.array([17, 1])}, r"keys are not all in 0\.\.15"),
        ({"class_ids": np.array([1])}, "do not fit together"),
        ({"patch_cams": np.full((2, 3, 4), 2, np.float32)}, r"patch_cams not in \[0, 1\]"),
        ({"patch_cams": np.full((2, 3, 4), np.nan, np.float32)}, r"patch_cams not in \[0, 1\]"),
        ({"patch_cams": np.zeros((2, 3, 4))}, "do not fit together"),
        ({"patch_cams": np.zeros((2, 0, 4), np.float32)}, "do not fit together"),
        ({"size": (0, 5)}, "do not fit together"),
    ],
)
def test_maps_that_are_none(tmp_path: Path, change: dict[str, object], message: str) -> None:
    maps = PatchCams(np.array([1, 2]), np.zeros((2, 3, 4), np.float32), (30, 40))
    write_cams(tmp_path / "a.npz", maps._replace(**change), None)
    with pytest.raises(ValueError, match=message):
        read_cams(tmp_path / "a.npz", 16)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": {}}', "{", '{"note": NaN}'])
def test_a_record_of_no_run(saved: Path, text: str) -> None:
    (saved / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is no record of a run"):
        read_run(saved)


# --- the command


def test_the_command(
    saved: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    before = files(saved)
    assert main(["finalize", str(saved), "--source", str(photos), "--ignore", "none"]) == 0
    assert capsys.readouterr().out.startswith(f"3 of 3 masks decided again in {saved}; ")
    assert (
        Config.from_dict(json.loads((saved / "run.json").read_text())["settings"]["config"]).effective_ignore_below
        is None
    )
    assert files(saved)["confidence/a.png"] == before["confidence/a.png"]
    (saved / "cams" / "b.npz").unlink()
    assert main(["finalize", str(saved), "--refine", "none"]) == 0
    assert "1 mask(s) without saved maps stay as they are, 'b' the first" in capsys.readouterr().err
    assert main(["finalize", str(saved), "--refine", "crf"]) == 2
    assert "need the images" in capsys.readouterr().err
    assert main(["finalize", str(photos)]) == 2
    assert "has no run.json" in capsys.readouterr().err
    before = files(saved)
    below = ("--ignore", "confidence", "--ignore-below", "0.5")
    for said in ("2 of 2 masks decided again in", "0 of 2 masks decided again in"):
        assert main(["finalize", str(saved), "--refine", "none", *below, "--out", "other"]) == 0
        assert capsys.readouterr().out.startswith(said)
    assert files(saved) == before and set(masks(Path("other"))) >= {"a.png", "sub/c.png"}


def test_the_command_finds_the_images_of_the_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert main(["generate", "photos", "--labels", "cat,tree", "--out", "m", "--save-cams", "--save-confidence"]) == 0
    before = files(Path("m"))
    assert main(["finalize", "m"]) == 0
    assert files(Path("m")) == before
    with np.load("m/cams/a.npz", allow_pickle=False) as file:
        assert "attn_highres" in file
    assert main(["generate", "photos", "--labels", "cat,tree", "--out", "m", "--save-patch-cams", "--overwrite"]) == 0
    with np.load("m/cams/a.npz", allow_pickle=False) as file:
        assert "attn_highres" not in file


def test_a_stopped_finalize_says_that_masks_are_mixed(saved: Path, photos: Path) -> None:
    outcomes = read_run(saved).finalize(replace(clipes.config.SCENES, refine=None), photos)
    next(outcomes)
    outcomes.close()
    record = json.loads((saved / "run.json").read_text())
    assert "run it again" in record["mixed"] and Config.from_dict(record["settings"]["config"]) == clipes.config.SCENES
    list(read_run(saved).finalize(clipes.config.SCENES, photos))
    assert "mixed" not in json.loads((saved / "run.json").read_text())


def test_scores_that_are_not_finite_make_no_mask(saved: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(saved)
    monkeypatch.setitem(REFINERS, CrfConfig, lambda images, scores, config: [s * np.nan for s in scores])
    outcomes = list(read_run(saved).finalize(OTHER, photos))
    assert [outcome.status for outcome in outcomes] == ["failed", "failed", "ok"]  # the last has no label
    assert "a score is not finite" in outcomes[0].error
    assert files(saved)["a.png"] == before["a.png"]


def test_images_that_failed_before_keep_their_reasons(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Status and export count them after finalize as they did before."""
    monkeypatch.chdir(photos.parent)
    Path("photos/broken.png").write_bytes(b"no picture")
    flags = ["--labels", "cat,tree", "--out", "m", "--save-patch-cams", "--max-failure-rate", "0.5"]
    assert main(["generate", "photos", *flags]) == 0
    with clipes.open_run("m") as run:
        before = run.status()
    for ignore_below in ("0.5", "0.6"):
        assert main(["finalize", "m", "--refine", "none", "--ignore-below", ignore_below]) == 0
        with clipes.open_run("m") as run:
            status = run.status()
        assert (status.total, status.ok, status.failed, status.left) == (before.total, before.ok, 1, 0)
        assert status.reasons == before.reasons and status.reasons[0].first == "broken"
    assert export("m", "voc", "out").without_mask == 1
