"""A weights file to a state dict in open_clip's names: which kind of file it is, what it may hold, how it is named."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import transformers_names
from .errors import ModelError

_ANCHORS = ("visual.conv1.weight", "visual.trunk.pos_embed", transformers_names.ANCHOR)
"""A name that each kind of state dict has: open_clip's own towers, those of timm, transformers' models."""
_SIZES = ("input_resolution", "context_length", "vocab_size")  # buffers of OpenAI's archives
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "weights")


class Checkpoint(NamedTuple):
    """The tensors of a weights file, in open_clip's names.

    Attributes:
        state: name to tensor.
        quick_gelu: True for OpenAI's archives, which have QuickGELU inside; else None, the file does not say.
    """

    state: dict[str, Tensor]
    quick_gelu: bool | None = None


def read_checkpoint(path: Path, trusted: bool = False) -> Checkpoint:
    """Read a safetensors file, a pickled state dict or training checkpoint, or a TorchScript archive.

    Names may have one common prefix, such as ``module.``, and may be those of transformers' ``CLIPModel`` and
    ``SiglipModel``.
    ``trusted`` allows files whose loading can run code: TorchScript archives and pickles of any classes.

    Raises ModelError, which says what the file is, if it holds no whole CLIP or is not trusted.
    """
    _refuse_other_files(path)
    if _is_torchscript(path):
        return _read_archive(path, trusted)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path, trusted)
    return Checkpoint(_in_open_clip_names(_tensors_of(content, path), path))


def _refuse_other_files(path: Path) -> None:
    """Raise ModelError for what a broken download leaves."""
    with open(path, "rb") as file:
        head = file.read(512)
    start = head.lstrip().lower()
    if not head:
        raise ModelError(f"{path} is empty; get the file again")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository")
    if head.startswith(b"\x89HDF") or path.suffix.lower() in (".onnx", ".tflite", ".engine"):
        raise ModelError(f"{path} is for another program than PyTorch; give its .safetensors or .pt file")
    if start.startswith((b'{"', b"{'")):
        raise ModelError(f"{path} is a text, not weights: {head[:80].decode(errors='replace')!r}; get the file again")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path} is a web page, not weights; open the address in a browser and get the file itself")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _read_archive(path: Path, trusted: bool) -> Checkpoint:
    if not trusted:
        raise ModelError(
            f"{path} is a TorchScript archive, and loading one can run code; pass trusted=True (--trusted) if you "
            "trust its origin, or convert its state dict to safetensors and load that with like='openai' "
            "(--weights-of openai) if it is one of OpenAI's"
        )
    try:
        state = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ModelError(f"{path} is a damaged TorchScript archive ({str(error)[:200]}); get the file again") from error
    sizes = [state.pop(name, None) for name in _SIZES]
    return Checkpoint(_in_open_clip_names(dict(state), path), None not in sizes or None)


def _read_safetensors(path: Path) -> Any:
    from open_clip.factory import load_state_dict

    try:
        return load_state_dict(str(path))
    except StopIteration:
        return {}
    except Exception as error:  # of safetensors, which is open_clip's dependency
        raise ModelError(f"{path} is not a whole file of safetensors ({error}); get it again") from error


def _read_pickle(path: Path, trusted: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=not trusted)
    except Exception as error:  # of pickle, zipfile, torch or a class in the file: many types
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found and not trusted:
            raise ModelError(
                f"{path} holds an object of {found[1]} beside its tensors, and loading one can run code; pass "
                "trusted=True (--trusted) if you trust its origin, or save its state dict alone"
            ) from error
        why = "" if "weights_only" in str(error) else f" ({str(error).split(chr(10))[0][:150] or type(error).__name__})"
        raise ModelError(
            f"{path} is not a whole file of safetensors or torch.save{why}; get it again, or save its state dict again"
        ) from error


def _harmless() -> list[Any]:
    """Classes that training scripts save beside weights, and that run no code when they are loaded."""
    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.zeros(0).__reduce__()[0]
    names = [(scalar, "scalar"), (reconstruct, "_reconstruct")]
    places = ("numpy.core.multiarray", "numpy._core.multiarray")
    dtypes = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdUS"}
    functions = [(function, f"{place}.{name}") for function, name in names for place in places]
    return [*functions, np.ndarray, np.dtype, *dtypes, argparse.Namespace]


def _tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds: itself, or under one of the names that training scripts use."""
    if isinstance(content, torch.nn.Module):
        content = content.state_dict()
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = [content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        content = inner[0]
    tensors = content.items() if isinstance(content, Mapping) else ()
    state = {str(name): value for name, value in tensors if isinstance(value, Tensor)}
    if not state:
        keys = (
            f" with the keys {', '.join(map(repr, list(content)[:5]))}"
            if isinstance(content, Mapping) and content
            else ""
        )
        raise ModelError(
            f"{path} holds no state dict but a {type(content).__name__}{keys}; save model.state_dict() alone, or under "
            "'state_dict'"
        )
    return state


def _in_open_clip_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors without a common prefix, renamed if they have transformers' names."""
    prefixes = {name.removesuffix(anchor) for name in state for anchor in _ANCHORS if name.endswith(anchor)}
    if len(prefixes) > 1:
        raise ModelError(f"{path} holds several models ({', '.join(map(repr, sorted(prefixes)))}); save one alone")
    prefix = next(iter(prefixes), "")
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if transformers_names.ANCHOR in state:
        state = transformers_names.from_transformers(state, path)
    if {"conv1.weight", "trunk.pos_embed"} & state.keys() or all(name.startswith("visual.") for name in state):
        raise ModelError(f"{path} holds the vision side alone; save the whole CLIP, because labels are text")
    return state
