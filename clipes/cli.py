"""The command line. torch is imported only when there is work for it."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipes._version import __version__
from clipes.flags import add_config_flags, read_config

if TYPE_CHECKING:
    from clipes.datasets import Sample

DONE, WRONG_USE, FAILED, DISK_FULL, INTERRUPTED, TERMINATED = 0, 2, 3, 4, 130, 143
EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong use, 3 some images failed (the others are done), 4 disk full, "
    "130 interrupted, 143 terminated."
)
FAILURES_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, one of EXIT_CODES. Unknown flags raise SystemExit(2)."""
    options = _parser().parse_args(arguments)
    try:
        with _signals():
            code = int(options.run(options))
            if sys.stdout:  # None where the caller closed it
                sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader, `head` say, has seen enough; Python's flush at the end must not fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, TypeError, OSError) as error:
        _complain(f"clipes {options.command}: {error}")
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return DISK_FULL if full else WRONG_USE
    except KeyboardInterrupt as stop:
        _complain(f"clipes {options.command}: stopped; the files written so far are whole")
        return TERMINATED if stop.args else INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clipes",
        description="Segmentation masks from image-level labels, with a frozen CLIP and no training.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"clipes {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    help = "draw scenes, make their masks with the bundled model, show and judge them"
    demo = commands.add_parser("demo", help=help, description=help, allow_abbrev=False)
    demo.add_argument("--out", type=Path, default=Path("clipes-demo"), help="folder (default: %(default)s)")
    demo.add_argument("--count", type=_natural, default=200, metavar="N", help="scenes (default: %(default)s)")
    demo.set_defaults(run=_demo)

    help = "masks for an image, a folder, a glob or a list of images"
    generate = commands.add_parser("generate", help=help, description=help, epilog=EXIT_CODES, allow_abbrev=False)
    generate.add_argument(
        "source", type=_named, help="an image, a folder, a quoted glob pattern, or a .txt list of images"
    )
    generate.add_argument(
        "--labels", type=_named, required=True, help="a .csv or .jsonl file, or names for all images: dog,person"
    )
    generate.add_argument(
        "--out",
        type=lambda text: Path(_named(text)),
        required=True,
        help="folder for the masks, named as the images are",
    )
    _add_model_flags(generate)
    add_config_flags(generate)
    generate.set_defaults(run=_generate)

    help = "what can be loaded, and what cannot and why"
    models = commands.add_parser("models", help=help, description=help, allow_abbrev=False)
    models.add_argument("pattern", nargs="?", default="", help="only names that contain this")
    models.set_defaults(run=_models)
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and vocabulary")
    group.add_argument(
        "--model", default="tiny", help="open_clip name, hf-hub:ID, local-dir:PATH (default: %(default)s)"
    )
    group.add_argument("--pretrained", metavar="TAG", help="a tag of that name, or a weights file")
    group.add_argument("--trusted", action="store_true", help="allow TorchScript weights, whose loading can run code")
    classes = "voc12, coco14, scenes, a .json or text file, or names: dog,cat (default for tiny: scenes)"
    group.add_argument("--classes", type=_named, help=classes)
    background = "a set's name, or words: grass,sky (one: grass, with the comma; none: '') (default: the classes' own)"
    group.add_argument("--background", metavar="WORDS", help=background)
    templates = "a prompt with one {}, or a set's name; may be repeated (default: the paper's)"
    group.add_argument("--templates", action="append", metavar="TEXT", help=templates)
    group.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    group.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="(default: fp16 on cuda, else fp32)")
    batch = "images read and encoded together (default: 1 on a CPU, else 16)"
    group.add_argument("--batch-size", type=_natural, metavar="N", help=batch)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _named(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; was a variable of the shell not set?")
    return text


def _words(given: str | None) -> str | list[str] | None:
    """A set's or file's name as it is, ``a,b`` and ``a,`` as words, the empty string as no word."""
    if given is None or (given and ("," not in given or os.path.isfile(given))):
        return given
    words = [word.strip() for word in given.split(",")]
    return words if words[-1] else words[:-1]


def _labels(given: str) -> str | list[str]:
    """A labels file's path as it is, else names."""
    suffix = Path(given).suffix.lower()
    is_file = suffix in (".csv", ".jsonl", ".json", ".txt", ".tsv") or (suffix and os.path.isfile(given))
    return given if is_file else given.split(",")


def _demo(options: argparse.Namespace) -> int:
    from clipes.demo import run_demo

    report = run_demo(options.out, options.count, _bar)
    print(f"{report['count']} scenes, model {report['model']}, mean IoU over the background and the classes:")
    for stage, value in report["miou"].items():
        print(f"  {stage:10} {value:.3f}")
    print(f"Look at {_printable(options.out / 'index.html')}")
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from clipes.batch import check_folder, check_labels, write_masks
    from clipes.datasets import find_samples
    from clipes.vocabulary import load_vocabulary

    settings = _load_settings(options)
    labels = _labels(options.labels)
    samples = find_samples(options.source, labels)
    vocabulary = load_vocabulary(settings["classes"], settings["background"], settings["templates"])
    check_labels(samples, vocabulary)
    check_folder(options.source, samples, options.out, vocabulary.class_names)
    _tell_unused(labels, samples, options.source)

    from clipes.generator import load

    generator = load(options.model, options.pretrained, **settings)
    outcomes = _bar(write_masks(generator, samples, options.out, options.batch_size), len(samples), "masks")
    written, failed = 0, []
    try:
        for outcome in outcomes:
            written += outcome.mask is not None
            failed += [] if outcome.mask else [outcome.error]
    finally:  # stopped half-way, too
        print(f"{written} of {len(samples)} masks written to {_printable(options.out)}")
        for error in failed[:FAILURES_SHOWN]:
            _complain(error)
        if len(failed) > FAILURES_SHOWN:
            _complain(f"and {len(failed) - FAILURES_SHOWN} more failed")
    return FAILED if failed else DONE


def _tell_unused(labels: str | list[str], samples: Sequence[Sample], source: str) -> None:
    """Say how many rows of a labels file belong to no image: fine for a part of a data set, telling elsewhere."""
    from clipes.datasets import read_rows

    if isinstance(labels, str):
        used = {sample.origin for sample in samples}
        unused = [image for image, row in read_rows(labels).items() if row.origin not in used]
        if unused:
            _complain(f"{len(unused)} row(s) of {labels} name no image of {source}, {unused[0]!r} the first")


def _load_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What :func:`clipes.load` takes beside the model."""
    classes = _words(options.classes) or ("scenes" if options.model == "tiny" else None)
    if classes is None:
        raise ValueError(f"no classes given for {options.model}; pass --classes voc12, coco14 or a file of names")
    templates = options.templates
    return {
        "classes": classes,
        "background": _words(options.background),
        "templates": templates[0] if templates and len(templates) == 1 else templates,
        "config": read_config(options, classes),
        "device": options.device,
        "precision": options.precision,
        "trusted": options.trusted,
    }


def _models(options: argparse.Namespace) -> int:
    from clipes.weights import supported_models

    rows = [row for row in supported_models() if options.pattern.lower() in row[0].lower()]
    if not rows and options.pattern.lower() not in "tiny":
        raise ValueError(f"no model's name contains {options.pattern!r}; `clipes models` lists them all")
    print("Supported, name and tags:")
    if options.pattern.lower() in "tiny":
        print("tiny  (bundled, for the drawn scenes)")
    for name, tags, reason in rows:
        if reason is None:
            print(f"{name}  {', '.join(tags)}")
    print("\nAlso: hf-hub:ORG/REPO, local-dir:PATH, or a name with a weights file.\n\nNot supported:")
    for name, _, reason in rows:
        if reason is not None:
            print(f"{name}  ({reason})")
    return DONE


def _bar(items: Any, total: int, unit: str) -> Any:
    """A progress bar on a terminal, silence elsewhere."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=f" {unit}", disable=None, smoothing=0.05)


def _complain(text: str) -> None:
    print(_printable(text), file=sys.stderr)


def _printable(text: object) -> str:
    """``text`` on one line: control characters and broken bytes of hostile file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt("terminated")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    raise SystemExit(main())
