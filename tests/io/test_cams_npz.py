"""Files of maps: what their headers say is checked before memory is taken."""

from __future__ import annotations

import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.io.cams_npz import PatchCams, read_cams, write_cams
from clipes.io.images import MAX_PIXELS
from clipes.io.masks import read_png

MAPS = PatchCams(np.array([2, 5]), np.full((2, 3, 4), 0.5, np.float32), (30, 40))


def test_maps_come_back(tmp_path: Path) -> None:
    write_cams(tmp_path / "a.npz", MAPS, None)
    found = read_cams(tmp_path / "a.npz", 5)
    assert found.class_ids.tolist() == [2, 5] and found.size == (30, 40)
    np.testing.assert_array_equal(found.patch_cams, MAPS.patch_cams)


@pytest.mark.parametrize("name", ["patch_cams", "keys", "size"])
def test_an_array_that_is_too_large_takes_no_memory(tmp_path: Path, name: str) -> None:
    """A file of some kilobytes whose array would have 6 GB."""
    arrays = {"keys": MAPS.class_ids - 1, "patch_cams": MAPS.patch_cams, "size": np.array(MAPS.size)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, array in arrays.items():
            with archive.open(f"{member}.npy", "w") as file:
                if member != name:
                    np.lib.format.write_array(file, array)
                else:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (2, 25000, 32000)}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(bytes(2**22))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"{name} is 2 x 25000 x 32000, too large for maps"):
        read_cams(tmp_path / "a.npz", 5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kilobytes


def test_a_mask_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("P", (80, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr("clipes.io.masks.MAX_PIXELS", 3999)
    with pytest.raises(ValueError, match=r"a\.png: 50 x 80 pixels, more than the 3999 of a picture"):
        read_png(tmp_path / "a.png", ("P",), "")
    assert MAX_PIXELS > 10**8
