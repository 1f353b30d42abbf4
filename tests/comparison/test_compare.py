"""clipes compare: its figures against single masks of the generator, its page, what is refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from generating import CommandLine
from PIL import Image

from clipes.comparison import Comparison, compare
from clipes.comparison import masks as masks_module
from clipes.config import RECIPES, SCENES, Config, ImageConfig
from clipes.datasets import Sample
from clipes.device.inference import inference
from clipes.evaluation.metrics import boundary_counts, class_counts, class_iou, confusion_matrix, mean_iou
from clipes.generator import MaskGenerator
from clipes.io.masks import write_mask
from clipes.scenes import THINGS, draw_scenes

PRESETS = {
    "scenes": SCENES,
    "sclip-like": RECIPES["sclip-like"].config,
    "naclip-like": RECIPES["naclip-like"].config,
}
NAMES = "scenes,sclip-like,naclip-like"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn pictures with labels.csv and truth."""
    root = tmp_path_factory.mktemp("compare")
    (root / "images").mkdir()
    rows = ["image,labels"]
    for number, scene in enumerate(draw_scenes(12, 5_000_000, (40, 56))):
        Image.fromarray(scene.image).save(root / "images" / f"{number:02d}.png")
        write_mask(root / "truth" / f"{number:02d}.png", scene.mask, len(THINGS))
        rows.append(f"{number:02d}.png,{';'.join(scene.labels)}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def pictures(folder: Path) -> list[Sample]:
    lines = (folder / "labels.csv").read_text().splitlines()[1:]
    named = [(name, tuple(filter(None, labels.split(";")))) for name, labels in (line.split(",") for line in lines)]
    return [Sample(name[:-4], folder / "images" / name, labels) for name, labels in named]


@pytest.fixture(scope="module")
def comparison(folder: Path, pictures: list[Sample], tiny: MaskGenerator) -> Comparison:
    return compare(tiny, pictures, PRESETS, folder / "out", truth=folder / "truth", pictures=5)


def _truth(folder: Path, sample: Sample) -> np.ndarray:
    with Image.open(folder / "truth" / f"{sample.id}.png") as image:
        return np.asarray(image)


def test_figures_are_those_of_single_masks(
    comparison: Comparison, folder: Path, pictures: list[Sample], tiny: MaskGenerator
) -> None:
    assert comparison.images == 12 and not comparison.failed and comparison.encodings == 2
    generators = [MaskGenerator(tiny.clip, tiny.vocabulary, config) for config in PRESETS.values()]
    masks = [[generator(sample.image, sample.labels).mask for sample in pictures] for generator in generators]
    truths = [_truth(folder, sample) for sample in pictures]
    for index, row in enumerate(comparison.rows):
        counts = [class_counts(mask, truth, 16) for mask, truth in zip(masks[index], truths, strict=True)]
        total = type(counts[0])(*(sum(parts) for parts in zip(*counts, strict=True)))
        edges = sum(boundary_counts(mask, truth, 16) for mask, truth in zip(masks[index], truths, strict=True))
        both, either = (part[edges[1] > 0] for part in edges)
        flat = np.concatenate([mask.ravel() for mask in masks[index]])
        assert row.miou == pytest.approx(total.miou, abs=2e-3)  # rounding of a joint encoding may move a pixel
        assert row.boundary_iou == pytest.approx((both / either).mean(), abs=5e-3)
        assert row.ignored == pytest.approx((flat == 255).mean(), abs=2e-3)
        assert row.foreground == pytest.approx(((flat > 0) & (flat < 255)).mean(), abs=2e-3)
        assert row.seconds > 0 and (row.peak_bytes is None or row.peak_bytes > 0)
        np.testing.assert_allclose(comparison.class_iou[index], total.iou, atol=1e-2)
    between = sum(confusion_matrix(b, a, 16) for a, b in zip(masks[1], masks[2], strict=True))
    assert comparison.agreement[1, 2] == pytest.approx(mean_iou(between), abs=5e-3)
    assert (comparison.agreement == comparison.agreement.T).all() and (np.diag(comparison.agreement) == 1).all()
    assert not np.isnan(class_iou(between)[0])


def test_differences_are_from_the_first(comparison: Comparison) -> None:
    first, *others = comparison.rows
    assert first.gain is None and first.miou_low < first.miou < first.miou_high
    for row in others:
        assert row.gain == pytest.approx(row.miou - first.miou)
        assert row.gain_low < row.gain < row.gain_high


def test_a_picture_is_encoded_once_for_presets_that_prepare_it_alike(
    folder: Path, pictures: list[Sample], tiny: MaskGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = count(), masks_module.encode_images

    def counted(*arguments: object) -> Iterator[object]:
        next(calls)
        return real(*arguments)

    monkeypatch.setattr(masks_module, "encode_images", counted)
    presets = {**PRESETS, "again": replace(SCENES, affinity=None)}
    found = compare(tiny, pictures[:3], presets, folder / "once")
    assert next(calls) == 2 * 3 and found.encodings == 2
    assert [row.miou for row in found.rows] == [None] * 4 and not found.judged
    assert json.loads((folder / "once" / "compare.json").read_text())["rows"][0]["boundary_iou"] is None


def test_files_say_what_the_result_says(comparison: Comparison, folder: Path) -> None:
    saved = json.loads((folder / "out" / "compare.json").read_text())
    assert saved == json.loads(json.dumps(comparison.as_dict()))
    assert Config.from_dict(saved["presets"]["sclip-like"]["config"]) == PRESETS["sclip-like"]
    assert saved["presets"]["sclip-like"]["published"] == RECIPES["sclip-like"].published
    with open(folder / "out" / "compare.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["preset"] for row in table] == list(PRESETS)
    assert [float(row["miou"]) for row in table] == [row.miou for row in comparison.rows]


def test_the_page_is_whole_and_shows_the_least_agreeing_pictures(comparison: Comparison) -> None:
    html = comparison.page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|url\(", html)
    assert html.count('<div class="row"') == 5 and html.count('src="data:image/jpeg;base64,') == 5 * 5
    agreements = [float(value) for value in re.findall(r"<small>agreement ([\d.]+)</small>", html)]
    assert len(agreements) == 5 and agreements == sorted(agreements)
    for row in comparison.rows:
        assert f"<div>{row.preset}<small>mIoU {row.miou:.3f}</small></div>" in html
    assert {path.name for path in comparison.page.parent.iterdir()} == {
        "index.html", "compare.json", "compare.csv", ".clipes-comparison"
    }  # fmt: skip


def test_names_are_escaped(folder: Path, pictures: list[Sample], tiny: MaskGenerator) -> None:
    sample = replace(pictures[0], id="<b>&a")
    found = compare(tiny, [sample], {"<i>x": PRESETS["sclip-like"]}, folder / "escaped")
    html = found.page.read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;a" in html and "&lt;i&gt;x" in html and "<b>&a" not in html and "<i>x" not in html


def test_pictures_without_labels_are_background(folder: Path, pictures: list[Sample], tiny: MaskGenerator) -> None:
    with pytest.warns(UserWarning, match=r"^1 of 1 picture\(s\) without a label: all background by every preset"):
        found = compare(tiny, [replace(pictures[0], labels=())], PRESETS, folder / "unlabelled")
    assert [row.foreground for row in found.rows] == [0, 0, 0] and found.agreement.min() == 1


def test_the_command_counts_pictures_without_labels(folder: Path, tmp_path: Path, cli: CommandLine) -> None:
    rows = ["image,labels", *(f"{number:02d}.png,{'boat' if number else ''}" for number in range(12))]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    found = cli("compare", folder / "images", "--labels", tmp_path / "labels.csv", "--presets", "clip-es-scenes",
                "--out", tmp_path / "out")  # fmt: skip
    assert found.code == 0
    assert found.err.startswith("clipes compare: warning: 1 of 12 picture(s) without a label: all background by every")


def test_one_preset_is_a_table_of_one_row(folder: Path, cli: CommandLine) -> None:
    found = cli("compare", folder / "images", "--labels", folder / "labels.csv", "--presets", "sclip-like",
                "--truth", folder / "truth", "--out", folder / "one", "--pictures", "2")  # fmt: skip
    assert found.code == 0 and "agreement" not in found.out and "gain" not in found.out
    html = (folder / "one" / "index.html").read_text()
    assert "those of the lowest mIoU" in html and html.count('<div class="row"') == 2


def test_the_command_names_what_it_leaves_out(folder: Path, tmp_path: Path, cli: CommandLine) -> None:
    """A broken picture, truth of another size, no truth; a file of settings beside a preset's name."""
    names = [f"{number:02d}" for number in range(4)]
    for kind in ("images", "truth"):
        (tmp_path / kind).mkdir()
        for name in names:
            (tmp_path / kind / f"{name}.png").write_bytes((folder / kind / f"{name}.png").read_bytes())
    (tmp_path / "images" / "00.png").write_bytes(b"no image")
    write_mask(tmp_path / "truth" / "01.png", np.zeros((8, 9), np.uint8), 16)
    (tmp_path / "truth" / "02.png").unlink()
    (tmp_path / "mine.json").write_text('{"refine": null}')
    presets = f"sclip-like,{tmp_path / 'mine.json'}"
    found = cli("compare", tmp_path / "images", "--labels", folder / "labels.csv", "--presets", presets,
                "--truth", tmp_path / "truth", "--out", tmp_path / "out")  # fmt: skip
    assert found.code == 3
    assert "2 picture(s) could not be compared" in found.err and f"00: {tmp_path / 'images' / '00.png'}: " in found.err
    assert "01.png: 8 x 9 pixels (height x width), but" in found.err
    assert "1 picture(s), each encoded 2 times" in found.out and "1 picture(s) without truth left out" in found.out
    saved = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [problem["name"] for problem in saved["failed"]] == ["00", "01"] and saved["without_truth"] == 1
    assert Config.from_dict(saved["presets"]["mine"]["config"]) == replace(SCENES, refine=None)


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("presets", "message"),
    [
        ("sclip", "--presets: there is no preset 'sclip'; did you mean 'sclip-like'"),
        ("scenes,scenes", "--presets names 'scenes' twice"),
        ("none.json", "none.json: there is no such file"),
        ("scenes,", "there is no preset ''"),
    ],
)
def test_wrong_presets_are_told_before_the_model_is_loaded(
    folder: Path, cli: CommandLine, presets: str, message: str
) -> None:
    given = ("compare", folder / "images", "--labels", folder / "labels.csv", "--out", folder / "never")
    found = cli(*given, "--presets", presets)
    assert found.code == 2 and message in found.err and not (folder / "never").exists()


def test_a_folder_that_is_not_a_comparison_is_not_replaced(
    folder: Path, pictures: list[Sample], tiny: MaskGenerator, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    one = {"sclip-like": PRESETS["sclip-like"]}
    with pytest.raises(ValueError, match="exists and is no earlier comparison"):
        compare(tiny, pictures[:1], one, tmp_path)
    with pytest.raises(ValueError, match="would be among the files of"):
        compare(tiny, pictures[:1], one, folder / "images" / "out", source=str(folder / "images"))
    for _ in range(2):
        assert compare(tiny, pictures[:1], one, tmp_path / "again").page.is_file()
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_what_is_refused(folder: Path, pictures: list[Sample], tiny: MaskGenerator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no presets are given"):
        compare(tiny, pictures, {}, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such folder of truth"):
        compare(tiny, pictures, PRESETS, tmp_path / "out", truth=tmp_path / "none")
    with pytest.raises(ValueError, match="holds the truth of none of the 12 picture"):
        compare(tiny, pictures, PRESETS, tmp_path / "out", truth=tmp_path)
    with pytest.raises(ValueError, match="unknown class 'kat'"):
        compare(tiny, [replace(pictures[0], labels=("kat",))], PRESETS, tmp_path / "out")
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no picture could be compared"):
        compare(tiny, [replace(pictures[0], image=tmp_path / "x.png")], PRESETS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_regions_side_by_side(folder: Path, pictures: list[Sample], tmp_path: Path, cli: CommandLine) -> None:
    """Files of settings with regions; the truth's own, which come with each picture, are nearly the truth."""
    files = {"voted": {"given": {}}, "superpixels": {"slic": {"segments": 60}}}
    for name, regions in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"regions": regions, "refine": None}))
    (tmp_path / "plain.json").write_text('{"refine": null}')
    out, data = tmp_path / "out", (folder / "images", "--labels", folder / "labels.csv", "--truth", folder / "truth")
    given = ("compare", *data, "--out", out, "--presets")
    presets = ",".join(str(tmp_path / f"{name}.json") for name in ("plain", "voted"))
    (tmp_path / "regions").mkdir()
    for sample in pictures[1:]:
        Image.fromarray(_truth(folder, sample) + np.uint8(1)).save(tmp_path / "regions" / f"{sample.id}.png")
    found = cli(*given, presets, "--regions", tmp_path / "regions")
    assert found.code == 3 and f"{pictures[0].id}.*: no such file" in found.err
    plain, voted = json.loads((out / "compare.json").read_text())["rows"]
    assert voted["miou"] > plain["miou"] + 0.1 and voted["boundary_iou"] > plain["boundary_iou"] + 0.2
    refused = cli(*given, presets, "--model", "ViT-none", "--classes", "scenes")
    assert refused.code == 2 and "voted takes regions that come with each picture; say where they are" in refused.err
    refused = cli(*given, "scenes", "--regions", tmp_path / "regions", "--model", "ViT-none", "--classes", "scenes")
    assert refused.code == 2 and "no preset takes the regions in" in refused.err
    pytest.importorskip("skimage", reason="scikit-image, the extra `regions`, is not installed")
    assert cli(*given, f"{tmp_path / 'plain.json'},{tmp_path / 'superpixels.json'}").code == 0
    plain, pixels = json.loads((out / "compare.json").read_text())["rows"]
    assert pixels["miou"] != plain["miou"]


def test_settings_of_another_preparation_have_their_own_encoding(tiny: MaskGenerator) -> None:
    """The mask by a squashed picture is that of the generator, bit for bit, when it is alone."""
    scene = next(draw_scenes(1, 4, (40, 56)))
    square = replace(SCENES, image=ImageConfig(square=64))
    presets = {"scenes": SCENES, "square": square}
    image = Image.fromarray(scene.image)
    with inference():
        found = masks_module.MaskMaker(tiny, presets).masks(image, tiny.vocabulary.ids(scene.labels))
    for name, config in presets.items():
        expected = MaskGenerator(tiny.clip, tiny.vocabulary, config)(image, scene.labels).mask
        assert (found[name] == expected).all() and expected.any()


def test_a_picture_that_takes_too_much_memory_is_named_and_other_faults_end_the_comparison(
    folder: Path, pictures: list[Sample], tiny: MaskGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = masks_module.encode_images, [RuntimeError("CUDA out of memory."), MemoryError()]

    def scarce(*arguments: object) -> Iterator[object]:
        if faults:
            raise faults.pop()
        return real(*arguments)

    monkeypatch.setattr(masks_module, "encode_images", scarce)
    one = {"sclip-like": PRESETS["sclip-like"]}
    found = compare(tiny, pictures[:3], one, folder / "scarce")
    assert found.images == 1 and [problem.name for problem in found.failed] == ["00", "01"]
    assert all("out of memory; give presets" in problem.reason for problem in found.failed)
    faults.append(RuntimeError("a fault of the code"))
    with pytest.raises(RuntimeError, match="a fault of the code"):
        compare(tiny, pictures[:3], one, folder / "broken")
    assert not (folder / "broken").exists()
