"""``clipes models``: the models that can be loaded, their sizes, and why others cannot."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .arguments import add_command
from .terminal import DONE, print_note

if TYPE_CHECKING:  # they load torch
    from clipes.clip.listing import ModelInfo

WIDTH = 100


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "the models that can be loaded, with their sizes and tags; which one to take"
    models = add_command(commands, "models", run, help)
    models.add_argument("pattern", nargs="?", default="", help="only names that contain this")
    models.add_argument("--all", action="store_true", help="those that cannot be loaded, too, and why")
    check = (
        "build the one model NAME with random weights, on the CPU, and make a mask: nothing of open_clip is downloaded"
    )
    models.add_argument("--check", metavar="NAME", help=check)


def run(options: argparse.Namespace) -> int:
    """Print the supported models, and the unsupported ones if asked for, or if no other has the name; or check one."""
    if options.check is not None:
        _check(options.check)
        return DONE
    from clipes.clip.listing import RECOMMENDED, list_models

    pattern = options.pattern.lower()
    models = [model for model in list_models() if pattern in model.name.lower()]
    others = [model for model in list_models(unsupported=True) if pattern in model.name.lower()]
    if not models and not others:
        raise ValueError(f"no model's name contains {options.pattern!r}; `clipes models` lists them all")
    if models:
        _print_models(models)
        name, tag = RECOMMENDED
        print(f"\nFor photographs: --model {name} --pretrained {tag}, the paper's, which the presets are for.")
        print("Also: hf-hub:ORG/REPO, local-dir:PATH, or a name with a weights file as --pretrained.")
    if options.all or not models:
        print("Not supported:" if not models else "\nNot supported:")
        for model in others:
            print(f"{model.name}  ({model.reason})")
    elif others:
        print(f"{len(others)} others are not supported; `clipes models --all` says why.")
    return DONE


def _check(name: str) -> None:
    """Make a mask of a drawn scene by a model with random weights. Errors as of `random_clip`."""
    print_note(f"building {name} ...")
    from clipes.clip.random_model import random_clip
    from clipes.config import VOC12
    from clipes.generator import MaskGenerator
    from clipes.scenes import draw_scene
    from clipes.vocabulary import load_vocabulary

    clip, scene = random_clip(name), draw_scene(0)
    start = perf_counter()
    result = MaskGenerator(clip, load_vocabulary("scenes"), VOC12)(scene.image, scene.labels)
    height, width = result.mask.shape
    seconds = f"{perf_counter() - start:.1f} s"
    print(
        f"{name} with random weights: {clip.vision!r}; a mask of {height} x {width} pixels in {seconds}, texts included"
    )


def _print_models(models: Sequence[ModelInfo]) -> None:
    """A line for each model, and its tags below it."""
    width = max(len(model.name) for model in models)
    print(f"{'name':{width}}  {'patches':16}  parameters  in float32")
    for model in models:
        count = model.parameters
        size = "?  ?" if count is None else f"{_millions(count):>10}  {_size(4 * count):>10}"
        grid = f"{model.grid[0]} x {model.grid[1]} of {model.patch} px" if model.grid else "?"
        print(f"{model.name:{width}}  {grid:16}  {size}")
        tags = ", ".join(model.tags) or "bundled: a toy for drawings"
        print(textwrap.fill(tags, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))


def _millions(count: int) -> str:
    return f"{count / 1e6:.0f} M"


def _size(count: int) -> str:
    """Bytes as ``0.60 GB``, ``13 MB``."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
