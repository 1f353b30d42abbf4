"""Every recipe is whole, makes masks, and takes flags on top of it."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

import clipes
from clipes.commands.flags import add_config_flags, read_config
from clipes.config import PRESETS, RECIPES, Config, ParConfig, PatchTextConfig
from clipes.generator import MaskGenerator

UNPUBLISHED = {"scenes", "committee", "clip-es-scenes", "mctformer-like", "seam-like", "psa-like"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json_and_makes_a_mask(name, tiny):
    recipe = RECIPES[name]
    assert Config.from_dict(json.loads(json.dumps(recipe.config.to_dict()))) == recipe.config
    scene = clipes.scenes.draw_scene(seed=7, size=(56, 72))
    result = MaskGenerator(tiny.clip, tiny.vocabulary, recipe.config)(scene.image, scene.labels)
    assert np.isfinite(result.patch_cams).all() and result.mask.shape == scene.mask.shape
    assert result.patch_cams.max() > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is(name):
    recipe = RECIPES[name]
    assert recipe.sentence.endswith(".") and recipe.source
    assert recipe.published or name in UNPUBLISHED


def test_recipes_are_presets_beside_those_of_the_class_sets():
    assert set(PRESETS) == {"voc12", "coco14", *RECIPES}
    assert PRESETS["voc12"] == RECIPES["clip-es-voc12"].config and PRESETS["coco14"] == RECIPES["clip-es-coco14"].config
    distinct = {json.dumps(recipe.config.to_dict()) for recipe in RECIPES.values()}
    assert len(distinct) == len(RECIPES)


def test_flags_come_on_top_of_a_recipe():
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    given = ["--preset", "excel-voc12", "--square", "none", "--patch-text-blocks", "3", "--par-iterations", "4"]
    config, recipe = read_config(parser.parse_args(given), "scenes"), RECIPES["excel-voc12"].config
    image = replace(recipe.image, square=None)
    map, refine = PatchTextConfig(blocks=3, competitors="all"), ParConfig(iterations=4)
    assert config == replace(recipe, image=image, map=map, refine=refine)


def test_a_class_file_may_name_a_recipe(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"classes": ["cat", "tree"], "config": "sclip-like"}))
    assert clipes.load("tiny", classes=file).config == RECIPES["sclip-like"].config
