"""The command line. Flags come from the config's fields; torch is imported only when there is work for it."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

from clipes._version import __version__
from clipes.config import COCO14, VOC12, AffinityConfig, CamConfig, Config, ImageConfig, MaskConfig

DONE, WRONG_USE, FAILED, INTERRUPTED = 0, 2, 3, 130
PRESETS = {"voc12": VOC12, "coco14": COCO14}
STAGES = {"image": ImageConfig, "cam": CamConfig, "affinity": AffinityConfig, "mask": MaskConfig}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 wrong use, 3 some images failed, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, TypeError, OSError) as error:
        print(f"clipes {options.command}: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print(f"clipes {options.command}: interrupted; the masks written so far are whole", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clipes",
        description="Segmentation masks from image-level labels, with a frozen CLIP and no training.",
        epilog="Exit codes: 0 done, 2 wrong use, 3 some images failed, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"clipes {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="draw scenes, make their masks with the bundled model, show and judge them")
    demo.add_argument("--out", type=Path, default=Path("clipes-demo"), help="folder to write to (default: %(default)s)")
    demo.add_argument("--count", type=int, default=200, help="how many scenes (default: %(default)s)")
    demo.set_defaults(run=_demo)

    generate = commands.add_parser("generate", help="masks for an image, a folder, a glob or a list of images")
    generate.add_argument("source", help="an image, a folder, a glob pattern, or a .txt list of images")
    generate.add_argument("--labels", required=True, help="a .csv or .jsonl file, or names for all images: dog,person")
    generate.add_argument("--out", type=Path, required=True, help="folder for the masks, named as the images are")
    _add_model_flags(generate)
    _add_config_flags(generate)
    generate.set_defaults(run=_generate)

    models = commands.add_parser("models", help="what can be loaded, and what cannot and why")
    models.add_argument("pattern", nargs="?", default="", help="only names that contain this")
    models.set_defaults(run=_models)
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and vocabulary")
    group.add_argument("--model", default="tiny", help="open_clip name, hf-hub:ID, local-dir:PATH (default: %(default)s)")
    group.add_argument("--pretrained", help="a tag of that name, or a weights file")
    group.add_argument("--trusted", action="store_true", help="allow TorchScript weights, whose loading can run code")
    group.add_argument("--classes", help="voc12, coco14, scenes, or a .json or .txt file of names")
    group.add_argument("--background", help="a set's name, or words: grass,sky")
    group.add_argument("--templates", action="append", help="a prompt with one {}, or a set's name; may be repeated")
    group.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    group.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="(default: fp16 on cuda, else fp32)")
    group.add_argument("--batch-size", type=int, help="images encoded together (default: 1 on a CPU, else 16)")


def _add_config_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("method")
    group.add_argument("--config", choices=tuple(PRESETS), default="voc12", help="preset (default: %(default)s)")
    group.add_argument("--no-affinity", action="store_true", help="stop at the initial CAM")
    for stage in STAGES.values():
        types = typing.get_type_hints(stage)
        for item in fields(stage):
            group.add_argument(_flag(item), default=None, help=item.metadata["help"], **_kind(types[item.name]))


def _flag(item: Field[Any]) -> str:
    return "--" + item.name.replace("_", "-")


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a field's type."""
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": typing.get_args(hint)}
    number = next(kind for kind in (int, float) if kind is hint or kind in typing.get_args(hint))
    return {"type": number, "metavar": "N" if number is int else "X"}


def _config(options: argparse.Namespace) -> Config:
    config = PRESETS[options.config]
    for name, stage in STAGES.items():
        given = {f.name: getattr(options, f.name) for f in fields(stage) if getattr(options, f.name) is not None}
        if given:
            config = replace(config, **{name: replace(getattr(config, name), **given)})
    return replace(config, affinity=None) if options.no_affinity else config


def _demo(options: argparse.Namespace) -> int:
    from clipes.demo import run_demo

    report = run_demo(options.out, options.count, _bar)
    print(f"\n{report['count']} scenes, model {report['model']}, mean IoU over background and 16 classes:")
    for stage, value in report["miou"].items():
        print(f"  {stage:10} {value:.3f}")
    print(f"Look at {options.out / 'index.html'}")
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from clipes.datasets import find_samples
    from clipes.vocabulary import load_vocabulary

    is_file = Path(options.labels).suffix.lower() in (".csv", ".jsonl") or Path(options.labels).is_file()
    labels = options.labels if is_file else [name for name in options.labels.split(",") if name.strip()]
    samples = find_samples(options.source, labels)
    background = options.background
    if background is not None and "," in background:
        background = [word.strip() for word in background.split(",")]
    templates = options.templates[0] if options.templates and len(options.templates) == 1 else options.templates
    classes = options.classes or ("scenes" if options.model == "tiny" else None)
    if classes is None:
        raise ValueError(f"no classes given for {options.model}; pass --classes voc12, coco14 or a file of names")
    vocabulary = load_vocabulary(classes, background, templates)
    for sample in samples:
        try:
            vocabulary.ids(sample.labels)
        except ValueError as error:
            raise ValueError(f"{sample.origin or '--labels'}: {error}") from error

    from clipes.batch import write_masks
    from clipes.generator import load

    config = _config(options)
    generator = load(
        options.model,
        options.pretrained,
        classes=classes,
        background=background,
        templates=templates,
        config=config,
        device=options.device,
        precision=options.precision,
        trusted=options.trusted,
    )
    batch_size = options.batch_size or generator.default_batch_size
    failed = []
    for outcome in _bar(write_masks(generator, samples, options.out, batch_size), len(samples), "masks"):
        if outcome.mask is None:
            failed.append(outcome)
    print(f"{len(samples) - len(failed)} of {len(samples)} masks written to {options.out}")
    for outcome in failed[:20]:
        print(f"failed: {outcome.error}", file=sys.stderr)
    if len(failed) > 20:
        print(f"and {len(failed) - 20} more failed", file=sys.stderr)
    return FAILED if failed else DONE


def _models(options: argparse.Namespace) -> int:
    from clipes.weights import supported_models

    print("tiny  (bundled, drawn scenes)")
    rows = [row for row in supported_models() if options.pattern.lower() in row[0].lower()]
    for name, tags, reason in rows:
        if reason is None:
            print(f"{name}  {', '.join(tags)}")
    print("\nAlso: hf-hub:ORG/REPO, local-dir:PATH, or a name with a weights file. Not supported:")
    for name, _, reason in rows:
        if reason is not None:
            print(f"{name}  ({reason})")
    return DONE


def _bar(items: Any, total: int, unit: str) -> Any:
    """A progress bar on a terminal, silence elsewhere."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=f" {unit}", disable=None, smoothing=0.05)


if __name__ == "__main__":
    raise SystemExit(main())
