"""Loading: every way to name a model, and every way in which it can be the wrong one."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from models import MEAN, STD, build, clip_config, save_folder, whole_state
from open_clip import factory, pretrained
from safetensors.torch import save_file
from torch import Tensor, nn

from clipes.clip import download
from clipes.clip.bundled import TINY_FOLDER
from clipes.clip.errors import ModelError
from clipes.clip.head import image_features
from clipes.clip.listing import list_models
from clipes.clip.text import encode_sentences
from clipes.clip.towers import unsupported_reason
from clipes.clip.weights import CLIP, load_clip

SMALL = clip_config()
IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Save = Callable[[str, Any], Path]


@pytest.fixture(scope="module")
def model() -> Any:
    return build(SMALL)


@pytest.fixture
def state(model: Any) -> dict[str, Tensor]:
    return whole_state(model)


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    return save_folder(model, tmp_path / "folder", SMALL)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """open_clip knows the name "small", and no download of its leads anywhere; all undone afterwards."""
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "small.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(configs)
    for place in ("hf_hub_download", "download_pretrained_from_url"):
        monkeypatch.setattr(pretrained, place, no_network)


def no_network(*_: Any, **__: Any) -> str:
    raise OSError("no route to host")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write weights as the suffix says: a safetensors file or a pickle."""

    def save(name: str, content: Any) -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    return save


def assert_loaded(clip: CLIP, model: Any, tolerance: float = 1e-5) -> None:
    """That ``clip`` computes the image and text features of ``model``."""
    encoder = clip.vision
    assert encoder.dtype == torch.float32 and encoder.device.type == "cpu"
    size = model.visual.image_size[0]
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    got = image_features(encoder.head, encoder.encode(images).last_block, "cls")
    torch.testing.assert_close(got, model.encode_image(images), rtol=0, atol=tolerance * float(got.abs().max()))
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a dog"])
    want = nn.functional.normalize(model.encode_text(tokens), dim=-1)
    torch.testing.assert_close(encode_sentences(clip.text, ["a dog"]).clone(), want, rtol=0, atol=tolerance)


# --- every door ---------------------------------------------------------------------------------------------


def test_a_folder(folder: Path, model: Any) -> None:
    clip = load_clip(f"local-dir:{folder}")
    assert_loaded(clip, model)
    assert (clip.vision.mean, clip.vision.std) == (MEAN, STD)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_a_name_and_a_file(name: str, save: Save, model: Any, state: dict[str, Tensor]) -> None:
    path = save(name, state)
    assert_loaded(load_clip("small", path), model)
    assert_loaded(load_clip("small", str(path)), model)


def test_a_training_checkpoint(save: Save, model: Any, state: dict[str, Tensor]) -> None:
    """As open_clip's own training writes it: wrapped, and named as DistributedDataParallel does."""
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    assert_loaded(load_clip("small", save("epoch_3.pt", wrapped)), model)


def test_weights_of_16_bits(save: Save, model: Any, state: dict[str, Tensor]) -> None:
    path = save("half.safetensors", {name: value.half() for name, value in state.items()})
    assert_loaded(load_clip("small", path), model, tolerance=0.01)


def test_what_is_loaded_is_frozen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    create = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", lambda *a, **k: built.append(create(*a, **k)) or built[0])
    clip = load_clip(f"local-dir:{folder}")
    assert not built[0].training and not any(value.requires_grad for value in built[0].parameters())
    assert not clip.vision.stem[0].weight.requires_grad
    assert not clip.text.encode(clip.text.tokenize(["a"])).requires_grad


def test_the_bundled_model() -> None:
    clip = load_clip("tiny")
    config = json.loads((TINY_FOLDER / "open_clip_config.json").read_text())
    assert clip.vision.patch_size == config["model_cfg"]["vision_cfg"]["patch_size"]
    assert len(clip.vision.blocks) == config["model_cfg"]["vision_cfg"]["layers"]
    assert clip.vision.mean == tuple(config["preprocess_cfg"]["mean"])
    with pytest.raises(ModelError, match="brings its own weights; leave out pretrained='openai', or name the model"):
        load_clip("tiny", "openai")


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """Huggingface's download function serves ``folder`` as the repository org/clip."""
    asked = []

    def download(repo_id: str, filename: str, **_: Any) -> str:
        asked.append(f"{repo_id}/{filename}")
        if repo_id != "org/clip" or not (folder / filename).is_file():
            raise FileNotFoundError(f"404 {repo_id} {filename}")
        return str(folder / filename)

    monkeypatch.setattr(pretrained, "hf_hub_download", download)
    return asked


