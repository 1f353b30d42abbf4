"""The feed-forward part of a block, and its activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .norm import Norm, normed
from .pairs import Pairs

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu"]


@dataclass(frozen=True)
class Mlp:
    """Two linear layers with an activation between them: (D,) to (H,) to (D,).

    Attributes:
        activation: of the first layer's output.
        fc_weight, fc_bias: the first layer, (H, D) and (H,).
        proj_weight, proj_bias: the second one, (D, H) and (D,).
        gated: the first layer gives gates and values, one below the other, and the activation of the gates is a factor
            of the values (Shazeer, GLU Variants, 2020); its sizes are 2H.
        norm: of what enters the second layer, or None.
    """

    activation: Activation
    fc_weight: Tensor
    fc_bias: Tensor
    proj_weight: Tensor
    proj_bias: Tensor
    gated: bool = False
    norm: Norm | None = None

    def hidden(self, x: Tensor) -> Tensor:
        """(..., D) to the first layer's output (..., H) or (..., 2H)."""
        return linear(x, self.fc_weight, self.fc_bias)

    def activated(self, hidden: Tensor) -> Tensor:
        """From :meth:`hidden` to (..., H), before the norm."""
        if not self.gated:
            return activate(hidden, self.activation)
        gates, values = hidden.chunk(2, -1)
        return activate(gates, self.activation) * values

    def activated_vjp(self, hidden: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
        """The gradient at ``hidden`` for each pair's ``grad`` (P, R, H) at :meth:`activated`."""
        gather = pairs.gather_images
        if not self.gated:
            return grad * gather(activation_slope(hidden, self.activation))
        gates, values = hidden.chunk(2, -1)
        at_gates = grad * gather(activation_slope(gates, self.activation) * values)
        return torch.cat([at_gates, grad * gather(activate(gates, self.activation))], -1)

    def output(self, hidden: Tensor) -> Tensor:
        """From :meth:`hidden` to (..., D)."""
        return linear(normed(self.norm, self.activated(hidden)), self.proj_weight, self.proj_bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.output(self.hidden(x))


def activate(x: Tensor, activation: Activation) -> Tensor:
    """GELU, exact or by a hyperbolic tangent, OpenAI's QuickGELU, ``x * sigmoid(1.702 x)``, or SiLU."""
    if activation == "silu":
        return F.silu(x)
    if activation == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


def activation_slope(x: Tensor, activation: Activation) -> Tensor:
    """Derivative of :func:`activate` at ``x``."""
    if activation in ("quick_gelu", "silu"):
        factor = 1.702 if activation == "quick_gelu" else 1.0
        gate = torch.sigmoid(factor * x)
        return gate * (1 + factor * x * (1 - gate))
    if activation == "gelu_tanh":
        tanh = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x.square())
        return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh.square()) * inner
    normal_cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return normal_cdf + x * torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, computed in the weight's dtype and returned in that of ``x``."""
    return F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
