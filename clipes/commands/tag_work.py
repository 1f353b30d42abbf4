"""The passes of ``clipes tag`` over the images: patches for a bank, then scores."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from .account import RunSummary, stopping
from .model import announce_model
from .terminal import DEVICE_LOST, DONE, print_error, printable

if TYPE_CHECKING:
    from clipes.generator import MaskGenerator
    from clipes.runs.plan import Plan
    from clipes.runs.prepare import PreparedRun
    from clipes.tags.bank_file import PatchBank


class Pass(NamedTuple):
    """How a pass ended.

    Attributes:
        code: its exit code.
        finished: whether the next pass may begin.
        generator: the model, if it was loaded.
    """

    code: int
    finished: bool
    generator: MaskGenerator | None = None


def score(prepared: PreparedRun, generator: MaskGenerator | None) -> int:
    """Score the images of the shard that have no scores yet; returns the exit code."""
    return _work(prepared, generator, f"scored, in {printable(prepared.plan.output.folder)}", "scores", "--out")


def fit_bank(prepared: PreparedRun) -> Pass:
    """Fit the bank that the method of a plan needs, unless it is there: look at the images of the shard, then fit."""
    from clipes.runs.bank import bank_file, collecting_plan, fit_collected, pictures_left
    from clipes.runs.prepare import prepare

    plan = prepared.plan
    file = bank_file(plan)
    if not file or _is_there(file):
        return Pass(DONE, True)
    _announce(plan)
    from clipes.generator import MaskGenerator
    from clipes.runs.execute import load_model

    collecting = prepare(collecting_plan(plan))
    clip = load_model(plan)
    generator = MaskGenerator(clip, prepared.vocabulary, collecting.plan.config)
    done = f"looked at for the bank, in {printable(collecting.plan.output.folder)}"
    code = _work(collecting, generator, done, "patches", "--bank-file")
    if code != DONE:
        return Pass(code, False)
    if left := pictures_left(collecting):
        print(
            f"{left} of {len(collecting.samples)} images have not been looked at; when all have, the bank is fitted, "
            "and the same commands score them"
        )
        return Pass(DONE, False)
    generator = MaskGenerator(clip, prepared.vocabulary, plan.config)
    _print_bank(file, fit_collected(collecting, generator), generator.class_names)
    return Pass(DONE, True, generator)


def _is_there(file: str) -> bool:
    from pathlib import Path

    return Path(file).is_file()


def _print_bank(file: str, bank: PatchBank, class_names: tuple[str, ...]) -> None:
    print(f"bank fitted to {int(bank.patches.sum())} patches of {bank.images} images: {printable(file)}")
    without = [name for name, patches in zip(class_names, bank.patches, strict=True) if not patches]
    if without:
        names = ", ".join(without[:10]) + ", …" * (len(without) > 10)
        print(f"{len(without)} of {len(class_names)} classes have no patch, and their text stands for them: {names}")


def _announce(plan: Plan) -> None:
    if plan.model:
        announce_model(plan.model.model, plan.model.pretrained)  # first: torch takes seconds to be imported


def _work(prepared: PreparedRun, generator: MaskGenerator | None, done: str, product: str, flag: str) -> int:
    """Do what is not done of a pass; ``flag`` names where its folder is. Returns the exit code.

    ``done`` and ``product`` are those of :class:`clipes.commands.account.RunSummary`.
    """
    plan = prepared.plan
    if generator is None:
        _announce(plan)
    from clipes.device.errors import DeviceLost
    from clipes.runs.execute import start_run, write_masks
    from clipes.store.manifest import OtherSettings

    with ExitStack() as stack:
        stop = stack.enter_context(stopping())
        try:
            started = stack.enter_context(start_run(prepared, generator, stop))
        except OtherSettings as error:
            raise ValueError(
                f"{error.folder} is of other settings ({error.differences}); give the same settings, another name "
                f"({flag}), or remove that folder"
            ) from error
        summary = RunSummary(started.images, done, lambda: started.remaining.finished, product)
        try:
            summary.consume(stack.enter_context(closing(write_masks(started))), plan.faults.strict)
        except DeviceLost as error:
            print_error(f"the GPU was lost, and no image is to blame: {error}; start again to go on")
            return DEVICE_LOST
    return stop.code or summary.code(0 if plan.faults.strict else plan.faults.max_failure_rate)
