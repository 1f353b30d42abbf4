"""clipes.evaluation.judge: what other thresholds and background powers would have given."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
from PIL import Image

from clipes.evaluation import Evaluation, evaluate
from clipes.evaluation.judge import POWERS, SWEEPS, THRESHOLDS
from clipes.evaluation.result import SWEEP_NOTE
from clipes.io.masks import write_mask

NAMES = ("cat", "dog", "bus")
SIZE = (10, 13)


def sweep(masks: Path, truth: Path, *names: tuple[str, ...], **settings: int) -> tuple[Evaluation, ...]:
    return evaluate(masks, truth, *names, judges=SWEEPS, **settings).sweeps


def _ids(seed: int, values: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), SIZE)


def _confidence(seed: int) -> np.ndarray:
    """Random, with rows of three that are a threshold and a whole number of 255ths."""
    confidence = np.random.default_rng(seed).random(SIZE)
    confidence[:3] = np.array([[0], [0.6], [0.8]])
    return confidence


def _maps(seed: int) -> np.ndarray:
    """(2, 3, 4) in [0, 1], each with a 0 and a 1, as min-max scaling leaves them."""
    maps = np.random.default_rng(seed).random((2, 3, 4)).astype(np.float32)
    maps -= maps.min((1, 2), keepdims=True)
    return maps / maps.max((1, 2), keepdims=True)


def _save_maps(path: Path, **changes: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {"keys": np.array([2, 0]), "patch_cams": _maps(0), "size": np.array(SIZE)} | changes
    np.savez(path, **{key: value for key, value in held.items() if value is not None})


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path]:
    """Masks a.png and sub/b.png with their confidence and maps of the classes 3 and 1, and their truth."""
    for seed, name in enumerate(("a", "sub/b")):
        write_mask(tmp_path / "masks" / f"{name}.png", _ids(seed, (0, 1, 2, 3)), 3)
        write_mask(tmp_path / "truth" / f"{name}.png", _ids(seed + 5, (0, 1, 2, 3, 255)), 3)
        grey = tmp_path / "masks" / "confidence" / f"{name}.png"
        grey.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(255 * _confidence(seed)).astype(np.uint8)).save(grey)
        _save_maps(tmp_path / "masks" / "cams" / f"{name}.npz", patch_cams=_maps(seed))
    (tmp_path / "masks" / "classes.json").write_text('{"0": "background", "1": "cat", "2": "dog", "3": "bus"}')
    return tmp_path / "masks", tmp_path / "truth"


def _figures(masks: list[np.ndarray]) -> list[float]:
    pairs = [(mask, _ids(seed + 5, (0, 1, 2, 3, 255))) for seed, mask in enumerate(masks)]
    truth, mask, both, ignored = np.sum([reference.class_counts(*pair, 3, 255) for pair in pairs], axis=0).tolist()
    either = [t + m - b for t, m, b in zip(truth, mask, both, strict=True)]
    decided = [whole - out for whole, out in zip(either, ignored, strict=True)]
    means = [reference.mean_of_ratios(both, union) for union in (either, decided)]
    return [*means, sum(ignored) / sum(truth)]


def test_thresholds_equal_loops(run: tuple[Path, Path]) -> None:
    found = next(one for one in sweep(*run) if one.setting == "ignore_below")
    assert [row["ignore_below"] for row in found.sweep_table()] == list(THRESHOLDS) and found.images == 2
    for row in found.sweep_table():
        masks = []
        for seed in range(2):
            mask, confidence = _ids(seed, (0, 1, 2, 3)), _confidence(seed)
            for pixel in np.ndindex(SIZE):
                if round(255 * confidence[pixel]) / 255 < row["ignore_below"]:
                    mask[pixel] = 255
            masks.append(mask)
        expected = _figures(masks)
        assert [row["miou"], row["miou_decided"], row["ignored_share"]] == pytest.approx(expected, nan_ok=True)
    assert found.sweep_table()[0]["miou"] == pytest.approx(evaluate(*run).miou)
    shares = [row["ignored_share"] for row in found.sweep_table()]
    assert shares == sorted(set(shares)) and shares[0] == 0


def test_powers_equal_loops(run: tuple[Path, Path]) -> None:
    found = next(one for one in sweep(*run) if one.setting == "background_power")
    assert [row["background_power"] for row in found.sweep_table()] == list(POWERS) and found.images == 2
    for row in found.sweep_table():
        masks = []
        for seed in range(2):
            cams = np.stack([reference.upsample(cam.astype(np.float64), SIZE) for cam in _maps(seed)])
            masks.append(reference.decision(reference.scores(cams, row["background_power"]), [3, 1], None))
        assert row["miou"] == pytest.approx(_figures(masks)[0])
        assert row["ignored_share"] == 0
    assert len({row["miou"] for row in found.sweep_table()}) > 3


def test_a_map_of_ones_leaves_no_background(run: tuple[Path, Path]) -> None:
    """Interpolation of ones rounds to more than one, of which no power but a whole one is a number."""
    masks, truth = run
    for name in ("a", "sub/b"):
        _save_maps(masks / "cams" / f"{name}.npz", keys=np.array([1]), patch_cams=np.ones((1, 2, 2), np.float32))
    found = sweep(masks, truth)[1]
    for counts in found.variants:
        assert counts.mask[[0, 1, 3]].sum() == 0 < counts.mask[2]


def test_an_image_without_labels_is_all_background(run: tuple[Path, Path]) -> None:
    masks, truth = run
    for name in ("a", "sub/b"):
        empty = {"keys": np.zeros(0, np.int64), "patch_cams": np.zeros((0, 3, 4), np.float32)}
        _save_maps(masks / "cams" / f"{name}.npz", **empty)
    found = sweep(masks, truth)[1]
    assert all(counts.mask[1:].sum() == 0 < counts.mask[0] for counts in found.variants)


def test_pixels_that_the_masks_ignore_stay_ignored(run: tuple[Path, Path]) -> None:
    masks, truth = run
    ids = _ids(0, (0, 1, 2, 255))
    write_mask(masks / "a.png", ids, 3)
    found = sweep(masks, truth)[0]
    assert found.sweep_table()[0]["ignored_share"] == pytest.approx(evaluate(masks, truth).ignored_share) != 0


def test_only_what_was_saved_is_swept(run: tuple[Path, Path]) -> None:
    masks, truth = run
    (masks / "confidence" / "a.png").unlink()
    assert [(one.setting, one.images) for one in sweep(masks, truth)] == [("ignore_below", 1), ("background_power", 2)]
    (masks / "confidence" / "sub" / "b.png").unlink()
    assert [one.setting for one in sweep(masks, truth)] == ["background_power"]
    for name in ("a", "sub/b"):
        (masks / "cams" / f"{name}.npz").unlink()
    with pytest.raises(ValueError, match="run `clipes generate` with --save-confidence or --save-cams"):
        sweep(masks, truth)


def test_one_file_has_nothing_to_sweep_over(run: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="holds no confidence and no maps"):
        sweep(run[0] / "a.png", run[1] / "a.png")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keys": None}, "no maps of `clipes generate --save-cams`: .*keys"),
        ({"size": np.array([[None]])}, "no maps of .*allow_pickle"),
        ({"keys": np.array([0])}, "do not fit together"),
        ({"keys": np.array([0.0, 1.0])}, "do not fit together"),
        ({"patch_cams": np.zeros((2, 3, 4))}, "do not fit together"),
        ({"patch_cams": np.zeros((2, 0, 4), np.float32)}, "do not fit together"),
        ({"keys": np.array([0, 3])}, r"keys are not all in 0\.\.2, or patch_cams not in \[0, 1\]"),
        ({"keys": np.array([-1, 0])}, r"keys are not all in 0\.\.2"),
        ({"patch_cams": np.full((2, 3, 4), np.nan, np.float32)}, r"patch_cams not in \[0, 1\]"),
        ({"patch_cams": np.full((2, 3, 4), 1.5, np.float32)}, r"patch_cams not in \[0, 1\]"),
    ],
)
def test_broken_maps_are_reported(changes: dict[str, object], reason: str, run: tuple[Path, Path]) -> None:
    masks, truth = run
    _save_maps(masks / "cams" / "a.npz", **changes)
    found = sweep(masks, truth)[1]
    assert found.images == 1 and [problem.name for problem in found.failed] == ["a.png"]
    assert re.search(f"cams/a.npz: (.*){reason}", found.failed[0].reason)


def test_files_that_are_no_maps_or_of_another_size_are_reported(run: tuple[Path, Path]) -> None:
    masks, truth = run
    (masks / "cams" / "a.npz").write_bytes(b"PK nothing")
    _save_maps(masks / "cams" / "sub" / "b.npz", size=np.array([10**4, 10**4]))
    Image.new("RGB", SIZE[::-1]).save(masks / "confidence" / "a.png")
    Image.new("L", SIZE).save(masks / "confidence" / "sub" / "b.png")
    grey, maps = sweep(masks, truth)
    assert [problem.name for problem in (*grey.failed, *maps.failed)] == ["a.png", "a.png"]
    assert "mode RGB is not 8-bit grey" in grey.failed[0].reason
    assert [problem.name for problem in (*grey.mis_sized, *maps.mis_sized)] == ["sub/b.png", "sub/b.png"]
    assert "cams/sub/b.npz: 10000 x 10000 pixels (height x width), but" in maps.mis_sized[0].reason
    assert grey.images == maps.images == 0
    assert {row["miou"] for row in maps.sweep_table()} == {None}


def test_the_result_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    for index in range(34):
        write_mask(tmp_path / "masks" / f"{index}.png", _ids(index, (0, 1, 2, 3)), 3)
        write_mask(tmp_path / "truth" / f"{index}.png", _ids(index + 99, (0, 1, 2, 3)), 3)
        _save_maps(tmp_path / "masks" / "cams" / f"{index}.npz", patch_cams=_maps(index))
    one, two = (sweep(tmp_path / "masks", tmp_path / "truth", NAMES, workers=count) for count in (1, 2))
    assert [found.as_dict() for found in one] == [found.as_dict() for found in two]
    assert one[0].images == 34


def test_json_holds_everything() -> None:
    counts = np.array([[[4, 4], [4, 0], [2, 0], [1, 0], [0, 0], [0, 0]]])
    sweep = Evaluation(("cat",), counts, 1, setting="ignore_below", values=(0.5,))
    found = sweep.as_dict()
    assert json.loads(json.dumps(found)) == found
    figures = {"miou": pytest.approx(1 / 6), "miou_decided": pytest.approx(0.2), "ignored_share": 1 / 8}
    row = {"ignore_below": 0.5, **figures}
    assert found == {"images": 1, "rows": [row], "mis_sized": [], "failed": []}
    whole = replace(sweep, setting="", values=(), sweeps=(sweep,)).as_dict()
    assert whole["sweep"] == {"note": SWEEP_NOTE, "ignore_below": found} and "upper bound, not a result" in SWEEP_NOTE
