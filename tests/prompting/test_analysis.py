"""clipes.prompting.analysis: many templates in one pass, the figures of each by itself, and resume."""

from __future__ import annotations

import json
import math
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import make_clip, text_encoder
from PIL import Image

from clipes.clip.head import image_features
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.text import encode_sentences, text_features
from clipes.clip.vision import VisionEncoder, fingerprint
from clipes.clip.weights import CLIP
from clipes.config import SCENES, ConfidenceConfig, GradCamConfig, ImageConfig, ParConfig, ViewsConfig
from clipes.datasets import Sample, find_samples
from clipes.device.pixels import prepare
from clipes.evaluation import evaluate
from clipes.generator import MaskGenerator
from clipes.io.atomic import MACHINE_ID
from clipes.io.images import open_image, patch_grid
from clipes.io.keyed_cache import KeyedCache
from clipes.io.masks import write_mask
from clipes.prompting import analysis as analysis_module
from clipes.prompting import feature_pass, template_judge
from clipes.prompting.analysis import TemplateAnalysis, analyse_templates
from clipes.prompting.selection import select_images
from clipes.prompting.sharpness import Moments, bootstrap, rank_correlation
from clipes.prompting.template_judge import TemplateJudge
from clipes.scenes import draw_scenes
from clipes.vocabulary import Vocabulary, load_vocabulary

TEMPLATES = ("a clean origami {}.", "a photo of a {}.", "graffiti of the {}.")
MORE = (*TEMPLATES, "the {} in a video game.")
COUNT = 12
CONFIG = replace(SCENES, refine=None)


