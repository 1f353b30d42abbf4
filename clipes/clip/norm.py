"""Layer normalisation, and its gradient for all pairs of an image and a label at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from .pairs import Pairs


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis: ``weight`` and ``bias`` are (D,)."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    def backward(self, x: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
        """The gradient (P, R, D) at the input for each pair's ``grad`` (P, R, D) at the output.

        ``x`` (B, R, D) is the input of R tokens. An R of 1 in either is broadcast.
        """
        centred = x - x.mean(-1, keepdim=True)
        rstd = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        x_hat, rstd = pairs.gather_images(centred * rstd), pairs.gather_images(rstd)
        g = grad * self.weight
        return rstd * (g - g.mean(-1, keepdim=True) - x_hat * (g * x_hat).mean(-1, keepdim=True))


def normed(norm: Norm | None, x: Tensor) -> Tensor:
    """``norm`` of tokens (..., D); the tokens themselves where there is none."""
    return x if norm is None else norm(x)


def normed_vjp(norm: Norm | None, x: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """As :meth:`Norm.backward`; ``grad`` itself where there is no norm."""
    return grad if norm is None else norm.backward(x, grad, pairs)
