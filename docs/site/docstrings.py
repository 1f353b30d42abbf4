"""A griffe extension: what our docstrings hold beside Markdown, as Markdown.

Sphinx roles become links, doctests become code blocks, and a field made by ``clipes.config.setting`` gets the default
and the help text that the call holds.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|data|mod|attr|exc|py:\w+):`~?([^`<]+)`")
DOCTEST = re.compile(r"(?m)^(>>> .*(?:\n(?!\s*$).*)*)")
FLAG = re.compile(r" *# doctest: .*")
PRIVATE = re.compile(r"(?:^|\.)_[^.]*")


class Docstrings(griffe.Extension):
    """Rewrites docstrings when the whole package is known, so that short names can be resolved."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, agent: griffe.Visitor | Any, **_: Any) -> None:
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "setting":
            default, help = call.arguments
            if isinstance(help, griffe.ExprName):  # a text that several fields share
                help = attr.parent.parent.members[help.name].value
            attr.value = default
            if isinstance(help, griffe.ExprName):  # a text that several fields share, a constant of the module
                help = agent.current.module.members[help.name].value
            attr.docstring = griffe.Docstring(ast.literal_eval(str(help)), parent=attr)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self._rewrite(pkg, pkg, set())

    def _rewrite(self, item: griffe.Object, package: griffe.Module, seen: set[int]) -> None:
        if id(item) in seen:
            return
        seen.add(id(item))
        if item.docstring is not None:
            text = FLAG.sub("", item.docstring.value)
            text = ROLE.sub(lambda role: _link(role[1], item, package), text)
            item.docstring.value = DOCTEST.sub(r"```pycon\n\1\n```", text)
        for member in item.members.values():
            if not member.is_alias:
                self._rewrite(member, package, seen)


def _link(name: str, item: griffe.Object, package: griffe.Module) -> str:
    """A link to what ``name`` is where ``item`` stands; code alone, if that is private or of another package."""
    shown = f"<code>{name.rsplit('.', 1)[-1] if name.startswith('clipes.') else name}</code>"
    path = name if name.startswith(f"{package.name}.") else _resolved(name, item)
    if path is None or PRIVATE.search(path):
        return shown
    return f'<autoref optional hover identifier="{path}">{shown}</autoref>'


def _resolved(name: str, item: griffe.Object) -> str | None:
    first, _, rest = name.partition(".")
    scope: griffe.Object | None = item
    while scope is not None:
        if first in scope.members:
            member = scope.members[first]
            path = member.target_path if member.is_alias else member.path
            return f"{path}.{rest}" if rest else path
        scope = scope.parent
    return None