@pytest.fixture(scope="module")
def clip() -> CLIP:
    """A small random one: half a minute less than with the bundled model."""
    return CLIP(vision_encoder(make_clip()), text_encoder(24))


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_vocabulary("scenes", templates=TEMPLATES)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, truth/ and labels.csv of a dozen scenes of two sizes, some of one label; truth is missing for one."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "photos" / "sub").mkdir(parents=True)
    rows = ["image,labels"]
    for index, scene in enumerate(draw_scenes(COUNT, 7, (64, 96))):
        name = f"{'sub/' if index % 3 == 0 else ''}{index:02}"
        picture, mask = scene.image, scene.mask
        if index % 2:
            picture, mask = picture[:, :72], mask[:, :72]
        Image.fromarray(picture).save(folder / "photos" / f"{name}.png")
        if index != 7:
            write_mask(folder / "truth" / f"{name}.png", mask, 16)
        rows.append(f"{name}.png,{';'.join(scene.labels)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil, in chunks of four."""
    monkeypatch.setattr(feature_pass, "CHUNK", 4)
    return shutil.copytree(drawn, tmp_path / "data")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward pass of the image tower took."""
    passes, encode = [], VisionEncoder.encode

    def counted(self: VisionEncoder, pixels: torch.Tensor, *blocks: int):
        passes.append(len(pixels))
        return encode(self, pixels, *blocks)

    monkeypatch.setattr(VisionEncoder, "encode", counted)
    return passes


def samples_of(data: Path) -> list[Sample]:
    return find_samples(data / "photos", data / "labels.csv")


def several(data: Path) -> list[Sample]:
    return [sample for sample in samples_of(data) if len(sample.labels) > 1]


def same(one: TemplateAnalysis, other: TemplateAnalysis, ignoring: tuple[str, ...] = ("encoded",)) -> bool:
    first, second = one.as_dict(), other.as_dict()
    return {k: v for k, v in first.items() if k not in ignoring} == {
        k: v for k, v in second.items() if k not in ignoring
    }


def slow_probabilities(clip: CLIP, vocabulary: Vocabulary, sample: Sample, pool: str = "patch") -> list[float]:
    """Equation 1 in float64 for one image: its labels, then all background words; of a class's rows the likeliest."""
    encoder, head = clip.vision, clip.vision.head
    image = open_image(sample.image)
    grid = patch_grid((image.height, image.width), encoder.patch_size, 4096)
    pixels = prepare(image, grid, encoder.patch_size, encoder.mean, encoder.std)[None]
    with torch.inference_mode():
        feature = image_features(head, encoder.encode(pixels).last_block, pool)[0].double().numpy()
    feature = feature / np.linalg.norm(feature)
    entries = vocabulary.sentences()
    places = [i - 1 for i in vocabulary.ids(sample.labels)] + list(range(len(vocabulary.class_names), len(entries)))
    logits = []
    for place in places:
        cosines = []
        for row in entries[place]:
            mean = encode_sentences(clip.text, row).double().numpy().mean(0)
            cosines.append(feature @ mean / np.linalg.norm(mean))
        logits.append(head.logit_scale * max(cosines))
    shares = np.exp(np.array(logits) - max(logits))
    return (shares / shares.sum())[: len(set(sample.labels))].tolist()


def slow_sharpness(rows: list[list[float]]) -> tuple[float, float]:
    variances, means = ([f(row) for row in rows if len(row) > 1] for f in (np.var, np.mean))
    return sum(variances) / sum(means), float(np.mean([v / m for v, m in zip(variances, means, strict=True)]))


# --- the figures


@pytest.mark.parametrize("fuse", ["sentence", "features", "max"])
def test_sharpness_equals_each_template_by_itself(clip, drawn, fuse):
    classes = {name: [name, f"big {name}"] for name in load_vocabulary("scenes").class_names}
    own = load_vocabulary(classes, "scenes", TEMPLATES, fuse)
    found = analyse_templates(clip, own, samples_of(drawn), batch_size=3)
    for index, template in enumerate(TEMPLATES):
        alone = replace(own, templates=(template,))
        micro, macro = slow_sharpness([slow_probabilities(clip, alone, sample) for sample in several(drawn)])
        assert found.sharpness[index] == pytest.approx(micro, rel=1e-4)
        assert found.macro[index] == pytest.approx(macro, rel=1e-4)
    assert len(set(found.sharpness.round(6))) == 3


def test_the_pool_is_the_configs(clip, drawn, vocabulary):
    by_class_token = replace(CONFIG, map=GradCamConfig("cls"))
    found = analyse_templates(clip, vocabulary, samples_of(drawn), config=by_class_token)
    alone = replace(vocabulary, templates=TEMPLATES[:1])
    micro, _ = slow_sharpness([slow_probabilities(clip, alone, sample, "cls") for sample in several(drawn)])
    assert found.sharpness[0] == pytest.approx(micro, rel=1e-4)


def test_several_views_are_refused(clip, drawn, vocabulary):
    config = replace(CONFIG, views=ViewsConfig(flip=True))
    with pytest.raises(ValueError, match="encodes each picture once; leave out --scales, --flip and --tile"):
        analyse_templates(clip, vocabulary, samples_of(drawn), config=config)


@pytest.mark.parametrize(
    "config",
    [None, replace(CONFIG, refine=ParConfig(iterations=2)), replace(CONFIG, mask=ConfidenceConfig(ignore_below=0.6))],
    ids=["default", "par", "ignoring"],
)
def test_miou_equals_masks_of_each_template_written_and_evaluated(clip, drawn, vocabulary, tmp_path, config):
    found = analyse_templates(clip, vocabulary, samples_of(drawn), truth=drawn / "truth", config=config)
    assert found.judged == COUNT - 1 and found.config == (config or CONFIG)
    for index, template in enumerate(TEMPLATES):
        generator = MaskGenerator(clip, replace(vocabulary, templates=(template,)), config or CONFIG)
        for sample in samples_of(drawn):
            generator(sample.image, sample.labels).save(tmp_path / str(index) / f"{sample.id}.png")
        judged = evaluate(tmp_path / str(index), drawn / "truth", vocabulary.class_names)
        assert judged.images == COUNT - 1
        assert found.miou[index] == judged.miou
    assert found.correlation == rank_correlation(found.sharpness, found.miou)


def test_truth_leaves_the_sharpness_as_it_is(clip, drawn, vocabulary):
    plain = analyse_templates(clip, vocabulary, samples_of(drawn))
    judged = analyse_templates(clip, vocabulary, samples_of(drawn), truth=drawn / "truth")
    np.testing.assert_allclose(judged.sharpness, plain.sharpness, rtol=1e-4)
    assert plain.miou is None and plain.correlation is None and "miou" not in plain.table()[0]


def test_images_encoded_together_give_the_same(clip, drawn, vocabulary):
    alone = analyse_templates(clip, vocabulary, samples_of(drawn), truth=drawn / "truth", batch_size=1)
    together = analyse_templates(clip, vocabulary, samples_of(drawn), truth=drawn / "truth", batch_size=5)
    np.testing.assert_allclose(together.sharpness, alone.sharpness, rtol=1e-4)
    np.testing.assert_allclose(together.miou, alone.miou, atol=2e-3)
    assert together.judged == alone.judged


def test_the_order_of_templates_and_images_is_nothing(clip, drawn, vocabulary):
    given = samples_of(drawn)
    one = analyse_templates(clip, vocabulary, given, truth=drawn / "truth")
    turned = replace(vocabulary, templates=TEMPLATES[::-1])
    other = analyse_templates(clip, turned, given[::-1], truth=drawn / "truth")
    np.testing.assert_allclose(other.sharpness[::-1], one.sharpness, rtol=1e-5)
    assert other.miou[::-1].tolist() == one.miou.tolist()


def test_intervals_are_those_of_the_same_images_for_every_template(clip, drawn, vocabulary):
    found = analyse_templates(clip, vocabulary, samples_of(drawn))
    alone = [replace(vocabulary, templates=(template,)) for template in TEMPLATES]
    rows = [[slow_probabilities(clip, one, sample) for sample in several(drawn)] for one in alone]
    draws = bootstrap(Moments(*(np.array([[f(row) for row in part] for part in rows]) for f in (np.var, np.mean))))
    best = found.sharpness.argmin()
    np.testing.assert_allclose(found.intervals, np.quantile(draws, (0.025, 0.975), axis=0).T, rtol=1e-4)
    over = np.quantile(draws - draws[:, [best]], (0.025, 0.975), axis=0).T
    np.testing.assert_allclose(found.over_best, over, rtol=1e-3, atol=1e-5)


# --- one pass


@pytest.mark.parametrize("truth", [False, True])
def test_every_image_is_encoded_once_whatever_the_number_of_templates(clip, drawn, seen, truth):
    many = load_vocabulary("scenes", templates=MORE)
    folder = drawn / "truth" if truth else None
    found = analyse_templates(clip, many, samples_of(drawn), truth=folder)
    expected = len(
        {s.id for s in several(drawn)} | ({s.id for s in samples_of(drawn) if s.id != "07"} if truth else set())
    )
    assert sum(seen) == found.encoded == expected
    assert len(several(drawn)) < COUNT - 1, "an image of one label is among them"


def test_counts_of_images(clip, drawn, vocabulary):
    given = [sample for sample in samples_of(drawn) if sample.id != "11"]
    found = analyse_templates(clip, vocabulary, given, truth=drawn / "truth")
    labels = [len(sample.labels) for sample in given]
    assert len({labels.count(0), labels.count(1), labels.count(2), sum(n > 1 for n in labels)}) == 4
    assert found.images == sum(n > 1 for n in labels)
    assert (found.single_label, found.unlabelled) == (labels.count(1), labels.count(0))
    assert found.without_truth == 1 and found.failed == ()
    assert analyse_templates(clip, vocabulary, given).without_truth is None


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_without_a_label_is_judged_as_all_background(clip, data, vocabulary, tmp_path, batch_size):
    lines = (data / "labels.csv").read_text().splitlines()
    lines[2] = f"{lines[2].split(',')[0]},"
    (data / "labels.csv").write_text("\n".join(lines))
    found = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", batch_size=batch_size)
    assert found.unlabelled == 1 and found.judged == COUNT - 1
    generator = MaskGenerator(clip, replace(vocabulary, templates=TEMPLATES[:1]), CONFIG)
    for sample in samples_of(data):
        generator(sample.image, sample.labels).save(tmp_path / "masks" / f"{sample.id}.png")
    judged = evaluate(tmp_path / "masks", data / "truth", vocabulary.class_names)
    assert found.miou[0] == pytest.approx(judged.miou, abs=2e-3)


def test_without_background_words_single_labels_are_left_out_of_both(clip, drawn):
    bare = load_vocabulary("scenes", [], TEMPLATES)
    found = analyse_templates(clip, bare, samples_of(drawn), truth=drawn / "truth")
    assert found.images == len(several(drawn))
    assert found.judged == len([sample for sample in several(drawn) if sample.id != "07"])
    assert found.without_truth == COUNT - found.judged


# --- stopped and gone on


class Stop(KeyboardInterrupt):
    pass


def stopping_after(count: int):
    def progress(items, total, unit):
        for index, item in enumerate(items):
            if index == count:
                raise Stop
            yield item

    return progress


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("after", [0, 1, 4, 6, 9])
def test_a_run_that_was_stopped_goes_on(clip, data, vocabulary, tmp_path, seen, truth, after):
    settings = {"truth": data / "truth" if truth else None, "folder": tmp_path / "partial"}
    whole = analyse_templates(clip, vocabulary, samples_of(data), truth=settings["truth"])
    total = sum(seen)
    after = min(after, total - 1)
    seen.clear()
    with pytest.raises(Stop):
        analyse_templates(clip, vocabulary, samples_of(data), **settings, progress=stopping_after(after))
    done = sum(seen)
    assert after <= done <= after + 1
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert same(found, whole) and found.encoded == total - done
    assert sum(seen) == total
    again = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert same(again, whole) and again.encoded == 0 and sum(seen) == total


def test_a_stop_between_a_count_and_its_mark_counts_nothing_twice(clip, data, vocabulary, tmp_path, monkeypatch):
    class Stopping(dict):
        def __setitem__(self, place, rows):
            super().__setitem__(place, rows)
            if len(self) == 3:
                raise Stop

    settings = {"truth": data / "truth", "folder": tmp_path / "partial"}
    whole = analyse_templates(clip, vocabulary, samples_of(data), truth=settings["truth"])
    load = TemplateJudge._load
    with monkeypatch.context() as patch:
        patch.setattr(TemplateJudge, "_load", lambda *a: {name: Stopping(rows) for name, rows in load(*a).items()})
        with pytest.raises(Stop):
            analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert any(path.name.startswith("counts-") for path in (tmp_path / "partial").iterdir())
    assert same(analyse_templates(clip, vocabulary, samples_of(data), **settings), whole)


def test_a_run_that_was_killed_loses_the_chunk_it_was_at(clip, data, vocabulary, tmp_path, monkeypatch):
    settings = {"truth": data / "truth", "folder": tmp_path / "partial"}
    whole = analyse_templates(clip, vocabulary, samples_of(data), truth=settings["truth"])
    with monkeypatch.context() as patch:
        written, put = [], KeyedCache.put

        def killed(cache, *rest):
            if len(written) >= 2:
                raise Stop  # nothing more is written, as after a SIGKILL
            if cache.kind:  # not that of texts
                written.append(cache.kind)
            put(cache, *rest)

        patch.setattr(KeyedCache, "put", killed)
        with pytest.raises(Stop):
            analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert written == ["features", "counts"]
    (tmp_path / "partial" / f".clipes-{MACHINE_ID}-999999999-0000000000000000.tmp.npz").touch()  # no such process
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert same(found, whole) and found.encoded == whole.encoded - 4
    assert not list((tmp_path / "partial").glob(".*")), "what a dead run left is swept away"


def test_other_templates_cost_no_further_pass(clip, data, vocabulary, tmp_path, seen):
    analyse_templates(clip, vocabulary, samples_of(data), folder=tmp_path)
    seen.clear()
    many = load_vocabulary("scenes", templates=MORE[::-1])
    found = analyse_templates(clip, many, samples_of(data), folder=tmp_path)
    assert not seen and found.encoded == 0
    assert same(found, analyse_templates(clip, many, samples_of(data)))


def test_with_truth_only_what_is_missing_is_made(clip, data, vocabulary, tmp_path, monkeypatch):
    made, localize = [], template_judge.compute_cams
    monkeypatch.setattr(template_judge, "compute_cams", lambda *a: (made.append(a[2]), localize(*a))[1])
    settings = {"truth": data / "truth", "folder": tmp_path}
    analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert len(made) == 3 * (COUNT - 1)
    made.clear()
    turned = load_vocabulary("scenes", templates=[MORE[3], *TEMPLATES[:0:-1]])
    found = analyse_templates(clip, turned, samples_of(data), **settings)
    assert len(made) == COUNT - 1
    assert same(found, analyse_templates(clip, turned, samples_of(data), truth=data / "truth"))
    made.clear()
    first = analyse_templates(clip, vocabulary, samples_of(data), **settings)  # the first run's counts are still there
    assert not made and same(first, analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth"))


def test_what_failed_once_is_made_up_for_beside_what_is_there(clip, data, tmp_path, vocabulary, monkeypatch):
    """Images encoded together, of which one has no template judged and the others lack the new one alone."""
    settings = {"truth": data / "truth", "folder": tmp_path, "batch_size": 4}
    with monkeypatch.context() as patch:

        def forgetful(path):
            if path.stem == "02":
                raise MemoryError
            return open_image(path)

        patch.setattr(feature_pass, "open_image", forgetful)
        found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
        assert [problem.reason for problem in found.failed] == [f"{data / 'photos' / '02.png'}: out of memory"]
    many = load_vocabulary("scenes", templates=MORE)
    found = analyse_templates(clip, many, samples_of(data), **settings)
    fresh = analyse_templates(clip, many, samples_of(data), truth=data / "truth", batch_size=4)
    assert found.failed == () and same(found, fresh)


def changed_image(data: Path) -> None:
    Image.new("RGB", (72, 64), "red").save(data / "photos" / "01.png")


def touched_image(data: Path) -> None:
    os.utime(data / "photos" / "01.png", ns=(0, 12345))


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("change", [changed_image, touched_image])
def test_a_changed_image_is_encoded_anew(clip, data, vocabulary, tmp_path, change, truth):
    settings = {"truth": data / "truth" if truth else None}
    analyse_templates(clip, vocabulary, samples_of(data), **settings, folder=tmp_path)
    change(data)
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings, folder=tmp_path)
    assert 1 <= found.encoded <= 4  # those of its chunk
    assert same(found, analyse_templates(clip, vocabulary, samples_of(data), **settings))


def test_a_changed_truth_or_label_is_judged_anew_and_not_encoded_for_the_sharpness(clip, data, vocabulary, tmp_path):
    settings = {"truth": data / "truth", "folder": tmp_path}
    before = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    write_mask(data / "truth" / "01.png", np.zeros((64, 72), np.uint8), 16)
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert 1 <= found.encoded <= 4 and found.miou.tolist() != before.miou.tolist()
    assert same(found, analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth"))
    text = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(text.replace("01.png,", "01.png,train;umbrella;", 1))
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert 1 <= found.encoded <= 4
    assert same(found, analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth"))
    assert analyse_templates(clip, vocabulary, samples_of(data), folder=tmp_path).encoded == 0


SETTINGS = {
    "pool": (replace(CONFIG, map=GradCamConfig("cls")), True),
    "patches": (replace(CONFIG, image=ImageConfig(max_patches=40)), True),
    "affinity": (replace(CONFIG, affinity=None), False),
    "power": (replace(CONFIG, mask=ConfidenceConfig(background_power=1.0)), False),
    "refine": (replace(CONFIG, refine=ParConfig(iterations=1)), False),
}


@pytest.mark.parametrize(("config", "features_change"), SETTINGS.values(), ids=SETTINGS)
def test_other_settings_are_never_mixed(clip, data, vocabulary, tmp_path, config, features_change):
    settings = {"truth": data / "truth", "folder": tmp_path}
    analyse_templates(clip, vocabulary, samples_of(data), **settings)
    plain = analyse_templates(clip, vocabulary, samples_of(data), folder=tmp_path, config=config)
    assert plain.encoded == (len(several(data)) if features_change else 0)
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings, config=config)
    expected = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", config=config)
    np.testing.assert_allclose(found.sharpness, expected.sharpness, rtol=1e-4)
    assert found.miou.tolist() == expected.miou.tolist() and found.config == config


def test_another_model_or_vocabulary_is_never_mixed(clip, data, vocabulary, tmp_path):
    settings = {"truth": data / "truth", "folder": tmp_path}
    analyse_templates(clip, vocabulary, samples_of(data), **settings)
    last = clip.vision.blocks[-1]
    mlp = replace(last.mlp, proj_weight=last.mlp.proj_weight * 1.1)
    head = replace(clip.vision.head, projection=clip.vision.head.projection.roll(1, 1))
    for encoder in (
        replace(clip.vision, blocks=(*clip.vision.blocks[:-1], replace(last, mlp=mlp))),
        replace(clip.vision, mean=(0.1, 0.2, 0.3)),
        replace(clip.vision, head=head),
    ):
        other = CLIP(encoder, clip.text)
        found = analyse_templates(other, vocabulary, samples_of(data), **settings)
        assert same(found, analyse_templates(other, vocabulary, samples_of(data), truth=data / "truth"), ())
    wide = replace(vocabulary, background_names=(*vocabulary.background_names, "moon"))
    found = analyse_templates(clip, wide, samples_of(data), **settings)
    assert same(found, analyse_templates(clip, wide, samples_of(data), truth=data / "truth"))
    assert found.encoded == COUNT - 1, "the feature of the image without truth was there"
    other = CLIP(clip.vision, replace(clip.text, fingerprint="another"))
    assert analyse_templates(other, vocabulary, samples_of(data), **settings).encoded == COUNT - 1
    assert analyse_templates(other, vocabulary, samples_of(data), folder=tmp_path).encoded == 0


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def flipped(file: Path) -> None:
    """One bit within the data, which leaves the archive's structure as it was."""
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda member: member.compress_size)
    data = bytearray(file.read_bytes())
    data[largest.header_offset + 60 + largest.compress_size // 2] ^= 1
    file.write_bytes(data)


def garbage(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04 no archive")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    with np.load(file) as arrays:
        kept = {**arrays, "key": np.array("another")}
    np.savez(file, **kept)


def reshaped(file: Path) -> None:
    """The right key over other arrays."""
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    name = max(kept, key=lambda name: kept[name].ndim)
    np.savez(file, **{**kept, name: kept[name][:, :-1]})


def nan(file: Path) -> None:
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    if "features" in kept:
        kept["features"] = kept["features"] * np.float32("nan")
    else:
        kept = {name: array if name == "key" else array + 1000 for name, array in kept.items()}
    np.savez(file, **kept)


def partly(file: Path) -> None:
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in ("key", "features") if name in arrays.files}
    np.savez(file, **kept)


def keyless(file: Path) -> None:
    np.savez(file, features=np.zeros(3))


def bare_array(file: Path) -> None:
    with open(file, "wb") as stream:
        np.save(stream, np.zeros(3))


class Hostile:
    """What runs code where it is unpickled."""

    def __init__(self, file: Path):
        self.folder = str(file.with_suffix(".ran"))

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def pickled(file: Path) -> None:
    np.savez(file, key=np.array([Hostile(file)], dtype=object))


SPOILERS = (truncated, flipped, garbage, empty, foreign, reshaped, nan, partly, keyless, bare_array, pickled)


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_broken_or_foreign_file_is_never_used(clip, data, vocabulary, tmp_path, spoil):
    settings = {"truth": data / "truth", "folder": tmp_path / "partial"}
    whole = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    files = sorted((tmp_path / "partial").iterdir())
    assert len(files) == 6
    for file in files:
        spoil(file)
    found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert same(found, whole, ()) and found.encoded == COUNT
    assert not list((tmp_path / "partial").glob("*.ran"))
    assert analyse_templates(clip, vocabulary, samples_of(data), **settings).encoded == 0, "they are rewritten"


def test_without_a_folder_nothing_is_written(clip, data, vocabulary, monkeypatch):
    before = sorted(data.rglob("*"))
    monkeypatch.chdir(data)
    analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth")
    assert sorted(data.rglob("*")) == before


# --- what goes wrong with an image


def test_an_image_that_cannot_be_read_is_named_and_left_out_and_tried_again(clip, data, vocabulary, tmp_path):
    bad = next(sample for sample in several(data) if sample.id != "07")
    content = bad.image.read_bytes()
    bad.image.write_bytes(content[:100])
    settings = {"truth": data / "truth", "folder": tmp_path}
    for _ in range(2):
        found = analyse_templates(clip, vocabulary, samples_of(data), **settings)
        (problem,) = found.failed
        assert problem.name == bad.id and problem.reason.startswith(f"{bad.image}: ")
        rest = [sample for sample in samples_of(data) if sample.id != bad.id]
        without = analyse_templates(clip, vocabulary, rest, truth=data / "truth")
        np.testing.assert_allclose(found.sharpness, without.sharpness, rtol=1e-5)
        assert found.miou.tolist() == without.miou.tolist()
        assert (found.images, found.judged) == (without.images, without.judged)
    assert found.encoded == 0, "the others are not encoded again"
    bad.image.write_bytes(content)
    mended = analyse_templates(clip, vocabulary, samples_of(data), **settings)
    assert mended.failed == () and mended.images == without.images + 1


def test_truth_is_found_whatever_the_case_of_its_suffix(clip, data, vocabulary):
    whole = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth")
    for path in list((data / "truth").rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    found = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth")
    assert same(found, whole) and found.judged == whole.judged > 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: write_mask(path, np.zeros((5, 6), np.uint8), 16), "64 x 72 pixels .*, but .* has 5 x 6"),
        (lambda path: write_mask(path, np.full((64, 72), 17, np.uint8), 20), "holds 17, but 16 classes allow"),
        (lambda path: path.write_bytes(b"no picture"), "not a PNG file"),
        (lambda path: Image.new("RGB", (72, 64)).save(path), "mode RGB holds colours"),
    ],
)
def test_truth_that_cannot_be_read_is_named_and_the_image_still_has_its_sharpness(
    clip, data, vocabulary, tmp_path, spoil, reason
):
    sample = next(sample for sample in several(data) if sample.id in ("01", "03", "05", "11"))
    expected = analyse_templates(clip, vocabulary, samples_of(data))
    spoil(data / "truth" / f"{sample.id}.png")
    found = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", folder=tmp_path)
    (problem,) = found.failed
    assert problem.name == sample.id
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(problem.reason)
    assert found.images == expected.images and found.judged == COUNT - 2
    np.testing.assert_allclose(found.sharpness, expected.sharpness, rtol=1e-4)
    again = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", folder=tmp_path)
    assert again.encoded == 0 and again.failed == found.failed


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_feature_that_is_not_finite_is_found_in_its_batch(clip, data, vocabulary, monkeypatch, batch_size):
    bad = several(data)[1]
    colour = np.asarray(Image.open(bad.image))[0, 0]
    prepared = feature_pass.encode_images

    def spoilt(encoder, images, config):
        for places, encoded in prepared(encoder, images, config):
            for row, place in enumerate(places):
                if (np.asarray(images[place])[0, 0] == colour).all():
                    output = encoded.last_block.output.clone()
                    output[row] = torch.nan
                    encoded = replace(encoded, last_block=replace(encoded.last_block, output=output))
            yield places, encoded

    monkeypatch.setattr(feature_pass, "encode_images", spoilt)
    found = analyse_templates(clip, vocabulary, samples_of(data), batch_size=batch_size)
    assert [problem.name for problem in found.failed] == [bad.id]
    assert "an image feature is not finite; if the precision is lower" in found.failed[0].reason
    assert found.images == len(several(data)) - 1


