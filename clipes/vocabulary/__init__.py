"""What CLIP is told: class sets, prompts, templates and background words, as data.

Nothing here looks at an image or loads a model; choosing words by images is :mod:`clipes.prompting`."""

from .labels import check_labels
from .vocabulary import (
    Vocabulary,
    background_set_names,
    class_set_names,
    load_vocabulary,
    overlaps,
    stuff_words,
    template_set_names,
)

__all__ = [
    "Vocabulary",
    "background_set_names",
    "check_labels",
    "class_set_names",
    "load_vocabulary",
    "overlaps",
    "stuff_words",
    "template_set_names",
]
