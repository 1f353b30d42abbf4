"""From open_clip's names, folders and files to a loaded CLIP.

open_clip builds the model; :mod:`clipes.clip.architecture` knows its configuration, :mod:`clipes.clip.checkpoint` reads
weights files, :mod:`clipes.clip.towers` reads the vision side.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.device.choice import Precision, choose_device, choose_dtype
from clipes.device.inference import inference, loading
from clipes.device.matmul_precision import float32_products, onednn_is_exact

from .architecture import (
    Training,
    default_training,
    model_config,
    open_clip_name,
    other_trainings,
    training_of_tag,
    weights_file,
)
from .bundled import TINY_FOLDER
from .checkpoint import read_checkpoint
from .download import download_error, downloading, one_line, without_open_clips_log
from .errors import ModelError
from .text import TextEncoder
from .tokenizer import Tokenizer, load_tokenizer
from .towers import vision_tower
from .vision import VisionEncoder


@dataclass(frozen=True)
class CLIP:
    """A loaded CLIP: the vision side on its device, the text side in float32 on the CPU."""

    vision: VisionEncoder
    text: TextEncoder


def load_clip(
    model: str,
    pretrained: str | Path | None = None,
    *,
    like: str | None = None,
    device: str | torch.device | None = None,
    precision: Precision | None = None,
    trusted: bool = False,
) -> CLIP:
    """Load a CLIP whose image tower is a ViT.

    Args:
        model: an open_clip name, ``hf-hub:org/repo``, ``local-dir:PATH``, or ``"tiny"``, the bundled model.
        pretrained: for an open_clip name, one of its tags or a weights file: ``.safetensors``, or a state
            dict (``.pt``, ``.bin``), read with ``weights_only=True``; in open_clip's names or those of transformers.
        like: for a weights file, the tag whose activation, mean, standard deviation and interpolation it has; a file
            does not say. The default is the activation of ``model``, and OpenAI's mean and deviation.
        device, precision: of the vision side; by default CUDA in fp16 if available, else the CPU in fp32.
        trusted: allow weights files whose loading can run code: OpenAI's TorchScript archives, pickles of any classes.

    Warns of a weights file whose activation or normalisation is not known.

    Raises:
        ValueError: a device or precision that is not available.
        ModelError: an unknown name or tag, no weights, a tower that is not supported, weights that do not fit.
        FileNotFoundError: a folder or a weights file that does not exist.
    """
    if not isinstance(model, str):
        raise TypeError(f"model is {model!r}; give a name, or 'local-dir:' with the folder")
    target = choose_device(device)
    dtype = choose_dtype(precision, target)
    if model == "tiny":
        if pretrained is not None:
            raise ModelError(
                f"tiny, the bundled model, brings its own weights; leave out pretrained={str(pretrained)!r}, or name "
                "the model of these, such as --model ViT-B-16 (model='ViT-B-16')"
            )
        model = f"local-dir:{TINY_FOLDER}"
    if not model.startswith(("local-dir:", "hf-hub:")):
        model = open_clip_name(model)
    with loading():
        clip, tokenize = _build(model, pretrained, like, trusted)
    broken = [name for name, value in clip.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise ModelError(f"the weights of {model} hold NaN or infinity in {broken[0]}; get the file again")
    clip.eval().requires_grad_(False).float()
    if target.type == "cpu":
        onednn_is_exact()  # found out before any thread computes
    return CLIP(vision_tower(clip).to(target, dtype), text_encoder(clip, tokenize))


def _build(model: str, pretrained: str | Path | None, like: str | None, trusted: bool) -> tuple[Any, Tokenizer]:
    """open_clip's module with its weights, and its tokenizer."""
    config = model_config(model, pretrained)
    named = not model.startswith(("local-dir:", "hf-hub:"))
    file = weights_file(model, pretrained, config) if named else None
    if like is not None and file is None:
        raise ModelError(f"like={like!r} (--weights-of) is for a weights file; {model} says itself how it was trained")
    tokenize = load_tokenizer(model)  # first, because it is fast to fail
    if file is not None:
        return _from_file(model, file, config, like, trusted), tokenize
    quick_gelu = str(pretrained).lower() == "openai"
    return _from_open_clip(model, str(pretrained) if named else None, quick_gelu), tokenize