@pytest.mark.parametrize("batch_size", [1, 6])
def test_an_image_whose_maps_fail_for_one_template_counts_for_none(clip, data, vocabulary, monkeypatch, batch_size):
    bad = next(sample for sample in several(data) if sample.id != "07")
    localize, ids = template_judge.compute_cams, vocabulary.ids(bad.labels)

    def failing(encoder, encoded, text, class_ids, *rest):
        if ids in class_ids and torch.equal(text, second):
            raise FloatingPointError("a map is not finite")
        return localize(encoder, encoded, text, class_ids, *rest)

    second = text_features(clip.text, replace(vocabulary, templates=TEMPLATES[1:2]).sentences())
    monkeypatch.setattr(template_judge, "compute_cams", failing)
    found = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", batch_size=batch_size)
    assert [tuple(problem) for problem in found.failed] == [(bad.id, f"{bad.image}: a map is not finite")]
    assert found.images == len(several(data)) and found.judged == COUNT - 2
    (data / "truth" / f"{bad.id}.png").unlink()
    without = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", batch_size=batch_size)
    np.testing.assert_allclose(found.miou, without.miou, atol=2e-3)
    if batch_size == 1:
        assert found.miou.tolist() == without.miou.tolist()


def test_maps_are_made_of_no_image_without_truth(clip, data, vocabulary, monkeypatch):
    localize, made = template_judge.compute_cams, []
    monkeypatch.setattr(template_judge, "compute_cams", lambda *given: (made.append(given[3]), localize(*given))[1])
    analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", batch_size=4)
    labels = sum(len(sample.labels) for sample in samples_of(data) if sample.id != "07")
    assert sum(len(ids) for batch in made for ids in batch) == labels * len(TEMPLATES)


