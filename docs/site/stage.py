"""Gathers the site's sources: ``python docs/site/stage.py`` writes build/docs, from which mkdocs builds build/site.

A site has the pages docs/*.md, the reference of the commands, a page for each wing, and whatever file of the repository
these link to. All of it is written as plain Markdown, so that another generator than mkdocs can take it.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

import command_pages

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "docs"
OWN = ROOT / "docs" / "site"
LINK = re.compile(r"(\]\(|(?:src|href)=\")([^)\s\"#:]+)(#[^)\s\"]*)?(?=[)\"\s])")
CODE = {".py": "python", ".sh": "sh", ".json": "json", ".cpp": "cpp", "": "text"}
WHOLE = "      show_root_heading: false\n      show_root_toc_entry: false\n"


def stage(out: Path = OUT) -> None:
    """Write all sources to `out`, in the place of earlier ones."""
    shutil.rmtree(out, ignore_errors=True)
    pages = out / "docs"
    queue = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    done: set[Path] = set()
    while queue:
        path = queue.pop()
        if path not in done:
            done.add(path)
            target = pages / _site_path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            queue += _copy(path, target)
    generated = command_pages.pages() | {f"wings/{wing}.md": _wing_page(wing) for wing in wings()}
    for name, text in generated.items():
        (pages / name).parent.mkdir(exist_ok=True)
        (pages / name).write_text(text, encoding="utf-8")
    for name in ("style.css", "iframe-worker.js"):
        shutil.copy(OWN / name, pages)
    shutil.copy(OWN / "docstrings.py", out)
    (out / "mkdocs.yml").write_text(_configuration(), encoding="utf-8")


def _copy(path: Path, target: Path) -> list[Path]:
    """Write a file of the repository as its page; the files that it links to."""
    if path.suffix in CODE:
        name = path.relative_to(ROOT).as_posix()
        code = path.read_text(encoding="utf-8")
        target.write_text(f"# {path.name}\n\n`{name}`\n\n````{CODE[path.suffix]}\n{code}````\n", encoding="utf-8")
        return []
    if path.suffix != ".md":
        shutil.copyfile(path, target)
        return []
    linked = []

    def moved(link: re.Match[str]) -> str:
        file = (path.parent / link[2]).resolve()
        if not file.is_file() or ROOT not in file.parents:
            return link[0]
        linked.append(file)
        place = posixpath.relpath(_site_path(file), posixpath.dirname(_site_path(path)) or ".")
        return f"{link[1]}{place}{link[3] or ''}"

    text = LINK.sub(moved, path.read_text(encoding="utf-8"))
    head = "---\nhide: [navigation]\n---\n" if target.name == "index.md" else ""  # the home page stands alone
    target.write_text(head + text, encoding="utf-8")
    return linked


def _site_path(path: Path) -> str:
    """Where a file of the repository is on the site."""
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        return "index.md"
    return f"{name}.md" if path.suffix in CODE else name.removeprefix("docs/")


def wings() -> list[str]:
    """The packages and modules of clipes, but for the commands, which have pages of their own."""
    paths = [*(ROOT / "clipes").glob("*/__init__.py"), *(ROOT / "clipes").glob("[a-z]*.py")]
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in paths}
    return sorted(names - {"cli", "commands"})


def _wing_page(wing: str) -> str:
    """The wing's docstring and public names, then each of its modules."""
    folder = ROOT / "clipes" / wing
    parts = [f"# clipes.{wing}", f"::: clipes.{wing}\n    options:\n      heading_level: 2\n{WHOLE}"]
    if folder.is_dir():
        for module in sorted(path.stem for path in folder.glob("[a-z]*.py")):
            parts.append(f"::: clipes.{wing}.{module}\n    options:\n      heading_level: 2")
    return "\n\n".join(parts) + "\n"


def _configuration() -> str:
    """mkdocs.yml with the commands and the wings in its navigation."""
    text = (OWN / "mkdocs.yml").read_text(encoding="utf-8")
    names = [f"      - {name}: commands/{name}.md" for name in command_pages.parsers()]
    text = text.replace("      # the commands", "\n".join(names))
    return text.replace("          # the wings", "\n".join(f"          - {wing}: wings/{wing}.md" for wing in wings()))


if __name__ == "__main__":
    stage()
