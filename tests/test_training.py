"""clipes.datasets.PseudoMaskDataset: the masks of a run with the images that they were made of, and nothing else."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from generating import CommandLine
from PIL import Image
from torch.utils.data import DataLoader

from clipes.datasets import PseudoMaskDataset
from clipes.io.images import open_image
from clipes.scenes import draw_scenes


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pictures of every kind that a run takes care of, and files beside them that are none."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    pictures = [Image.fromarray(scene.image) for scene in draw_scenes(6, 11, (48, 64))]
    turned = Image.Exif()
    turned[0x0112] = 6  # stored lying: upright it is 64 rows x 48 columns
    pictures[0].save(folder / "exif.jpg", exif=turned)
    half = Image.Exif()
    half[0x0112] = 3
    pictures[1].save(folder / "half.png", exif=half)
    pictures[2].convert("L").save(folder / "sub/grey.png")
    pictures[3].convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.v2.PNG")
    Image.fromarray(np.asarray(pictures[4].convert("L")).astype(np.uint16) * 257).save(folder / "deep.tif")
    clear = pictures[5].copy()
    clear.putalpha(128)
    clear.save(folder / "clear.webp", lossless=True)
    for name in ("exif.json", "exif.xml", "sub/grey.txt", "half.npy", ".half.png"):
        (folder / name).write_text("not a picture")
    return folder


IDS = ["clear", "deep", "exif", "half", "palette.v2", "sub/grey"]


@pytest.mark.parametrize("form", ["png", "tar"])
def test_images_masks_and_confidences_are_those_of_the_run(
    source: Path, tmp_path: Path, form: str, cli: CommandLine
) -> None:
    out = tmp_path / "masks"
    flags = ["--labels", "cat,tree", "--out", out, "--save-confidence", "--save-cams", "--out-format", form]
    assert cli("generate", source, *flags)[0] == 0
    if form == "png":
        mask = np.array(Image.open(out / "exif.png"))
        mask[0, :5] = 255
        image = Image.fromarray(mask)
        image.putpalette([*range(256)] * 3)
        image.save(out / "exif.png")  # edited by hand, some pixels undecided
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = PseudoMaskDataset(out)
    assert [pairs.id(index) for index in range(len(pairs))] == IDS
    assert pairs.ignore_index == 255 and pairs.has_confidence and pairs.labels(0) == ("cat", "tree")
    for index, name in enumerate(IDS):
        image, mask, confidence = pairs[index]
        suffix = {"clear": ".webp", "deep": ".tif", "exif": ".jpg", "palette.v2": ".PNG"}.get(name, ".png")
        upright = np.asarray(open_image(source / f"{name}{suffix}"))
        assert image.dtype == confidence.dtype == torch.float32 and mask.dtype == torch.int64
        assert torch.equal((image * 255).round().byte(), torch.from_numpy(upright.copy()).permute(2, 0, 1))
        assert mask.shape == confidence.shape == image.shape[1:]
        assert 0 <= confidence.min() < confidence.max() <= 1
        if form == "png":
            assert np.array_equal(mask, np.asarray(Image.open(out / f"{name}.png")))
    assert pairs[2][0].shape == (3, 64, 48)
    assert form == "tar" or pairs[2][1][0, :5].tolist() == [255] * 5
    assert torch.equal(pairs[-1][1], pairs[len(IDS) - 1][1])
    with pytest.raises(IndexError):
        pairs[len(IDS)]


def test_one_tar_of_a_run(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    out = tmp_path / "masks"
    for shard in ("0/2", "1/2"):
        flags = ["--labels", "cat", "--out", out, "--out-format", "tar", "--shard", shard]
        assert cli("generate", source, *flags)[0] == 0
    tars = sorted(out.glob("masks-*.tar"))
    parts = [PseudoMaskDataset(tar) for tar in tars]
    assert len(tars) == 2 and sum(map(len, parts)) == len(PseudoMaskDataset(out)) == len(IDS)
    assert sorted(part.id(index) for part in parts for index in range(len(part))) == IDS
    (tmp_path / "other.tar").touch()
    with pytest.raises(ValueError, match=r"other\.tar: neither the folder of a run nor one of its masks-\*\.tar files"):
        PseudoMaskDataset(tmp_path / "other.tar")


def test_images_in_a_tar(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(source / "exif.jpg", "exif.jpg")
    out = tmp_path / "masks"
    assert cli("generate", tmp_path / "shard.tar", "--labels", "cat", "--out", out)[0] == 0
    ((image, mask, confidence),) = PseudoMaskDataset(out)
    assert image.shape == (3, 64, 48) and mask.shape == (64, 48) and confidence.unique().tolist() == [1]


def test_several_sources(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    """And two images of one stem, of which the labels file says which is meant."""
    Image.new("RGB", (9, 7)).save(source / "half.jpg")
    (tmp_path / "l.csv").write_text("image,labels\nhalf.png,cat\nsub/grey,tree\n")
    out = tmp_path / "masks"
    given = [source / "half.jpg", source / "half.png", source / "sub"]
    code, _, error = cli("generate", *given, "--labels", tmp_path / "l.csv", "--out", out)
    assert code == 0, error
    for pairs in (PseudoMaskDataset(out), PseudoMaskDataset(out, given)):
        assert [pairs.id(index) for index in range(len(pairs))] == ["half", "sub/grey"]
        assert pairs[0][0].shape == (3, 48, 64)


def test_more_than_254_classes(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(f"thing{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(300)))
    out = tmp_path / "masks"
    flags = ["--model", "tiny", "--classes", classes, "--labels", "thinglh,thingln", "--out", out]
    code, _, error = cli("generate", source / "half.png", *flags)
    assert code == 0, error
    pairs = PseudoMaskDataset(out)
    mask = np.asarray(Image.open(out / "half.png")).astype(np.int64)
    mask[:3] = 65535
    Image.fromarray(mask.astype(np.uint16)).save(out / "half.png")
    assert pairs.ignore_index == 65535 and len(pairs.class_names) == 300
    assert np.array_equal(pairs[0][1], mask) and (pairs[0][1][:3] == 65535).all()
    assert set(pairs[0][1].unique().tolist()) <= {0, 294, 300, 65535}


def test_workers_transforms_and_pickles(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    out = tmp_path / "masks"
    assert cli("generate", source, "--labels", "cat,tree", "--out", out)[0] == 0
    pairs = pickle.loads(pickle.dumps(PseudoMaskDataset(out, transform=_corner)))
    batches = list(DataLoader(pairs, batch_size=4, num_workers=2))
    assert [tuple(part.shape) for part in batches[0]] == [(4, 3, 32, 32), (4, 32, 32), (4, 32, 32)]
    assert sum(len(batch[0]) for batch in batches) == len(IDS)
    assert torch.equal(batches[0][1][2], PseudoMaskDataset(out)[2][1][:32, :32])


def _corner(image: torch.Tensor, mask: torch.Tensor, confidence: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return image[:, :32, :32], mask[:32, :32], confidence[:32, :32]


def test_moved_missing_and_changed_images(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    out = tmp_path / "masks"
    (source / "broken.jpg").write_bytes(b"no picture")
    assert cli("generate", source, "--labels", "cat", "--out", out)[0] == 3
    with pytest.warns(UserWarning, match=r"1 of 7 images have no mask and are left out; `clipes status .*` says why"):
        assert len(PseudoMaskDataset(out)) == len(IDS)
    moved = tmp_path / "moved"
    shutil.move(source, moved)
    with pytest.raises(FileNotFoundError, match=r"photos.*\(--source\)"):
        PseudoMaskDataset(out)
    with pytest.warns(UserWarning, match="no mask"):
        pairs = PseudoMaskDataset(out, moved)
    assert pairs[0][0].shape[1:] == pairs[0][1].shape
    Image.new("RGB", (9, 7)).save(moved / "half.png")
    with pytest.raises(ValueError, match=r"half\.png: 7 x 9 pixels .* but .*masks/half\.png has 48 x 64"):
        pairs[3]
    (moved / "exif.jpg").unlink()
    with pytest.raises(ValueError, match=r"moved has no image 'exif'; give the source of the run's images \(source=\)"):
        PseudoMaskDataset(out, moved)


def test_no_run_and_no_masks(source: Path, tmp_path: Path, cli: CommandLine) -> None:
    with pytest.raises(FileNotFoundError):
        PseudoMaskDataset(tmp_path)
    out = tmp_path / "masks"
    (source / "exif.jpg").write_bytes(b"")
    assert cli("generate", source / "exif.jpg", "--labels", "cat", "--out", out)[0] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"no image has a mask; `clipes status .*masks` says why"):
            PseudoMaskDataset(out)
    assert json.loads((out / "run.json").read_text())
