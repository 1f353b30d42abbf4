"""MaskGenerator: the path from images and labels to masks, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.cams.localization import bytes_of, encode_images, encode_pixels, localize
from clipes.clip.text import encode_sentences, text_features
from clipes.clip.weights import Clip, load_clip
from clipes.config import PRESETS, VOC12, Config, Fuse
from clipes.decision import decide_masks
from clipes.device.choice import Precision, default_batch_size
from clipes.io.images import open_image, patch_grid
from clipes.result import PseudoMask
from clipes.vocabulary import Vocabulary, load_vocabulary

_PIXEL, _PIXEL_LABEL = 220, 30  # bytes of the CRF's lattice, and of maps and scores for each label, about

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]


class MaskGenerator:
    """Turns images with image-level labels into masks. Made by :func:`load`.

    Attributes:
        config: the settings of the method.
        vocabulary: the classes and background words, and what CLIP is told of them.
        encoder: CLIP's image side.
        text_features: (K + M, V, E), CLIP's unit features of the vocabulary's sentences.
    """

    def __init__(self, clip: Clip, vocabulary: Vocabulary, config: Config = VOC12):
        if not isinstance(config, Config):
            raise TypeError(
                f"config is {config!r}; give a clipes.Config, such as clipes.VOC12 or a dataclasses.replace of it"
            )
        self.config = config
        self.vocabulary = vocabulary
        self.encoder, self._tower = clip.encoder, clip.text
        wide = clip.encoder.head.projection  # the last block's and the head's dtype and device
        self.text_features = text_features(clip.text, vocabulary.sentences()).to(wide)  # (K + M, V, E)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data set's classes, in its order; a mask's ids are their places, from 1."""
        return self.vocabulary.class_names

    @property
    def background_names(self) -> tuple[str, ...]:
        """The background words that compete with the labels."""
        return self.vocabulary.background_names

    @property
    def settings(self) -> dict[str, Any]:
        """All that the masks depend on, as JSON holds it: weights by their hash, number type, words, config."""
        encoder, vocabulary = self.encoder, self.vocabulary
        return {
            "config": self.config.to_dict(),
            "weights": self._tower.fingerprint,
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "mean": encoder.mean,
            "std": encoder.std,
            "vocabulary": vocabulary.fingerprint,
            "background": vocabulary.background_names,
            "templates": vocabulary.templates,
            "fuse": vocabulary.fuse,
        }

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.encoder.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the encoder, its last block apart."""
        return self.encoder.dtype

    def in_float32(self) -> MaskGenerator:
        """The same generator, encoding in float32: for pictures whose maps are not finite in a lower precision."""
        wide = Clip(self.encoder.to(dtype=torch.float32), self._tower)
        return MaskGenerator(wide, self.vocabulary, self.config)

    @property
    def default_batch_size(self) -> int:
        """Images encoded together unless told otherwise: 1 on a CPU, where more gains nothing, else 32."""
        return default_batch_size(self.encoder.device)

    def bytes_of(self, images: Sequence[Image.Image], labels: Sequence[int]) -> int:
        """Memory that pictures of so many ``labels`` take at most, about, while :meth:`generate` makes their masks
        together on a CPU: one after the other is encoded, all are decided."""
        encoder, most = self.encoder, self.config.image.max_patches
        grids = [patch_grid((image.height, image.width), encoder.patch_size, most) for image in images]
        pixels = [image.height * image.width for image in images]
        decided = sum((_PIXEL + _PIXEL_LABEL * some) * count for some, count in zip(labels, pixels, strict=True))
        return max(bytes_of(encoder, h * w) for h, w in grids) + decided

    def encode_text(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """The unit features (n, E) float32 of n >= 1 sentences, in CLIP's space."""
        return encode_sentences(self._tower, sentences).numpy()

    def __call__(self, image: ImageLike, labels: Iterable[str]) -> PseudoMask:
        """The mask of one image: a file, a PIL image or a uint8 array (H, W, 3) RGB or (H, W).

        ``labels`` are the classes it shows; none gives an all-background mask.

        Raises:
            ValueError: an unknown label (with near names), an unreadable image, or one label and no background
                class, between which a softmax cannot decide.
            FileNotFoundError: no such file.
            TypeError: labels given as one string, an image of another kind.
            FloatingPointError: a map that is not finite.
        """
        return next(self.generate([image], [labels]))

    def generate(
        self, images: Iterable[ImageLike], labels: Iterable[Iterable[str]], batch_size: int | None = None
    ) -> Iterator[PseudoMask]:
        """Masks of many images, in their order, read as they are needed.

        ``batch_size`` images (None: :attr:`default_batch_size`) are read at a time, and those of about as many patches
        encoded together on a GPU, where maps then move by rounding; on a CPU every result is, bit for bit, that of a
        call. Raises as a call does, and ValueError where there are more images than labels or the other way round.
        """
        size = self.default_batch_size if batch_size is None else batch_size
        if not isinstance(size, int) or not 1 <= size < 2**31:
            raise ValueError(f"batch_size is {size!r}; it must be a whole number of at least 1")
        single = isinstance(images, str | os.PathLike | Image.Image) or (
            isinstance(images, np.ndarray) and images.ndim < 4
        )
        if single or isinstance(labels, str):
            raise TypeError("generate takes many images and a list of labels for each; call the generator for one")
        if isinstance(images, Sized) and isinstance(labels, Sized) and len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} lists of labels; give one list for each image")
        return self._generate(images, labels, size)

    def _generate(
        self, images: Iterable[ImageLike], labels: Iterable[Iterable[str]], size: int
    ) -> Iterator[PseudoMask]:
        rows = zip(images, labels, strict=True)
        while batch := list(islice(rows, size)):
            yield from self._batch(
                [open_image(image) for image, _ in batch], [self.vocabulary.ids(row) for _, row in batch]
            )

    def patch_cams(self, pixels: Tensor | Sequence[Tensor], class_ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """The maps of a batch on the patch grid: the tensor door behind :meth:`generate`.

        Takes normalised pixels, (B, 3, h * p, w * p) or a list of (3, h * p, w * p), and each image's distinct class
        ids, 1..K. Returns the maps of each image's labels, (C, h, w) float32 in [0, 1], refined if the affinity is on.
        """
        count = len(self.class_names)
        if len(pixels) != len(class_ids) or any(not 1 <= i <= count for ids in class_ids for i in ids):
            raise ValueError(f"{len(pixels)} images, class ids {list(class_ids)}; give each image ids of 1..{count}")
        encoded = encode_pixels(self.encoder, pixels, self.config)
        return localize(self.encoder, encoded, self.text_features, class_ids, count, self.config)

    def _batch(self, images: list[Image.Image], class_ids: list[tuple[int, ...]]) -> list[PseudoMask]:
        """One read batch: each group together, the results in the images' order."""
        encoder, config = self.encoder, self.config
        labelled = [index for index, ids in enumerate(class_ids) if ids]
        maps: dict[int, Tensor] = {}
        for members, encoded in encode_images(encoder, [images[index] for index in labelled], config):
            ids = [class_ids[labelled[member]] for member in members]
            found = localize(encoder, encoded, self.text_features, ids, len(self.class_names), config)
            maps |= zip((labelled[member] for member in members), found, strict=True)
            del encoded  # or it takes the next group's memory
        for index in set(range(len(images))) - set(labelled):
            size = (images[index].height, images[index].width)
            grid = patch_grid(size, encoder.patch_size, config.image.max_patches)
            maps[index] = torch.zeros(0, *grid, device=encoder.device)
        return decide_masks(
            images, class_ids, [maps[index] for index in range(len(images))], self.class_names, self.config
        )


def load(
    model: str = "tiny",
    pretrained: str | Path | None = None,
    *,
    classes: str | Path | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    background: str | Sequence[str] | None = None,
    templates: str | Sequence[str] | None = None,
    fuse: Fuse | None = None,
    config: Config | None = None,
    device: str | torch.device | None = None,
    precision: Precision | None = None,
    trusted: bool = False,
) -> MaskGenerator:
    """Load a CLIP and a vocabulary, ready to make masks.

    Args:
        model, pretrained: what open_clip takes: a name and a tag or weights file, ``hf-hub:org/repo``,
            ``local-dir:PATH``; or ``"tiny"``, the bundled model of drawn scenes.
        classes: ``"voc12"``, ``"coco14"``, ``"scenes"``, each also with WordNet's synonyms (``"voc12-wordnet"``), a
            list of names, a dict from name to prompt name(s), or a JSON or text file. The default is ``"scenes"`` for
            the bundled model; other models need it.
        background: a set's name, a list, or ``[]``; the default is the class set's own, or VOC's for your own names.
        templates: one or more with one ``{}`` each, or a set's name; the default is the class set's own, else the
            paper's.
        fuse: how several names of a class become one: ``"sentence"``, listed in one sentence (the paper);
            ``"features"``, the mean of their features; ``"max"``, the likeliest in each picture. The default is the
            class set's own, else ``"sentence"``.
        config: the method's settings; by default the class set's own (``clipes.VOC12``, ``COCO14``, ``SCENES``), and
            ``VOC12`` for your own names.
        device: by default CUDA where there is one, else the CPU.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``; by default fp16 on CUDA and fp32 elsewhere. The last block,
            on whose gradient the maps rest, stays in float32 but for its MLP; on CUDA that is multiplied in TF32.
        trusted: allow weights files that are TorchScript archives, whose loading can run code.

    Raises:
        ValueError: anything of the above that does not exist or does not fit; the message says what to do.
        FileNotFoundError: a file or folder that is not there.
    """
    if classes is None:
        if model != "tiny":
            raise ValueError(f"no classes given for {model}; pass classes='voc12', 'coco14' or your own names")
        classes = "scenes"
    vocabulary = load_vocabulary(classes, background, templates, fuse)
    clip = load_clip(model, pretrained, device=device, precision=precision, trusted=trusted)
    return MaskGenerator(clip, vocabulary, PRESETS[vocabulary.preset] if config is None else config)
