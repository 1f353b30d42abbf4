"""Reading a module by the names of its parameters, with nothing left over, and its layers without parameters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from clipes.device.pixels import Interpolation

from .errors import ModelError
from .mlp import Activation, Mlp
from .norm import Norm

SUPPORTED = "ViTs (ViT-B-16, ViT-B-16-SigLIP, PE-Core-B-16, EVA02-B-16, …; `clipes models` lists them)"

_WITHOUT_EFFECT = {"Identity", "Dropout", "DropPath", "PatchDropout"}
"""Types of layers that do nothing in evaluation mode."""


class TowerWeights:
    """The tensors and layers of a module by name. What nobody asked for is found out by :meth:`check_all_read`."""

    def __init__(self, module: nn.Module) -> None:
        self._state: dict[str, Tensor] = {name: value.detach() for name, value in module.state_dict().items()}
        self._layers = dict(module.named_modules())
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._state

    def __call__(self, name: str) -> Tensor:
        """A parameter or buffer. Raises ModelError where there is none of this name."""
        if name not in self._state:
            raise ModelError(f"its image tower has no {name}; clipes reads {SUPPORTED}")
        self._read.add(name)
        return self._state[name]

    def optional(self, name: str) -> Tensor | None:
        """As calling, but None where there is none of this name."""
        return self(name) if name in self._state else None

    def bias(self, layer: str) -> Tensor:
        """The bias of a linear layer, zeros where it has none."""
        own, weight = self.optional(f"{layer}.bias"), self(f"{layer}.weight")
        return weight.new_zeros(len(weight)) if own is None else own

    def stacked(self, layers: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Weight and bias of several linear layers as of one, copied only where there are several."""
        weights, biases = [self(f"{layer}.weight") for layer in layers], [self.bias(layer) for layer in layers]
        return (weights[0], biases[0]) if len(layers) == 1 else (torch.cat(weights), torch.cat(biases))

    def layer(self, name: str, kinds: Collection[str]) -> Any:
        """The layer of this name. Raises ModelError unless its type has one of the names ``kinds``."""
        layer = self._layers[name]
        if type(layer).__name__ not in kinds:
            raise ModelError(f"its {name} is a {type(layer).__name__}; clipes reads {SUPPORTED}")
        self._read.add(name)
        return layer

    def norm(self, name: str) -> Norm:
        """A layer normalisation."""
        layer = self.layer(name, ("LayerNorm", "LayerNormFp32"))
        return Norm(self(f"{name}.weight"), self(f"{name}.bias"), layer.eps)

    def optional_norm(self, name: str) -> Norm | None:
        """A layer normalisation, or None where an identity stands in its place."""
        return self.norm(name) if f"{name}.weight" in self._state else None

    def activation(self, name: str) -> Activation:
        """The activation that a layer computes. Raises ModelError for those that are not known."""
        layer = self.layer(name, {type(self._layers[name]).__name__})
        if type(layer).__name__ == "QuickGELU":
            return "quick_gelu"
        if isinstance(layer, nn.SiLU):
            return "silu"
        if type(layer).__name__ == "GELUTanh" or (isinstance(layer, nn.GELU) and layer.approximate == "tanh"):
            return "gelu_tanh"
        if isinstance(layer, nn.GELU) or type(layer).__name__ == "GELU":
            return "gelu"
        raise ModelError(f"the activation {layer} is not supported; clipes knows GELU, QuickGELU and SiLU")

    def mlp(self, activation: str, fc: str, proj: str) -> Mlp:
        """The feed-forward part of these layers."""
        return Mlp(
            activation=self.activation(activation),
            fc_weight=self(f"{fc}.weight"),
            fc_bias=self(f"{fc}.bias"),
            proj_weight=self(f"{proj}.weight"),
            proj_bias=self(f"{proj}.bias"),
        )

    def check_all_read(self) -> None:
        """Raise ModelError for a parameter that was not read, and for a layer without parameters that has an effect."""
        left = self._state.keys() - self._read
        left |= {
            name
            for name, layer in self._layers.items()
            if not any(True for _ in layer.parameters())
            and not isinstance(layer, nn.Sequential)
            and type(layer).__name__ not in _WITHOUT_EFFECT
            and name not in self._read
        }
        if left:
            names = ", ".join(sorted(left)[:4])
            raise ModelError(f"its image tower has another form ({names}); clipes reads {SUPPORTED}")


def interpolation(name: str | None) -> Interpolation:
    """How pictures are resized by a preprocessing's word. Raises ModelError for one that is not known."""
    if name in (None, "random"):  # training with both
        return "bicubic"
    if name in get_args(Interpolation):
        return cast(Interpolation, name)
    raise ModelError(
        f"the interpolation {name!r} is not supported; clipes resizes {' or '.join(get_args(Interpolation))}"
    )


def colours(visual: Any) -> dict[str, Any]:
    """Mean, deviation and interpolation of an image tower, OpenAI's where it names none."""
    preprocess = getattr(visual, "preprocess_cfg", None) or {}
    return {
        "mean": tuple(preprocess.get("mean", (0.48145466, 0.4578275, 0.40821073))),
        "std": tuple(preprocess.get("std", (0.26862954, 0.26130258, 0.27577711))),
        "interpolation": interpolation(preprocess.get("interpolation")),
    }


def logit_bias(model: Any) -> float | None:
    """The bias of a whole model's logits, None where it has none."""
    bias = getattr(model, "logit_bias", None)
    return None if bias is None else float(bias.detach())
