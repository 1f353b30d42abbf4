"""Weights files of every origin: names of other libraries, what scripts put beside tensors, broken downloads."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from models import build, clip_config, whole_state
from open_clip import factory, pretrained
from safetensors.torch import save_file
from torch import Tensor

from clipes.clip.errors import ModelError
from clipes.clip.weights import load_clip

SMALL = clip_config()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "small", SMALL)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return whole_state(build(SMALL))


def same_weights(path: Path, state: dict[str, Tensor], **settings: Any) -> None:
    vision = load_clip("small", path, **settings).vision
    assert torch.equal(vision.stem[0].weight, state["visual.conv1.weight"])
    assert torch.equal(vision.head.projection, state["visual.proj"])
    for index, block in enumerate(vision.blocks):
        name = f"visual.transformer.resblocks.{index}"
        assert torch.equal(block.in_proj_weight, state[f"{name}.attn.in_proj_weight"])
        assert torch.equal(block.mlp.fc_bias, state[f"{name}.mlp.c_fc.bias"])


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "clip.", "module.model."])
def test_wrappers_and_prefixes(prefix: str, wrapper: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    other = {"optimizer": {"state": {}}, "epoch": 3}
    named = {f"{prefix}{name}": value for name, value in state.items()} | (
        {"head.weight": torch.ones(2)} if prefix else {}
    )
    torch.save({**other, wrapper: named}, tmp_path / "w.pt")
    same_weights(tmp_path / "w.pt", state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_another_image_size(dtype: torch.dtype, tmp_path: Path) -> None:
    """The table of positions is resized, in float32."""
    larger = whole_state(build(clip_config(image=48)))
    save_file({name: value.to(dtype) for name, value in larger.items()}, tmp_path / "half.safetensors")
    save_file({name: value.to(dtype).float() for name, value in larger.items()}, tmp_path / "same.safetensors")
    half, same = (load_clip("small", tmp_path / f"{name}.safetensors") for name in ("half", "same"))
    assert half.vision.stem[0].weight.dtype == torch.float32
    assert half.text.fingerprint == same.text.fingerprint


@pytest.mark.parametrize(
    ("name", "shape"),
    [("visual.positional_embedding", (20, 32)), ("visual.positional_embedding", (9,)), ("positional_embedding", (5,))],
)
def test_a_table_of_positions_that_is_none(
    name: str, shape: tuple[int, ...], state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({**state, name: torch.zeros(shape)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=rf"does not fit small: .*1 of another size \({name} \({shape[0]},"):
        load_clip("small", tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "kind"), [({}, "a dict;"), ([], "a list;"), ({"lr": 1}, "a dict with the keys 'lr'")]
)
def test_a_file_without_tensors(content: Any, kind: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=f"holds no state dict but {kind}"):
        load_clip("small", tmp_path / "w.pt")


@pytest.mark.parametrize(("name", "head"), [("w.h5", b"\x89HDF\r\n"), ("w.onnx", b"\x08\x07\x12\x07pytorch")])
def test_a_file_of_another_program(name: str, head: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(head + bytes(200))
    with pytest.raises(ModelError, match=rf"{name} is for another program than PyTorch; give its \.safetensors or"):
        load_clip("small", tmp_path / name)


def test_several_models_in_one_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    both = {f"{prefix}{name}": value for prefix in ("student.", "teacher.") for name, value in state.items()}
    torch.save(both, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"holds several models \('student\.', 'teacher\.'\); save one alone"):
        load_clip("small", tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["", "visual."])
def test_the_vision_side_alone(prefix: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    vision = {
        prefix + name.removeprefix("visual."): value.clone()
        for name, value in state.items()
        if name.startswith("visual.")
    }
    save_file(vision, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="holds the vision side alone; save the whole CLIP"):
        load_clip("small", tmp_path / "w.safetensors")


def test_what_training_scripts_save_beside_the_weights(state: dict[str, Tensor], tmp_path: Path) -> None:
    beside = {
        "best": np.float64(0.7),
        "step": np.int64(9),
        "name": np.str_("run"),
        "losses": np.arange(3.0, dtype=np.float32),
        "args": argparse.Namespace(lr=1e-4, name="x"),
    }
    torch.save({"state_dict": state, **beside}, tmp_path / "w.pt")
    same_weights(tmp_path / "w.pt", state)


class Settings:
    """A class of the training script."""


def test_an_object_of_another_class_needs_trust(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": state, "settings": Settings()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"holds an object of test_checkpoint\.Settings .*trusted=True \(--trusted\)"):
        load_clip("small", tmp_path / "w.pt")
    same_weights(tmp_path / "w.pt", state, trusted=True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"\n <html><body>Sign in</body></html>", "is a web page"),
        (b'{"error": "Repository not found"}', r"is a text, not weights: '.*Repository not found"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    ],
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_broken_download(name: str, content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=why) as caught:
        load_clip("small", tmp_path / name)
    assert "run code" not in str(caught.value)


# --- transformers -------------------------------------------------------------------------------------------


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that ``transformers.CLIPModel`` has, written out here the other way round."""
    found = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T,
        "visual_projection.weight": state["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(16)[None],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    for kind in ("weight", "bias"):
        found[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        found[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        found[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        for side, own in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
            index = 0
            while f"{own}.resblocks.{index}.ln_1.weight" in state:
                there, here = f"{side}.encoder.layers.{index}", f"{own}.resblocks.{index}"
                parts = state[f"{here}.attn.in_proj_{kind}"].chunk(3)
                for letter, part in zip("qkv", parts, strict=True):
                    found[f"{there}.self_attn.{letter}_proj.{kind}"] = part
                for name, other in (
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    found[f"{there}.{name}.{kind}"] = state[f"{here}.{other}.{kind}"]
                index += 1
    return {name: value.clone().contiguous() for name, value in found.items()}


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_weights_of_transformers(prefix: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    named = {f"{prefix}{name}": value for name, value in as_transformers(state).items()}
    save_file(named, tmp_path / "model.safetensors")
    same_weights(tmp_path / "model.safetensors", state)
    save_file(state, tmp_path / "own.safetensors")
    loaded, own = (load_clip("small", tmp_path / name) for name in ("model.safetensors", "own.safetensors"))
    assert loaded.text.fingerprint == own.text.fingerprint


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(FileNotFoundError, match=r"as transformers saves a model; .*model\.safetensors as pretrained"):
        load_clip(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("openai/clip-vit-base-patch16", "--model ViT-B-16 --pretrained openai"),
        ("openai/clip-vit-large-patch14-336", "--model ViT-L-14-336 --pretrained openai"),
        ("google/siglip-base-patch16-224", "--model ViT-B-16-SigLIP --pretrained webli"),
        ("google/siglip2-giant-opt-patch16-384", "--model ViT-gopt-16-SigLIP2-384 --pretrained webli"),
        ("google/siglip2-base-patch16-naflex", "did you mean hf-hub:google/siglip2-base-patch16-naflex"),
        (
            "laion/CLIP-ViT-B-32",
            r"no model 'laion/CLIP-ViT-B-32'; did you mean hf-hub:laion/CLIP-ViT-B-32, a repository",
        ),
        ("ViT-B/61", "no model 'ViT-B/61'; did you mean 'ViT-B-16'"),
        ("weights/vit.pt", "no model 'weights/vit.pt'; a weights file is given as pretrained"),
        ("vit.safetensors", "a weights file is given as pretrained"),
    ],
)
def test_what_is_no_name_of_open_clip(name: str, cure: str) -> None:
    with pytest.raises(ModelError, match=cure):
        load_clip(name)


# --- what a file does not say -------------------------------------------------------------------------------

GELU = {"quick_gelu": False, "url": "x"}
OTHER_MEAN = {**GELU, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.5), "interpolation": "bilinear"}


@pytest.fixture
def file(state: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(state, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def tags(monkeypatch: pytest.MonkeyPatch, **tags: dict[str, Any]) -> None:
    monkeypatch.setitem(pretrained._PRETRAINED, "small", tags)


def test_a_file_of_a_name_with_both_activations(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags(monkeypatch, openai={"url": "x", "quick_gelu": True}, laion=GELU)
    expected = r"w\.safetensors does not say .*assumed is GELU, mean 0\.4815.*openai: QuickGELU.*--weights-of TAG"
    with pytest.warns(UserWarning, match=expected):
        plain = load_clip("small", file).vision
    assert {block.mlp.activation for block in plain.blocks} == {"gelu"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick, gelu = (load_clip("small", file, like=tag).vision for tag in ("openai", "laion"))
    assert {block.mlp.activation for block in quick.blocks} == {"quick_gelu"}
    assert {block.mlp.activation for block in gelu.blocks} == {"gelu"}


def test_nothing_calls_the_model_random_that_a_file_fills(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """open_clip builds it without weights, and logs that."""
    tags(monkeypatch, laion=GELU)
    load_clip("small", file)
    assert not caplog.messages


def test_a_file_of_a_name_with_two_means(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags(monkeypatch, laion=GELU, other=OTHER_MEAN)
    with pytest.warns(UserWarning, match=r"other: GELU, mean 0\.5, 0\.5, 0\.5, std 0\.25"):
        load_clip("small", file)
    vision = load_clip("small", file, like="other").vision
    assert (vision.mean, vision.std, vision.interpolation) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.5), "bilinear")


def test_a_file_of_a_name_whose_other_name_has_quick_gelu(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags(monkeypatch, laion=GELU)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "small-quickgelu", {**SMALL, "quick_gelu": True})
    monkeypatch.setitem(pretrained._PRETRAINED, "small-quickgelu", {"dfn": {"url": "x", "quick_gelu": True}})
    with pytest.warns(UserWarning, match="dfn of small-quickgelu: QuickGELU"):
        load_clip("small", file)


@pytest.mark.parametrize("one", [{}, {"laion": GELU}, {"a": GELU, "b": GELU}])
def test_nothing_is_said_where_all_weights_are_alike(
    one: dict[str, Any], file: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    tags(monkeypatch, **one)
    load_clip("small", file)
    assert not list(recwarn)


def test_like_is_a_tag_and_for_files_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags(monkeypatch, laion=GELU)
    with pytest.raises(ModelError, match=r"small has no tag 'openai' that its weights file could be like; .*laion"):
        load_clip("small", file, like="openai")
    with pytest.raises(ModelError, match=r"like='openai' .* is for a weights file"):
        load_clip("tiny", like="openai")
    with pytest.raises(ModelError, match=r"like='laion' .* is for a weights file"):
        load_clip("small", "laion", like="laion")


def test_an_interpolation_that_is_not_supported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags(monkeypatch, odd={**GELU, "interpolation": "nearest"})
    with pytest.raises(ModelError, match="interpolation 'nearest' is not supported"):
        load_clip("small", file, like="odd")


def test_open_clip_knows_the_activation_of_every_kind() -> None:
    """OpenAI's tag and another one, of a real name: what a file of ViT-B-32 may be."""
    from clipes.clip.architecture import default_training, model_config, other_trainings

    for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14"):
        config = model_config(name, None)
        others = other_trainings(name, config, default_training(name, config))
        assert any(training.quick_gelu for training in others.values()), name
    assert not open_clip.get_model_config("ViT-B-32").get("quick_gelu")
