"""How one image of a run ended."""

from __future__ import annotations

from dataclasses import dataclass

from clipes.datasets import Sample
from clipes.store.row import Status


@dataclass(frozen=True)
class Outcome:
    """How one image ended: ``ok`` with a mask; ``skipped`` or ``failed`` without, and for which reason.

    ``suspect`` is whether the mask does not fit the image's labels: :attr:`clipes.store.row.Row.suspect`.
    ``nothing_found`` is whether CLIP found no label in it: :attr:`clipes.store.row.Row.nothing_found`.
    """

    sample: Sample
    status: Status
    reason: str = ""
    suspect: bool = False
    nothing_found: bool = False

    @property
    def error(self) -> str:
        """The image and the reason why it has no mask; empty where it has one."""
        return "" if self.status == "ok" else f"{self.sample.image}: {self.reason}"
