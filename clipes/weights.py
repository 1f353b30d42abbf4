"""From open_clip's names, folders and files to our frozen towers: the only file that knows open_clip.

open_clip builds the model and reads the weights; from there on only parameters are used, found by name, so that
both its ``nn.MultiheadAttention`` blocks and the ``Attention`` module of its main branch fit.
"""

from __future__ import annotations

import difflib
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.cam import Head
from clipes.encoder import Encoder
from clipes.transformer import Activation, Block, Norm

TINY_FOLDER = Path(__file__).with_name("tiny")
SUPPORTED = "a plain CLIP ViT (ViT-B-32, ViT-B-16, ViT-L-14, ViT-H-14 and the like; `clipes models` lists them)"


class ModelError(ValueError):
    """A model that cannot be had: unknown, without weights, of another structure, or with wrong weights."""


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP: the vision tower, and its text side as a function from sentences to unit features (n, E)."""

    encoder: Encoder
    encode_text: Callable[[Sequence[str]], Tensor]


def load_clip(model: str, pretrained: str | Path | None = None, *, trusted: bool = False) -> Clip:
    """Load a CLIP with a ViT tower, in float32 on the CPU.

    Args:
        model: an open_clip name, ``hf-hub:org/repo``, ``local-dir:PATH``, or ``"tiny"``, the bundled model.
        pretrained: for an open_clip name, one of its tags or a weights file: ``.safetensors``, or a state dict
            (``.pt``, ``.bin``), read with ``weights_only=True``.
        trusted: allow OpenAI's TorchScript archives, whose loading can run code.

    Raises:
        ModelError: an unknown name or tag, no weights, a tower that is not a plain ViT, weights that do not fit.
        FileNotFoundError: a folder or a weights file that does not exist.
    """
    if model == "tiny":
        model = f"local-dir:{TINY_FOLDER}"
    named = not model.startswith(("local-dir:", "hf-hub:"))
    if named:
        model = model.replace("/", "-")
        config = _config_of_name(model)
    else:
        config = _config_of_place(model, pretrained)
    reason = unsupported(config)
    if reason:
        raise ModelError(f"{model} is not supported: {reason}; clipes reads {SUPPORTED}")
    quick_gelu = named and _needs_quick_gelu(model, pretrained, config)
    clip = _open_clip_model(model, str(pretrained) if named else None, quick_gelu, trusted)
    broken = [name for name, value in clip.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise ModelError(f"the weights of {model} hold NaN or infinity in {broken[0]}; get the file again")
    clip.eval().requires_grad_(False).float()
    return Clip(vision_encoder(clip), _text_encoder(clip, model))


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why a model of open_clip's configuration ``config`` cannot be used, or None if it can."""
    vision = config.get("vision_cfg", {})
    custom = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
    size = vision.get("image_size", 224)
    if "multimodal_cfg" in config:
        return "CoCa pools the image with attention"
    if vision.get("timm_model_name"):
        return f"its image tower is timm's {vision['timm_model_name']} (SigLIP, EVA and the like have no class token)"
    if isinstance(vision.get("layers", 12), list | tuple):
        return "its image tower is a ResNet, which has no attention maps"
    if vision.get("attentional_pool"):
        return "it pools the image with attention"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its pooling is {vision['pool_type']!r}"
    if vision.get("block_type") == "custom" or any(vision.get(name) for name in custom):
        return "its attention blocks have a form of their own"
    if isinstance(size, list | tuple) and len(set(size)) > 1:
        return f"its native image is not square ({size})"
    return None


