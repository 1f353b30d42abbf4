"""How `clipes generate` writes its masks: in this process, by one for each device, or by the actors of Ray."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from .account import Account, Stop, stopping
from .model import clip_settings
from .run_flags import devices_of, output_of, place, worker_count
from .terminal import DEVICE_LOST, complain, printable, words

if TYPE_CHECKING:  # they load torch
    from clipes.clip.weights import CLIP
    from clipes.config import Config
    from clipes.datasets import Samples
    from clipes.generator import MaskGenerator
    from clipes.runs.outcome import Outcome
    from clipes.runs.run import Run
    from clipes.vocabulary import Vocabulary


def write(options: argparse.Namespace, clip: CLIP, vocabulary: Vocabulary, config: Config, samples: Samples) -> int:
    """Write the masks that are not finished yet; returns the exit code."""
    from clipes.datasets import absolute_source
    from clipes.device.choice import dtype_name
    from clipes.device.errors import DeviceLost
    from clipes.device.threads import configure_threads
    from clipes.generator import MaskGenerator
    from clipes.runs.run import Run

    shard, _ = place(options)
    jobs = configure_threads(options.threads, clip.vision.device, len(samples))
    output, generator = output_of(options), MaskGenerator(clip, vocabulary, config)
    mine = len(samples) if shard.count == 1 else sum(shard.holds(sample.id) for sample in samples)
    about = {
        "source": absolute_source(options.source),
        "model": options.model,
        "pretrained": options.pretrained,
        "classes": words(options.classes) or vocabulary.name,
        "preset": options.preset or vocabulary.preset,
        "category_ids": samples.category_ids,
    }
    settings, devices = generator.settings, devices_of(options)
    if elsewhere := others_device(options):  # this process may be without a GPU, or without need of one
        settings = {**settings, "dtype": dtype_name(options.precision, elsewhere.partition(":")[0])}
    with ExitStack() as stack:
        stop = stack.enter_context(stopping())
        run = stack.enter_context(Run.open(settings, generator.class_names, output, about))
        run.header |= {"shard": str(shard), "images": mine, "total": len(samples)}
        account = Account(mine, f"masks written to {printable(output.folder)}", lambda: run.finished)
        remaining = run.remaining(samples, shard, stop)
        if options.engine == "ray":
            outcomes = _by_ray(options, run, vocabulary, config, remaining, stop)
        elif len(devices) > 1:
            outcomes = _on_devices(options, run, vocabulary, config, remaining, stop, mine)
        else:
            outcomes = _here(options, run, generator, remaining, stop, mine, jobs)
        try:
            account.follow(stack.enter_context(closing(outcomes)), options.strict)
        except DeviceLost as error:
            complain(f"the GPU was lost, and no image is to blame: {error}; start again to go on")
            return DEVICE_LOST
    return stop.code or account.code(0 if options.strict else options.max_failure_rate)


def _here(
    options: argparse.Namespace, run: Run, generator: MaskGenerator, remaining: Any, stop: Stop, images: int, jobs: int
) -> Generator[Outcome, None, None]:
    from clipes.runs.generation import MasksFromImages
    from clipes.runs.local_engine import MaskWriter

    readers = worker_count(options, generator.device.type, images)
    given = {"batch_size": options.batch_size, "readers": readers, "skip": _skip(options), "stop": stop}
    with MaskWriter(MasksFromImages(generator), run.output, run.header, jobs=jobs, **given) as writer:
        yield from writer.write(remaining)


def _on_devices(
    options: argparse.Namespace,
    run: Run,
    vocabulary: Vocabulary,
    config: Config,
    remaining: Any,
    stop: Stop,
    images: int,
) -> Generator[Outcome, None, None]:
    from clipes.runs.device_pool import write_on_devices

    devices = devices_of(options)
    return write_on_devices(
        partial(_generator_on, clip_settings(options), vocabulary, config),
        run.output,
        run.header,
        remaining,
        devices,
        threads=options.threads,
        stop=stop,
        batch_size=options.batch_size,
        readers=worker_count(options, devices[0].partition(":")[0], images, len(devices)),
        skip=_skip(options),
    )


def _by_ray(
    options: argparse.Namespace, run: Run, vocabulary: Vocabulary, config: Config, remaining: Any, stop: Stop
) -> Generator[Outcome, None, None]:
    from clipes.runs.ray_engine import RaySettings, write_with_ray

    settings = {**clip_settings(options), "device": _actors_device(options)}
    return write_with_ray(
        partial(_generator, settings, vocabulary, config),
        vocabulary.class_names,
        run.output,
        run.header,
        remaining,
        RaySettings(
            actors=options.actors,
            gpus_per_actor=options.gpus_per_actor,
            cpus_per_actor=options.cpus_per_actor,
            readers=options.workers or None,
            threads=options.threads,
            address=options.ray_address,
        ),
        stop=stop,
        batch_size=options.batch_size,
        skip=_skip(options),
    )


def others_device(options: argparse.Namespace) -> str | None:
    """The device, or the first of the devices, of the processes that have the model; None where that is this one."""
    if options.engine == "ray":
        return _actors_device(options)
    devices = devices_of(options)
    return devices[0] if len(devices) > 1 else None


def _actors_device(options: argparse.Namespace) -> str:
    return options.device or ("cuda" if options.gpus_per_actor else "cpu")


def _generator(settings: dict[str, Any], vocabulary: Vocabulary, config: Config) -> MaskGenerator:
    """What an actor loads, and the process of a device."""
    from clipes.clip.weights import load_clip
    from clipes.generator import MaskGenerator

    return MaskGenerator(load_clip(**settings), vocabulary, config)


def _generator_on(settings: dict[str, Any], vocabulary: Vocabulary, config: Config, device: str) -> MaskGenerator:
    return _generator({**settings, "device": device}, vocabulary, config)


def _skip(options: argparse.Namespace) -> list[str]:
    return [name for name in ("unknown", "missing") if getattr(options, name) == "skip"]
