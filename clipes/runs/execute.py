"""A prepared run, executed in this process: the model is loaded, the folder claimed, the masks are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from clipes.clip import weights
from clipes.config import Config
from clipes.datasets import Sample, absolute_source
from clipes.device.choice import dtype_name, gpu_of
from clipes.device.threads import configure_threads
from clipes.generator import MaskGenerator
from clipes.store.cleanup import clear
from clipes.vocabulary import Vocabulary

from .generation import MasksFromImages
from .local_engine import MaskWriter
from .outcome import Outcome
from .plan import LocalEngine, ModelChoice, Placement, Plan, RayEngine
from .prepare import PreparedRun
from .run import Run

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
        model.model, model.pretrained, device=device, precision=model.precision, trusted=model.trusted
    )


class ActiveRun:
    """A run while it is executed. Use it in a ``with``; nothing is loaded or written before.

    Args:
        prepared: the plan and its images.
        generator: makes the masks in this process; by default the plan's model is loaded.
        stop: asked between batches whether to end early.

    Attributes:
        prepared, stop: as above.
        generator: the generator; on the CPU where other processes make the masks, because this machine may lack
            their device.
        header: what each record of this start says first.
        images: images of the plan's shard.

    Entering raises what loading the model raises, ValueError for a folder of another run's settings, and OSError for
    a folder that cannot be written to.
    """

    generator: MaskGenerator
    header: dict[str, Any]

    def __init__(self, prepared: PreparedRun, generator: MaskGenerator | None = None, stop: Stop = lambda: False):
        self.prepared, self.stop = prepared, stop
        self.images = prepared.images
        self._given, self._stack = generator, ExitStack()

    def __enter__(self) -> ActiveRun:
        plan = self.prepared.plan
        self.generator = self._given or MaskGenerator(load_model(plan), self.prepared.vocabulary, plan.config)
        if plan.faults.overwrite:
            clear(plan.output.folder)
        settings = self.generator.settings
        if remote := remote_device(plan.placement):
            precision = plan.model.precision if plan.model else None
            settings = {**settings, "dtype": dtype_name(precision, remote.partition(":")[0])}
        claimed = Run.open(settings, self.generator.class_names, plan.output, self._about())
        self._run = self._stack.enter_context(claimed)
        total = len(self.prepared.samples)
        self.header = {**self._run.header, "shard": str(plan.placement.shard), "images": self.images, "total": total}
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.prepared.plan

    @property
    def finished(self) -> int:
        """Images that :meth:`remaining` has left out so far, because an earlier start has finished them."""
        return self._run.finished

    def remaining(self) -> Iterator[Sample]:
        """The samples of the plan's shard that are not finished, one in memory at a time, until ``stop`` says so."""
        return self._run.remaining(self.prepared.samples, self.plan.placement.shard, self.stop)

    def _about(self) -> dict[str, Any]:
        """What ``run.json`` says beside the settings."""
        plan = self.plan
        classes = plan.vocabulary.classes if plan.vocabulary and not isinstance(plan.vocabulary.classes, dict) else None
        return {
            "source": absolute_source(plan.source),
            **({"model": plan.model.model, "pretrained": plan.model.pretrained} if plan.model else {}),
            "classes": classes or self.prepared.vocabulary.name,
            "preset": plan.preset,
            "category_ids": self.prepared.samples.category_ids,
            "plan": plan.to_dict(),
        }


def write_here(run: ActiveRun) -> Generator[Outcome, None, None]:
    """Write the masks of a run by this process; yields how each image ends, in order."""
    placement, generator = run.plan.placement, run.generator
    with MaskWriter(
        MasksFromImages(generator),
        run.plan.output,
        run.header,
        batch_size=placement.batch_size,
        readers=reader_count(placement, generator.device.type, run.images),
        skip=run.plan.faults.skip,
        stop=run.stop,
        jobs=configure_threads(placement.threads, generator.device, run.images),
        processes=int(os.environ.get("LOCAL_WORLD_SIZE") or 1),
    ) as writer:
        yield from writer.write(run.remaining())


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
