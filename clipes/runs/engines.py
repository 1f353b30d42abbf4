"""The engines of a run by their settings."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

import torch

from .execute import Run, load_generator, remote_device, write_here
from .launch import write_on_devices
from .outcome import Outcome
from .plan import RayEngine


def write_masks(run: Run) -> Generator[Outcome, None, None]:
    """Write the masks of a run by the engine of its plan; yields how each image ends, lazily.

    Close the generator where it is not used up. Raises OSError where the folder cannot be written to, and
    :class:`clipes.device.errors.DeviceLost`.
    """
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
    work = Work(
        partial(load_generator, plan.model, vocabulary, plan.config, remote_device(placement)),
        vocabulary.class_names,
        plan.output,
        run.header,
        placement.threads or torch.get_num_threads(),
        placement.batch_size,
        plan.faults.skip,
    )
    return write_with_ray(work, run.remaining, engine, readers=placement.readers or None, stop=run.stop)
