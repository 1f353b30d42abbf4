"""From pictures to tags: each is encoded, scored for every class, and given its labels by the rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from clipes.cams.compute import Views, encode_images, whole_pixels
from clipes.clip.vision import Encoded
from clipes.clip.weights import CLIP
from clipes.config import (
    BankTagsConfig,
    Config,
    TagRuleConfig,
    ViewsConfig,
)
from clipes.device.inference import inference
from clipes.io.patches_npz import PatchArrays
from clipes.vocabulary import Vocabulary

from .bank import fit_bank
from .bank_file import PatchBank, bank_settings, read_bank
from .bank_patches import judged_patches
from .checks import check_tagging
from .methods import TagInput, tag_scores
from .rules import is_label, is_near
from .views import one_view

MakeMaps = Callable[[Iterable[Views], Sequence[int], Sequence[tuple[int, ...]]], list[Tensor]]
"""Encoded views of images, the images' numbers, and the ids of their labels, to the maps of each image."""


_DECIMALS = 6  # of a score, in tables and records too, so that labels made from those are the same


@dataclass(frozen=True)
class Tags:
    """The labels that CLIP found in an image.

    Attributes:
        labels: the classes that the rule chose, the highest score first; empty where none of them is there.
        scores: the score of every class, in [0, 1], in the order of the classes.
        near: the classes whose scores are so near to their threshold that the image is worth a look.
    """

    labels: tuple[str, ...]
    scores: Mapping[str, float]
    near: tuple[str, ...] = ()

    @property
    def chosen(self) -> dict[str, float]:
        """The scores of the labels."""
        return {label: self.scores[label] for label in self.labels}


def tags_of_scores(scores: ArrayLike, class_names: Sequence[str], rule: TagRuleConfig) -> Tags:
    """The tags of an image with these scores (K,) of the classes."""
    values = np.round(np.asarray(scores, np.float64), _DECIMALS)
    chosen, near = is_label(values, rule), is_near(values, rule)
    best_first = np.argsort(-values, kind="stable")
    return Tags(
        tuple(class_names[index] for index in best_first if chosen[index]),
        dict(zip(class_names, values.tolist(), strict=True)),
        tuple(class_names[index] for index in best_first if near[index]),
    )


class ImageTagger:
    """Tags images by one model and one vocabulary.

    Args:
        clip: the model.
        vocabulary: K classes and M background words.
        text: (K + M, V, E), their unit features.
        config: the settings; of its stages ``image``, ``tags`` and ``tag_rule`` count, and ``views`` where maps are
            made, too.
    """

    def __init__(self, clip: CLIP, vocabulary: Vocabulary, text: Tensor, config: Config):
        self._clip, self._vision, self._vocabulary, self._text = clip, clip.vision, vocabulary, text
        self._names, self._config = vocabulary.class_names, config

    @cached_property
    def bank(self) -> PatchBank | None:
        """The fitted classifier, for the method that has one."""
        method = self._config.tags
        if not isinstance(method, BankTagsConfig) or not method.file:
            return None
        return read_bank(method.file, bank_settings(self._clip, self._vocabulary, self._config))

    @property
    def settings(self) -> dict[str, str]:
        """What scores depend on besides the model, the words and the config: the hash of a fitted classifier."""
        return {"bank": self.bank.digest} if self.bank else {}

    def tag(self, images: Sequence[Image.Image]) -> list[Tags]:
        """The tags of RGB images, each encoded for itself or with others of its size."""
        found: dict[int, Tags] = {}
        alone = one_view(self._config)
        for members, encoded in encode_images(self._vision, images, alone, [alone.tags]):
            found |= zip(members, self.tag_encoded([images[member] for member in members], encoded), strict=True)
        return [found[index] for index in range(len(images))]

    def patches(self, images: Sequence[Image.Image]) -> list[PatchArrays]:
        """The patches of RGB images, for a bank: :func:`clipes.tags.bank_patches.judged_patches`."""
        return judged_patches(self._vision, images, self._text[: len(self._names)], self._config)

    def fitted_bank(self, patches: PatchArrays, images: int) -> PatchBank:
        """The bank of the surest patches of a number of images: :func:`clipes.tags.bank.fit_bank`."""
        method = self._config.tags
        if not isinstance(method, BankTagsConfig):
            raise ValueError(f"a bank is fitted for the method 'bank', not {type(method).__name__}")
        text = self._text[: len(self._names)].float().cpu()
        with inference():
            last = fit_bank(torch.from_numpy(patches.features), text, method)[1]
        counts = np.bincount(last.kept[last.kept >= 0].numpy(), minlength=len(self._names))
        settings = bank_settings(self._clip, self._vocabulary, self._config)
        return PatchBank(settings, last.weight.clone(), last.bias.clone(), images, counts)

    def tag_encoded(self, images: Sequence[Image.Image], encoded: Encoded) -> list[Tags]:
        """The tags of the RGB images of a batch, encoded whole with what ``config.tags`` needs.

        Raises as :func:`clipes.tags.methods.tag_scores` and :func:`clipes.tags.checks.check_tagging`.
        """
        check_tagging(self._vocabulary, self._config)
        settings = self._config.image

        def pixels(index: int) -> Tensor:
            return whole_pixels(self._vision, images[index], settings)

        given = TagInput(self._vision, encoded, self._text, len(self._names), pixels, settings.positions, self.bank)
        scores = tag_scores(given, self._config.tags)
        return [tags_of_scores(one, self._names, self._config.tag_rule) for one in scores]

    def tag_and_map(
        self, images: Mapping[int, Image.Image], make_maps: MakeMaps
    ) -> tuple[dict[int, Tags], dict[int, Tensor]]:
        """The tags of RGB images by number, and the maps of these labels, of one encoding.

        No maps where an image has no label, and where maps are of several views of it, which are encoded for
        themselves.
        """
        config, order = self._config, list(images)
        if config.views != ViewsConfig():
            return dict(zip(order, self.tag(list(images.values())), strict=True)), {}
        tags: dict[int, Tags] = {}
        maps: dict[int, Tensor] = {}
        for members, encoded in encode_images(self._vision, list(images.values()), config, [config.tags]):
            batch = [order[member] for member in members]
            pictures = [images[number] for number in batch]
            tags |= zip(batch, self.tag_encoded(pictures, encoded), strict=True)
            ids = [self._vocabulary.ids(tags[number].labels) for number in batch]
            if any(ids):
                views = [(list(range(len(batch))), encoded)]
                maps |= zip(batch, make_maps(views, batch, ids), strict=True)
        return tags, maps
