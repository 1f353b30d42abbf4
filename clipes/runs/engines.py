"""The engines of a run by their settings."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

from .execute import ActiveRun, load_generator, remote_device, write_here
from .launch import write_on_devices
from .outcome import Outcome
from .plan import RayEngine


def write_masks(run: ActiveRun) -> Generator[Outcome, None, None]:
    """Write the masks of an entered run by the engine of its plan; yields how each image ends, lazily.

    Close the generator where it is not used up. Raises OSError where the folder cannot be written to, and
    :class:`clipes.device.errors.DeviceLost`.
    """
    engine = run.plan.placement.engine
    if isinstance(engine, RayEngine):
        return _with_ray(run)
    return write_on_devices(run) if len(engine.devices) > 1 else write_here(run)


def _with_ray(run: ActiveRun) -> Generator[Outcome, None, None]:
    from .ray_engine import RaySettings, write_with_ray  # an extra

    plan, placement = run.plan, run.plan.placement
    engine = placement.engine
    if not isinstance(engine, RayEngine) or plan.model is None:
        raise ValueError("Ray's actors load their model; give a plan that names one")
    return write_with_ray(
        partial(load_generator, plan.model, run.prepared.vocabulary, plan.config, remote_device(placement)),
        run.prepared.vocabulary.class_names,
        plan.output,
        run.header,
        run.remaining(),
        RaySettings(
            actors=engine.actors,
            gpus_per_actor=engine.gpus_per_actor,
            cpus_per_actor=engine.cpus_per_actor,
            readers=placement.readers or None,
            threads=placement.threads,
            address=engine.address,
        ),
        stop=run.stop,
        batch_size=placement.batch_size,
        skip=plan.faults.skip,
    )
