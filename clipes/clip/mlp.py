"""The feed-forward part of a block, and its activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]


@dataclass(frozen=True)
class Mlp:
    """Two linear layers with an activation between them: (D, ) to (H, ) to (D, )."""

    activation: Activation
    fc_weight: Tensor
    fc_bias: Tensor
    proj_weight: Tensor
    proj_bias: Tensor

    def hidden(self, x: Tensor) -> Tensor:
        """(..., D) to (..., H), before the activation."""
        return linear(x, self.fc_weight, self.fc_bias)

    def output(self, hidden: Tensor) -> Tensor:
        """From :meth:`hidden` (..., H) to (..., D)."""
        return linear(activate(hidden, self.activation), self.proj_weight, self.proj_bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.output(self.hidden(x))


def activate(x: Tensor, activation: Activation) -> Tensor:
    """GELU, exact or by a hyperbolic tangent, or OpenAI's QuickGELU, ``x * sigmoid(1.702 x)``."""
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def activation_slope(x: Tensor, activation: Activation) -> Tensor:
    """Derivative of :func:`activate` at ``x``."""
    if activation == "quick_gelu":
        gate = torch.sigmoid(1.702 * x)
        return gate * (1 + 1.702 * x * (1 - gate))
    if activation == "gelu_tanh":
        tanh = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x.square())
        return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh.square()) * inner
    normal_cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return normal_cdf + x * torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, computed in the weight's dtype and returned in that of ``x``."""
    return F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
