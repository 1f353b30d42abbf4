"""The labels that a source has beside its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .layouts import likely_source
from .sample import DatasetError, RawSample, Unlabelled


class OwnLabels:
    """Images with the labels of their source; those without are refused, counted and left out, or have none known.

    ``spelled`` returns labels as the classes are spelled.
    """

    def __init__(
        self, source: str, unlabelled: Unlabelled, spelled: Callable[[tuple[str, ...]], tuple[str, ...]]
    ) -> None:
        self.source, self.unlabelled, self.spelled = source, unlabelled, spelled
        self.count, self.first = 0, ""

    def labelled(self, images: Iterator[RawSample]) -> Iterator[RawSample]:
        """Yield the images that have labels, or all. Raises DatasetError for the first without, if they are refused."""
        found = False
        for image in images:
            if image.labels is not None:
                found = True
                yield image._replace(labels=self.spelled(image.labels))
            elif self.unlabelled == "tag":
                yield image
            elif self.unlabelled == "refuse" or not image.origin:  # else no image of the source has labels
                raise DatasetError(self._error(image))
            else:
                self.count, self.first = self.count + 1, self.first or self._error(image)
        if self.count and not found:
            raise DatasetError(self.first)

    def _error(self, image: RawSample) -> str:
        if image.origin:
            return f"{image.origin}, or leave such images out (--unlabelled skip)"
        likely = likely_source(Path(self.source))
        cure = f"it looks like the source {likely}: give that, or" if likely else "give"
        return (
            f"{self.source}: no labels; {cure} a labels file or names (--labels), a table as the source, "
            "or a folder with a metadata.jsonl"
        )

    @property
    def note(self) -> str:
        """How many images are left out, and the first's error; empty for none."""
        return f"{self.count} image(s) without labels are left out; {self.first}" if self.count else ""