def test_a_batch_too_large_for_the_memory_is_halved(clip, data, vocabulary, monkeypatch):
    encode, sizes = feature_pass.encode_images, []

    def narrow(encoder, images, config):
        sizes.append(len(images))
        if len(images) > 1:
            raise RuntimeError("CUDA out of memory")
        return encode(encoder, images, config)

    monkeypatch.setattr(feature_pass, "encode_images", narrow)
    found = analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth", batch_size=4)
    assert found.failed == () and found.images == len(several(data)) and max(sizes) == 4
    np.testing.assert_allclose(
        found.sharpness, analyse_templates(clip, vocabulary, samples_of(data)).sharpness, rtol=1e-4
    )


def test_another_error_of_torch_is_not_blamed_on_an_image(clip, data, vocabulary, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the GPU is lost")

    monkeypatch.setattr(feature_pass, "encode_images", broken)
    with pytest.raises(RuntimeError, match="the GPU is lost"):
        analyse_templates(clip, vocabulary, samples_of(data))


def test_nothing_that_could_be_read_is_an_error(clip, data, vocabulary):
    for path in (data / "photos").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"none of the images with two labels or more could be encoded; the first: .*empty"
    ):
        analyse_templates(clip, vocabulary, samples_of(data))


def test_no_truth_that_could_be_read_is_an_error(clip, data, vocabulary):
    for path in (data / "truth").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the images with truth could be judged; the first: .*not a PNG"):
        analyse_templates(clip, vocabulary, samples_of(data), truth=data / "truth")


