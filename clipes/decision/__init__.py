"""From the maps on the patch grid to masks: upsampling, background scores, refinement by colours, decision.

Which pixels get which class, and which are ignored, is chosen by ``Config.mask``: :data:`DECISIONS` has the rule of
each choice. The pure functions of the rules, of other methods' too, take and give tensors: :func:`agreement`,
:func:`agreement_of_labels`, :func:`label_with_band`, :func:`claims`. Nothing here knows CLIP or files.
"""

from .agreement import agreement, agreement_of_labels
from .batch import Decision, decide_batch, decision_memory, refine_scores
from .claims import claims, label_with_band
from .rules import DECISIONS

__all__ = [
    "DECISIONS",
    "Decision",
    "agreement",
    "agreement_of_labels",
    "claims",
    "decide_batch",
    "decision_memory",
    "label_with_band",
    "refine_scores",
]
