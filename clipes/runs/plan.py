"""The plan of a run: everything a run depends on, as one frozen, typed value that is checked when it is made.

The command line and :func:`clipes.run` make a plan, ``run.json`` holds it, engines and Ray's actors receive it.
Nothing here loads torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from clipes.config import VOC12, Config, Fuse, GivenRegionsConfig, choice_name
from clipes.datasets import TableFormat, absolute_source
from clipes.datasets.sample import TAG, Unlabelled
from clipes.datasets.table_format import DEFAULT_FORMAT
from clipes.io.paths import list_sources
from clipes.store.output import Output
from clipes.vocabulary import Vocabulary, load_vocabulary

from .shards import WHOLE, Shard

OnFault = Literal["refuse", "skip"]
Names = str | tuple[str, ...]


@dataclass(frozen=True)
class ModelChoice:
    """Which CLIP, as :func:`clipes.clip.weights.load_clip` takes it; the device is the :class:`Placement`'s."""

    model: str = "tiny"
    pretrained: str | None = None
    like: str | None = None
    trusted: bool = False
    precision: Literal["fp32", "bf16", "fp16"] | None = None


@dataclass(frozen=True)
class VocabularyChoice:
    """Which words, as :func:`clipes.vocabulary.load_vocabulary` takes them.

    ``background="auto"`` stands for words that are chosen by the images; they replace it before the plan is executed.
    """

    classes: Names | Mapping[str, Names] = "scenes"
    background: Names | None = None
    templates: Names | None = None
    fuse: Fuse | None = None
    attributes: str | Mapping[str, Names] | None = None
    attribute_centres: int | None = None

    def load(self) -> Vocabulary:
        """The vocabulary; with ``background="auto"`` it has no background words yet. Errors as `load_vocabulary`."""
        background = () if self.background == "auto" else self.background
        attributes = self.attributes, self.attribute_centres
        return load_vocabulary(self.classes, background, self.templates, self.fuse, *attributes)


@dataclass(frozen=True)
class Faults:
    """Which faults a run allows.

    Attributes:
        unknown: images with a label that is not a class: ``"refuse"`` to start, or ``"skip"`` them.
        missing: images that are named but do not exist: the same.
        max_failure_rate: share of the images, in [0, 1], that may fail before the run counts as failed.
        strict: end at the first image that fails.
        overwrite: remove what earlier runs wrote to the output folder first.
        unlabelled: images that no row of the labels file names, or that have no labels beside them: ``"refuse"`` to
            start, ``"skip"`` them, so that the run has no record of them, or ``"tag"`` them: CLIP finds their labels.
    """

    unknown: OnFault = "refuse"
    missing: OnFault = "refuse"
    max_failure_rate: float = 0.01
    strict: bool = False
    overwrite: bool = False
    unlabelled: Unlabelled = "refuse"

    def __post_init__(self) -> None:
        for name in ("unknown", "missing"):
            if (value := getattr(self, name)) not in get_args(OnFault):
                raise ValueError(f"{name} is {value!r}; it is 'refuse' or 'skip'")
        if self.unlabelled not in get_args(Unlabelled):
            raise ValueError(f"unlabelled is {self.unlabelled!r}; it is 'refuse', 'skip' or 'tag'")
        rate = self.max_failure_rate
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise ValueError(f"max_failure_rate is {rate!r}; give a number between 0 and 1, such as 0.01")

    @property
    def skip(self) -> tuple[str, ...]:
        """The kinds of fault whose images are skipped: ``"unknown"``, ``"missing"``."""
        return tuple(name for name in ("unknown", "missing") if getattr(self, name) == "skip")


@dataclass(frozen=True)
class LocalEngine:
    """This process makes the masks. With ``devices``, a process for each does; see :mod:`clipes.runs.launch`."""

    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class RayEngine:
    """Ray's actors make the masks; see :mod:`clipes.runs.ray_engine`.

    Attributes:
        actors: how many at least and at most; None for as many as the cluster has, or grows to have, room for.
        gpus_per_actor: GPUs that each actor reserves; a fraction shares one.
        cpus_per_actor: CPUs that each reserves; by default 1 beside a GPU, else the number of threads.
        address: of a Ray cluster (``"auto"`` or ``HOST:PORT``); by default $RAY_ADDRESS, else Ray is started on this
            machine and ended again. A Ray that this process is connected to is used and left running.
    """

    actors: tuple[int, int | None] = (1, None)
    gpus_per_actor: float = 0.0
    cpus_per_actor: float | None = None
    address: str | None = None


ENGINES: dict[str, type[LocalEngine] | type[RayEngine]] = {"here": LocalEngine, "ray": RayEngine}
"""The engines by the names of ``--engine``."""