def test_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path, model: Any) -> None:
    asked = hub(monkeypatch, folder)
    clip = load_clip("hf-hub:org/clip")
    assert_loaded(clip, model)
    assert clip.vision.mean == MEAN
    assert "org/clip/open_clip_model.safetensors" in asked


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "host_is_unknown", lambda address: False)
    with pytest.raises(ModelError, match=r"hf-hub:org/clip could not be fetched \(.*no route to host\); check"):
        load_clip("hf-hub:org/clip")


def test_a_hub_repository_without_weights(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    hub(monkeypatch, folder)
    with pytest.raises(ModelError, match=r"weights of hf-hub:org/clip could not be loaded"):
        load_clip("hf-hub:org/clip")


def test_a_hub_repository_of_another_library(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "open_clip_config.json").write_text('{"model_type": "clip"}')
    hub(monkeypatch, folder)
    with pytest.raises(ModelError, match=r"configuration of hf-hub:org/clip .* has no vision_cfg"):
        load_clip("hf-hub:org/clip")


def tag(monkeypatch: pytest.MonkeyPatch, name: str, path: Path, cfg: dict[str, Any] = SMALL) -> None:
    """open_clip's tags of ``name`` lead to ``path``, and its architecture is ``cfg``, with its own GELU."""
    cfg = {**cfg, "quick_gelu": factory._MODEL_CONFIGS[name].get("quick_gelu", False)}
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, cfg)
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: str(path))


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B/16", "ViT-B-16-quickgelu"])
@pytest.mark.parametrize("weights", ["openai", "OpenAI"])
def test_openais_weights_force_quick_gelu(
    name: str, weights: str, monkeypatch: pytest.MonkeyPatch, save: Save, state: dict[str, Tensor]
) -> None:
    tag(monkeypatch, name.replace("/", "-"), save("openai.safetensors", state))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip = load_clip(name, weights)
    assert {block.mlp.activation for block in clip.vision.blocks} == {"quick_gelu"}
    assert_loaded(clip, build({**SMALL, "quick_gelu": True}))


def test_other_tags_leave_the_gelu_alone(
    monkeypatch: pytest.MonkeyPatch, save: Save, model: Any, state: dict[str, Tensor]
) -> None:
    tag(monkeypatch, "ViT-B-16", save("laion.safetensors", state))
    clip = load_clip("ViT-B-16", "laion2b-s34b-b88k")
    assert {block.mlp.activation for block in clip.vision.blocks} == {"gelu"}
    assert_loaded(clip, model)


def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "download_pretrained", no_network)
    monkeypatch.setattr(download, "host_is_unknown", lambda address: False)
    with pytest.raises(
        ModelError, match=r"ViT-B-32 with openai could not be downloaded: .*no route to host.*check the network"
    ):
        load_clip("ViT-B-32", "openai")


# --- which GELU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights"), [("ViT-B-16", "dfn2b"), ("ViT-B-32", "laion400m-e32"), ("ViT-L-14", "metaclip_400m")]
)
def test_quick_gelu_weights_under_a_gelu_name(name: str, weights: str) -> None:
    with pytest.raises(ModelError, match=rf"{weights} were trained with another GELU.* load '{name}-quickgelu'"):
        load_clip(name, weights)


def test_gelu_weights_under_a_quick_gelu_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pretrained._PRETRAINED["ViT-B-16-quickgelu"], "plain", {"quick_gelu": False, "url": "x"})
    with pytest.raises(ModelError, match=r"another GELU than that of ViT-B-16-quickgelu; load 'ViT-B-16'"):
        load_clip("ViT-B-16-quickgelu", "plain")


