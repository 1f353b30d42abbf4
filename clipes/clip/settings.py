"""What a model and its words give depends on, for the record of a run."""

from __future__ import annotations

from typing import Any

from clipes.vocabulary import Vocabulary

from .weights import CLIP


def model_settings(clip: CLIP, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a model and its words give depends on, as JSON types: the hash of the weights, the dtype, the words."""
    return {
        "weights": clip.text.fingerprint,
        "dtype": str(clip.vision.dtype).removeprefix("torch."),
        "mean": clip.vision.mean,
        "std": clip.vision.std,
        "interpolation": clip.vision.interpolation,
        "activation": clip.vision.blocks[-1].mlp.activation,
        "vocabulary": vocabulary.fingerprint,
        "background": vocabulary.background_names,
        "templates": vocabulary.templates,
        "fuse": vocabulary.fuse,
        "attribute_centres": vocabulary.attribute_centres if vocabulary.attributes else None,
    }
