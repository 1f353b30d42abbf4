"""`clipes tag --tags bank`: patches collected in one pass, a classifier fitted once, scores in another."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generating import CliRun, CommandLine
from PIL import Image

import clipes
from clipes.cams.compute import encode_images
from clipes.config import SCENES, BankTagsConfig
from clipes.generator import MaskGenerator
from clipes.io.patches_npz import PatchArrays
from clipes.runs import bank as bank_runs
from clipes.runs.bank import fit_bank_to
from clipes.runs.plan import Placement
from clipes.runs.shards import Shard
from clipes.store.store import Store
from clipes.tags.bank import fit_bank, unit_patches
from clipes.tags.bank_file import PatchBank, read_bank, write_bank
from clipes.tags.bank_patches import Sieve, merged_patches
from clipes.tags.views import one_view

COUNT = 6
METHOD = BankTagsConfig("bank.npz", patches=9, temperature=0.05)
FLAGS = ("--tags", "bank", "--bank-patches", "9", "--bank-temperature", "0.05")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bank_runs, "_IMAGES", 2)
    os.mkdir("photos")
    images = [Image.fromarray(clipes.scenes.draw_scene(seed=200 + index).image) for index in range(COUNT)]
    for index, image in enumerate(images):
        image.save(f"photos/{index}.png")
    return images


Tag = Callable[..., CliRun]


@pytest.fixture
def tag(cli: CommandLine) -> Tag:
    def run(*arguments: object, out: str = "tags.csv", file: str = "bank.npz") -> CliRun:
        own = ("--out", out, "--bank-file", file, "--model", "tiny", "--device", "cpu", "--workers", "0")
        return cli("tag", "photos", *own, *FLAGS, *arguments)

    return run


def bank_generator(method: BankTagsConfig = METHOD) -> MaskGenerator:
    return clipes.load("tiny", device="cpu", config=replace(SCENES, tags=method))


def test_the_bank_is_that_of_all_patches(photos: list[Image.Image], tag: Tag) -> None:
    ended = tag()
    assert ended.code == 0, ended.err
    assert f"{COUNT} of {COUNT} looked at for the bank, in bank.npz.patches" in ended.out
    generator = bank_generator()
    vision, text = generator.clip.vision, generator._text_features[: len(generator.class_names)]
    patches: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for members, encoded in encode_images(vision, photos, one_view(generator.config), [METHOD]):
            patches |= zip(members, unit_patches(vision, encoded, METHOD), strict=True)
        last = fit_bank(torch.cat([patches[index] for index in range(COUNT)]), text, METHOD)[1]
    found = read_bank("bank.npz")
    assert found.images == COUNT and int(found.patches.sum()) == int((last.kept >= 0).sum())
    torch.testing.assert_close(found.weight, last.weight, rtol=1e-4, atol=1e-4 * float(last.weight.abs().max()))
    torch.testing.assert_close(found.bias, last.bias, rtol=1e-4, atol=1e-4 * float(last.bias.abs().max()))
    assert f"bank fitted to {int(found.patches.sum())} patches of {COUNT} images: bank.npz" in ended.out
    with Store.open("tags.csv.scores") as store:
        scores = generator.tag(photos[4]).scores
        assert store.latest.get("4").scores == scores
    assert "bank fitted" not in tag().out


def test_stopped_and_gone_on_with_it_is_the_same(
    photos: list[Image.Image], tag: Tag, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tag().code == 0
    made, judged = [], clipes.tags.images.judged_patches

    def killed(*given: object) -> list[PatchArrays]:
        made.append(1)
        if len(made) == 4:
            raise OSError(28, "No space left on device")
        return judged(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("clipes.tags.images.judged_patches", killed)
    assert tag(file="again.npz", out="again.csv").code == 4
    assert not Path("again.npz").exists() and list(Path("again.npz.patches").glob("*.tar"))
    made[:] = [1] * 4
    assert tag(file="again.npz", out="again.csv").code == 0
    assert 0 < len(made) - 4 < COUNT  # those before the end were looked at once
    assert Path("again.npz").read_bytes() == Path("bank.npz").read_bytes()
    assert Path("again.csv").read_bytes() == Path("tags.csv").read_bytes()


def test_shards_fit_one_bank(photos: list[Image.Image], tag: Tag) -> None:
    assert tag().code == 0
    whole = Path("bank.npz").read_bytes()
    first = tag("--shard", "0/2", file="two.npz", out="two.csv")
    assert first.code == 0 and "images have not been looked at; when all have, the bank is fitted" in first.out
    assert not Path("two.npz").exists()
    last = tag("--shard", "1/2", file="two.npz", out="two.csv")
    assert last.code == 0 and "bank fitted to" in last.out
    assert Path("two.npz").read_bytes() == whole
    assert "bank fitted" not in tag("--shard", "0/2", file="two.npz", out="two.csv").out
    assert Path("two.csv").read_bytes() == Path("tags.csv").read_bytes()


def test_patches_that_are_lost_are_made_again(photos: list[Image.Image], tag: Tag) -> None:
    assert tag().code == 0
    assert tag("--shard", "0/2", file="two.npz", out="two.csv").code == 0
    next(Path("two.npz.patches").glob("*.tar")).unlink()
    refused = tag("--shard", "1/2", file="two.npz", out="two.csv")
    assert refused.code == 2 and "no such member; start the run again, which makes it" in refused.err
    assert tag("--shard", "0/2", file="two.npz", out="two.csv").code == 0
    assert Path("two.npz").read_bytes() == Path("bank.npz").read_bytes()


def test_other_settings_are_refused(photos: list[Image.Image], tag: Tag) -> None:
    assert tag("--shard", "0/2").code == 0
    refused = tag("--bank-patches", "8")
    assert refused.code == 2
    assert "bank.npz.patches is of other settings (config.tags.bank.patches: 9 → 8)" in refused.err, refused
    assert "give the same settings, another name (--bank-file), or remove that folder" in refused.err
    assert tag("--shard", "1/2").code == 0
    for flags, names in (
        (("--bank-temperature", "1"), "bank.temperature"),
        (("--square", "64"), "image.square"),
        (("--templates", "a {}."), "templates"),
    ):
        refused = tag(*flags, out="other.csv")
        assert refused.code == 2 and "bank.npz was fitted with other settings (" in refused.err, refused
        assert names in refused.err and "name another file with --bank-file, or remove this one" in refused.err
    assert tag("--bank-divisor", "400", out="other.csv").code == 0


def test_an_image_that_cannot_be_read(photos: list[Image.Image], tag: Tag) -> None:
    Path("photos/3.png").write_bytes(b"broken")
    assert tag().code == 3 and not Path("bank.npz").exists()
    assert tag("--max-failure-rate", "0.5").code == 0
    assert read_bank("bank.npz").images == COUNT - 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--bank-file", "bank.pt"), "a bank is an .npz file, not 'bank.pt'; end its name in .npz"),
        (("--bank-file", "photos/"), "a bank is an .npz file"),
        (("--bank-file", "labels.npz"), "labels.npz: no bank of patches"),
        (("--bank-file", "folder.npz"), "folder.npz is no file; give the bank another name with --bank-file"),
    ],
)
def test_no_bank(photos: list[Image.Image], tag: Tag, flags: tuple[str, str], message: str) -> None:
    np.savez("labels.npz", a=np.zeros(3))
    os.mkdir("folder.npz")
    refused = tag(*flags)
    assert refused.code == 2 and message in refused.err
    assert not Path("tags.csv").exists()


def test_a_method_without_its_file(photos: list[Image.Image], cli: CommandLine) -> None:
    refused = cli("tag", "photos", "--tags", "bank", "--out", "tags.csv", "--model", "tiny")
    assert refused.code == 2 and "needs the file of its classifier; name one: --bank-file bank.npz" in refused.err
    masks = cli("generate", "photos", "--labels", "tag", "--tags", "bank", "--out", "m")
    assert masks.code == 2 and "needs the file of its classifier; name one: --bank-file bank.npz" in masks.err
    masks = cli("generate", "photos", "--labels", "tag", "--tags", "bank", "--bank-file", "b.npz", "--out", "m")
    assert masks.code == 2
    assert "there is no bank 'b.npz'; `clipes tag --tags bank --bank-file` fits one to your pictures" in masks.err


def test_in_python(photos: list[Image.Image]) -> None:
    generator = bank_generator()
    parts = [fit_bank_to("photos", bank_generator(), placement=Placement(shard=Shard(index, 2))) for index in range(2)]
    assert parts[0] is None and parts[1] is not None and parts[1].images == COUNT
    again = fit_bank_to("photos", generator)
    assert again is not None and again.digest == parts[1].digest
    assert abs(sum(generator.tag(photos[0]).scores.values()) - 1) < 1e-4
    with pytest.raises(ValueError, match="the settings name no bank; load with config=replace"):
        fit_bank_to("photos", clipes.load("tiny", device="cpu"))
    Path("broken.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="none of the 1 pictures could be read, so that no bank can be fitted"):
        fit_bank_to("broken.jpg", bank_generator(replace(METHOD, file="other.npz")))


def test_what_is_kept_of_parts_is_kept_of_all() -> None:
    random = np.random.default_rng(0)
    entropies = random.choice(np.linspace(0, 1, 40, dtype=np.float32), 300)  # many equal ones
    every = PatchArrays(random.random((300, 4), np.float32), random.integers(3, size=300, dtype=np.int32), entropies)
    parts = [every.take(np.arange(start, start + 30)) for start in range(0, 300, 30)]
    kept = merged_patches([every], 20)
    assert np.bincount(kept.labels).tolist() == [20, 20, 20] and (np.diff(kept.labels) >= 0).all()
    for label in range(3):
        own = np.sort(entropies[every.labels == label])
        np.testing.assert_array_equal(kept.entropies[kept.labels == label], own[:20])
    sieves = [Sieve(3, 20), Sieve(3, 20)]
    sieved = [sieves[index % 2].admit(part) for index, part in enumerate(parts)]
    assert sum(len(part.labels) for part in sieved) < 300
    np.testing.assert_array_equal(merged_patches(sieved, 20).features, kept.features)


def test_a_bank_that_is_there_stays(tmp_path: Path) -> None:
    settings, patches = {"a": 1, "b": {"c": 2}}, np.ones(2, np.int64)
    one, other = (PatchBank(settings, torch.full((4, 2), w), torch.zeros(2), 3, patches) for w in (1.0, 2.0))
    write_bank(tmp_path / "bank.npz", one)
    write_bank(tmp_path / "bank.npz", other)
    assert read_bank(tmp_path / "bank.npz", settings).digest == one.digest != other.digest
    with pytest.raises(ValueError, match=r"fitted with other settings \(a, b.c\)"):
        read_bank(tmp_path / "bank.npz", {"a": 2, "b": {"c": 1}})
