"""What several test files share: how many processes run them, the bundled model, and folders of drawn pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # one of several test processes; OpenMP reads this on torch's import
    threads = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))

os.environ.setdefault("CLIPES_RETRY_SECONDS", "0")  # no test waits for a trouble to pass, but those that bring a clock

import numpy as np
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():  # read when triton is imported: its kernels run on the CPU, slowly
    os.environ.setdefault("TRITON_INTERPRET", "1")

from generating import CommandLine, command_line
from models import build, clip_config, save_folder

import clipes.clip.weights
import clipes.generator
from clipes.clip.weights import load_clip
from clipes.datasets import Sample
from clipes.generator import MaskGenerator, load
from clipes.prompting.wordnet import WordNet, WordNetMissing, open_wordnet
from clipes.refine.compiled import library
from clipes.result import PseudoMask
from clipes.scenes import draw_scenes


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A run of all tests uses every core and one process more, up to four in all, where pytest-xdist is installed: many
    tests wait for other processes. `-n 0` turns that off.
    """
    all_tests = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    debugs = config.option.usepdb or config.option.collectonly
    if not config.pluginmanager.hasplugin("xdist") or not all_tests or debugs:
        return
    worker = "PYTEST_XDIST_WORKER" in os.environ
    if not worker and config.option.numprocesses is None and config.option.dist == "no":
        cores = os.cpu_count() or 1
        config.option.numprocesses = min(cores + 1, 4) if cores > 1 else 0
        config.option.dist = "worksteal"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, those of runs before the others: they wait for processes, for Ray the longest.

    So several test processes end at about the same time. The tests of a file stay side by side: they share its
    fixtures.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.parent.name != "runs"))


@pytest.fixture(scope="session", autouse=True)
def _said_once() -> None:
    """Where the CRF is not compiled, that is said here, and not in the middle of what a test reads."""
    library()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Text features are kept in a folder of this run, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _tiny_is_loaded_once() -> Iterator[None]:
    """All commands of this process share one bundled model on the CPU: its weights are frozen.

    Tests that import `load_clip` themselves load for real.
    """
    kept: list[Any] = []

    def cached(model: str, pretrained: Any = None, **settings: Any) -> Any:
        plain = settings.get("device") in (None, "cpu") and settings.get("precision") in (None, "fp32")
        if (model, pretrained) != ("tiny", None) or not plain or torch.cuda.is_available():
            return load_clip(model, pretrained, **settings)
        if not kept:
            kept.append(load_clip("tiny", device="cpu", precision="fp32"))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        for module in (clipes.clip.weights, clipes.generator):
            patch.setattr(module, "load_clip", cached)
        yield


@pytest.fixture(scope="session")
def tiny() -> MaskGenerator:
    """The bundled model; nothing may depend on how good it is."""
    return load()


@pytest.fixture(scope="session")
def real() -> WordNet:
    """The real WordNet, where there is one."""
    try:
        return open_wordnet()
    except WordNetMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs a command in this process: ``cli("generate", "photos", ...)`` gives its code, its output and its errors."""
    return command_line(capsys)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of drawn pictures: a.jpg, b.png, sub/c.jpg; labels.csv lies beside the folder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rows = ["image,labels"]
    for name, size, seed in (("a.jpg", (64, 96), 1), ("b.png", (96, 64), 2), ("sub/c.jpg", (50, 70), 3)):
        scene = next(draw_scenes(1, seed, size))
        Image.fromarray(scene.image).save(folder / name)
        rows.append(f"{name},{';'.join(scene.labels)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def scenes(tmp_path: Path) -> list[Sample]:
    """Five drawn pictures of one size with their labels, in a folder of their own."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    samples = []
    for number, scene in enumerate(draw_scenes(5, 3_000_500, (64, 80))):
        path = folder / f"{number}.png"
        Image.fromarray(scene.image).save(path)
        samples.append(Sample(str(number), path, tuple(scene.labels)))
    return samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Fourteen drawn pictures, of which that with the number 5 cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    found = []
    for index, scene in enumerate(draw_scenes(14, 3, (48, 64))):
        path = folder / f"{index}.png"
        Image.fromarray(scene.image).save(path)
        found.append(Sample(f"sub/{index}", path, scene.labels, f"labels.csv, line {index}"))
    found[5].image.write_bytes(b"no image")  # type: ignore[union-attr]
    return found


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong use is told before any model is loaded."""

    def load_clip(*arguments: object, **settings: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("clipes.clip.weights.load_clip", load_clip)


@pytest.fixture
def result() -> PseudoMask:
    """A result made by hand: "cat" (id 2) left, "dog" (id 3) nowhere, "bus" (id 1) right but ignored."""
    mask = np.array([[2, 2, 0, 0, 0, 255]] * 4, dtype=np.uint8)
    scores = np.zeros((4, 4, 6), np.float32)
    scores[0], scores[1, :, :2], scores[3, :, 5] = 0.25, 0.75, 0.5
    scores[2] = 1 - scores.sum(0)
    return PseudoMask(
        labels=("cat", "dog", "bus"),
        class_ids=np.array([2, 3, 1]),
        patch_cams=np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 1, 2),
        cams=np.linspace(0, 1, 72, dtype=np.float32).reshape(3, 4, 6),
        scores=scores,
        mask=mask,
        confidence=scores.max(0),
        map_confidence=np.linspace(0.5, 1, 24, dtype=np.float32).reshape(4, 6),
        image=Image.new("RGB", (6, 4), (10, 20, 30)),
        num_classes=3,
    )


@pytest.fixture
def saved_vit(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random ViT in a folder, which is loaded wherever open_clip's weights are asked for."""
    config = clip_config()
    folder = save_folder(build(config), tmp_path_factory.mktemp("vit"), config)

    def load_saved(model: str, pretrained: Any = None, **settings: Any) -> Any:
        return load_clip(model if model == "tiny" else f"local-dir:{folder}", **settings)

    for module in (clipes.clip.weights, clipes.generator):
        monkeypatch.setattr(module, "load_clip", load_saved)
    return folder
