"""Where two labellings agree: foreground that is sure, background that is sure, and pixels that neither is.

The first labelling is made against much background, so that a class that wins is sure; the second against little, so
that the background is sure where it wins. Two rules differ in pixels that are sure to be a class by the first, and
background by the second, which a refinement in between can make of the same maps:

- for the background: PSA (Ahn & Kwak, CVPR 2018; jiwoon-ahn/psa, ``voc12/data.py``), SEAM, MCTformer;
- for the foreground: IRN (Ahn, Cho & Kwak, CVPR 2019; jiwoon-ahn/irn, ``step/cam_to_ir_label.py``), AFA.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipes.config.mask import Conflict

_EMPTY = 1e-5


def agreement(much: Tensor, little: Tensor, ignore: int = 255, conflict: Conflict = "background") -> Tensor:
    """The rows that scores (C + 1, H, W) against much and against little background agree on: (H, W) int64.

    A row is 0 for the background, 1..C for a class; ``ignore`` where they do not agree, and where all scores are below
    1e-5, as they are outside of a crop.
    """
    rows = agreement_of_labels(much.argmax(0), little.argmax(0), ignore, conflict)
    return rows.masked_fill(torch.maximum(much.amax(0), little.amax(0)) < _EMPTY, ignore)


def agreement_of_labels(
    sure_foreground: Tensor, sure_background: Tensor, ignore: int = 255, conflict: Conflict = "foreground"
) -> Tensor:
    """The ids (H, W) of ``sure_foreground`` where they are not 0; 0 where it is sure; else ``ignore``.

    Takes ids (H, W) of any integer dtype, 0 for the background. The background is sure where ``sure_background`` is 0;
    with ``conflict="foreground"`` only where both are.
    """
    empty, background = sure_foreground == 0, sure_background == 0
    if conflict == "foreground":
        background = background & empty
    return sure_foreground.masked_fill(empty, ignore).masked_fill(background, 0)