def test_every_tag_of_open_clip_has_a_name_that_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tag's refusal names a model that does not exist, lacks the tag, or is refused itself."""

    class Reached(Exception):
        pass

    def reached(*_: Any, **__: Any) -> None:
        raise Reached

    monkeypatch.setattr("clipes.clip.weights._from_open_clip", reached)
    monkeypatch.setattr("clipes.clip.weights.load_tokenizer", lambda _: None)
    refused = 0
    for model in list_models()[1:]:
        for weights in open_clip.list_pretrained_tags_by_model(model.name):
            try:
                load_clip(model.name, weights)
            except Reached:
                assert weights in model.tags
                continue
            except ModelError as error:
                refused += 1
                assert weights not in model.tags
                match = re.search("load '(.*)'", str(error))
                assert match and match[1] != model.name
                with pytest.raises(Reached):
                    load_clip(match[1], weights)
    assert refused >= 10


# --- TorchScript archives -----------------------------------------------------------------------------------

OPENAI_LIKE = clip_config(width=64, head_width=64, text_width=64, quick_gelu=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A TorchScript archive as OpenAI's are: weights in 16 bits, sizes as buffers, QuickGELU inside."""
    model = build(OPENAI_LIKE).half()
    for name, value in (("input_resolution", 32), ("context_length", 16), ("vocab_size", 49408)):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    path = tmp_path / "openai.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), str(path))
    return path


@pytest.fixture
def plain_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """The archive's architecture under a name whose configuration says plain GELU, as ViT-B-16's does."""
    monkeypatch.setitem(factory._MODEL_CONFIGS, "archived", {**OPENAI_LIKE, "quick_gelu": False})
    return "archived"


def test_an_archive_is_refused_unless_trusted(archive: Path, plain_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the archive was opened"))
    with pytest.raises(ModelError, match=r"openai\.pt is a TorchScript archive.*run code; pass trusted=True"):
        load_clip(plain_name, archive)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_trusted_archive(archive: Path, plain_name: str) -> None:
    clip = load_clip(plain_name, archive, trusted=True)
    assert {block.mlp.activation for block in clip.vision.blocks} == {"quick_gelu"}
    assert_loaded(clip, build(OPENAI_LIKE).half().float())


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_archive_that_is_not_openais(tmp_path: Path, plain_name: str) -> None:
    """Full precision and the name's own GELU are kept."""
    model = build({**OPENAI_LIKE, "quick_gelu": False})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), str(tmp_path / "scripted.pt"))
    assert_loaded(load_clip(plain_name, tmp_path / "scripted.pt", trusted=True), model)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_archive_of_another_architecture(archive: Path) -> None:
    with pytest.raises(ModelError, match=r"openai\.pt does not fit small: .* of another size .*this very architecture"):
        load_clip("small", archive, trusted=True)


@pytest.mark.filterwarnings("ignore:.*looks like a TorchScript archive")
def test_an_archive_in_a_folder(archive: Path, folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    shutil.copy(archive, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"weights of local-dir:.* not a state dict of tensors alone"):
        load_clip(f"local-dir:{folder}")


def test_trusting_changes_nothing_for_other_files(save: Save, model: Any, state: dict[str, Tensor]) -> None:
    assert_loaded(load_clip("small", save("w.pt", state), trusted=True), model)


# --- names and tags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"), [("ViT-B-61", "'ViT-B-16'"), ("vit-b-16", "'ViT-B-16'"), ("smal", "'small'")]
)
def test_an_unknown_name_gets_near_ones(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=rf"open_clip has no model '{name}'; did you mean .*{near}"):
        load_clip(name, "openai")


def test_a_name_near_to_nothing() -> None:
    with pytest.raises(ModelError, match="has no model '#'; `clipes models` lists the names"):
        load_clip("#")


def test_no_weights_is_never_random_weights() -> None:
    with pytest.raises(ModelError, match=r"no weights given for ViT-B-16; .*openai, .*laion2b_s34b_b88k.*weights file"):
        load_clip("ViT-B-16")
    with pytest.raises(ModelError, match=r"no weights given for small; pass pretrained= a tag \(it has none\) or"):
        load_clip("small")


def test_an_unknown_tag() -> None:
    with pytest.raises(ModelError, match=r"ViT-B-16 has no tag 'opanai'; its tags are openai, laion400m_e31"):
        load_clip("ViT-B-16", "opanai")
    with pytest.raises(ModelError, match="small has no tag 'openai'; its tags are none"):
        load_clip("small", "openai")
    with pytest.raises(ModelError, match="has no tag"):
        load_clip("ViT-B-16", "")


