"""CONVENTIONS.md section 4 through the whole way: what `clipes generate` does with bad input and with faults.

Where each row of the table has its test (here or in test_faults_runs.py; processes: test_faults_processes.py):

empty, no image, truncated, corrupt  test_each_picture_ends_as_it_must, test_any_bytes..., test_reads_that_fail...
decompression bomb                   test_each_picture_ends_as_it_must; before decoding: test_image.py
EPS, FITS under a .jpg name          test_each_picture_ends_as_it_must
EXIF orientation                     test_pictures_of_one_content_have_one_mask; broken: test_each_picture_ends...
16-bit, float, CMYK, palette, ...    test_pictures_of_one_content_have_one_mask; float: test_each_picture_ends...
1x1, 1x4000                          test_each_picture_ends_as_it_must; the cap on tokens: test_image.py
unknown class                        test_cli.py, test_wrong_use_is_told_at_once; skipped: test_what_is_skipped
repeated label, no label             test_labels_twice_and_none
ids with ../, absolute, NUL, links   test_hostile_ids, test_a_link_out_of_the_folder; test_datasets.py, test_tar.py
killed while writing                 processes: test_killed_in_each_window, ..._of_a_tar; at random moments (slow):
                                     test_killed_at_fifty_random_moments, test_killed_while_tars_are_written
two writers in one folder            processes: test_two_at_once_with_...; test_a_run_that_begins_at_the_same_moment
disk full                            processes: test_files_that_may_not_grow, test_a_full_disk, test_nobody_can_be_told
SIGINT, SIGTERM                      processes: test_one_signal_..., test_a_second_signal_...; test_a_signal_...
out of memory                        test_too_large_a_batch; a reading process: test_a_process_that_dies; test_batch.py
GPU lost                             test_a_lost_gpu
NaN, Inf                             test_maps_that_are_not_finite
determinism                          test_the_same_bytes_however_the_work_is_divided
weights                              test_weights.py
hostile names in HTML, CSV, logs     test_cli.py, test_hostile_names_stay_on_one_line; test_status.py, test_analysis.py

The failure budget of section 2: test_the_failure_budget, test_strict.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generating import Run, masks, rows, runner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from clipes.io import images as image
from clipes.io.images import ImageError, open_image
from clipes.scenes import draw_scene


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, in a folder with an empty photos/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return runner(capsys)


def _pairs() -> dict[str, tuple[Image.Image, Image.Image, dict[str, Any]]]:
    """By file name: a picture, an ordinary one that must give the same mask, and how the first is saved."""
    rgb: NDArray[np.uint8] = draw_scene(3_000_901, (48, 64)).image
    plain = Image.fromarray(rgb)
    grey = plain.convert("L")
    alpha = Image.fromarray(np.where(np.arange(64) < 20, 0, 255).astype(np.uint8)[None].repeat(48, 0))
    over_white = rgb.copy()
    over_white[:, :20] = 255
    grey_over_white = np.asarray(grey).copy()
    grey_over_white[:, :20] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned: rows are columns
    palette, bits = plain.quantize(40), grey.convert("1")
    cmyk = Image.merge("CMYK", [*Image.fromarray(255 - rgb).split(), Image.new("L", plain.size, 0)])
    other = Image.new("RGB", plain.size, "red")
    animated = {"save_all": True, "append_images": [other, other]}
    rgba, la = plain.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    return {
        "exif.png": (plain.transpose(Image.Transpose.ROTATE_90), plain, {"exif": turned}),
        "deep.png": (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey, {}),
        "cmyk.tif": (cmyk, plain, {}),
        "palette.png": (palette, palette.convert("RGB"), {}),
        "rgba.png": (rgba, Image.fromarray(over_white), {}),
        "la.png": (la, Image.fromarray(grey_over_white), {}),
        "grey.bmp": (grey, grey.convert("RGB"), {}),
        "bits.png": (bits, bits.convert("RGB"), {}),
        "apng.png": (plain, plain, animated),
        "gif.gif": (palette, palette.convert("RGB"), animated),
        "webp.webp": (plain, plain, {**animated, "lossless": True}),
    }


def test_pictures_of_one_content_have_one_mask(run: Run) -> None:
    Path("ordinary").mkdir()
    for name, (picture, ordinary, options) in _pairs().items():
        picture.save(f"photos/{name}", **options)
        ordinary.convert("RGB").save(f"ordinary/{Path(name).stem}.png")
    code, said, err = run()
    assert (code, said.split(";")[0], err) == (0, "11 of 11 masks written to m", "")
    assert run(source="ordinary", out="o")[0] == 0
    assert masks("m") == masks("o") and len(masks("m")) == 11
    assert len(set(masks("m").values())) >= 6


def _png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def _corrupt(data: bytes) -> bytes:
    """With another byte in the pixels of a PNG."""
    place = data.index(b"IDAT") + 40
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def _pictures() -> dict[str, tuple[bytes, str | tuple[int, int]]]:
    """By file name: the bytes, and how the image ends: the size (H, W) of its mask, or why there is none."""
    scene = Image.fromarray(draw_scene(3_000_902, (48, 64)).image)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = {name: _encoded(noise, name) for name in ("JPEG", "PNG", "WEBP")}
    half = {name: data[: len(data) // 2] for name, data in whole.items()}
    return {
        "one.png": (_encoded(Image.new("RGB", (1, 1), "red"), "PNG"), (1, 1)),
        "wide.png": (_encoded(scene.resize((4000, 1)), "PNG"), (1, 4000)),
        "tall.jpg": (_encoded(scene.resize((1, 4000)), "JPEG"), (4000, 1)),
        "named.jpg": (_encoded(scene, "PNG"), (48, 64)),
        "exif.jpg": (_encoded(scene, "JPEG", exif=b"Exif\0\0broken"), (48, 64)),
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"hello, world", "not a JPEG"),
        "html.png": (b"<html>404</html>", "not a JPEG"),
        "half.jpg": (half["JPEG"], "cannot be decoded"),
        "half1.png": (half["PNG"], "cannot be decoded"),
        "half2.webp": (half["WEBP"], "cannot be"),
        "corrupt.png": (_corrupt(_encoded(noise, "PNG")), "cannot be decoded"),
        "bomb.png": (_png(60000, 60000), "pixels"),
        "eps.jpg": (_encoded(scene, "EPS"), "not a JPEG"),
        "fits.jpg": (b"SIMPLE  =                    T".ljust(2880), "not a JPEG"),
        "float.tif": (_encoded(Image.new("F", (9, 9), 0.5), "TIFF"), "float pixels have no known range"),
        "wide32.tif": (_encoded(Image.new("I", (9, 9), 70000), "TIFF"), "32-bit pixels have no known range"),
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_each_picture_ends_as_it_must(run: Run, workers: int) -> None:
    """And no input is touched."""
    pictures = _pictures()
    for name, (data, _) in pictures.items():
        Path("photos", name).write_bytes(data)
    code, said, err = run("--workers", workers, "--batch-size", 3)
    bad = {name: end for name, (_, end) in pictures.items() if isinstance(end, str)}
    assert code == 3 and said.startswith(f"5 of 17 masks written to m, {len(bad)} failed; ")
    assert "Traceback" not in err and "exif.jpg: broken EXIF ignored" in err
    ended = rows()
    for name, (data, end) in pictures.items():
        row = ended.pop(Path(name).stem)
        if isinstance(end, str):
            assert row.status == "failed" and end in row.reason and f"photos/{name}: {row.reason}" in err
        else:
            assert (row.status, row.size) == ("ok", end)
            with Image.open(f"m/{row.id}.png") as mask:
                assert mask.size == end[::-1]
        assert Path("photos", name).read_bytes() == data
    assert not ended and len(masks()) == 5
    assert run("--max-failure-rate", 0.75)[0] == 0


def _with_a_field(data: bytes, place: int, value: int, width: int) -> bytes:
    return data[:place] + (value % 256**width).to_bytes(width, "big") + data[place + width :]


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A real file with fields overwritten, parts repeated, taken out or taken from another, perhaps cut."""
    data = draw(st.sampled_from(_real_files()))
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 64))
        part, kind = data[place : place + length], draw(st.integers(0, 4))
        if kind == 0:
            value = draw(st.sampled_from([0, 1, 127, 255, 2**16 - 1, 2**31 - 1, 2**32 - 1]))
            data = _with_a_field(data, place, value, draw(st.integers(1, 4)))
        elif kind == 1:
            data = data[:place] + draw(st.binary(max_size=8)) + data[place:]
        elif kind == 2:
            data = data[:place] + part * draw(st.integers(2, 9)) + data[place + length :]
        elif kind == 3:
            data = data[:place] + data[place + length :]
        else:
            data = data[:place] + draw(st.sampled_from(_real_files()))[place:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def _real_files() -> list[bytes]:
    if not _REAL:
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a scene"
        for name, (picture, _, options) in _pairs().items():
            formats = {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
            options = {**options, "append_images": [one.resize((24, 16)) for one in options.get("append_images", [])]}
            _REAL.append(_encoded(picture.resize((24, 16)), formats[Path(name).suffix], **options))
        small = Image.fromarray(draw_scene(3_000_903, (16, 24)).image)
        for options in ({}, {"progressive": True}, {"exif": exif}, {"icc_profile": b"x" * 200}):
            _REAL.append(_encoded(small, "JPEG", **options))
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", None):
            _REAL.append(_encoded(small, "TIFF", compression=compression, exif=exif))
        _REAL.append(_encoded(small, "PPM"))
    return _REAL


_REAL: list[bytes] = []
ROOM = 400 * 2**20


@settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "300")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=_damaged())
def test_any_bytes_are_a_picture_or_an_image_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """With room for pictures of a megapixel only, so that nothing is taken on trust."""
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), _little_room():
        patch.setattr(image, "MAX_PIXELS", 10**6)
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
        warnings.simplefilter("ignore")
        try:
            found = open_image(path)
        except ImageError as error:
            assert str(path) in str(error)
        else:
            assert found.mode == "RGB" and found.width * found.height <= 10**6


class _little_room:
    """No more than ROOM bytes than now may be asked for, where that can be said."""

    def __enter__(self) -> None:
        self.before = None
        if Path("/proc/self/statm").exists():
            import resource

            self.before = resource.getrlimit(resource.RLIMIT_AS)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, self.before[1]))

    def __exit__(self, *raised: object) -> None:
        if self.before:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, self.before)
