"""examples/sam_refine.py with small SAM 2 and SAM 3 of random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from clipes.cli import main
from clipes.commands.demo_run import write_scenes
from clipes.config import ModeVoteConfig
from clipes.io.coco_rle import decode_rle
from clipes.regions import region_ids
from clipes.regions.vote import vote

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import sam_refine

    yield sam_refine
    del sys.modules["sam_refine"]


def parts(vision, side: int) -> dict:
    """The arguments of a configuration of pictures of ``side`` pixels."""
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    prompts = {"hidden_size": 32, "image_size": side}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}


def small_sam2(transformers):
    """A model and its processor of pictures of 64 x 64 pixels."""
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    config = transformers.Sam2Config(**parts(vision, 64))
    pictures = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64})
    return transformers.Sam2Model(config), transformers.Sam2Processor(pictures)


def small_sam3(transformers):
    backbone = transformers.Sam3ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=28,
    )
    sizes = [[16, 16], [8, 8], [4, 4]]
    vision = transformers.Sam3VisionConfig(backbone_config=backbone, backbone_feature_sizes=sizes, fpn_hidden_size=32)
    config = transformers.Sam3TrackerConfig(**parts(vision, 56))
    pictures = transformers.Sam3ImageProcessor(size={"height": 56, "width": 56})
    return transformers.Sam3TrackerModel(config), transformers.Sam3TrackerProcessor(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("small", [small_sam2, small_sam3])
def test_answers_are_regions_that_vote(small, example, tmp_path, monkeypatch, capsys):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for part in small(transformers):
        part.save_pretrained(tmp_path / "sam")
    write_scenes(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "images", "--labels", "labels.csv", "--out", "masks", "--save-patch-cams"]) == 0
    given = ["sam_refine.py", "masks", "--out", "refined", "--model", "sam", "--rounds", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as ended:
        example.main()
    assert ended.value.code == 0, capsys.readouterr().err
    rows = json.loads(Path("refined-prompts.json").read_text())["images"]
    assert len(rows) == 2
    sam = example.Sam("sam", "cpu")
    for row in rows:
        masks = sam.refine(Image.open(f"images/{row['id']}.jpg"), row["prompts"], 2)
        regions = np.asarray(Image.open(f"refined-regions/{row['id']}.png"))
        np.testing.assert_array_equal(regions, region_ids(masks, tuple(row["size"])))
        assert any((mask != decode_rle(one["mask"])).any() for mask, one in zip(masks, row["prompts"], strict=True))
        old, new = (np.asarray(Image.open(f"{folder}/{row['id']}.png")) for folder in ("masks", "refined"))
        np.testing.assert_array_equal(new, vote(old, regions, 255, ModeVoteConfig()))


def test_a_mask_prompt_is_sure_in_the_middle_and_outside(example):
    mask = np.hypot(*(np.indices((90, 120)) - np.array([40, 50])[:, None, None])) < 25
    (logits,) = example.mask_prompt(mask, (90, 120))[0].numpy()
    np.testing.assert_array_equal(logits > 0, mask)
    assert logits[40, 50] == example.STRENGTH and (logits[~mask] == -example.STRENGTH).all()
    distance = ndimage.distance_transform_edt(mask)
    expected = example.STRENGTH * np.exp(-((distance - distance.max()) ** 2) / (mask.sum() / example.GAMMA))
    np.testing.assert_allclose(logits[mask], expected[mask], rtol=1e-5)
    assert example.mask_prompt(mask, (16, 16)).shape == (1, 1, 16, 16)


def test_a_run_without_maps_is_refused_before_sam_is_loaded(example, tmp_path, monkeypatch):
    write_scenes(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "images", "--labels", "labels.csv", "--out", "masks"]) == 0
    monkeypatch.setattr(sys, "argv", ["sam_refine.py", "masks", "--out", "refined"])
    with pytest.raises(SystemExit, match="masks has no maps; make it with `clipes generate --save-patch-cams`"):
        example.main()
    assert not Path("refined-prompts.json").exists()
