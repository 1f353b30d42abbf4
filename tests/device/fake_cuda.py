"""A GPU that is not there: tensors that say they are on ``cuda:0`` and have their values on the CPU.

Run as a program (it changes torch for the whole process) with JSON, a list of cases [precision, refinement, sizes of
pictures]: makes masks on it and on the CPU, and prints as JSON, for each case, how far they are apart and where the
host would wait for the GPU. A tensor of one device that
meets one of the other raises, as it would there. The kernels are left out: a GPU before Ampere has none.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
INDEXING = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index")
WAITING = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select", "aten::equal")
WAITS: Counter[str] = Counter()


class OnGpu(torch.Tensor):
    """A tensor of the GPU, over one of the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> OnGpu:
        about = {"strides": real.stride(), "storage_offset": real.storage_offset(), "dtype": real.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, real.shape, device=CUDA, **about)
        made.values_here = real
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """What makes tensors out of nothing makes them on the GPU where it is told so."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


def place() -> str:
    """The line of clipes that is at work."""
    lines = [one for one in traceback.extract_stack() if "/clipes/" in one.filename]
    return f"{Path(lines[-1].filename).name}: {lines[-1].line}" if lines else ""


def dispatch(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU what is asked of either device."""
    name = function._schema.name
    if name in ("aten::pin_memory", "aten::_pin_memory"):
        return args[0]
    if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):
        with Everywhere():
            result = function.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
    here = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.ndim]
    device = kwargs.get("device")
    to_gpu = bool(there) if device is None else torch.device(device).type == "cuda"
    copies = name in ("aten::_to_copy", "aten::copy_")
    if name == "aten::copy_":
        to_gpu = isinstance(args[0], OnGpu)
    waits = name in WAITING or (copies and not to_gpu) or (name == "aten::_to_copy" and not there and to_gpu)
    if (there or copies) and waits and not kwargs.get("non_blocking") and not (name == "aten::copy_" and args[2:]):
        if there or to_gpu:
            WAITS[place()] += 1
    elif there and here and not copies:
        if name not in INDEXING or not isinstance(args[0], OnGpu):
            raise RuntimeError(f"{name} of tensors of both devices at {place()}")
        WAITS[place()] += 1  # an index of the CPU
    plain_args, plain = tree_map(lambda leaf: leaf.values_here if isinstance(leaf, OnGpu) else leaf, (args, kwargs))
    if device is not None:
        plain["device"] = torch.device("cpu")
    plain.pop("pin_memory", None)
    plain.pop("non_blocking", None)
    found = function(*plain_args, **plain)
    own = {id(tensor.values_here): tensor for tensor in there}  # what was changed in place stays the object that it was

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return own[id(leaf)] if id(leaf) in own else OnGpu(leaf) if to_gpu else leaf

    return tree_map(wrapped, found)


class Stream:
    """Of the GPU."""

    cuda_stream = 1

    def synchronize(self) -> None:
        WAITS["the stream"] += 1


def install() -> None:
    """Let torch believe in the GPU."""
    torch._C._ensureCUDADeviceGuardSet()
    torch.inference_mode = torch.no_grad  # subclasses do not know it
    for name, value in {
        "_lazy_init": None,
        "is_available": True,
        "device_count": 1,
        "get_device_capability": (7, 5),
        "current_stream": Stream(),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "mem_get_info": (2**36, 2**36),
    }.items():
        setattr(torch.cuda, name, lambda *given, value=value: value)
    torch.Tensor.pin_memory = lambda self, *given: self
    empty, tolist = torch.empty_like, torch.Tensor.tolist
    torch.empty_like = lambda like, pin_memory=False, **given: empty(like, **given)
    torch.Tensor.tolist = lambda self: tolist(self.values_here if isinstance(self, OnGpu) else self)


def on_cpu(precision: str, name: str, sizes: list[list[int]]) -> tuple[Any, ...]:
    """What is to be made on the GPU, and the CPU's results. ``name``: of a recipe, or of a refinement of scenes."""
    import clipes
    from clipes.config import CHOICES, RECIPES, SCENES
    from clipes.scenes import draw_scenes

    refinements = {key: kind and kind() for key, kind in CHOICES["refine"].items()} | {"crf": SCENES.refine}
    config = RECIPES[name].config if name in RECIPES else replace(SCENES, refine=refinements[name])
    scenes = [next(draw_scenes(1, 3_000_950 + number, tuple(size))) for number, size in enumerate(sizes)]
    images, labels = [scene.image for scene in scenes], [scene.labels for scene in scenes]
    here = clipes.load(device="cpu", config=config)
    return precision, config, images, labels, list(here.generate(images, labels, 1))


def on_gpu(precision: str, config: Any, images: Any, labels: Any, expected: Any) -> dict[str, Any]:
    """How far the GPU's masks are from the CPU's, and where the host waited."""
    import clipes
    from clipes.device.choice import DTYPES

    with Everywhere():
        there = clipes.load(device="cpu", config=config)
        there = clipes.MaskGenerator(
            clipes.clip.weights.CLIP(there.clip.vision.to(CUDA, DTYPES[precision]), there.clip.text),
            there.vocabulary,
            config,
        )
        WAITS.clear()
        found = list(there.generate(images, labels, len(images)))
    pairs = list(zip(found, expected, strict=True))
    far = max(float(abs(one.patch_cams - other.patch_cams).max()) for one, other in pairs)
    equal = min(float((one.mask == other.mask).mean()) for one, other in pairs)
    return {"far": far, "equal": equal, "waits": dict(WAITS)}


if __name__ == "__main__":
    cases = [on_cpu(*case) for case in json.loads(sys.argv[1])]  # before there is a GPU
    install()
    print(json.dumps([on_gpu(*case) for case in cases]))
