"""From open_clip's names, folders and files to a loaded CLIP. Every failure has its own message.

open_clip builds the model and reads the weights; :mod:`clipes.clip.open_clip_vision` converts the vision side.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipes.device.choice import Precision, choose_device, choose_dtype

from .open_clip_vision import SUPPORTED, ModelError, unsupported_reason, vision_encoder
from .text import TextEncoder
from .vision import VisionEncoder

TINY_FOLDER = Path(__file__).with_name("tiny")
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class CLIP:
    """A loaded CLIP: the vision side on its device, the text side in float32 on the CPU."""

    vision: VisionEncoder
    text: TextEncoder


def load_clip(
    model: str,
    pretrained: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    precision: Precision | None = None,
    trusted: bool = False,
) -> CLIP:
    """Load a CLIP with a ViT.

    Args:
        model: an open_clip name, ``hf-hub:org/repo``, ``local-dir:PATH``, or ``"tiny"``, the bundled model.
        pretrained: for an open_clip name, one of its tags or a weights file: ``.safetensors``, or a state
            dict (``.pt``, ``.bin``), read with ``weights_only=True``.
        device, precision: of the vision side; by default CUDA in fp16 if available, else the CPU in fp32.
        trusted: allow OpenAI's TorchScript archives, whose loading can run code.

    Raises:
        ValueError: a device or precision that is not available.
        ModelError: an unknown name or tag, no weights, not a plain ViT, weights that do not fit.
        FileNotFoundError: a folder or a weights file that does not exist.
    """
    if not isinstance(model, str):
        raise TypeError(f"model is {model!r}; give a name, or 'local-dir:' with the folder")
    target = choose_device(device)
    dtype = choose_dtype(precision, target)
    if model == "tiny":
        if pretrained is not None:
            raise ModelError(f"tiny brings its own weights; leave out pretrained={str(pretrained)!r}")
        model = f"local-dir:{TINY_FOLDER}"
    named = not model.startswith(("local-dir:", "hf-hub:"))
    if named:
        model = model.replace("/", "-")
        config = _config_of_name(model)
    else:
        config = _config_of_folder_or_hub(model, pretrained)
    reason = unsupported_reason(config) or _missing_package(config)
    if reason:
        raise ModelError(f"{model} is not supported: {reason}; clipes reads {SUPPORTED}")
    quick_gelu = named and _needs_quick_gelu(model, pretrained, config)
    clip = _open_clip_model(model, str(pretrained) if named else None, quick_gelu, trusted)
    broken = [name for name, value in clip.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise ModelError(f"the weights of {model} hold NaN or infinity in {broken[0]}; get the file again")
    clip.eval().requires_grad_(False).float()
    return CLIP(vision_encoder(clip).to(target, dtype), _text_encoder(clip, model))


def supported_models() -> list[tuple[str, tuple[str, ...], str | None]]:
    """Every model open_clip has weights for: name, tags, and why it is not supported (None if it is)."""
    import open_clip

    rows = []
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        reason = unsupported_reason(config) or _missing_package(config)
        tags = tuple(open_clip.list_pretrained_tags_by_model(name))
        if reason is None:
            tags = tuple(tag for tag in tags if _name_with_matching_gelu(name, tag, config) is None)
        if tags:
            rows.append((name, tags, reason))
    return rows


def _missing_package(config: Mapping[str, Any]) -> str | None:
    """Why the text side cannot run here, or None if it can."""
    text = config.get("text_cfg", {})
    needed = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if needed and importlib.util.find_spec("transformers") is None:
        return f"its text side ({needed}) needs another package: pip install transformers"
    return None


def _name_with_matching_gelu(model: str, tag: str, config: Mapping[str, Any]) -> str | None:
    """The model name whose GELU is the one that a tag's weights were trained with; None if it is ``model``."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    quick = bool(config.get("quick_gelu"))
    other = model.removesuffix("-quickgelu") if quick else f"{model}-quickgelu"
    if tag.lower() == "openai" or quick == bool(get_pretrained_cfg(model, tag).get("quick_gelu")):
        return None
    # If no such model exists, the configuration is right: the tag just does not mention its GELU.
    return other if other != model and other in open_clip.list_models() else None


def _config_of_name(model: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] | None = open_clip.get_model_config(model)
    if config is None:
        names = {name.lower(): name for name in open_clip.list_models()}
        near = difflib.get_close_matches(model.lower(), names, 3)
        hint = (
            f"did you mean {' or '.join(repr(names[name]) for name in near)}?"
            if near
            else "`clipes models` lists the names"
        )
        raise ModelError(f"open_clip has no model {model!r}; {hint}")
    return config


def _config_of_folder_or_hub(model: str, pretrained: str | Path | None) -> dict[str, Any]:
    if pretrained is not None:
        raise ModelError(f"{model} brings its own weights; leave out pretrained={str(pretrained)!r}")
    config: Any = _config_of_hub(model) if model.startswith("hf-hub:") else _config_of_folder(model)
    for part in ("vision_cfg", "text_cfg"):
        if not isinstance(config, dict) or not isinstance(config.get(part), dict):
            raise ModelError(f"the configuration of {model} is not one of open_clip's: it has no {part}")
    return dict(config)


