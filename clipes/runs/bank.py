"""A bank for the pictures of a plan: their patches are collected, the classifier is fitted once, and written.

The first pass is a run of its own, in the folder ``BANK.npz.patches``: it is resumed, divided and placed as any run.
Its .tar files hold the patches that may be among the surest; what is kept does not depend on who looked at which
picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from clipes.config import BankTagsConfig, Config
from clipes.datasets.sample import TAG, AnySource
from clipes.generator import MaskGenerator
from clipes.io.images import TarMember
from clipes.io.patches_npz import PatchArrays, read_patches
from clipes.io.paths import list_sources
from clipes.io.processes import check_main_guard
from clipes.io.retry import retried
from clipes.store.output import Output
from clipes.store.row import Row
from clipes.store.store import Store
from clipes.tags.bank_file import PatchBank, read_bank, write_bank
from clipes.tags.bank_patches import merged_patches
from clipes.tags.checks import check_bank_name

from .execute import start_run, write_masks
from .outcome import Outcome
from .plan import Faults, Placement, Plan
from .prepare import PreparedRun, prepare

_IMAGES = 100
"""Pictures in a file of patches: a pass that is killed looks at so many again."""


def bank_file(plan: Plan) -> str:
    """The file of the bank that a plan's method needs; "" for another method.

    Raises ValueError where none is named, and for a name that cannot be that of a bank.
    """
    method = plan.config.tags
    if not isinstance(method, BankTagsConfig):
        return ""
    check_bank_name(method.file)
    return method.file


def collecting_plan(plan: Plan) -> Plan:
    """The plan of the first pass: over all pictures of ``plan``, those of known labels, too."""
    method = plan.config.tags
    if not isinstance(method, BankTagsConfig):
        raise ValueError(f"patches are collected for the method 'bank', not {type(method).__name__}")
    # The rest of the settings plays no part, so that another fit or other scores need no other pass.
    of_patches = BankTagsConfig(
        attention=method.attention, residual=method.residual, patches=method.patches, text_scale=method.text_scale
    )
    return replace(
        plan,
        labels=TAG,
        config=Config(image=plan.config.image, tags=of_patches),
        output=Output(Path(f"{method.file}.patches"), format="patches", tar_size=_IMAGES),
        faults=replace(plan.faults, unlabelled="tag"),
    )


def pictures_left(prepared: PreparedRun) -> int:
    """How many pictures of a first pass nobody has looked at: those of other shards, or of a pass that was stopped."""
    with Store.open(prepared.plan.output.folder) as store:
        return sum(store.latest.get(sample.id) is None for sample in prepared.samples)


def fit_collected(prepared: PreparedRun, generator: MaskGenerator) -> PatchBank:
    """Fit the bank of ``generator.config`` to the patches of a first pass, and write it; returns what is in the file.

    That is the bank of another process, where one has written it meanwhile. Raises ValueError where too few patches
    were collected.
    """
    method = generator.config.tags
    if not isinstance(method, BankTagsConfig):
        raise ValueError(f"a bank is fitted for the method 'bank', not {type(method).__name__}")
    with Store.open(prepared.plan.output.folder) as store:
        images = 0

        def parts() -> Iterator[PatchArrays]:
            nonlocal images
            for sample in prepared.samples:
                row = store.latest.get(sample.id)
                if row is not None and row.status == "ok":
                    images += 1
                    yield _patches(store, row)

        patches = merged_patches(parts(), method.patches)
    if not images:
        raise ValueError(f"none of the {len(prepared.samples)} pictures could be read, so that no bank can be fitted")
    fitting = replace(generator.config, tags=replace(method, file=""))
    bank = MaskGenerator(generator.clip, generator.vocabulary, fitting)._tagger.fitted_bank(patches, images)
    write_bank(method.file, bank)
    return read_bank(method.file, bank.settings)


def _patches(store: Store, row: Row) -> PatchArrays:
    place = store.path(row, "patches")
    if not isinstance(place, TarMember):
        raise ValueError(f"{place}: patches are in .tar files; start again, which makes them")
    return retried(partial(read_patches, place), place.tar)


def fit_bank_to(
    source: AnySource,
    generator: MaskGenerator,
    *,
    placement: Placement | None = None,
    faults: Faults | None = None,
    progress: Callable[[Outcome], object] | None = None,
) -> PatchBank | None:
    """Fit the bank of ``generator.config.tags`` to the pictures of a source, and write it; one that is there is read.

    The same call goes on where it was stopped. Of several shards the last to end fits; the others return None.

    >>> import clipes
    >>> from dataclasses import replace
    >>> from clipes.config import BankTagsConfig
    >>> config = replace(clipes.VOC12, tags=BankTagsConfig("bank.npz"))
    >>> generator = clipes.load("ViT-B-16", "openai", classes="voc12", config=config)  # doctest: +SKIP
    >>> bank = fit_bank_to("photos", generator)  # doctest: +SKIP
    >>> generator.tag("photos/1.jpg").labels  # doctest: +SKIP
    ('dog', 'person')

    Args:
        source: as of :func:`clipes.run`.
        generator: its settings name the method ``bank`` and its file.
        placement, faults, progress: as of :func:`clipes.run`.

    Raises ValueError for another method, for a bank or a first pass of other settings, and where too few patches are
    found; else as :func:`clipes.run`.
    """
    check_main_guard()
    sources = list_sources(source)
    base = Plan(
        sources[0] if len(sources) == 1 else sources,
        Output(Path("."), format="none"),
        model=None,
        vocabulary=None,
        config=generator.config,
        placement=placement or Placement(),
        faults=faults or Faults(),
    )
    if not (file := bank_file(base)):
        raise ValueError("the settings name no bank; load with config=replace(config, tags=BankTagsConfig('bank.npz'))")
    if Path(file).is_file():
        return generator._tagger.bank
    plan = collecting_plan(base)
    prepared = prepare(plan, generator.vocabulary)
    collector = MaskGenerator(generator.clip, generator.vocabulary, plan.config)
    with start_run(prepared, collector) as run, closing(write_masks(run)) as outcomes:
        for outcome in outcomes:
            if progress:
                progress(outcome)
    return None if pictures_left(prepared) else fit_collected(prepared, generator)
