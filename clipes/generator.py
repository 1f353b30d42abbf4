"""MaskGenerator: the path from images and labels to masks, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.cams import compute
from clipes.cams.encoded import EncodedImage
from clipes.clip.attributes import vocabulary_features
from clipes.clip.bundled import check_default_model
from clipes.clip.settings import model_settings
from clipes.clip.weights import CLIP, load_clip
from clipes.config import PRESETS, VOC12, Config, Fuse, choice_name
from clipes.device.choice import Precision, default_batch_size
from clipes.device.inference import inference
from clipes.io.images import open_image
from clipes.regions import RegionsLike, regions_of
from clipes.result import PseudoMask, decide_masks
from clipes.tags.images import ImageTagger, Tags
from clipes.vocabulary import Vocabulary, load_vocabulary

Ids = Sequence[int]
ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]


class MaskGenerator:
    """Turns images with image-level labels into masks. Made by :func:`load`.

    Attributes:
        clip: the model, its vision and its text side.
        vocabulary: the classes and background words, and the sentences about them that CLIP reads.
        config: the settings of the method.
    """

    def __init__(self, clip: CLIP, vocabulary: Vocabulary, config: Config = VOC12):
        if not isinstance(config, Config):
            raise TypeError(
                f"config is {config!r}; give a clipes.Config, such as clipes.VOC12 or a dataclasses.replace of it"
            )
        config.check_scope()
        compute.check_model(clip.vision, config)
        self.clip = clip
        self.vocabulary = vocabulary
        self.config = config
        projection = clip.vision.head.projection  # text features need the head's dtype and device
        with inference():
            features = vocabulary_features(clip.text, vocabulary)
        self._text_features = features.to(projection)  # (K + M, V, E)

    def __repr__(self) -> str:
        vision, config = self.clip.vision, self.config
        words = f"{len(self.class_names)} classes, {len(self.background_names)} background words"
        affinity = "affinity" if config.affinity else "no affinity"
        return (
            f"MaskGenerator(ViT of {len(vision.blocks)} blocks, patches of {vision.patch_size}, {self.dtype}, "
            f"{self.device}; {words}; {affinity}, refine {choice_name('refine', config.refine)})"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data set's classes in its order; a class's id in a mask is its index here plus 1."""
        return self.vocabulary.class_names

    @property
    def background_names(self) -> tuple[str, ...]:
        """The background words that compete with the labels."""
        return self.vocabulary.background_names

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the masks depend on, as JSON types: hash of the weights, dtype, words, config.

        A run stores it in ``run.json`` and refuses to continue with other settings.
        """
        return {"config": self.config.to_dict(), **model_settings(self.clip, self.vocabulary), **self._tagger.settings}

    @cached_property
    def _tagger(self) -> ImageTagger:
        return ImageTagger(self.clip, self.vocabulary, self._text_features, self.config)

    @property
    def device(self) -> torch.device:
        """The device of the vision side."""
        return self.clip.vision.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the vision side, except its last block."""
        return self.clip.vision.dtype

    def _in_float32(self) -> MaskGenerator:
        """The same generator encoding in float32, for pictures whose maps are not finite in a lower precision."""
        clip = CLIP(self.clip.vision.to(dtype=torch.float32), self.clip.text)
        return MaskGenerator(clip, self.vocabulary, self.config)

    @property
    def _default_batch_size(self) -> int:
        return default_batch_size(self.device)

    def __call__(
        self, image: ImageLike, labels: Iterable[str] | None = None, regions: RegionsLike | None = None
    ) -> PseudoMask:
        """The mask of one image: a file, a PIL image or a uint8 array (H, W, 3) RGB or (H, W).

        ``labels`` are the classes that the image shows; an empty list gives an all-background mask. With None, they are
        the image's tags (:meth:`tag`), and ``result.tags`` has their scores. ``regions`` are those of the picture, as
        :func:`clipes.regions.regions_of` takes them, in place of those that ``config`` computes.

        Raises:
            ValueError: an unknown label (with near names), an unreadable image, or a single label without any
                background word, because a softmax over one class is always 1; regions of another size.
            FileNotFoundError: no such file.
            TypeError: labels given as one string, an image or regions of another kind.
            FloatingPointError: a map that is not finite.
        """
        return next(self.generate([image], [labels], regions=[regions]))

    def tag(self, image: ImageLike) -> Tags:
        """The labels that CLIP finds in an image, by ``config.tags`` and ``config.tag_rule``, and all scores.

        Raises as a call does for an image that cannot be read, and FloatingPointError for scores that are not finite.

        >>> import clipes
        >>> generator, scene = clipes.load(), clipes.scenes.draw_scene(seed=7)
        >>> generator.tag(scene.image).labels
        ('fish', 'boat')
        """
        return self._tagger.tag([open_image(image)])[0]

    def generate(
        self,
        images: Iterable[ImageLike],
        labels: Iterable[Iterable[str] | None] | None = None,
        batch_size: int | None = None,
        regions: Iterable[RegionsLike | None] | None = None,
    ) -> Iterator[PseudoMask]:
        """Masks of many images, in their order. Images are read when they are needed.

        Without ``labels``, and where those of an image are None, its tags are its labels; it is encoded once for both.

        ``batch_size`` images are read at a time; the default is 1 on a CPU and 32 on a GPU. On a GPU those of similar
        patch counts are encoded together, which changes maps by rounding; on a CPU every result is bit for bit that of
        a call. Raises as a call does, and ValueError if the numbers of images, label lists and ``regions`` differ.
        """
        size = self._default_batch_size if batch_size is None else batch_size
        if not isinstance(size, int) or not 1 <= size < 2**31:
            raise ValueError(f"batch_size is {size!r}; it must be a whole number of at least 1")
        single = isinstance(images, str | os.PathLike | Image.Image) or (
            isinstance(images, np.ndarray) and images.ndim < 4
        )
        if single or isinstance(labels, str):
            raise TypeError("generate takes many images and a list of labels for each; call the generator for one")
        if isinstance(images, Sized) and isinstance(labels, Sized) and len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} lists of labels; give one list for each image")
        rows = ((image, None) for image in images) if labels is None else zip(images, labels, strict=True)
        given = zip(rows, repeat(None)) if regions is None else zip(rows, regions, strict=True)
        return self._generate(((*row, one) for row, one in given), size)

    def _generate(self, rows: Iterator[tuple[ImageLike, Any, Any]], size: int) -> Iterator[PseudoMask]:
        while batch := list(islice(rows, size)):
            pictures, labels, regions = zip(*((open_image(image), *rest) for image, *rest in batch), strict=True)
            ids = [None if row is None else self.vocabulary.ids(row) for row in labels]
            yield from self._batch(list(pictures), ids, regions)

    def encode(self, image: ImageLike) -> EncodedImage:
        """Encode an image once, to ask for masks of several label lists with :meth:`decide`.

        Raises as a call does for an image that cannot be read.

        >>> import clipes
        >>> generator, scene = clipes.load(), clipes.scenes.draw_scene(seed=7)
        >>> features = generator.encode(scene.image)
        >>> [generator.decide(features, [label]).labels for label in ("tree", "kite")]
        [('tree',), ('kite',)]
        """
        picture = open_image(image)
        return EncodedImage(picture, tuple(compute.encode_images(self.clip.vision, [picture], self.config)))

    def decide(self, features: EncodedImage, labels: Iterable[str], regions: RegionsLike | None = None) -> PseudoMask:
        """The mask of an encoded image for these labels: on a CPU bit for bit that of a call with the image.

        Raises as a call does, and ValueError for features of a generator with other settings, without what these need.
        """
        ids, own = self.vocabulary.ids(labels), regions_of(features.image, self.config.regions, regions)
        maps = self._maps(features.batches, [features.image], [ids], [own])
        return decide_masks([features.image], [ids], maps, self.class_names, self.config, [own])[0]

    def compute_cams(self, pixels: Tensor | Sequence[Tensor], class_ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """The maps of a batch on the patch grid, for tensors: the first half of :meth:`generate`.

        Takes normalised pixels, (B, 3, h * p, w * p) or a list of (3, h * p, w * p), and each image's distinct class
        ids, 1..K. Returns the maps of each image's labels, (C, h, w) float32 in [0, 1], propagated if the affinity is
        on.
        """
        count = len(self.class_names)
        if len(pixels) != len(class_ids) or any(not 1 <= i <= count for ids in class_ids for i in ids):
            raise ValueError(f"{len(pixels)} images, class ids {list(class_ids)}; give each image ids of 1..{count}")
        vision = self.clip.vision
        encoded = compute.encode_pixels(vision, pixels, self.config)
        return compute.compute_cams(vision, encoded, self._text_features, class_ids, count, self.config)

    def _maps(
        self, batches: Iterable[compute.Views], images: Sequence[Image.Image], class_ids: Sequence[Ids], regions: Any
    ) -> list[Tensor]:
        text, count = self._text_features, len(self.class_names)
        return compute.image_maps(self.clip.vision, batches, images, text, class_ids, count, self.config, regions)

    def _batch(
        self, images: list[Image.Image], class_ids: list[tuple[int, ...] | None], given: Sequence[RegionsLike | None]
    ) -> list[PseudoMask]:
        """The results of one batch, in the images' order; images without labels are not encoded.

        Those whose labels are None are tagged first.
        """
        vision, config = self.clip.vision, self.config
        regions = [regions_of(image, config.regions, one) for image, one in zip(images, given, strict=True)]
        unknown = {index: images[index] for index, ids in enumerate(class_ids) if ids is None}

        def maps_of(batches: Iterable[compute.Views], numbers: Sequence[int], own: Sequence[Ids]) -> list[Tensor]:
            return self._maps(batches, [images[i] for i in numbers], own, [regions[i] for i in numbers])

        tags, found = self._tagger.tag_and_map(unknown, maps_of) if unknown else ({}, {})
        ids = [self.vocabulary.ids(tags[index].labels) if row is None else row for index, row in enumerate(class_ids)]
        labelled = [index for index, row in enumerate(ids) if row and index not in found]
        batches = compute.encode_images(vision, [images[index] for index in labelled], config)
        found |= zip(labelled, maps_of(batches, labelled, [ids[i] for i in labelled]), strict=True)
        maps = [found[i] if i in found else compute.no_maps(image, vision, config) for i, image in enumerate(images)]
        results = decide_masks(images, ids, maps, self.class_names, config, regions)
        return [
            replace(result, tags=tags[index].chosen) if index in tags else result
            for index, result in enumerate(results)
        ]


def load(
    model: str | None = None,
    pretrained: str | Path | None = None,
    *,
    like: str | None = None,
    classes: str | Path | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    background: str | Sequence[str] | None = None,
    templates: str | Sequence[str] | None = None,
    fuse: Fuse | None = None,
    attributes: str | Path | Mapping[str, Sequence[str]] | None = None,
    attribute_centres: int | None = None,
    config: Config | None = None,
    device: str | torch.device | None = None,
    precision: Precision | None = None,
    trusted: bool = False,
) -> MaskGenerator:
    """Load a CLIP and a vocabulary, ready to make masks.

    Args:
        model, pretrained: as in open_clip: a name and a tag or weights file, ``hf-hub:org/repo``,
            ``local-dir:PATH``; or ``"tiny"``, the bundled model, a toy that knows the drawn scenes alone. It is
            the default for classes that it has learnt; for others it must be named.
        like: for a weights file, the tag of that name whose activation, mean, standard deviation and interpolation it
            has, such as ``"openai"``; a file does not say.
        classes: ``"voc12"``, ``"coco14"``, ``"scenes"``, each also with WordNet's synonyms (``"voc12-wordnet"``), a
            list of names, a dict from name to prompt name(s), or a JSON or text file. The default is ``"scenes"`` for
            the bundled model; other models need it.
        background: a set's name, a list, or ``[]``; the default is the class set's own, or VOC's for your own names.
        templates: one or more with one ``{}`` each, or a set's name; by default the class set's own, else the paper's.
        fuse: how several names of a class are combined: ``"sentence"``, listed in one sentence (the paper's, and the
            default); ``"features"``, the mean of their features; ``"max"``, the most likely in each picture.
        attributes, attribute_centres: sentences about classes, a dict or a JSON or YAML file of one, which enrich their
            texts (ExCEL); how many k-means centres they have (112).
        config: the method's settings; by default the class set's own, and ``clipes.VOC12`` for your own names.
        device: by default CUDA if available, else the CPU.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``; by default fp16 on CUDA and fp32 elsewhere. The gradient behind
            the maps goes through the last block, which stays in float32 except for its MLP; with a lower precision on
            CUDA its products are computed in TF32.
        trusted: allow weights files whose loading can run code: TorchScript archives, pickles of any classes.

    Raises:
        ValueError: an argument that does not exist or does not fit; the message says what to do.
        FileNotFoundError: a file or folder that does not exist.
    """
    if classes is None:
        if model not in (None, "tiny"):
            raise ValueError(f"no classes given for {model}; pass classes='voc12', 'coco14' or your own names")
        classes = "scenes"
    vocabulary = load_vocabulary(classes, background, templates, fuse, attributes, attribute_centres)
    if model is None:
        check_default_model(vocabulary)
    clip = load_clip(model or "tiny", pretrained, like=like, device=device, precision=precision, trusted=trusted)
    return MaskGenerator(clip, vocabulary, PRESETS[vocabulary.preset] if config is None else config)