def _config_of_hub(model: str) -> Any:
    import open_clip

    try:
        return open_clip.get_model_config(model)
    except Exception as error:  # of huggingface_hub, the network or JSON: the configuration is not available
        raise ModelError(f"{model} could not be fetched ({_one_line(error)}); check the id and the network") from error


def _config_of_folder(model: str) -> Any:
    folder = Path(model.removeprefix("local-dir:"))
    file = folder / "open_clip_config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {model} must be a folder saved for open_clip")
    if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
        raise FileNotFoundError(f"{folder} holds no weights; put open_clip_model.safetensors beside the config")
    try:
        return json.loads(file.read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not an open_clip configuration ({_one_line(error)})") from error


def _needs_quick_gelu(model: str, pretrained: str | Path | None, config: Mapping[str, Any]) -> bool:
    """Whether QuickGELU must be forced, as for OpenAI's weights. Raises ModelError for a wrong tag or file."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None:
        known = ", ".join(tag for tag in tags if _name_with_matching_gelu(model, tag, config) is None) or "it has none"
        raise ModelError(f"no weights given for {model}; pass pretrained= a tag ({known}) or a weights file")
    tag = get_pretrained_cfg(model, str(pretrained))
    if not tag:
        path = Path(pretrained)
        if path.is_file():
            return False
        if path.suffix in WEIGHT_SUFFIXES or path.parent != Path("."):
            raise FileNotFoundError(f"weights file {path} does not exist")
        raise ModelError(f"{model} has no tag {str(path)!r}; its tags are {', '.join(tags) or 'none'}")
    other = _name_with_matching_gelu(model, str(pretrained), config)
    if other:
        raise ModelError(
            f"the weights {pretrained} were trained with another GELU than that of {model}; load {other!r}"
        )
    return str(pretrained).lower() == "openai"


def _open_clip_model(model: str, pretrained: str | None, quick_gelu: bool, trusted: bool) -> Any:
    import open_clip

    archive = pretrained is not None and _is_torchscript(pretrained)
    if archive and not trusted:
        raise ModelError(
            f"{pretrained} is a TorchScript archive, and loading one can run code; "
            "pass trusted=True (--trusted) if you trust its origin, or convert it to safetensors"
        )
    try:
        if archive:
            return _from_archive(model, pretrained)
        return open_clip.create_model(
            model, pretrained, force_quick_gelu=quick_gelu, require_pretrained=True, weights_only=True
        )
    except Exception as error:  # of torch, safetensors, pickle or the hub: many types
        where = f"{model} with {pretrained}" if pretrained else model
        if "download" in str(error).lower() or isinstance(error, ConnectionError):
            raise ModelError(
                f"the weights of {where} could not be downloaded: {_one_line(error)}; "
                "check the network, or pass a weights file as pretrained"
            ) from error
        raise ModelError(
            f"the weights of {where} could not be loaded: {_one_line(error)}; "
            "they must be a whole safetensors file or state dict of this very architecture"
        ) from error


def _from_archive(model: str, path: str | None) -> Any:
    """The named model with the weights of a TorchScript archive; with QuickGELU if OpenAI made the archive."""
    import open_clip

    state = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    marks = [state.pop(name, None) for name in ("input_resolution", "context_length", "vocab_size")]
    config = _config_of_name(model)
    config["quick_gelu"] = config.get("quick_gelu", False) or None not in marks
    config.pop("custom_text", None)
    clip = open_clip.CLIP(**config)
    rebuilt = {name for name, _ in clip.named_buffers()} - clip.state_dict().keys()  # the causal mask
    clip.load_state_dict({name: value for name, value in state.items() if name not in rebuilt})
    return clip


def _is_torchscript(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _one_line(error: Exception) -> str:
    """The error's message in one line."""
    text = " ".join(str(error).split())
    if (
        isinstance(error, pickle.UnpicklingError) or "weights_only" in text
    ):  # torch's own message advises unsafe loading
        return "it is not a state dict of tensors alone, and anything else could run code"
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= 300 else text[:300] + " …"


def _text_encoder(model: Any, name: str) -> TextEncoder:
    import open_clip

    tokenizer = open_clip.get_tokenizer(name)

    def tokenize(sentences: Sequence[str]) -> Tensor:
        tokens: Tensor = tokenizer(list(sentences))
        context = tokens.shape[1]
        longer = tokenizer(list(sentences), context + 1)  # a sentence that fits has the same tokens, only more padding
        cut = [sentences[i] for i in (longer[:, :context] != tokens).any(1).nonzero().flatten().tolist()]
        if cut:
            others = f", and of {len(cut) - 1} other sentence(s)" if len(cut) > 1 else ""
            warnings.warn(f"{name} reads {context} tokens; the end of {cut[0]!r}{others} is cut", stacklevel=2)
        return tokens

    def encode(tokens: Tensor) -> Tensor:
        with torch.inference_mode():
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