@pytest.mark.parametrize("path", ["missing.safetensors", "missing.pt", "somewhere/missing"])
def test_a_missing_weights_file(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"weights file {path} does not exist"):
        load_clip("small", path)


# --- folders ------------------------------------------------------------------------------------------------


def test_a_missing_folder_or_config(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.open_clip_config\.json does not exist"):
        load_clip(f"local-dir:{tmp_path / 'nowhere'}")
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"folder.open_clip_config\.json does not exist; .*saved for open_clip"):
        load_clip(f"local-dir:{folder}")


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"folder holds no weights; put open_clip_model\.safetensors beside"):
        load_clip(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not an open_clip configuration"),
        ("", "is not an open_clip configuration"),
        ("[]", "is not an open_clip configuration"),
        ("3", "is not an open_clip configuration"),
        ("{}", r"is not an open_clip configuration \(KeyError 'model_cfg'\)"),
        ('{"model_cfg": null}', "is not one of open_clip's: it has no vision_cfg"),
        ('{"model_cfg": {"vision_cfg": 3}}', "it has no vision_cfg"),
        ('{"model_cfg": {"vision_cfg": {}}}', "it has no text_cfg"),
        (
            '{"model_cfg": {"vision_cfg": {"patch": 8}, "text_cfg": {}, "embed_dim": 8}}',
            "could not be loaded",
        ),
        ('{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}}', "could not be loaded"),
    ],
)
def test_a_broken_configuration(text: str, message: str, folder: Path) -> None:
    (folder / "open_clip_config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        load_clip(f"local-dir:{folder}")


def test_weights_given_twice(folder: Path) -> None:
    with pytest.raises(ModelError, match="brings its own weights; leave out pretrained='openai'"):
        load_clip(f"local-dir:{folder}", "openai")


# --- wrong weights ------------------------------------------------------------------------------------------

WRONG = "is not a whole file of safetensors.*; get it again|is empty; get the file again"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_with_a_key_missing_or_too_many(suffix: str, save: Save, state: dict[str, Tensor]) -> None:
    part = {name: value for name, value in state.items() if name != "visual.proj"}
    with pytest.raises(ModelError, match=r"does not fit small: of its weights 1 missing \(visual\.proj\); they"):
        load_clip("small", save(f"part{suffix}", part))
    more = {**state, "visual.extra": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"1 unknown \(visual\.extra\); they"):
        load_clip("small", save(f"more{suffix}", more))


def test_weights_of_another_shape(save: Save) -> None:
    other = whole_state(build(clip_config(width=48)))
    with pytest.raises(
        ModelError, match=r"of another size \(visual\.class_embedding \(48,\), not \(32,\), visual\.conv1"
    ):
        load_clip("small", save("wide.safetensors", other))


def test_weights_in_the_folder_of_another_architecture(folder: Path) -> None:
    save_file(whole_state(build(clip_config(layers=2))), folder / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match=r"local-dir:.* could not be loaded: .*Missing key"):
        load_clip(f"local-dir:{folder}")


class Payload:
    """A pickle that creates a folder when it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch", "pickle", "folder"])
def test_a_pickle_that_runs_code(how: str, save: Save, folder: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = {**state, "payload": Payload(mark)}
    path = save("bad.pt", pickle.dumps(content) if how == "pickle" else content)
    name: str = "small"
    weights: Path | None = path
    if how == "folder":
        (folder / "open_clip_model.safetensors").unlink()
        shutil.copy(path, folder / "model.pth")
        name, weights = f"local-dir:{folder}", None
    with pytest.raises(ModelError, match=r"could run code|can run code|not a whole file") as caught:
        load_clip(name, weights)
    assert not mark.exists()
    assert "weights_only" not in str(caught.value)  # torch's advice to switch the safety off is not passed on
    if how == "torch":  # who trusts it gets it: the payload is a live one
        load_clip(name, weights, trusted=True)
    else:
        with path.open("rb") as file:
            pickle.load(file) if how == "pickle" else torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
def test_a_truncated_file(suffix: str, keep: float, save: Save, state: dict[str, Tensor]) -> None:
    path = save(f"whole{suffix}", state)
    data = path.read_bytes()
    with pytest.raises(ModelError, match=WRONG):
        load_clip("small", save(f"cut{suffix}", data[: keep if isinstance(keep, int) else int(keep * len(data))]))


@pytest.mark.parametrize("name", ["notes.txt", "notes.safetensors", "notes.pt", "notes.bin"])
def test_a_text_file(name: str, save: Save) -> None:
    with pytest.raises(ModelError, match=WRONG):
        load_clip("small", save(name, b"These are not the weights you are looking for.\n" * 50))


@pytest.mark.parametrize("name", ["empty.pt", "empty.safetensors", "empty.npz", "empty.txt"])
def test_an_empty_file(name: str, save: Save) -> None:
    with pytest.raises(ModelError, match=WRONG):
        load_clip("small", save(name, b""))


def test_numpy_arrays(tmp_path: Path, state: dict[str, Tensor]) -> None:
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in state.items()})
    with pytest.raises(ModelError, match=WRONG):
        load_clip("small", tmp_path / "w.npz")


@pytest.mark.parametrize("content", [{}, [1, 2], 3, {"state_dict": {}}, {"a": 1}])
def test_a_pickle_that_is_no_state_dict(content: Any, save: Save) -> None:
    with pytest.raises(ModelError, match=r"odd\.pt holds no state dict but a (dict|list|int)"):
        load_clip("small", save("odd.pt", content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["visual.proj", "token_embedding.weight"])
def test_weights_that_are_not_numbers(value: float, name: str, save: Save, state: dict[str, Tensor]) -> None:
    state[name].view(-1)[7] = value
    with pytest.raises(ModelError, match=rf"weights of small hold NaN or infinity in {name}; get the file again"):
        load_clip("small", save("w.safetensors", state))


# --- unsupported towers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("RN50", "its image tower is a ResNet"),
        ("ViTamin-S", "timm's vitamin_small_224, begins with convolutional stages"),
        ("convnext_base", "timm's convnext_base, is convolutional"),
    ],
)
def test_unsupported_towers_say_why(name: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the configuration alone: nothing is downloaded or built."""
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("a model was built"))
    message = rf"{name} is not supported: .*{why}.*; clipes reads ViTs"
    for weights in (None, open_clip.list_pretrained_tags_by_model(name)[0], tmp_path / "missing.pt"):
        with pytest.raises(ModelError, match=message):
            load_clip(name, weights)


