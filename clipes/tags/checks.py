"""Whether a method and a rule can find labels among some classes: asked before the first image."""

from __future__ import annotations

import numpy as np

from clipes.config import BankTagsConfig, Config
from clipes.vocabulary import Vocabulary

from .rules import thresholds


def check_tagging(vocabulary: Vocabulary, config: Config) -> None:
    """Raise ValueError for a rule with thresholds of another number of classes, and where only one thing competes.

    That is one class without background words; for a bank, whose classifier knows no background words, one class.
    """
    classes, words = vocabulary.class_names, vocabulary.background_names
    thresholds(np.zeros(len(classes)), config.tag_rule)
    if len(classes) > 1:
        return
    only = f"{classes[0]!r} is the only class"
    if isinstance(config.tags, BankTagsConfig):
        raise ValueError(f"{only}, and a bank compares classes, so that its score is always 1; give more classes")
    if not words:
        raise ValueError(f"{only}, without background words its score is always 1; give some (--background)")