def vision_encoder(model: Any) -> Encoder:
    """The vision tower of an open_clip ``CLIP`` module as frozen tensors (shared, not copied)."""
    visual = model.visual
    state = _state(visual)
    preprocess = getattr(visual, "preprocess_cfg", None) or {}
    return Encoder(
        patch_size=state["conv1.weight"].shape[-1],
        patch_weight=state["conv1.weight"],
        class_embedding=state["class_embedding"],
        positional_embedding=state["positional_embedding"],
        ln_pre=_norm(visual.ln_pre) if "ln_pre.weight" in state else None,
        blocks=tuple(_block(block) for block in visual.transformer.resblocks),
        head=Head(
            ln_post=_norm(visual.ln_post),
            projection=state["proj"],
            logit_scale=float(model.logit_scale.detach().exp()),
            norm_after_pool=bool(getattr(visual, "final_ln_after_pool", False)),
        ),
        mean=tuple(preprocess.get("mean", (0.48145466, 0.4578275, 0.40821073))),
        std=tuple(preprocess.get("std", (0.26862954, 0.26130258, 0.27577711))),
    )


def supported_models() -> list[tuple[str, tuple[str, ...], str | None]]:
    """Every model open_clip has weights for: name, tags, and why it is not supported (None if it is)."""
    import open_clip

    rows = []
    for name in open_clip.list_models():
        tags = tuple(open_clip.list_pretrained_tags_by_model(name))
        if tags:
            rows.append((name, tags, unsupported(open_clip.get_model_config(name))))
    return rows