@pytest.mark.parametrize(
    ("vision", "why"),
    [
        ({"attentional_pool": "parallel"}, "it pools the image with attention twice"),
        ({"pool_type": "none"}, "its pooling is 'none'"),
        ({"qk_norm": True}, "its attention blocks have a form of their own"),
        ({"scaled_cosine_attn": True}, "its attention blocks have a form of their own"),
        ({"scale_fc": True}, "its attention blocks have a form of their own"),
        ({"block_type": "custom"}, "its attention blocks have a form of their own"),
        ({"patch_size": [8, 16]}, r"its patches are not square \(\[8, 16\]\)"),
        ({"layers": [3, 4, 6, 3]}, "its image tower is a ResNet"),
    ],
)
def test_unsupported_folders_say_why(vision: dict[str, Any], why: str, folder: Path) -> None:
    cfg = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], **vision}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
    with pytest.raises(ModelError, match=rf"local-dir:.* is not supported: {why}"):
        load_clip(f"local-dir:{folder}")


@pytest.mark.parametrize("vision", [{"image_size": [32, 64]}, {"patch_size": [8, 8]}, {"block_type": "default"}])
def test_supported_ways_to_say_the_same(vision: dict[str, Any]) -> None:
    assert unsupported_reason({**SMALL, "vision_cfg": {**SMALL["vision_cfg"], **vision}}) is None


def test_what_can_be_loaded() -> None:
    rows = {model.name: (model.tags, model.reason) for model in (*list_models(), *list_models(unsupported=True))}
    assert "openai" in rows["ViT-B-16"][0] and rows["ViT-B-16"][1] is None
    assert "ResNet" in str(rows["RN50"][1])
    assert "small" not in rows  # it has no weights
    for name in ("ViT-B-32", "ViT-L-14", "ViT-H-14", "ViT-bigG-14", "ViT-L-14-336"):
        assert rows[name][1] is None
    for name, (_, reason) in rows.items():
        if re.match("RN|convnext|ViTamin|MobileCLIP2?-S", name):
            assert reason, name
