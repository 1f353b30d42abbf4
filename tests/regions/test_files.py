"""Files of regions, and which image they belong to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.datasets import DatasetError, Sample
from clipes.datasets.sample import RegionPlace
from clipes.io.coco_rle import coco_rle
from clipes.regions import read_regions, region_ids
from clipes.regions.files import regions_checksum
from clipes.regions.folder import find_regions

IDS = np.array([[0, 300, 300], [2, 2, 0]], np.uint16)
MASKS = [IDS == 2, IDS == 300]
COMPACT = [[0, 2, 2], [1, 1, 0]]


def write_amg(folder: Path, masks) -> None:
    folder.mkdir(parents=True)
    for index, mask in enumerate(masks):
        Image.fromarray(np.uint8(255) * mask).save(folder / f"{index}.png")
    (folder / "metadata.csv").write_text("id,area\n" + "".join(f"{i},{m.sum()}\n" for i, m in enumerate(masks)))


def write(folder: Path, kind: str) -> Path:
    """The regions of ``IDS`` in a file of a kind."""
    path = folder / f"a.{kind.partition(' ')[0]}"
    rles = [coco_rle(mask) for mask in MASKS]
    match kind:
        case "png":
            Image.fromarray(IDS).save(path)
        case "png palette":
            Image.fromarray((IDS % 256).astype(np.uint8)).convert("P").save(path)
        case "npz":
            np.savez_compressed(path, regions=IDS, other=1)
        case "npz masks":
            np.savez_compressed(path, masks=np.stack(MASKS))
        case "json":
            path.write_text(json.dumps(rles))
        case "json annotations":
            path.write_text(json.dumps({"image": {}, "annotations": [{"segmentation": rle} for rle in rles]}))
        case _:
            path = folder / "a"
            write_amg(path, MASKS)
    return path


KINDS = ["png", "npz", "npz masks", "json", "json annotations", "amg"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same(kind, tmp_path):
    assert read_regions(write(tmp_path, kind), (2, 3)).tolist() == COMPACT


def test_a_palette_and_a_declared_value(tmp_path):
    path = write(tmp_path, "png palette")
    assert read_regions(path, (2, 3)).tolist() == region_ids(IDS % 256, (2, 3)).tolist()
    assert read_regions(path, (2, 3), unsegmented=2).tolist() == region_ids(IDS % 256, (2, 3), 2).tolist()


def test_polygons_are_drawn_as_pycocotools_draws_them(tmp_path):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    polygon = [[1.0, 1.0, 6.0, 1.0, 6.0, 5.0]]
    (tmp_path / "a.json").write_text(json.dumps([{"segmentation": polygon}]))
    want = coco.decode(coco.merge(coco.frPyObjects(polygon, 8, 9)))
    np.testing.assert_array_equal(read_regions(tmp_path / "a.json", (8, 9)), want)


def test_amg_numbers_of_two_digits_and_overlap(tmp_path):
    masks = [np.arange(12)[None] <= index for index in range(12)]
    write_amg(tmp_path / "a", masks)
    assert read_regions(tmp_path / "a", (1, 12)).tolist() == [list(range(1, 13))]


@pytest.mark.parametrize("kind", KINDS)
def test_another_size_is_refused(kind, tmp_path):
    with pytest.raises(ValueError, match=r"2 x 3 pixels \(height x width\), but the picture has 3 x 2"):
        read_regions(write(tmp_path, kind), (3, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [0, 20])
def test_a_truncated_file_is_refused_by_name(kind, cut, tmp_path):
    path = write(tmp_path, kind)
    file = path / "1.png" if kind == "amg" else path
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=file.name):
        read_regions(path, (2, 3))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1]", "no annotation"),
        ("a.json", '{"x": 1}', "not a list of COCO"),
        ("a.json", '[{"segmentation": 5}]', "no RLE"),
        ("a.tif", "", "regions are a file of .json, .npz, .png"),
        ("b.png", "", "no such file"),
    ],
)
def test_wrong_files(name, content, message, tmp_path):
    if name[0] == "a":
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_regions(tmp_path / name, (2, 3))


def test_wrong_pictures_and_archives(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", one=IDS, two=IDS)
    np.savez(tmp_path / "b.npz", regions=IDS.astype(object))
    with pytest.raises(ValueError, match="holds colours, not ids of regions"):
        read_regions(tmp_path / "a.png", (2, 3))
    with pytest.raises(ValueError, match="arrays one, two; call the one"):
        read_regions(tmp_path / "a.npz", (2, 3))
    with pytest.raises(ValueError, match=r"b\.npz"):
        read_regions(tmp_path / "b.npz", (2, 3))


def test_a_half_written_folder_of_amg(tmp_path):
    write_amg(tmp_path / "a", MASKS)
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1\.png: no such file"):
        read_regions(tmp_path / "a", (2, 3))
    (tmp_path / "a" / "metadata.csv").write_text("id\n../b\n")
    with pytest.raises(ValueError, match=r"the id '\.\./b' is no whole number"):
        read_regions(tmp_path / "a", (2, 3))
    (tmp_path / "a" / "metadata.csv").unlink()
    with pytest.raises(ValueError, match=r"no metadata\.csv, which amg\.py writes last"):
        read_regions(tmp_path / "a", (2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_checksum_changes_with_the_file(kind, tmp_path):
    path = write(tmp_path, kind)
    before = regions_checksum(RegionPlace(path))
    assert regions_checksum(RegionPlace(path)) == before
    file = path / "0.png" if kind == "amg" else path
    file.write_bytes(file.read_bytes() + b" ")
    assert regions_checksum(RegionPlace(path)) != before


def samples(*names: str) -> list[Sample]:
    return [Sample(name.rpartition(".")[0], Path("photos") / name, ()) for name in names]


def places(found, chosen) -> dict:
    return {sample.id: sample.regions.path.name for sample in found.added_to(chosen)}


def test_files_belong_to_images_as_labels_do(tmp_path):
    chosen = samples("a.jpg", "sub/a.jpg", "b.png", "000000000009.jpg", "c.jpg")
    for name in ("a.png", "sub/a.npz", "b.png.json", "9.png", "other.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_regions(chosen, tmp_path)
    assert (found.matched, found.missing, found.first_missing, found.unused) == (4, 1, "c", 1)
    expected = {"a": "a.png", "sub/a": "a.npz", "b": "b.png.json", "000000000009": "9.png", "c": "c.*"}
    assert places(found, chosen) == expected
    assert {sample.regions.path.parent.name for sample in found.added_to(chosen[1:2])} == {"sub"}
    with pytest.raises(ValueError, match=r"c\.\*: no such file"):
        read_regions(next(iter(found.added_to(chosen[4:]))).regions, (2, 3))


def test_folders_of_amg_and_their_masks_are_no_files_of_images(tmp_path):
    write_amg(tmp_path / "a", MASKS)
    write_amg(tmp_path / "sub" / "b", MASKS)
    chosen = samples("a.jpg", "sub/b.jpg", "0.png")
    found = find_regions(chosen, tmp_path)
    assert places(found, chosen) == {"a": "a", "sub/b": "b", "0": "0.*"}
    assert places(find_regions(chosen[:1], tmp_path / "a"), chosen[:1]) == {"a": "a"}


def test_a_json_of_many_images(tmp_path):
    rles = [coco_rle(mask) for mask in MASKS]
    annotations = [{"image_id": 4, "segmentation": rles[0]}, {"image_id": 5, "segmentation": rles[1]}]
    images = [{"id": 5, "file_name": "b.jpg"}, {"id": 4, "file_name": "sub/a.jpg"}, {"id": 6, "file_name": "empty.jpg"}]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    chosen = samples("sub/a.jpg", "b.jpg", "empty.jpg")
    a, b, empty = find_regions(chosen, file).added_to(chosen)
    assert read_regions(a.regions, (2, 3)).tolist() == MASKS[0].astype(int).tolist()
    assert read_regions(b.regions, (2, 3)).tolist() == MASKS[1].astype(int).tolist()
    assert not read_regions(empty.regions, (2, 3)).any()
    file.write_text(json.dumps(annotations))
    chosen = samples("COCO_val2014_000000000005.jpg")
    (five,) = find_regions(chosen, file).added_to(chosen)
    assert read_regions(five.regions, (2, 3)).tolist() == MASKS[1].astype(int).tolist()
    assert regions_checksum(five.regions) == regions_checksum(b.regions) != regions_checksum(a.regions)


def test_one_file_for_one_image(tmp_path):
    chosen = samples("a.jpg")
    for kind in ("png", "json"):
        assert places(find_regions(chosen, write(tmp_path, kind)), chosen) == {"a": f"a.{kind}"}


def test_refused_sources(tmp_path):
    chosen = samples("a.jpg", "b.jpg")
    with pytest.raises(FileNotFoundError, match="no such folder or file of regions"):
        find_regions(chosen, tmp_path / "no")
    with pytest.raises(DatasetError, match="of none of the images, such as 'a'; it has none at all"):
        find_regions(chosen, tmp_path)
    (tmp_path / "x.png").touch()
    with pytest.raises(DatasetError, match="of none of the images, such as 'a'; it has some of 'x'"):
        find_regions(chosen, tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "a.npz").touch()
    with pytest.raises(DatasetError, match=r"a\.npz and .*a\.png are both regions of one image"):
        find_regions(chosen, tmp_path)
    (tmp_path / "i.json").write_text('{"images": [{"id": 1}], "annotations": []}')
    with pytest.raises(DatasetError, match="image 0: no object with an 'id' and a 'file_name'"):
        find_regions(chosen, tmp_path / "i.json")
    (tmp_path / "i.json").write_text("{")
    with pytest.raises(DatasetError, match="broken JSON"):
        find_regions(chosen, tmp_path / "i.json")