def _config_of_name(model: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] | None = open_clip.get_model_config(model)
    if config is None:
        near = difflib.get_close_matches(model, open_clip.list_models(), 3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "`clipes models` lists the names"
        raise ModelError(f"open_clip has no model {model!r}; {hint}")
    return config


def _config_of_place(model: str, pretrained: str | Path | None) -> dict[str, Any]:
    if pretrained is not None:
        raise ModelError(f"{model} brings its own weights; leave out pretrained={str(pretrained)!r}")
    scheme, _, place = model.partition(":")
    if scheme == "hf-hub":
        import open_clip

        try:
            return dict(open_clip.get_model_config(model))
        except Exception as error:  # huggingface_hub's, the network's, JSON's: all mean that it cannot be had
            raise ModelError(f"{model} could not be fetched ({_short(error)}); check the id and the network") from error
    file = Path(place) / "open_clip_config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {model} must be a folder saved for open_clip")
    if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in file.parent.iterdir()):
        raise FileNotFoundError(f"{file.parent} holds no weights; put open_clip_model.safetensors beside the config")
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["model_cfg"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not an open_clip configuration ({_short(error)})") from error


def _needs_quick_gelu(model: str, pretrained: str | Path | None, config: Mapping[str, Any]) -> bool:
    """Whether QuickGELU must be forced: for OpenAI's weights. Checks the tag or the file on the way."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None:
        known = ", ".join(tags) or "none, give a weights file"
        raise ModelError(f"no weights given for {model}; pass pretrained= one of its tags ({known}) or a weights file")
    tag = get_pretrained_cfg(model, str(pretrained))
    if not tag:
        if Path(pretrained).is_file():
            return False
        if Path(pretrained).suffix in (".safetensors", ".pt", ".pth", ".bin") or Path(pretrained).parent != Path("."):
            raise FileNotFoundError(f"weights file {pretrained} does not exist")
        raise ModelError(f"{model} has no tag {str(pretrained)!r}; its tags are {', '.join(tags) or 'none'}")
    if str(pretrained).lower() == "openai":
        return True
    if bool(tag.get("quick_gelu")) != bool(config.get("quick_gelu")):
        other = model.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{model}-quickgelu"
        raise ModelError(f"the weights {pretrained} were trained with another GELU than {model}; load {other!r} instead")
    return False


def _open_clip_model(model: str, pretrained: str | None, quick_gelu: bool, trusted: bool) -> Any:
    import open_clip

    if pretrained and _is_torchscript(pretrained):
        if not trusted:
            raise ModelError(
                f"{pretrained} is a TorchScript archive, and loading one can run code; "
                "pass trusted=True (--trusted) if you trust its origin, or convert it to safetensors"
            )
        state = torch.jit.load(pretrained, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
        return _fitted(open_clip.model.build_model_from_openai_state_dict, state, model, pretrained)
    where = f"{model} with {pretrained}" if pretrained else model
    try:
        return open_clip.create_model(
            model, pretrained, force_quick_gelu=quick_gelu, require_pretrained=True, weights_only=True
        )
    except Exception as error:  # torch's, safetensors', pickle's, the hub's: each says in its own way what is wrong
        raise ModelError(
            f"the weights of {where} could not be loaded: {_short(error)}; "
            "they must be a whole safetensors file or state dict of this very architecture"
        ) from error


def _fitted(build: Callable[[Any], Any], state: Mapping[str, Tensor], model: str, pretrained: str) -> Any:
    """A model built from OpenAI's state dict, checked against the shapes of the name it was asked for."""
    vision = _config_of_name(model)["vision_cfg"]
    wanted = (vision["layers"], vision["width"], vision["patch_size"])
    built = build(dict(state))
    visual = built.visual
    found = (len(visual.transformer.resblocks), visual.conv1.out_channels, visual.conv1.kernel_size[0])
    if found != wanted:
        raise ModelError(
            f"{pretrained} holds a tower of (layers, width, patch) {found}, {model} has {wanted}; "
            "name the architecture the file is of"
        )
    return built


def _is_torchscript(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " …"


def _text_encoder(model: Any, name: str) -> Callable[[Sequence[str]], Tensor]:
    import open_clip

    tokenizer = open_clip.get_tokenizer(name)

    def encode(sentences: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(sentences))
        if tokens.shape[1] < 2:
            raise ModelError(f"{name} reads at most {tokens.shape[1]} tokens, too few for a sentence")
        if hasattr(tokenizer, "encode"):
            for sentence in sentences:
                if len(tokenizer.encode(sentence)) + 2 > tokens.shape[1]:
                    warnings.warn(f"{name} reads {tokens.shape[1]} tokens; the end of {sentence!r} is cut", stacklevel=2)
        with torch.inference_mode():
            return F.normalize(model.encode_text(tokens).float(), dim=-1)

    return encode


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.state_dict().items()}


def _norm(layer: Any) -> Norm:
    return Norm(layer.weight.detach(), layer.bias.detach(), layer.eps)


def _activation(layer: Any) -> Activation:
    if type(layer).__name__ == "QuickGELU":
        return "quick_gelu"
    if isinstance(layer, nn.GELU) and layer.approximate == "none":
        return "gelu"
    raise ModelError(f"the activation {layer} is not supported; clipes knows GELU and QuickGELU")


BLOCK_PARAMETERS = {
    *(f"{norm}.{kind}" for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")),
    *(f"attn.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")),
    *(f"mlp.{layer}.{kind}" for layer in ("c_fc", "c_proj") for kind in ("weight", "bias")),
}


def _block(block: Any) -> Block:
    state = _state(block)
    other = (BLOCK_PARAMETERS ^ state.keys()) - {"ls_1.gamma", "ls_2.gamma"}
    if other:
        raise ModelError(f"the attention blocks have another form ({', '.join(sorted(other))}); clipes reads {SUPPORTED}")
    return Block(
        heads=block.attn.num_heads,
        activation=_activation(block.mlp.gelu),
        ln_1=_norm(block.ln_1),
        in_proj_weight=state["attn.in_proj_weight"],
        in_proj_bias=state["attn.in_proj_bias"],
        out_weight=state["attn.out_proj.weight"],
        out_bias=state["attn.out_proj.bias"],
        ls_1=state.get("ls_1.gamma"),
        ln_2=_norm(block.ln_2),
        fc_weight=state["mlp.c_fc.weight"],
        fc_bias=state["mlp.c_fc.bias"],
        proj_weight=state["mlp.c_proj.weight"],
        proj_bias=state["mlp.c_proj.bias"],
        ls_2=state.get("ls_2.gamma"),
    )