@dataclass(frozen=True)
class Placement:
    """Which part of the data set is done, where, and by how many.

    Attributes:
        engine: who makes the masks.
        shard: the part of the data set; not in ``run.json``, which belongs to all shards.
        local_rank: the number, from 0, of this process among those that its launcher started on this machine; None
            without a launcher. Not in ``run.json`` either.
        device: of the model; by default CUDA where there is one, else the CPU.
        batch_size: images that are read and encoded together; by default 1 on a CPU, else 32.
        readers: processes that read images; by default 1 on a CPU, else up to 8.
        threads: of torch for one image on a CPU; by default 1.
    """

    engine: LocalEngine | RayEngine = LocalEngine()
    shard: Shard = WHOLE
    local_rank: int | None = None
    device: str | None = None
    batch_size: int | None = None
    readers: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("readers", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")


@dataclass(frozen=True)
class Plan:
    """A run over a data set.

    Attributes:
        source: the images, as :func:`clipes.datasets.find_samples` takes them; one source, or several.
        output: the folder of the masks, and what is saved beside them.
        labels: a labels file, the names that every image has, or None for the source's own labels; ``"tag"``: CLIP
            finds them, by ``config.tags`` and ``config.tag_rule``.
        table: the columns and the separator of labels in tables.
        regions: a folder or JSON of regions (:func:`clipes.regions.folder.find_regions`), where ``config`` says that
            they are given; else None.
        model, vocabulary: what is loaded; None where the caller brings a generator of its own.
        config: the settings of the method.
        preset: the name of the preset that ``config`` was made from; `finalize` takes other refinements from it.
        placement: which part, where, by how many.
        faults: which faults are allowed.

    Raises ValueError for parts that contradict each other.
    """

    source: Names
    output: Output
    labels: Names | None = None
    table: TableFormat = DEFAULT_FORMAT
    regions: str | None = None
    model: ModelChoice | None = field(default_factory=ModelChoice)
    vocabulary: VocabularyChoice | None = field(default_factory=VocabularyChoice)
    config: Config = VOC12
    preset: str = "voc12"
    placement: Placement = field(default_factory=Placement)
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if not all(source.strip() for source in list_sources(self.source)):
            raise ValueError("the source is empty; give a folder of images, or another source")
        if isinstance(self.config.regions, GivenRegionsConfig) != (self.regions is not None):
            raise ValueError(
                f"regions are {self.regions!r}, and the settings say {choice_name('regions', self.config.regions)!r}; "
                "give a folder of regions with the settings 'given', and no folder with others"
            )
        shard = self.placement.shard
        if self.faults.overwrite and shard.count > 1:
            raise ValueError(
                f"--overwrite by one of {shard.count} shards would remove what the others write; "
                "choose another --out, or remove that folder first"
            )
        engine = self.placement.engine
        if isinstance(engine, LocalEngine) and engine.devices and self.placement.device:
            raise ValueError(
                f"--devices {','.join(engine.devices)} and --device {self.placement.device}; give one of the two"
            )

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON holds it: with absolute paths, without the settings of a single start (shard, rank,
        ``overwrite``)."""
        values = asdict(self)
        engine, placement = self.placement.engine, values["placement"]
        name = next(name for name, kind in ENGINES.items() if isinstance(engine, kind))
        placement["engine"] = {name: placement["engine"]}
        del placement["shard"], placement["local_rank"], values["faults"]["overwrite"]
        for part in (values["model"], values["vocabulary"]):
            if part:
                part.update((key, _absolute_file(value)) for key, value in part.items() if isinstance(value, str))
        for name in ("labels", "regions"):
            if isinstance(values[name], str) and values[name] != TAG:
                values[name] = os.path.abspath(values[name])
        values["output"]["folder"] = os.path.abspath(self.output.folder)
        return {**values, "source": absolute_source(self.source), "config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan that :meth:`to_dict` gave ``values``. Raises ValueError for anything else."""
        try:
            parts = {item.name: values[item.name] for item in fields(cls)}
            ((name, engine),) = parts["placement"]["engine"].items()
            parts["placement"] = {**parts["placement"], "engine": _build(ENGINES[name], engine)}
            parts["config"] = Config.from_dict(parts["config"])
            for name, kind in _PARTS.items():
                if parts[name] is not None or name not in ("model", "vocabulary"):
                    parts[name] = _build(kind, parts[name])
            plan: Plan = _build(cls, parts)
            return plan
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this is not the plan of a run of this version of clipes: {error}") from error


_PARTS: dict[str, type] = {
    "output": Output,
    "table": TableFormat,
    "model": ModelChoice,
    "vocabulary": VocabularyChoice,
    "placement": Placement,
    "faults": Faults,
}


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """The plan in ``run.json``, or in a file that holds nothing else.

    Raises FileNotFoundError for a missing file, ValueError for one without a plan.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "run.json"
    try:
        if os.path.lexists(path) and not path.is_file():  # a named pipe would wait for ever
            raise ValueError("not a file; give the run.json of an earlier run")
        values = json.loads(path.read_text(encoding="utf-8"))
        return Plan.from_dict(values["plan"] if isinstance(values, dict) and "plan" in values else values)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}; give the run.json of an earlier run") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def _absolute_file(value: str) -> str:
    """A text that names a file, or ``local-dir:`` a folder, with its absolute path; any other text as it is."""
    if value.startswith("local-dir:"):
        return f"local-dir:{os.path.abspath(value.removeprefix('local-dir:'))}"
    return os.path.abspath(value) if os.path.isfile(value) else value


def _build(kind: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass of JSON's values; TypeError or ValueError for missing and unknown names."""
    known = {item.name for item in fields(kind)}
    needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
    if wrong := (set(values) - known) | (needed - set(values)):
        raise ValueError(f"{kind.__name__} has unknown or missing names: {', '.join(sorted(wrong))}")
    return kind(**{name: _frozen(value) for name, value in values.items()})


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return value
