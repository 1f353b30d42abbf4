"""clipes.result: what a PseudoMask gives away, and what it keeps."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipes
from clipes.config import ConfidenceConfig, ParConfig
from clipes.datasets import PseudoMaskDataset, find_samples
from clipes.drawing.colours import clear_palette
from clipes.generator import MaskGenerator
from clipes.ids import voc_palette
from clipes.result import PseudoMask
from clipes.scenes import draw_scene


def test_save_writes_the_ids_as_a_palette_png(result: PseudoMask, tmp_path: Path) -> None:
    result.save(tmp_path / "new" / "cat.png")
    with Image.open(tmp_path / "new" / "cat.png") as image:
        assert image.mode == "P" and image.size == (6, 4)
        assert np.array_equal(np.asarray(image), result.mask)
        assert image.getpalette() == voc_palette().ravel().tolist()


def test_many_classes_are_saved_in_16_bits(result: PseudoMask, tmp_path: Path) -> None:
    mask = result.mask.astype(np.uint16)
    mask[mask == 255], mask[0, 0] = 65535, 299
    dataclasses.replace(result, mask=mask, num_classes=300).save(str(tmp_path / "m.png"))
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode in ("I;16", "I")  # Pillow before 10.3 opens 16-bit grey as I
        assert np.array_equal(np.asarray(image), mask)


def test_maps_are_saved_as_clip_es_reads_them(result: PseudoMask, tmp_path: Path) -> None:
    result.save_cams(tmp_path / "cat.npz")
    with np.load(tmp_path / "cat.npz", allow_pickle=False) as saved:
        assert set(saved) == {"keys", "attn_highres", "patch_cams", "size"}
        assert saved["keys"].tolist() == [1, 2, 0] and saved["keys"].dtype == np.int64
        assert saved["attn_highres"].dtype == np.float16
        np.testing.assert_allclose(saved["attn_highres"], result.cams, atol=5e-4)


def test_the_confidence_is_saved_in_255ths(result: PseudoMask, tmp_path: Path) -> None:
    result.save_confidence(tmp_path / "cat.png")
    with Image.open(tmp_path / "cat.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.round(255 * result.confidence))


def test_wrong_suffixes_are_refused_and_leave_nothing(result: PseudoMask, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a mask is a PNG file, not 'cat.jpg'; end its name in .png"):
        result.save(tmp_path / "cat.jpg")
    with pytest.raises(ValueError, match=r"maps are an .npz file, not .*cat.npy'; end its name in .npz"):
        result.save_cams(tmp_path / "cat.npy")
    with pytest.raises(ValueError, match=r"the confidence is a PNG file, not .*cat.jpg'; end its name in .png"):
        result.save_confidence(tmp_path / "cat.jpg")
    assert list(tmp_path.iterdir()) == []


def test_segments_are_the_labels_that_won_pixels(result: PseudoMask) -> None:
    (segment,) = result.segments()  # "dog" won nothing, and where "bus" was best it is ignored
    assert segment.label == "cat" and segment.class_id == 2 and isinstance(segment.confidence, float)
    assert segment.confidence == pytest.approx(result.map_confidence[:, :2].mean()), "that before the CRF"
    assert segment.mask.dtype == bool and segment.mask.sum() == 8
    assert np.array_equal(segment.mask, result.mask == 2)


def test_a_segment_has_box_area_and_rle(result: PseudoMask) -> None:
    mask = result.mask.copy()
    mask[:] = 0
    mask[1:3, 2:5] = mask[1, 1] = 1
    (segment,) = dataclasses.replace(result, mask=mask).segments()
    assert segment.label == "bus" and segment.area == 7 and segment.bbox == (1, 1, 4, 2)
    assert segment.rle == {"size": [4, 6], "counts": "5131O0003"}
    json.dumps([segment.area, segment.bbox, segment.rle])


def test_a_cutout_is_transparent_where_the_mask_shows_nothing(result: PseudoMask) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    result = dataclasses.replace(result, image=Image.fromarray(noise))
    for label, shown in ((None, np.isin(result.mask, [1, 2, 3])), ("cat", result.mask == 2), ("dog", result.mask == 3)):
        cut = result.cutout(label)
        assert cut.mode == "RGBA" and cut.size == (6, 4)
        pixels = np.asarray(cut)
        assert (pixels[..., 3] == 255 * shown).all()
        assert (pixels[shown, :3] == noise[shown]).all() and (pixels[~shown] == 0).all()
    with pytest.raises(KeyError, match="'cow' is not a label"):
        result.cutout("cow")


def test_the_confidence_of_the_maps_is_that_before_the_refinement(tiny) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    result = tiny(picture, ["cat", "tree"])
    before = result.decide(replace(tiny.config, refine=None))
    winner = result.scores.argmax(0)
    expected = np.take_along_axis(before.scores, winner[None], 0)[0]
    np.testing.assert_array_equal(result.map_confidence, expected)
    np.testing.assert_array_equal(before.map_confidence, before.confidence)
    assert result.map_confidence.mean() < result.confidence.mean()
    shown = (result.mask > 0) & (result.mask < 255)
    assert result.mean_confidence == pytest.approx(result.map_confidence[shown].mean())
    assert tiny(picture, []).mean_confidence is None


def test_a_label_gives_its_pixels(result: PseudoMask) -> None:
    assert np.array_equal(result["cat"], result.mask == 2) and not result["dog"].any()
    with pytest.raises(KeyError, match=r"'cow' is not a label of the image; it has cat, dog, bus"):
        result["cow"]


def test_a_result_says_what_is_in_it(result: PseudoMask) -> None:
    assert repr(result) == "PseudoMask(4 x 6: background 50%, cat 33%, dog 0%, bus 0%, ignored 17%)"


def test_a_notebook_shows_the_overlay_with_its_legend(result: PseudoMask) -> None:
    with Image.open(BytesIO(result._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), np.asarray(result.overlay(legend=True)))


def test_the_maps_are_decided_again_with_other_settings(tiny) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    config = replace(tiny.config, refine=ParConfig(), mask=ConfidenceConfig(background_power=3.0, ignore_below=0.6))
    other = MaskGenerator(tiny.clip, tiny.vocabulary, config)(picture, ["cat", "tree"])
    again = tiny(picture, ["cat", "tree"]).decide(config)
    for name in ("labels", "num_classes"):
        assert getattr(again, name) == getattr(other, name)
    for name in ("class_ids", "patch_cams", "cams", "scores", "mask", "confidence", "map_confidence"):
        assert getattr(again, name).tobytes() == getattr(other, name).tobytes(), name


def test_labels_without_a_pixel(result: PseudoMask) -> None:
    shown = set(np.unique(result.mask).tolist())
    expected = [
        name for name, index in zip(result.labels, result.class_ids.tolist(), strict=True) if index not in shown
    ]
    assert list(result.missing_labels) == expected
    classes = [index for index in shown if index not in (0, 255)]
    assert result.foreground_share == pytest.approx(np.isin(result.mask, classes).mean())
    bare = dataclasses.replace(result, mask=np.zeros_like(result.mask))
    assert bare.missing_labels == result.labels and bare.foreground_share == 0


def test_segments_with_no_label(result: PseudoMask) -> None:
    bare = dataclasses.replace(result, labels=(), class_ids=np.zeros(0, np.int64), cams=np.zeros((0, 4, 6), np.float32))
    assert bare.segments() == []
    assert bare.overlay().width >= 6


def test_overlay_is_the_picture_and_a_legend_if_wanted(result: PseudoMask) -> None:
    drawn = result.overlay()
    assert drawn.mode == "RGB" and drawn.size == (384, 256)  # 6 x 4 pixels, enlarged 64 times
    assert np.asarray(drawn)[result.mask.repeat(64, 0).repeat(64, 1) == 0].tolist().count([10, 20, 30]) > 40_000
    named = result.overlay(legend=True)
    assert (np.asarray(named)[:256] == np.asarray(drawn)).all()
    legend = np.asarray(named)[256:]
    for colour in clear_palette()[[1, 2, 3]]:
        assert (legend == colour).all(-1).any()


def test_a_result_is_frozen(result: PseudoMask) -> None:
    assert result.size == (4, 6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.mask = result.mask  # type: ignore[misc]


def test_a_result_of_the_bundled_model_is_whole(tiny, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    result = tiny(picture, ["cat", "tree"])
    assert result.size == (40, 60) and result.cams.shape == (2, 40, 60) and result.scores.shape == (3, 40, 60)
    result.save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        assert np.array_equal(np.asarray(image), result.mask)
    assert sum(segment.mask.sum() for segment in result.segments()) == (result.mask > 0).sum()
    assert np.asarray(result.image).shape == (40, 60, 3)
    assert result.overlay().width >= 60


def test_labels_are_asked_for_like_keys(result: PseudoMask) -> None:
    assert "cat" in result and "Cat" not in result and 1 not in result and list(result) == list(result.labels)
    with pytest.raises(KeyError, match="1 is not a label of the image"):
        result[1]


def test_what_a_user_prints_is_one_line(tiny: MaskGenerator, tmp_path: Path) -> None:
    """No array is written out, whoever holds it."""
    scene = draw_scene(seed=3)
    (tmp_path / "photos").mkdir()
    Image.fromarray(scene.image).save(tmp_path / "photos" / "a.png")
    status = clipes.run(tmp_path / "photos", tmp_path / "m", scene.labels, generator=tiny)
    result = tiny(scene.image, scene.labels)
    result.save(tmp_path / "truth" / "a.png")
    evaluation = clipes.evaluate(tmp_path / "m", tmp_path / "truth")
    objects = [tiny, tiny.clip, tiny.vocabulary, tiny.encode(scene.image), scene, result, *result.segments(), status]
    objects += [evaluation, find_samples(tmp_path / "photos", scene.labels), PseudoMaskDataset(tmp_path / "m")]
    told = [repr(one) for one in objects]
    assert not [text for text in told if "\n" in text or "tensor(" in text or "array(" in text or len(text) > 1000]
    figures = f"mIoU {evaluation.miou:.3f}, boundary IoU {evaluation.boundary_iou:.3f}"
    assert repr(evaluation).startswith(f"Evaluation(1 of 1 truth files judged: {figures}, pixel accuracy ")
    assert f"({' x '.join(map(str, scene.mask.shape))}: {', '.join(scene.labels)}; on " in repr(scene)
