"""MaskGenerator: the path from images and labels to masks, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.affinity import refine_cams
from clipes.cam import softmax_gradcam
from clipes.config import VOC12, Config, preset_of
from clipes.decision import decide_masks
from clipes.image import open_image, patch_grid, prepare
from clipes.result import PseudoMask
from clipes.text import text_features
from clipes.vocabulary import Vocabulary, load_vocabulary
from clipes.weights import Clip, load_clip

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class MaskGenerator:
    """Turns images with image-level labels into masks. Made by :func:`load`."""

    def __init__(self, clip: Clip, vocabulary: Vocabulary, config: Config = VOC12):
        if not isinstance(config, Config):
            raise TypeError(
                f"config is {config!r}; give a clipes.Config, such as clipes.VOC12 or a dataclasses.replace of it"
            )
        self.config = config
        self._vocabulary = vocabulary
        self._encoder = clip.encoder
        wide = clip.encoder.head.projection  # the last block's and the head's dtype and device
        self._class_text = text_features(clip.encode_text, vocabulary.class_sentences()).to(wide)
        self._background_text = text_features(clip.encode_text, vocabulary.background_sentences()).to(wide)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data set's classes, in its order; a mask's ids are their places, from 1."""
        return self._vocabulary.class_names

    @property
    def background_names(self) -> tuple[str, ...]:
        """The background words that compete with the labels."""
        return self._vocabulary.background_names

    @property
    def default_batch_size(self) -> int:
        """Images encoded together unless told otherwise: 1 on a CPU, where more gains nothing, else 16."""
        return 1 if self._encoder.device.type == "cpu" else 16

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

        ``batch_size`` images (None: :attr:`default_batch_size`) are read at a time, and those of one patch grid
        encoded together. With 1 every result is, bit for bit, that of a call; together, maps move by rounding (up to
        1e-4 in float32). Raises as a call does, and ValueError where there are more images than labels or the other way
        round.
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
                [open_image(image) for image, _ in batch], [self._vocabulary.ids(row) for _, row in batch]
            )

    def patch_cams(self, pixels: Tensor, class_ids: Sequence[Sequence[int]]) -> Tensor:
        """The maps of a batch on the patch grid: the tensor door behind :meth:`generate`.

        Takes (B, 3, h * p, w * p) normalised pixels and each image's distinct class ids, 1..K. Returns
        (P, h, w) float32 in [0, 1], all pairs of an image and a label, image by image, refined if the affinity is on.
        """
        count = len(self._class_text)
        if len(pixels) != len(class_ids) or any(not 1 <= i <= count for ids in class_ids for i in ids):
            raise ValueError(f"{len(pixels)} images, class ids {list(class_ids)}; give each image ids of 1..{count}")
        affinity = self.config.affinity
        pairs = torch.tensor([(b, i - 1) for b, ids in enumerate(class_ids) for i in ids], dtype=torch.int64)
        pairs = pairs.reshape(-1, 2).to(self._encoder.device)
        present = torch.zeros(len(pixels), len(self._class_text), dtype=torch.bool, device=pairs.device)
        present[pairs[:, 0], pairs[:, 1]] = True
        with torch.inference_mode():
            encoded = self._encoder.encode(pixels, affinity.blocks if affinity else 0)
            cams = softmax_gradcam(
                self._encoder.blocks[-1],
                self._encoder.head,
                encoded.trace,
                self._class_text,
                self._background_text,
                present,
                pairs,
                self.config.cam.pool,
            )
            if affinity and encoded.attention is not None:
                cams = refine_cams(cams, encoded.attention, pairs[:, 0], encoded.grid, affinity)
        if not cams.isfinite().all():
            raise FloatingPointError(
                "a map is not finite; if the precision is lower, load with precision='fp32', else look at the weights"
            )
        return cams.reshape(len(pairs), *encoded.grid)

    def _batch(self, images: list[Image.Image], class_ids: list[tuple[int, ...]]) -> list[PseudoMask]:
        """One read batch: each group of one grid together, the results in the images' order."""
        encoder = self._encoder
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            size = (image.height, image.width)
            grid = patch_grid(size, encoder.patch_size, self.config.image.max_patches)
            groups.setdefault(grid, []).append(index)
        maps: dict[int, Tensor] = {}
        for grid, members in groups.items():
            maps |= {index: torch.zeros(0, *grid, device=encoder.device) for index in members}
            labelled = [index for index in members if class_ids[index]]
            if labelled:
                pixels = [prepare(images[i], grid, encoder.patch_size, encoder.mean, encoder.std) for i in labelled]
                cams = self.patch_cams(torch.from_numpy(np.stack(pixels)), [class_ids[i] for i in labelled])
                maps |= zip(labelled, torch.split(cams, [len(class_ids[i]) for i in labelled]), strict=True)
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
    config: Config | None = None,
    device: str | torch.device | None = None,
    precision: Precision | None = None,
    trusted: bool = False,
) -> MaskGenerator:
    """Load a CLIP and a vocabulary, ready to make masks.

    Args:
        model, pretrained: what open_clip takes: a name and a tag or weights file, ``hf-hub:org/repo``,
            ``local-dir:PATH``; or ``"tiny"``, the bundled model of drawn scenes.
        classes: ``"voc12"``, ``"coco14"``, ``"scenes"``, a list of names, a dict from name to prompt name(s), or a
            JSON or text file. The default is ``"scenes"`` for the bundled model; other models need it.
        background: a set's name, a list, or ``[]``; the default is the class set's own, or VOC's for your own names.
        templates: one or more with one ``{}`` each, or a set's name; the default is the paper's.
        config: the method's settings; by default the class set's own (``clipes.VOC12``, ``COCO14``, ``SCENES``), and
            ``VOC12`` for your own names.
        device: by default CUDA where there is one, else the CPU.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``; by default fp16 on CUDA and fp32 elsewhere. The last block,
            on whose gradient the maps rest, stays in float32.
        trusted: allow weights files that are TorchScript archives, whose loading can run code.

    Raises:
        ValueError: anything of the above that does not exist or does not fit; the message says what to do.
        FileNotFoundError: a file or folder that is not there.
    """
    if classes is None:
        if model != "tiny":
            raise ValueError(f"no classes given for {model}; pass classes='voc12', 'coco14' or your own names")
        classes = "scenes"
    config = preset_of(classes) if config is None else config
    vocabulary = load_vocabulary(classes, background, templates)
    where = _device(device)
    dtype = DTYPES[_precision(precision, where)]
    clip = load_clip(model, pretrained, trusted=trusted)
    return MaskGenerator(Clip(clip.encoder.to(where, dtype), clip.encode_text), vocabulary, config)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}; use 'cpu', 'cuda' or 'cuda:0'") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is not supported; use 'cpu', 'cuda' or 'cuda:0'")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return chosen


def _precision(precision: str | None, device: torch.device) -> str:
    if precision is None:
        return "fp16" if device.type == "cuda" else "fp32"
    if precision not in DTYPES:
        raise ValueError(f"unknown precision {precision!r}; it is one of {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 is about ten times slower than fp32 on a CPU; use 'bf16' or 'fp32'")
    return precision
