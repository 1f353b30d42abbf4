"""Many images to mask files: read, generate, write, and an account of what failed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from clipes.datasets import Sample
from clipes.generator import MaskGenerator
from clipes.image import open_image
from clipes.result import PseudoMask
from clipes.writer import sweep, write_json


@dataclass(frozen=True)
class Outcome:
    """How one image ended: its mask file, or why there is none."""

    sample: Sample
    mask: Path | None
    error: str = ""


def write_masks(
    generator: MaskGenerator, samples: Iterable[Sample], folder: str | os.PathLike[str], batch_size: int = 1
) -> Iterator[Outcome]:
    """Write ``folder/ID.png`` for every sample and ``folder/classes.json`` (id to name), lazily, in order.

    An image that cannot be read, or whose maps are not finite, yields an outcome with an error, and the others are
    done. A mask file is whole or absent.

    Raises OSError when the folder cannot be written to (a full disk, no permission): nothing would go well then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    names = {0: "background", **dict(enumerate(generator.class_names, 1))}
    write_json(folder / "classes.json", names)
    samples = iter(samples)
    while batch := list(islice(samples, batch_size)):
        for sample, result in zip(batch, _results(generator, batch), strict=True):
            if isinstance(result, str):
                yield Outcome(sample, None, result)
                continue
            path = folder / f"{sample.id}.png"
            result.save(path)
            yield Outcome(sample, path)


def _results(generator: MaskGenerator, batch: Sequence[Sample]) -> list[PseudoMask | str]:
    """The result of each sample, or the reason why there is none."""
    opened = [_opened(sample) for sample in batch]
    good = [index for index, image in enumerate(opened) if isinstance(image, Image.Image)]
    results: list[PseudoMask | str] = [image if isinstance(image, str) else "" for image in opened]
    try:
        labels = [batch[index].labels for index in good]
        made: list[PseudoMask | str] = list(
            generator.generate([opened[index] for index in good], labels, max(1, len(good)))  # type: ignore[misc]
        )
    except (ValueError, FloatingPointError) as error:
        # One image spoils its batch: find out which.
        made = [str(error)] if len(good) == 1 else [_results(generator, [batch[index]])[0] for index in good]
    for index, result in zip(good, made, strict=True):
        results[index] = result
    return results


def _opened(sample: Sample) -> Image.Image | str:
    try:
        return open_image(sample.path)
    except (ValueError, OSError) as error:
        return str(error)
