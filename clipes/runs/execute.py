"""A prepared run, executed in this process: the model is loaded, the folder claimed, the masks are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from clipes.clip import weights
from clipes.config import Config
from clipes.datasets import absolute_source
from clipes.device.choice import dtype_name, gpu_of
from clipes.device.threads import configure_threads
from clipes.generator import MaskGenerator
from clipes.io.paths import existing_folders
from clipes.store.cleanup import clear
from clipes.store.store import Store
from clipes.vocabulary import Vocabulary

from .decoding import decode_image
from .generation import image_source
from .local_engine import MaskWriter
from .outcome import Outcome
from .plan import LocalEngine, ModelChoice, Placement, Plan, RayEngine
from .prepare import PreparedRun
from .run import Remaining, claim_folder, record_header

Stop = Callable[[], bool]


def load_generator(model: ModelChoice, vocabulary: Vocabulary, config: Config, device: str | None) -> MaskGenerator:
    """The generator of a plan, on ``device``. Engines pickle a :class:`functools.partial` of this function."""
    return MaskGenerator(_load_clip(model, device), vocabulary, config)


def load_model(plan: Plan) -> weights.CLIP:
    """The CLIP of a plan for this process: on the CPU in float32 where other processes make the masks, because this
    machine may lack their device.

    Raises ValueError for a plan without a model, and what :func:`clipes.clip.weights.load_clip` raises.
    """
    if plan.model is None:
        raise ValueError("the plan names no model; give the generator")
    if remote_device(plan.placement):
        return _load_clip(replace(plan.model, precision="fp32"), "cpu")
    return _load_clip(plan.model, local_device(plan.placement))


def _load_clip(model: ModelChoice, device: str | None) -> weights.CLIP:
    return weights.load_clip(
        model.model,
        model.pretrained,
        like=model.like,
        device=device,
        precision=model.precision,
        trusted=model.trusted,
    )


class Run:
    """A run while it is executed. Made by :func:`start_run`.

    Attributes:
        prepared, plan: the plan and its images.
        generator: makes the masks in this process; on the CPU where other processes make them, because this machine
            may lack their device.
        stop: asked between batches whether to end early.
        images: how many images the plan's shard has.
        header: what each record of this start says first.
        remaining: the samples of the plan's shard that are not finished.
        decode: reads an image; it waits for the folders of the source, which are there now.
    """

    def __init__(self, prepared: PreparedRun, generator: MaskGenerator, store: Store, stop: Stop):
        self.prepared, self.plan, self.generator, self.stop = prepared, prepared.plan, generator, stop
        self.images = prepared.images
        shard, total = self.plan.placement.shard, len(prepared.samples)
        self.header = {**record_header(store), "shard": str(shard), "images": self.images, "total": total}
        self.remaining = Remaining(prepared.with_regions, store, self.plan.output, shard, stop)
        unsegmented = getattr(self.plan.config.regions, "unsegmented", 0)
        self.decode = partial(decode_image, folders=existing_folders(self.plan.source), unsegmented=unsegmented)


@contextmanager
def start_run(
    prepared: PreparedRun, generator: MaskGenerator | None = None, stop: Stop = lambda: False
) -> Iterator[Run]:
    """Load the model of a plan, unless a ``generator`` is given, and claim the output folder for its settings.

    Raises what loading the model raises, ValueError for a folder of another run's settings, and OSError for a folder
    that cannot be written to.
    """
    plan = prepared.plan
    generator = generator or MaskGenerator(load_model(plan), prepared.vocabulary, plan.config)
    if plan.faults.overwrite:
        clear(plan.output.folder)
    settings = generator.settings
    if remote := remote_device(plan.placement):
        precision = plan.model.precision if plan.model else None
        settings = {**settings, "dtype": dtype_name(precision, remote.partition(":")[0])}
    with claim_folder(settings, generator.class_names, plan.output, _about(prepared)) as store:
        yield Run(prepared, generator, store, lambda: stop() or store.is_lost)
        store.check_lease()


def _about(prepared: PreparedRun) -> dict[str, Any]:
    """What ``run.json`` says beside the settings."""
    plan = prepared.plan
    classes = plan.vocabulary.classes if plan.vocabulary and not isinstance(plan.vocabulary.classes, dict) else None
    return {
        "source": absolute_source(plan.source),
        **(
            {"model": plan.model.model, "pretrained": plan.model.pretrained, "like": plan.model.like}
            if plan.model
            else {}
        ),
        "classes": classes or prepared.vocabulary.name,
        "class_set": prepared.vocabulary.to_dict(),
        "preset": plan.preset,
        "category_ids": prepared.samples.category_ids,
        "plan": plan.to_dict(),
    }


def write_masks(run: Run) -> Generator[Outcome, None, None]:
    """Write the masks of a run by the engine of its plan; yields how each image ends, lazily.

    Close the generator where it is not used up. Raises OSError where the folder cannot be written to, and
    :class:`clipes.device.errors.DeviceLost`.
    """
    from .launch import write_on_devices

    engine = run.plan.placement.engine
    if isinstance(engine, RayEngine):
        return _write_with_ray(run, engine)
    return write_on_devices(run) if len(engine.devices) > 1 else write_here(run)


def _write_with_ray(run: Run, engine: RayEngine) -> Generator[Outcome, None, None]:
    from .ray_engine import write_with_ray  # an extra
    from .ray_stages import Work

    plan, placement, vocabulary = run.plan, run.plan.placement, run.prepared.vocabulary
    if plan.model is None:
        raise ValueError("Ray's actors load their model; give a plan that names one")
    load = partial(load_generator, plan.model, vocabulary, plan.config, remote_device(placement))
    work = Work(
        vocabulary.class_names,
        plan.output,
        run.header,
        placement.threads or torch.get_num_threads(),
        placement.batch_size,
        plan.faults.skip,
        run.decode,
    )
    return write_with_ray(load, work, run.remaining, engine, readers=placement.readers or None, stop=run.stop)


def write_here(run: Run) -> Generator[Outcome, None, None]:
    """Write the masks of a run by this process; yields how each image ends, in order."""
    placement, generator = run.plan.placement, run.generator
    with MaskWriter(
        image_source(generator, run.plan.output, run.decode),
        run.plan.output,
        run.header,
        batch_size=placement.batch_size,
        readers=reader_count(placement, generator.device.type, run.images),
        skip=run.plan.faults.skip,
        stop=run.stop,
        jobs=configure_threads(placement.threads, generator.device, run.images),
        processes=int(os.environ.get("LOCAL_WORLD_SIZE") or 1),
    ) as writer:
        yield from writer.write(run.remaining)


def remote_device(placement: Placement) -> str | None:
    """The device of the processes that make the masks, the first of several; None where that is this process."""
    engine = placement.engine
    if isinstance(engine, RayEngine):
        return placement.device or ("cuda" if engine.gpus_per_actor else "cpu")
    return engine.devices[0] if len(engine.devices) > 1 else None


def local_device(placement: Placement) -> str | None:
    """The device of this process: the one that the plan names, else the GPU that its launcher gives it, if any."""
    if isinstance(placement.engine, LocalEngine) and placement.engine.devices:
        return placement.engine.devices[0]
    if placement.device or placement.local_rank is None:
        return placement.device
    return gpu_of(placement.local_rank)


def reader_count(placement: Placement, kind: str, images: int, processes: int = 1) -> int:
    """The processes that read images for each of ``processes``; none for a single image, which gains nothing."""
    if placement.readers is not None or images < 2:
        return placement.readers or 0
    return 1 if kind == "cpu" else max(1, min(8, ((os.cpu_count() or 2) - 1) // processes))
