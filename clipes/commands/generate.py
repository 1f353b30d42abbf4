"""``clipes generate``: masks for an image, a folder, a list or a whole data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from .account import RunSummary, stopping
from .arguments import add_command, add_source_flags
from .flags import add_config_flags
from .model import add_clip_flags, add_vocabulary_flags, announce_model
from .run_flags import add_run_flags
from .terminal import DEVICE_LOST, DONE, print_error, printable, progress_bar

if TYPE_CHECKING:
    from clipes.runs.plan import LocalEngine, RayEngine
    from clipes.runs.prepare import PreparedRun

ESSENTIAL = (
    "--labels",
    "--out",
    "--model",
    "--pretrained",
    "--classes",
    "--background",
    "--ignore-below",
    "--save-patch-cams",
    "--devices",
    "--dry-run",
)
EXAMPLES = (
    "clipes generate photos --labels labels.csv --out masks --model ViT-B-16 --pretrained openai --classes voc12",
    "clipes generate voc:VOCdevkit/VOC2012:train --out voc --model ViT-B-16 --pretrained openai --classes voc12",
    "clipes generate more-photos --labels more.csv --like masks --out more-masks",
)


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "masks for an image, a folder, a list or a whole data set"
    generate = add_command(commands, "generate", run, help)
    add_source_flags(generate, needed=False, tags=True)
    add_run_flags(generate)
    add_clip_flags(generate)
    add_vocabulary_flags(generate)
    add_config_flags(generate)
    generate.shorten_help(ESSENTIAL, EXAMPLES)
    generate.set_defaults(trusted=None)  # None: not given, so that --like counts


def run(options: argparse.Namespace) -> int:
    """Make the plan, check all of it that needs no model, then write the masks."""
    from clipes.runs.plan import RayEngine
    from clipes.runs.prepare import prepare

    from .plan import plan_of

    plan = plan_of(options)
    if isinstance(plan.placement.engine, RayEngine):
        from clipes.runs.ray_session import import_ray

        import_ray()
    prepared = prepare(plan)
    for note in prepared.notes:
        print_error(note)
    if options.dry_run:
        for name, value in _description(prepared):
            print(f"{name:10} {printable(value)}")  # a longer name moves its value
        return DONE
    return _write(prepared)


def _write(prepared: PreparedRun) -> int:
    """Write the masks that are not finished yet; returns the exit code."""
    plan = prepared.plan
    if plan.model:
        announce_model(plan.model.model, plan.model.pretrained)  # first: torch takes seconds to be imported
    from clipes.device.errors import DeviceLost
    from clipes.runs.execute import start_run, write_masks

    generator = None
    if plan.vocabulary and plan.vocabulary.background == "auto":
        prepared, generator = _with_suggested_background(prepared)
    with ExitStack() as stack:
        stop = stack.enter_context(stopping())
        run = stack.enter_context(start_run(prepared, generator, stop))
        summary = RunSummary(
            run.images, f"masks written to {printable(plan.output.folder)}", lambda: run.remaining.finished
        )
        try:
            summary.consume(stack.enter_context(closing(write_masks(run))), plan.faults.strict)
        except DeviceLost as error:
            print_error(f"the GPU was lost, and no image is to blame: {error}; start again to go on")
            return DEVICE_LOST
    return stop.code or summary.code(0 if plan.faults.strict else plan.faults.max_failure_rate)


def _with_suggested_background(prepared: PreparedRun) -> tuple[PreparedRun, Any]:
    """The run with the background words that `clipes background` would suggest, and a generator that has them if the
    masks are made in this process.
    """
    from clipes.clip.text_cache import cache_folder
    from clipes.generator import MaskGenerator
    from clipes.prompting.background import suggest_background
    from clipes.runs.execute import load_model, remote_device

    plan = prepared.plan
    clip = load_model(plan)
    samples, folder = prepared.samples, cache_folder()
    table = suggest_background(clip, prepared.vocabulary, samples, plan.config, folder=folder, progress=progress_bar)
    if not table.words:
        raise ValueError("--background auto: no word wins in any image, or each is too near to a class; give words")
    print(f"background words by {table.images} images: {printable(', '.join(table.words))}")
    prepared = prepared.with_background(tuple(table.words))
    if remote_device(plan.placement):
        return prepared, None
    return prepared, MaskGenerator(clip, prepared.vocabulary, plan.config)


def _description(prepared: PreparedRun) -> Iterator[tuple[str, str]]:
    from clipes.clip.bundled import ABOUT
    from clipes.datasets.sample import TAG
    from clipes.io.paths import source_text

    plan = prepared.plan
    placement, faults = plan.placement, plan.faults
    yield "source", source_text(plan.source)
    yield "images", _images(prepared)
    found = "by CLIP" if plan.labels == TAG else "the source's own"
    yield "labels", found if plan.labels in (None, TAG) else _listed(plan.labels or ())
    if plan.model:
        name = ABOUT if plan.model.model == "tiny" else plan.model.model
        yield "model", " ".join(filter(None, (name, plan.model.pretrained, plan.model.precision)))
    vocabulary = prepared.vocabulary
    yield "classes", f"{vocabulary.name}: {len(vocabulary.class_names)}"
    chosen = "chosen by the images" if plan.vocabulary and plan.vocabulary.background == "auto" else ""
    yield "background", chosen or f"{len(vocabulary.background_names)} words"
    yield "preset", plan.preset
    for stage, settings in plan.config.to_dict().items():
        yield stage, _settings(settings)
    output = plan.output
    yield "output", " ".join((str(output.folder), output.format, *(f"+{kind}" for kind in output.saved)))
    yield "engine", _engine(placement.engine)
    yield "device", placement.device or "by default: CUDA where there is one, else the CPU"
    yield "faults", _settings(vars(faults))


def _settings(settings: Mapping[str, Any] | None) -> str:
    """``iterations 10, weight 3``"""
    from clipes.store.difference import flatten

    return ", ".join(f"{name} {value}" for name, value in flatten(settings or {}, lists=False)) or "none"


def _engine(engine: LocalEngine | RayEngine) -> str:
    from clipes.runs.plan import ENGINES

    names = {name: value for name, value in vars(engine).items() if value not in (None, ())}
    kind = next(name for name, kind in ENGINES.items() if isinstance(engine, kind))
    return f"{kind}, {_settings(names)}" if names else kind


def _images(prepared: PreparedRun) -> str:
    total, shard = len(prepared.samples), prepared.plan.placement.shard
    return f"{total}" if shard.count == 1 else f"{prepared.images} of {total}, shard {shard}"


def _listed(names: str | tuple[str, ...]) -> str:
    return names if isinstance(names, str) else ", ".join(names)
