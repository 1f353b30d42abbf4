"""The package as a whole: who imports whom, what loads when, and what is in the wheel."""

from __future__ import annotations

import ast
import configparser
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

import clipes
from clipes._version import EXTRAS, install_hint
from clipes.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "clipes").rglob("*.py"))

COMPILER = sys.platform == "win32" or any(map(shutil.which, ("c++", "g++", "clang++")))

# A wing (a folder, or a file beside them) imports only from rows above its own, and, beside the standard library, only
# the packages named. Within a wing, imports are relative.
TENSORS = "numpy torch"
WINGS = (
    ("_version config prompts", ""),
    ("ids label_rules", "numpy"),
    ("scores losses", "torch"),
    ("kernels", "torch triton"),
    ("device", "numpy torch PIL"),
    ("scenes io", "numpy PIL pillow_heif yaml"),
    ("refine", TENSORS),
    ("datasets", "numpy"),
    ("regions", "numpy scipy PIL skimage pycocotools"),
    ("vocabulary", ""),
    ("clip", "numpy scipy torch open_clip timm huggingface_hub"),
    ("evaluation", "numpy torch"),
    ("drawing", "numpy scipy PIL matplotlib"),
    ("cams", "numpy scipy torch PIL"),
    ("tags", "numpy torch PIL"),
    ("decision", "numpy torch PIL"),
    ("result", "numpy torch PIL"),
    ("store", "numpy"),
    ("training", "numpy torch"),
    ("generator", "numpy torch PIL"),
    ("explain", TENSORS),
    ("runs", "numpy torch PIL ray pyarrow"),
    ("prompting", "numpy scipy torch PIL matplotlib nltk"),
    ("export", "numpy scipy PIL pycocotools"),
    ("report", "numpy PIL"),
    ("comparison", "numpy torch PIL"),
    ("commands", "numpy torch PIL tqdm shtab"),
    ("cli", ""),
    ("__main__", ""),
)


# A name that a wing passes on from one below it, imported when it is asked for.
PASSED_ON = {("clipes/datasets/__init__.py", "clipes.training")}


def _short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _wing(path: Path) -> str:
    """``scenes`` for clipes/scenes/pen.py, ``ids`` for clipes/ids.py, empty for clipes/__init__.py."""
    first = path.relative_to(ROOT / "clipes").parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports, wherever in it; ``from clipes import x`` counts as ``clipes.x``.

    Left out: a sub-package's imports from itself, ``from .pen import Pen``.
    """
    for node in ast.walk(tree):
        assert not isinstance(node, ast.ImportFrom) or node.level <= 1
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "clipes":
            yield from (f"clipes.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_wing_has_its_row() -> None:
    placed = [name for names, _ in WINGS for name in names.split()]
    assert len(placed) == len(set(placed))
    assert set(placed) - {"prompts"} == {_wing(path) for path in SOURCES} - {""}
    assert len(list((ROOT / "clipes").glob("*.py"))) <= 12


def test_contributing_has_the_same_table() -> None:
    """Its rows: wings and third-party packages, in this order."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.partition("| wing |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [(wings.replace("`", ""), packages) for wings, _, packages in rows] == list(WINGS)


@pytest.mark.parametrize("path", [path for path in SOURCES if _wing(path)], ids=_short)
def test_wings_import_only_from_rows_above(path: Path) -> None:
    rows = [names.split() for names, _ in WINGS]
    row = next(index for index, names in enumerate(rows) if _wing(path) in names)
    above = {f"clipes.{name}" for names in rows[:row] for name in names}
    packages = {*WINGS[row][1].split(), *sys.stdlib_module_names}
    relative = re.search(r"^\s*from \.", path.read_text("utf-8"), re.MULTILINE)
    assert path.parent.name != "clipes" or not relative
    for name in _imports(_tree(path)):
        if (_short(path), name) in PASSED_ON:
            continue
        if name.split(".")[0] == "clipes":
            assert ".".join(name.split(".")[:2]) in above, f"{path.name} imports {name}"
        else:
            assert name.split(".")[0] in packages, f"{path.name} imports {name}"


def test_the_package_itself_imports_nothing_but_its_version() -> None:
    names = [node for node in _tree(ROOT / "clipes" / "__init__.py").body if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in names] == ["typing", "clipes._version"]


@pytest.mark.parametrize("path", SOURCES, ids=_short)
def test_sizes_prints_and_asserts(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    for node in ast.walk(_tree(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno} asserts"
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 60, node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert path.parent.name == "commands", f"line {node.lineno} prints"


def _public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, str | None]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{owner}{node.name}", ast.get_docstring(node)
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", SOURCES, ids=_short)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree)
    private = path.parent.name == "scenes" and path.name != "__init__.py"
    assert private or [name for name, text in _public(tree.body) if not text] == []


def test_public_names() -> None:
    assert 0 < len(clipes.__all__) <= 14
    assert dir(clipes) == sorted(clipes.__all__)
    for name in clipes.__all__:
        value = getattr(clipes, name)
        assert name == "__version__" or inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="module 'clipes' has no attribute 'nothing'"):
        _ = clipes.nothing
    assert (ROOT / "clipes" / "py.typed").exists()


# --- what loads when, each in a process of its own

LOADED = "import sys; print(*sorted({'torch', 'open_clip', 'nltk', 'PIL', 'scipy', 'numpy'} & set(sys.modules)))"