def _from_open_clip(model: str, tag: str | None, quick_gelu: bool) -> Any:
    import open_clip

    try:
        with downloading():
            return open_clip.create_model(
                model, tag, force_quick_gelu=quick_gelu, require_pretrained=True, weights_only=True
            )
    except Exception as error:  # of torch, safetensors, pickle or the hub: many types
        where = f"{model} with {tag}" if tag else model
        if "download" in str(error).lower() or isinstance(error, ConnectionError):
            raise ModelError(
                f"the weights of {where} could not be downloaded: {download_error(error)}; check the network; or get "
                "the weights file elsewhere, and pass it as pretrained (--pretrained FILE)"
            ) from error
        raise ModelError(
            f"the weights of {where} could not be loaded: {one_line(error)}; "
            "they must be a whole safetensors file or state dict of this very architecture"
        ) from error


def _from_file(model: str, path: Path, config: Mapping[str, Any], like: str | None, trusted: bool) -> Any:
    import open_clip

    training = default_training(model, config) if like is None else training_of_tag(model, like, config)
    checkpoint = read_checkpoint(path, trusted)
    if like is None and checkpoint.quick_gelu is not None:
        training = training._replace(quick_gelu=checkpoint.quick_gelu)
    elif like is None:
        _warn_of_assumption(model, path, config, training)
    with without_open_clips_log():
        clip = open_clip.create_model(
            model,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=training.quick_gelu,
            force_preprocess_cfg=training.preprocessing,
        )
    _load_state(clip, checkpoint.state, f"{path} does not fit {model}")
    return clip


def _warn_of_assumption(model: str, path: Path, config: Mapping[str, Any], assumed: Training) -> None:
    """Say what is assumed of a weights file, where other weights of that name were trained otherwise."""
    others = other_trainings(model, config, assumed)
    if others:
        kinds = "; ".join(f"{tag}: {training}" for tag, training in others.items())
        text = (
            f"{path} does not say how it was trained; assumed is {assumed}. Other weights of {model} differ ({kinds}). "
            "If it is one of those, give like='TAG' (--weights-of TAG), and that model's name"
        )
        warnings.warn(text, stacklevel=2)


def _load_state(clip: Any, state: dict[str, Tensor], refusal: str) -> None:
    """Copy a state dict into open_clip's module. Raises ModelError, which names some of the weights that do not fit."""
    from open_clip import model as structure

    own = clip.state_dict()
    if "positional_embedding" in state and "positional_embedding" not in own:
        state = structure.convert_to_custom_text_state_dict(state)
    state = {
        name: value.reshape(own[name].shape) if value.numel() == 1 and name in own else value
        for name, value in state.items()
        if not name.endswith("embeddings.position_ids")
    }
    state |= {  # bicubic interpolation on a CPU is not for half precision
        name: value.float() for name, value in state.items() if name in own and own[name].shape != value.shape
    }
    with suppress(AssertionError, RuntimeError, IndexError):  # of another width or form, reported below
        structure.resize_pos_embed(state, clip)
        structure.resize_text_pos_embed(state, clip)
    buffers = {name for name, _ in clip.named_buffers()} - own.keys()  # the causal mask, which archives hold
    state = {name: value for name, value in state.items() if name not in buffers}
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    faults = {
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(state.keys() - own.keys()),
        "of another size": sorted(
            f"{name} {tuple(state[name].shape)}, not {tuple(own[name].shape)}" for name in shapes
        ),
    }
    if any(faults.values()):
        wrong = "; ".join(
            f"{len(names)} {kind} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"
            for kind, names in faults.items()
            if names
        )
        raise ModelError(f"{refusal}: of its weights {wrong}; they must be those of this very architecture")
    clip.load_state_dict(state)


def text_encoder(model: Any, tokenize: Tokenizer) -> TextEncoder:
    """The text side of open_clip's module, in float32 on the CPU."""

    def encode(tokens: Tensor) -> Tensor:
        with inference(), float32_products():
            return F.normalize(model.encode_text(tokens).float(), dim=-1)

    return TextEncoder(tokenize, encode, _fingerprint(model))


def _fingerprint(model: nn.Module) -> str:
    """A SHA-256 of every weight, and of every layer's type and plain settings, such as the number of heads."""
    digest = hashlib.sha256()
    for name, layer in model.named_modules():
        plain = {key: value for key, value in vars(layer).items() if isinstance(value, bool | int | float | str)}
        plain.pop("training", None)
        digest.update(f"{name} {type(layer).__name__} {sorted(plain.items())}\n".encode())
    digest.update(f"{getattr(model.visual, 'preprocess_cfg', None)}\n".encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().reshape(-1).contiguous().numpy())
    return digest.hexdigest()