# --- what is refused before any work


def test_wrong_use_is_told_before_anything_is_encoded(clip, drawn, vocabulary, tmp_path, seen):
    single = [sample for sample in samples_of(drawn) if len(sample.labels) < 2]
    wrong = [replace(single[0], labels=("catt",), origin="labels.csv, line 7")]
    other = tmp_path / "truth"
    other.mkdir()
    for samples, truth, error, message in (
        (single, None, ValueError, f"none of {len(single)} images has two labels or more, .* give images with more"),
        ([], None, ValueError, "none of 0 images has two labels"),
        ([*samples_of(drawn), *wrong], None, ValueError, "labels.csv, line 7: unknown class 'catt' in scenes; did you"),
        (samples_of(drawn), tmp_path / "no", FileNotFoundError, "no such folder of truth masks: .*no"),
        (samples_of(drawn), drawn / "labels.csv", NotADirectoryError, "labels.csv is a file; give the folder"),
        (samples_of(drawn), other, ValueError, r"no truth mask has the name of an image: there is no 01\.png in"),
    ):
        with pytest.raises(error, match=message):
            analyse_templates(clip, vocabulary, samples, truth=truth)
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        analyse_templates(clip, vocabulary, samples_of(drawn), batch_size=0)
    assert not seen


def test_selection_says_what_each_image_is_needed_for(drawn, vocabulary):
    rows = select_images(samples_of(drawn), vocabulary, drawn / "truth")
    by_id = {row.sample.id: row for row in rows}
    assert by_id["07"].truth is None and by_id["08"].truth == drawn / "truth" / "08.png"
    assert all(row.needs_encoding == (len(row.class_ids) > 1 or row.truth is not None) for row in rows)
    assert [row.class_ids for row in rows] == [vocabulary.ids(sample.labels) for sample in samples_of(drawn)]
    assert not any(row.truth for row in select_images(samples_of(drawn), vocabulary))


