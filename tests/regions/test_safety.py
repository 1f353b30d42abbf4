"""Whatever the files of regions hold: an outcome or a reason, never another picture's regions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipes
from clipes.config import GivenRegionsConfig, ScopeConfig
from clipes.regions.vote import vote

SIZE = (64, 96)
ROWS, COLUMNS = np.indices(SIZE)
NESTED = np.stack([np.maximum(abs(ROWS - 32), abs(COLUMNS - 48)) < side for side in (30, 20, 10, 1)])
CHOSEN = {  # of the pictures' names: what their file of regions holds
    "one": np.ones(SIZE, np.uint16),
    "none": np.zeros(SIZE, np.uint16),
    "pixels": (ROWS * SIZE[1] + COLUMNS + 1).astype(np.uint16),
    "most": np.arange(1, 65536, dtype=np.uint16).reshape(255, 257),
    "nested": NESTED,
    "far": np.where(COLUMNS < 48, 65535, 1).astype(np.uint16),
    "wide": (np.arange(500, dtype=np.uint16) // 100)[None],
    "tall": (np.arange(500, dtype=np.uint16) // 7)[:, None],
}
COUNTS = {"one": 1, "none": 0, "pixels": 64 * 96, "most": 65535, "nested": 4, "far": 2, "wide": 4, "tall": 71}
BROKEN = {"empty": b"", "text": b"regions", "cut": None}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Pictures in ``photos``, for each a file in ``regions``; of the last one it is of another size."""
    labels = ["image,labels"]
    for seed, name in enumerate((*CHOSEN, *BROKEN, "other")):
        regions = CHOSEN.get(name, CHOSEN["pixels"])
        size = regions.shape[-2:]
        scene = clipes.scenes.draw_scene(seed, tuple(max(side, 32) for side in size))
        picture = tmp_path / "photos" / f"{name}.png"
        picture.parent.mkdir(exist_ok=True)
        Image.fromarray(scene.image[: size[0], : size[1]]).save(picture)
        labels.append(f"{name}.png,{';'.join(scene.labels or ('cat',))}")
        place = tmp_path / "regions" / name
        place.parent.mkdir(exist_ok=True)
        if regions.dtype == np.bool_:
            np.savez_compressed(f"{place}.npz", masks=regions)
            continue
        Image.fromarray(regions[1:] if name == "other" else regions).save(f"{place}.png")
        if name in BROKEN:
            file = place.with_suffix(".png")
            file.write_bytes(BROKEN[name] if BROKEN[name] is not None else file.read_bytes()[:-100])
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    return tmp_path


@pytest.mark.parametrize("scope", [None, ScopeConfig(), ScopeConfig(join=0.2)], ids=["vote", "scope", "joined scope"])
def test_an_outcome_or_a_reason(scope, folders, tiny):
    config = replace(tiny.config, refine=None, regions=GivenRegionsConfig(), scope=scope)
    generator = clipes.MaskGenerator(tiny.clip, tiny.vocabulary, config)
    given = {"regions": folders / "regions", "generator": generator}
    status = clipes.run(folders / "photos", folders / "masks", folders / "labels.csv", **given)
    assert (status.ok, status.failed) == (len(CHOSEN), len(BROKEN) + 1)
    with clipes.open_run(folders / "masks") as run:
        reasons = {row.id: row.reason for row in run.rows("failed")}
        assert set(reasons) == {*BROKEN, "other"} and "63 x 96 pixels" in reasons["other"]
        assert all(f"{name}.png" in reasons[name] for name in BROKEN)
        for row in run.rows("ok"):
            regions = CHOSEN[row.id]
            masks = list(regions) if regions.dtype == np.bool_ else regions
            result = generator(folders / "photos" / f"{row.id}.png", row.labels, masks)
            np.testing.assert_array_equal(run.mask(row), result.mask)
            assert result.regions.max() == COUNTS[row.id] and result.regions.shape == result.size
            before = result.decide(replace(config, vote=None))
            np.testing.assert_array_equal(result.mask, vote(before.mask, result.regions, 255, config.vote))
