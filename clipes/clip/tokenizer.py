"""From sentences to tokens: CLIP's own tokenizer, or one of Hugging Face, from a folder, the cache or the hub."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .download import download_error, downloading, one_line
from .errors import ModelError

Tokenizer = Callable[[Sequence[str]], Tensor]


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of open_clip's model ``name``: sentences to (n, L) int64. It warns of sentences that are cut.

    Raises ModelError where it is one of Hugging Face that is not there.
    """
    import open_clip

    try:
        with downloading():
            tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # of transformers, the hub or JSON: many types
        raise ModelError(_missing(name, error)) from error

    def tokenize(sentences: Sequence[str]) -> Tensor:
        tokens: Tensor = tokenizer(list(sentences))
        context = tokens.shape[1]
        longer = tokenizer(list(sentences), context + 1)  # a sentence that fits has the same tokens, only more padding
        cut = [sentences[i] for i in (longer[:, :context] != tokens).any(1).nonzero().flatten().tolist()]
        if cut:
            others = f", and of {len(cut) - 1} other sentence(s)" if len(cut) > 1 else ""
            warnings.warn(f"{name} reads {context} tokens; the end of {cut[0]!r}{others} is cut", stacklevel=2)
        return tokens

    return tokenize


def _missing(name: str, error: Exception) -> str:
    """What to do about a tokenizer that is not there."""
    import open_clip

    if name.startswith("local-dir:"):
        folder = name.removeprefix("local-dir:")
        return (
            f"{folder} has no tokenizer that can be read ({one_line(error)}); put the tokenizer.json and "
            "tokenizer_config.json of its model there"
        )
    config: dict[str, Any] = open_clip.get_model_config(name) or {}
    source = config.get("text_cfg", {}).get("hf_tokenizer_name") or name.removeprefix("hf-hub:")
    return (
        f"the tokenizer of {name}, {source} of Hugging Face, could not be loaded ({download_error(error)}); check the "
        "network; or load it once elsewhere and copy the cache; or save the model for open_clip in a folder with its "
        "tokenizer.json, and give local-dir:FOLDER"
    )