# --- the result


def _made(**changes) -> TemplateAnalysis:
    values = {
        "templates": ("a {}", "b {}", "c {}"),
        "sharpness": np.array([0.2, 0.1, 0.3]),
        "macro": np.array([0.3, 0.1, 0.2]),
        "intervals": np.array([[0.1, 0.3], [0.05, 0.15], [0.2, 0.4]]),
        "over_best": np.array([[-0.01, 0.2], [0, 0], [0.1, 0.3]]),
        "miou": np.array([0.5, math.nan, 0.4]),
        "correlation": None,
        "config": CONFIG,
        "images": 9,
        "judged": 8,
        "single_label": 1,
        "unlabelled": 0,
        "without_truth": 2,
        "encoded": 9,
        "failed": (),
    }
    return TemplateAnalysis(**{**values, **changes})


def test_the_table_is_ranked_and_the_rest_is_counted():
    found = _made()
    rows = found.table()
    assert [(row["rank"], row["template"], row["miou"]) for row in rows] == [
        (1, "b {}", None),
        (2, "a {}", 0.5),
        (3, "c {}", 0.4),
    ]
    assert rows[1] == {
        **{"rank": 2, "template": "a {}", "sharpness": 0.2, "low": 0.1, "high": 0.3, "macro": 0.3},
        **{"over_best_low": -0.01, "over_best_high": 0.2, "miou": 0.5},
    }
    assert found.best == "b {}" and found.rivals == ("a {}",)
    whole = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert whole["rows"] == rows and whole["refinement"] == "none" and whole["correlation"] is None
    assert (whole["images"], whole["judged"], whole["single_label"], whole["without_truth"]) == (9, 8, 1, 2)
    assert _made(miou=None).as_dict()["refinement"] is None