def _python(code: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_clipes_loads_nothing(tmp_path: Path) -> None:
    assert _python(f"import clipes; clipes.__version__, clipes.Config\n{LOADED}", tmp_path).strip() == ""


def test_sources_are_read_without_torch(tmp_path: Path) -> None:
    code = (
        f"import clipes.datasets; clipes.datasets.find_samples\n{LOADED}\nclipes.datasets.PseudoMaskDataset\n{LOADED}"
    )
    before, after = (line.split() for line in _python(code, tmp_path).splitlines())
    assert "torch" not in before and "torch" in after


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([command.__name__.split(".")[-1], "--help"] for command in COMMANDS), ["--version"]],
    ids=" ".join,
)
def test_help_loads_nothing(arguments: list[str], tmp_path: Path) -> None:
    code = f"from clipes.cli import main\ntry: main({arguments})\nexcept SystemExit as e: assert not e.code\n"
    assert _python(code + LOADED, tmp_path).splitlines()[-1].strip() == ""


def test_wrong_use_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    code = "from clipes.cli import main\nassert main('generate no.jpg --labels cat --out o'.split()) == 2\n"
    assert "torch" not in _python(code + LOADED, tmp_path)


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what a clone would hold (and of files that are new)."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    _copy(folder / "source")
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
    return folder / _python(code, folder / "source").splitlines()[-1]


def _copy(target: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode or not (ROOT / ".git").exists():  # not a clone: an unpacked archive
        out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
        shutil.copytree(ROOT, target, ignore=out)
        return
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"clipes", f"clipes-{clipes.__version__}.dist-info"}
    tiny = {"open_clip_model.safetensors", "open_clip_config.json", "README.md"}
    prompts = {path.name for path in (ROOT / "prompts").iterdir() if path.suffix in (".json", ".md", ".py")}
    modules = {_short(path) for path in SOURCES}
    expected = {"clipes/py.typed", *modules}
    styles = ("page.html", "style.css", "script.js", "single.html", "tags.css")
    expected |= {f"clipes/report/{name}" for name in styles} | {"clipes/comparison/compare.css"}
    expected |= {f"clipes/clip/tiny/{name}" for name in tiny} | {f"clipes/prompts/{name}" for name in prompts}
    assert {"voc12.json", "coco14.json", "scenes.json", "templates.json", "backgrounds.json"} <= prompts
    built = {name for name in names if re.fullmatch(r"clipes/refine/_crf\.[\w.-]+\.(so|pyd)", name)}
    assert len(built) == (1 if COMPILER else 0)  # without one, the wheel goes without
    assert {name for name in names if name.startswith("clipes/")} == expected | built


def test_wheel_metadata(wheel: Path) -> None:
    info = f"clipes-{clipes.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())
        assert archive.read(f"{info}/licenses/LICENSE").startswith(b"MIT License")
    assert metadata["Name"] == "clipes" and metadata["Version"] == clipes.__version__
    assert set(metadata.get_all("Provides-Extra") or []) == {
        "coco",
        "completion",
        "heif",
        "plot",
        "ray",
        "regions",
        "transformers",
        "test",
        "docs",
        "oracle",
        "dev",
    }
    needed = {line.split(">")[0] for line in metadata.get_all("Requires-Dist") or [] if "extra" not in line}
    assert needed >= {"torch", "open_clip_torch", "numpy", "scipy", "pillow", "tqdm"}
    assert not needed & {"pytest", "hypothesis", "ruff", "mypy", "setuptools"}
    assert entry_points["console_scripts"]["clipes"] == "clipes.cli:entry"


SETS = "coco14 coco14-wordnet scenes scenes-wordnet voc12 voc12-wordnet"
DATA = """
import clipes, clipes.prompts, clipes.vocabulary.vocabulary, clipes.scenes
from importlib.resources import files
print(clipes.__file__)
print(clipes.prompts.__file__)
print(*clipes.vocabulary.vocabulary.class_set_names())
print(files("clipes").joinpath("report", "page.html").is_file(), files("clipes").joinpath("clip", "tiny").is_dir())
print(next(clipes.scenes.draw_scenes(1)).labels != ())
"""


def test_unpacked_wheel_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    lines = _python(DATA, tmp_path, PYTHONPATH=str(tmp_path / "site")).splitlines()
    assert lines[0] == str(tmp_path / "site" / "clipes" / "__init__.py")
    assert lines[1] == str(tmp_path / "site" / "clipes" / "prompts" / "__init__.py")
    assert lines[2:] == [SETS, "True True", "True"]


def test_installed_package_finds_its_data(tmp_path: Path) -> None:
    """As it is installed here: in a developer's environment that is an editable install."""
    assert _python(DATA, tmp_path).splitlines()[2:] == [SETS, "True True", "True"]


def test_the_extras_of_the_hints_are_those_of_the_installation() -> None:
    """What an error advises to install is what the extra brings; no hint names the index's clipes alone."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    for extra, package in EXTRAS.items():
        assert extras[extra].strip().split(">=")[0] == package
        assert install_hint(extra).endswith(f'in a clone of clipes pip install ".[{extra}]"')
    for path in (*SOURCES, *(ROOT / "docs").glob("*.md"), ROOT / "README.md"):
        assert not re.search(r"pip install ['\"]?clipes\[", path.read_text(encoding="utf-8")), path
