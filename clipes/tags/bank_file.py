"""The file of a bank: the classifier that was fitted to the surest patches of a set of pictures.

An .npz file, written whole: ``settings``, JSON of what it depends on; ``weight`` (E, C) and ``bias`` (C,) float32;
``images``, how many pictures were looked at; ``patches`` (C,) int64, how many patches of each class it was fitted to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.clip.settings import model_settings
from clipes.clip.weights import CLIP
from clipes.config import Config
from clipes.io.create import write_new
from clipes.vocabulary import Vocabulary

from .checks import check_bank_name


@dataclass(frozen=True, eq=False)
class PatchBank:
    """A fitted classifier of patches.

    Attributes:
        settings: what it depends on, as JSON types: the model, the words, the method.
        weight, bias: (E, C) and (C,) float32: the logits of a unit patch f are ``f @ weight + bias``.
        images: how many pictures it was fitted to.
        patches: (C,) int64, how many of their patches stand for each class; where it is 0, the class's text does.
    """

    settings: Mapping[str, Any]
    weight: Tensor
    bias: Tensor
    images: int
    patches: NDArray[np.int64]

    @property
    def digest(self) -> str:
        """The SHA-256 of the classifier, on which scores depend."""
        parts = (part.contiguous().numpy().tobytes() for part in (self.weight, self.bias))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def bank_settings(clip: CLIP, vocabulary: Vocabulary, config: Config) -> dict[str, Any]:
    """What the classifier depends on, as JSON types: the model, the words, the pictures' way to it, the method."""
    method = config.to_dict()["tags"]["bank"]
    of_scores = ("file", "divisor", "patch_scale", "class_scale", "class_weight")
    model = model_settings(clip, vocabulary)
    del model["dtype"]  # of the passes: scores in another precision may use the same classifier
    return {
        **model,
        "image": config.to_dict()["image"],
        "bank": {name: value for name, value in method.items() if name not in of_scores},
    }


def write_bank(path: str | os.PathLike[str], bank: PatchBank) -> None:
    """Write a bank, whole or not at all; one that is there already stays.

    Two processes that fit it at the same time go on with the same classifier so, whose last bits differ by machine.
    Raises ValueError if ``path`` does not end in .npz, OSError if it cannot be written.
    """
    check_bank_name(path)
    file = BytesIO()
    np.savez(
        file,
        settings=np.array(json.dumps(dict(bank.settings), sort_keys=True)),
        weight=bank.weight.numpy(),
        bias=bank.bias.numpy(),
        images=np.array(bank.images),
        patches=bank.patches,
    )
    data = file.getvalue()
    write_new(path, lambda temporary: temporary.write_bytes(data))


def read_bank(path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> PatchBank:
    """The bank of a file; of these ``settings``, if they are given.

    Raises FileNotFoundError where there is none, ValueError for another file, and for a bank of other settings.
    """
    if not os.path.isfile(path):
        cure = "`clipes tag --tags bank --bank-file` fits one to your pictures"
        raise FileNotFoundError(f"there is no bank {os.fspath(path)!r}; {cure}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        found = json.loads(str(arrays["settings"]))
        weight, bias = (torch.from_numpy(arrays[name]) for name in ("weight", "bias"))
        if weight.shape[1:] != bias.shape or bias.shape != arrays["patches"].shape:
            raise ValueError(f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit together")
        bank = PatchBank(found, weight, bias, int(arrays["images"]), arrays["patches"])
    except Exception as error:  # zipfile's and numpy's readers raise nearly anything on broken bytes
        raise ValueError(f"{os.fspath(path)}: no bank of patches: {error}; name another file, or remove it") from error
    expected = None if settings is None else json.loads(json.dumps(dict(settings)))
    if expected is not None and expected != found:
        names = ", ".join(sorted(_differing(expected, found)))
        raise ValueError(
            f"{os.fspath(path)} was fitted with other settings ({names}); name another file with --bank-file, or "
            "remove this one"
        )
    return bank


def _differing(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """The names of the settings that differ, those within others with a dot between."""
    for name in {*expected, *found}:
        one, other = expected.get(name), found.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from (f"{name}.{inner}" for inner in _differing(one, other))
        elif one != other:
            yield name
