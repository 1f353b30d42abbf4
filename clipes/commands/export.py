"""``clipes export``: a run's masks in another tool's form."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .arguments import add_command, add_run_folder, nonempty, path
from .terminal import print_error, printable, progress_bar, report_failures

if TYPE_CHECKING:
    from clipes.export import ExportResult


def add(commands: Any) -> None:
    """Add the command to ``commands``, an argparse subparsers action."""
    help = "the masks of a run in another tool's form"
    parser = add_command(commands, "export", run, help)
    add_run_folder(parser)
    forms = "instances JSON; VOC's folders with labelmap.txt (CVAT, mmsegmentation); Ultralytics' polygons; imagefolder"
    parser.add_argument("--to", required=True, choices=("coco", "voc", "yolo", "huggingface"), help=forms)
    out = "the new folder, which appears when all is written (default: DIR-coco beside DIR, or the other form's name)"
    parser.add_argument("--out", type=path, metavar="DIR", help=out)
    source = "where the images are (default: where `clipes generate` found them)"
    parser.add_argument("--source", type=nonempty, help=source)
    images = (
        "copy the pictures; link to them, but for those that must be turned or converted, which are copied; or none, "
        "not for huggingface (default: %(default)s)"
    )
    parser.add_argument("--images", choices=("copy", "link", "none"), default="copy", help=images)
    split = "the name of the list, file or folder (default: %(default)s)"
    parser.add_argument("--split", type=nonempty, default="train", help=split)
    parser.add_argument("--polygons", action="store_true", help="coco: outlines instead of RLE")
    instances = "coco: an annotation for each connected part of a class instead of each class of an image"
    parser.add_argument("--instances", action="store_true", help=instances)
    regions = "coco: instances that regions split or join, from a folder or JSON of them as of `clipes generate`"
    parser.add_argument("--regions", type=path, metavar="DIR", help=regions)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")


def run(options: argparse.Namespace) -> int:
    """Export, say what came of it."""
    from clipes.export import export
    from clipes.io.atomic import target_path

    names = ("source", "images", "split", "polygons", "instances", "regions", "overwrite")
    given = {name: getattr(options, name) for name in names}
    report = export(options.folder, options.to, options.out, **given, progress=progress_bar)
    if report.images:
        place = options.out or target_path(None, options.folder, options.to)
        print(f"{report.images} image(s) exported to {printable(place)}")
    for line in _remarks(report, options.images == "none"):
        print_error(line)
    return report_failures(report.problems, report.failed)


def _remarks(report: ExportResult, unseen: bool) -> list[str]:
    """What is not as the reader may take it to be."""
    lines = list(report.notes)
    if report.ignored_pixels:
        share = report.ignored_pixels / report.pixels
        lines.append(f"{report.ignored_pixels} of {report.pixels} pixels ({share:.1%}) are ignored: not decided")
    if report.turned and unseen:
        lines.append(
            f"{report.turned} picture(s) are upright only by their EXIF, as their masks are; readers must heed it"
        )
    elif report.turned:
        lines.append(f"{report.turned} picture(s) were upright only by their EXIF; they are saved upright")
    if report.converted and not unseen:
        lines.append(f"{report.converted} picture(s) were converted to a format that is read there")
    if report.without_mask:
        lines.append(f"{report.without_mask} image(s) of the run have no mask and are left out")
    if report.failed:
        lines.append(
            f"{report.failed} image(s) could not be exported{'' if report.images else ', and nothing is written'}:"
        )
    return lines
