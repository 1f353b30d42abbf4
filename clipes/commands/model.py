"""The flags that choose a model and a vocabulary, and what they mean to :func:`clipes.load`."""

from __future__ import annotations

import argparse
from typing import Any

from clipes.flags import read_config

from .terminal import named, natural, words


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :func:`clipes.load`, its config's apart."""
    group = parser.add_argument_group("model and vocabulary")
    group.add_argument(
        "--model", default="tiny", help="open_clip name, hf-hub:ID, local-dir:PATH (default: %(default)s)"
    )
    group.add_argument("--pretrained", metavar="TAG", help="a tag of that name, or a weights file")
    group.add_argument("--trusted", action="store_true", help="allow TorchScript weights, whose loading can run code")
    classes = "voc12, coco14, scenes, a .json or text file, or names: dog,cat (default for tiny: scenes)"
    group.add_argument("--classes", type=named, help=classes)
    background = "a set's name, or words: grass,sky (one: grass, with the comma; none: '') (default: the classes' own)"
    group.add_argument("--background", metavar="WORDS", help=background)
    templates = "a prompt with one {}, or a set's name; may be repeated (default: the paper's)"
    group.add_argument("--templates", action="append", metavar="TEXT", help=templates)
    group.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    group.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="(default: fp16 on cuda, else fp32)")
    batch = "images read and encoded together (default: 1 on a CPU, else 16)"
    group.add_argument("--batch-size", type=natural, metavar="N", help=batch)


def load_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What :func:`clipes.load` takes beside the model."""
    classes = words(options.classes) or ("scenes" if options.model == "tiny" else None)
    if classes is None:
        raise ValueError(f"no classes given for {options.model}; pass --classes voc12, coco14 or a file of names")
    templates = options.templates
    return {
        "classes": classes,
        "background": words(options.background),
        "templates": templates[0] if templates and len(templates) == 1 else templates,
        "config": read_config(options, classes),
        "device": options.device,
        "precision": options.precision,
        "trusted": options.trusted,
    }
