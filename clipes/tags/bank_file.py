"""The file of a bank: the surest patches of the pictures that were looked at, and the classifier once it is fitted.

An .npz file, written whole: ``settings``, JSON of what the patches depend on; ``images``, how many pictures were looked
at; ``complete``, whether these are all; ``patches`` (n, E) float32; and, once fitted, ``weight`` (E, C) and ``bias``
(C,).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipes.clip.settings import model_settings
from clipes.clip.weights import CLIP
from clipes.config import Config
from clipes.io.atomic import write_bytes
from clipes.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class PatchBank:
    """The state of a bank.

    Attributes:
        settings: what it depends on, as JSON types: the model, the words, the method.
        patches: (n, E) float32, unit length.
        images: how many pictures they are from.
        complete: whether all pictures of the set were looked at.
        weight, bias: (E, C) and (C,) float32, the fitted classifier; None before it is fitted.
    """

    settings: Mapping[str, Any]
    patches: Tensor
    images: int = 0
    complete: bool = False
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weight and bias. ValueError before they are fitted."""
        if self.weight is None or self.bias is None:
            raise ValueError("the bank is not fitted yet; fit it with clipes.tags.bank.fit_bank")
        return self.weight, self.bias

    @property
    def digest(self) -> str:
        """The SHA-256 of the classifier, on which scores depend."""
        parts = (part.contiguous().numpy().tobytes() for part in self.classifier)
        return hashlib.sha256(b"".join(parts)).hexdigest()


def bank_settings(clip: CLIP, vocabulary: Vocabulary, config: Config) -> dict[str, Any]:
    """What the classifier depends on, as JSON types: the model, the words, the pictures' way to it, the method."""
    method = config.to_dict()["tags"]["bank"]
    of_scores = ("file", "divisor", "patch_scale", "class_scale", "class_weight")
    return {
        **model_settings(clip, vocabulary),
        "image": config.to_dict()["image"],
        "bank": {name: value for name, value in method.items() if name not in of_scores},
    }


def write_bank(path: str | os.PathLike[str], bank: PatchBank) -> None:
    """Write a bank, whole or not at all.

    Raises ValueError if ``path`` does not end in .npz, OSError if it cannot be written.
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"a bank is an .npz file, not {os.fspath(path)!r}; end its name in .npz")
    arrays = {
        "settings": np.array(json.dumps(dict(bank.settings), sort_keys=True)),
        "images": np.array(bank.images),
        "complete": np.array(bank.complete),
        "patches": bank.patches.numpy(),
    }
    if bank.weight is not None and bank.bias is not None:
        arrays |= {"weight": bank.weight.numpy(), "bias": bank.bias.numpy()}
    file = BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    write_bytes(path, file.getvalue())


def read_bank(path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> PatchBank:
    """The bank of a file; of these ``settings``, if they are given.

    Raises FileNotFoundError where there is none, ValueError for another file, and for a bank of other settings.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no bank {os.fspath(path)!r}; fit one by clipes.tags.bank.fit_bank")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        found = json.loads(str(arrays["settings"]))
        fitted = {name: torch.from_numpy(arrays[name]) for name in ("weight", "bias") if name in arrays}
        patches = torch.from_numpy(arrays["patches"])
        bank = PatchBank(found, patches, int(arrays["images"]), bool(arrays["complete"]), **fitted)
    except Exception as error:  # zipfile's and numpy's readers raise nearly anything on broken bytes
        raise ValueError(f"{os.fspath(path)}: no bank of patches: {error}; name another file, or remove it") from error
    expected = None if settings is None else json.loads(json.dumps(dict(settings)))
    if expected is not None and expected != found:
        names = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
        raise ValueError(
            f"{os.fspath(path)} was fitted with other settings ({', '.join(names)}); name another file with "
            "--bank-file, or remove this one"
        )
    return bank