def test_equal_templates_keep_their_order():
    names, ends = tuple(f"{number} {{}}" for number in range(60)), np.zeros((60, 2))
    found = _made(
        templates=names,
        sharpness=np.array([0.2, 0.1] * 30),
        macro=np.ones(60),
        intervals=ends,
        over_best=ends,
        miou=None,
    )
    assert tuple(row["template"] for row in found.table()) == names[1::2] + names[::2] and found.best == names[1]


def test_the_correlation_is_left_out_where_there_is_none(clip, data):
    two = load_vocabulary("scenes", templates=TEMPLATES[:2])
    assert analyse_templates(clip, two, samples_of(data), truth=data / "truth").correlation is None
    for path in (data / "truth").rglob("*.png"):
        with Image.open(path) as image:
            size = image.size[::-1]
        write_mask(path, np.full(size, 255, np.uint8), 16)
    three = load_vocabulary("scenes", templates=TEMPLATES)
    found = analyse_templates(clip, three, samples_of(data), truth=data / "truth")
    assert found.correlation is None and np.isnan(found.miou).all() and found.judged == COUNT - 1


def test_the_fingerprint_of_an_image_tower(clip):
    encoder = clip.vision
    first = fingerprint(encoder)
    assert first == fingerprint(vision_encoder(make_clip()))
    bumped = encoder.prefix.clone()
    bumped[0, 3] += 1e-6
    block = replace(encoder.blocks[0], heads=encoder.blocks[0].heads * 2)
    others = [
        replace(encoder, prefix=bumped),
        replace(encoder, prefix=encoder.prefix.roll(1, 1)),
        replace(encoder, std=(1.0, 1.0, 1.0)),
        replace(encoder, prefix=encoder.prefix[None]),
        replace(encoder, blocks=(block, *encoder.blocks[1:])),
        replace(encoder, blocks=encoder.blocks[1:]),
        encoder.to(dtype=torch.bfloat16),
        encoder.to(dtype=torch.float64),
    ]
    assert len({first, *map(fingerprint, others)}) == 1 + len(others)


def test_the_default_draws_are_those_of_the_note():
    assert "2,000 bootstrap draws" in analysis_module.NOTE
