"""Whether a method and a rule can find labels among some classes: asked before the first image, without torch."""

from __future__ import annotations

import os

import numpy as np

from clipes.config import BankTagsConfig, Config
from clipes.vocabulary import Vocabulary

from .rules import thresholds


def check_tagging(vocabulary: Vocabulary, config: Config) -> None:
    """Raise ValueError for a rule with thresholds of another number of classes, for a bank whose file cannot be, and
    where only one thing competes.

    That is one class without background words; for a bank, whose classifier knows no background words, one class.
    """
    classes, words = vocabulary.class_names, vocabulary.background_names
    thresholds(np.zeros(len(classes)), config.tag_rule)
    if isinstance(config.tags, BankTagsConfig):
        check_bank_name(config.tags.file)
    if len(classes) > 1:
        return
    only = f"{classes[0]!r} is the only class"
    if isinstance(config.tags, BankTagsConfig):
        raise ValueError(f"{only}, and a bank compares classes, so that its score is always 1; give more classes")
    if not words:
        raise ValueError(f"{only}, without background words its score is always 1; give some (--background)")


def check_bank_name(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for no name, for one that does not end in .npz, and for what is there and no file."""
    if not os.fspath(path):
        raise ValueError("the method 'bank' needs the file of its classifier; name one: --bank-file bank.npz")
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"a bank is an .npz file, not {os.fspath(path)!r}; end its name in .npz")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ValueError(f"{os.fspath(path)} is no file; give the bank another name with --bank-file")
