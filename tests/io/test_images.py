"""clipes.io.images: every kind of picture comes out RGB and upright, or is refused by name."""

import io
import math
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipes.io import images as image_module
from clipes.io.images import ImageError, open_image, patch_grid
from clipes.io.kinds import FORMATS, IMAGE_SUFFIXES

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CORNERS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [99, 99, 99], [200, 200, 200]]], np.uint8)


def _saved(path, image, **options):
    image.save(path, **options)
    return path


def _encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


AVIF, JPEG2000 = {".avif"}, {".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"}


def _skip_unread(suffix):
    if (suffix in AVIF and "AVIF" not in FORMATS) or (suffix in JPEG2000 and "JPEG2000" not in FORMATS):
        pytest.skip(f"this Pillow does not read {suffix}")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".pgm", ".pbm"}))
def test_every_known_suffix_is_read(tmp_path, suffix):
    _skip_unread(suffix)
    flat = Image.new("RGB", (5, 3), (200, 100, 50))
    image = open_image(_saved(tmp_path / f"a{suffix}", flat))
    assert (image.mode, image.size) == ("RGB", (5, 3))
    np.testing.assert_allclose(np.asarray(image)[0, 0], (200, 100, 50), atol=4)


def test_str_path_array_and_picture_agree(tmp_path):
    path = _saved(tmp_path / "a.png", Image.fromarray(CORNERS))
    for source in (str(path), path, Image.open(path), Image.fromarray(CORNERS), CORNERS):
        np.testing.assert_array_equal(np.asarray(open_image(source)), CORNERS)


def test_the_name_does_not_decide_the_format(tmp_path):
    (tmp_path / "a.jpg").write_bytes(_encoded(Image.fromarray(CORNERS), "PNG"))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.jpg")), CORNERS)


def test_result_is_independent_of_its_file(tmp_path):
    path = _saved(tmp_path / "a.bmp", Image.fromarray(CORNERS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        image = open_image(path)
    path.unlink()
    np.testing.assert_array_equal(np.asarray(image), CORNERS)


def test_result_is_independent_of_the_picture_given():
    given_image = Image.new("RGB", (2, 2), "red")
    image = open_image(given_image)
    given_image.paste("blue", (0, 0, 2, 2))
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_grey_array():
    image = open_image(np.array([[0, 128], [255, 7]], dtype=np.uint8))
    assert np.asarray(image).tolist() == [[[0] * 3, [128] * 3], [[255] * 3, [7] * 3]]


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((2, 2, 3), np.float32), TypeError, "uint8 in 0..255, not float32; scale and convert"),
        (np.zeros((2, 2, 3), np.uint16), TypeError, "not uint16"),
        (np.zeros((2, 2, 3), bool), TypeError, "not bool"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"not \(3, 8, 8\); put the channels last"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"not \(8, 8, 4\).*drop the alpha"),
        (np.zeros(8, np.uint8), ValueError, r"not \(8,\)"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"not \(0, 8, 3\)"),
        (7, TypeError, "a path, a PIL image or a numpy array, not int"),
        (None, TypeError, "not NoneType"),
    ],
)
def test_unsuitable_arguments(array, error, message):
    with pytest.raises(error, match=message):
        open_image(array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    rows, columns = 32, 48
    upright = np.zeros((rows, columns, 3), np.uint8)
    upright[:16, :16, 0] = upright[:16, 32:, 1] = upright[16:, :16, 2] = 255
    # what the camera stores so that a viewer that honours the tag shows `upright` (EXIF 2.3, tag 0x0112)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    _skip_unread(f".{suffix}")
    path = _saved(tmp_path / f"a.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    image = np.asarray(open_image(path)).astype(int)
    assert image.shape == upright.shape
    assert np.abs(image - upright).mean() < 8


@pytest.mark.parametrize("value", [0, 9, 60000])
def test_senseless_orientation_is_upright(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    path = _saved(tmp_path / "a.png", Image.fromarray(CORNERS), exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(path)), CORNERS)


def test_broken_exif_is_ignored_with_a_warning(tmp_path):
    path = _saved(tmp_path / "a.jpg", Image.new("RGB", (8, 4), "red"), exif=b"Exif\0\0broken")
    with pytest.warns(UserWarning, match=r"a\.jpg: broken EXIF ignored") as caught:
        assert open_image(path).size == (8, 4)
    assert caught[-1].filename == __file__


def test_16_bit_grey_is_scaled(tmp_path):
    levels = np.array([[0, 128, 257], [32768, 65406, 65535]], dtype=np.uint16)
    expected = np.rint(levels / 257).astype(np.uint8)
    for name in ("a.png", "a.tif"):
        image = open_image(_saved(tmp_path / name, Image.fromarray(levels)))
        np.testing.assert_array_equal(np.asarray(image), np.repeat(expected[..., None], 3, axis=2))
    (tmp_path / "a.pgm").write_bytes(b"P5\n3 2\n65535\n" + levels.astype(">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.pgm"))[..., 0], expected)


def _saved_levels(path, levels):
    """Levels of 16 bits as a file; those of PGM as bytes, because Pillow 10 does not write them."""
    if path.suffix != ".pgm":
        return _saved(path, Image.fromarray(levels))
    height, width = levels.shape
    path.write_bytes(b"P5\n%d %d\n65535\n" % (width, height) + levels.astype(">u2").tobytes())
    return path


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_data_of_fewer_bits_in_16_is_warned_of(tmp_path, bits, suffix):
    levels = np.arange(1 << bits, dtype=np.uint16)[-64:].reshape(8, 8)
    path = _saved_levels(tmp_path / f"a.{suffix}", levels)
    most, factor = (1 << bits) - 1, 1 << 16 - bits
    text = rf"a\.{suffix}: the image is read as nearly black: the brightest of its 16-bit levels is {most} of 65535; "
    with pytest.warns(
        UserWarning, match=rf"{text}.* data of {bits} bits, multiply its levels by {factor} and"
    ) as caught:
        dark = np.asarray(open_image(path))
    assert dark.max() <= 64 and caught[-1].filename == __file__
    cured = _saved_levels(tmp_path / f"b.{suffix}", levels * factor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(open_image(cured)).max() >= 254


def test_data_of_fewer_bits_in_a_picture_or_a_colour_file(tmp_path):
    """A PNG of 16-bit RGB, with and without alpha, of which Pillow keeps the upper halves; a picture of no file."""
    with pytest.warns(UserWarning, match="image: the image is read as nearly black"):
        open_image(Image.fromarray(np.full((4, 4), 4095, np.uint16)))
    for kind, channels in ((2, 3), (6, 4)):
        for most, word in ((4095, "4095 of 65535"), (200, "255 of 65535"), (60000, None)):
            levels = np.full((4, 4, channels), most, ">u2")
            levels[..., 3:] = 65535
            path = tmp_path / "a.png"
            path.write_bytes(_png(levels, kind))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                open_image(path)
            assert [word in str(one.message) for one in caught] == ([True] if word else [])


def _png(levels, kind):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _tiff(levels, tags):
    """An uncompressed little-endian TIFF of one strip; `tags` are (number, type, value)."""
    data = levels.tobytes()
    place = 8 + 2 + 12 * (len(tags) + 5) + 4
    height, width = levels.shape[:2]
    own = [(256, 4, width), (257, 4, height), (273, 4, place), (278, 4, height), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in sorted(own + tags))
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(own + tags)) + entries + bytes(4) + data


def test_a_tiff_of_12_bits_has_the_range_of_12_bits(tmp_path):
    packed = np.array([[0xFF, 0xF8, 0x00], [0x00, 0x00, 0x10]], np.uint8)  # 4095 2048, 0 16
    data = _tiff(packed, [(258, 3, 12), (259, 3, 1), (262, 3, 1), (277, 3, 1)])
    data = data.replace(struct.pack("<HHII", 256, 4, 1, 3), struct.pack("<HHII", 256, 4, 1, 2))
    (tmp_path / "a.tif").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(open_image(tmp_path / "a.tif"))[..., 0].tolist() == [[255, 128], [0, 1]]


def test_black_and_dark_pictures_of_8_bits_are_not_warned_of(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (Image.new("RGB", (4, 4)), Image.new("L", (4, 4), 40), Image.new("CMYK", (4, 4))):
            open_image(_saved(tmp_path / "a.tif", image))
        open_image(Image.fromarray(np.zeros((4, 4), np.uint16)))
        open_image(np.zeros((4, 4), np.uint8))


def test_an_array_of_0_and_1_is_warned_of():
    array = np.eye(4, dtype=np.uint8)
    with pytest.warns(
        UserWarning, match=r"holds 0 and 1 alone, of 0\.\.255; multiply levels in \[0, 1\] by 255"
    ) as caught:
        open_image(array)
    assert caught[-1].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(open_image(array * 255)).max() == 255


RAW = {
    "dng": [(50706, 1, 1)],
    "nef": [(254, 4, 1)],
}


@pytest.mark.parametrize("name", ["dng", "nef", "cr2"])
def test_the_preview_in_a_raw_file_is_no_image(tmp_path, name):
    rest = [(258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    data = _tiff(np.full((4, 4), 99, np.uint8), sorted(RAW.get(name, []) + rest))
    if name == "cr2":  # its directory begins behind its own mark
        data = data[:4] + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + data[8:]
    (tmp_path / f"a.{name}").write_bytes(data)
    with Image.open(tmp_path / f"a.{name}") as image:
        assert image.format == "TIFF"
    with pytest.raises(
        ImageError, match=rf"a\.{name}: a camera's raw file, which is not read; convert it to PNG or JPEG"
    ):
        open_image(tmp_path / f"a.{name}")


def test_16_bit_big_endian_tiff(tmp_path):
    levels = np.array([[0, 65535], [257, 256 * 100]], dtype=">u2")
    path = _saved(tmp_path / "a.tif", Image.frombytes("I;16B", (2, 2), levels.tobytes()))
    assert np.asarray(open_image(path))[..., 0].tolist() == [[0, 255], [1, 100]]


@pytest.mark.parametrize(("mode", "kind"), [("F", "float"), ("I", "32-bit")])
def test_unknown_ranges_are_refused(tmp_path, mode, kind):
    image = Image.new(mode, (4, 4), 1)
    with pytest.raises(ImageError, match=f"{kind} pixels have no known range; scale them to 0..255"):
        open_image(image)
    with pytest.raises(ImageError, match=rf"a\.tif: {kind} pixels"):
        open_image(_saved(tmp_path / "a.tif", image))


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]], np.uint8)
    expected = [[[200, 0, 0], [255, 255, 255], [227, 127, 127]]]
    image = open_image(_saved(tmp_path / "a.png", Image.fromarray(rgba)))
    np.testing.assert_allclose(np.asarray(image).astype(int), expected, atol=1)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa"])
def test_rare_alpha_modes(mode):
    clear = Image.new("P" if mode == "PA" else "L" if mode in ("LA", "La") else "RGB", (2, 2), 0)
    clear.putalpha(0)
    clear = clear.convert(mode)
    assert clear.mode == mode
    assert open_image(clear).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "colour"), [("P", 0), ("L", 0), ("RGB", (0, 0, 0)), ("1", 0)])
def test_transparent_colour_of_a_png(tmp_path, mode, colour):
    path = _saved(tmp_path / "a.png", Image.new(mode, (2, 2), colour), transparency=colour)
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_modes_become_rgb(mode):
    image = open_image(Image.new("RGB", (4, 4), "white").convert(mode))
    assert image.mode == "RGB"
    np.testing.assert_allclose(image.getpixel((0, 0)), (255, 255, 255), atol=1)


def test_cmyk_jpeg(tmp_path):
    path = _saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    np.testing.assert_allclose(open_image(path).getpixel((8, 8)), (255, 0, 0), atol=6)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = _saved(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert image.n_frames == 3
    np.testing.assert_allclose(open_image(path).getpixel((4, 4)), (255, 0, 0), atol=4)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such image: .*absent\.jpg"):
        open_image(tmp_path / "absent.jpg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a\.jpg: the file is empty"),
        (b"hello, world", r"a\.jpg: not a JPEG, PNG, .* image; convert it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"a\.jpg: not a JPEG"),
        (b"SIMPLE  =                    T", r"a\.jpg: not a JPEG"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            r"a\.jpg: (not a .* image, but HEIC|a HEIC file|cannot be)",
        ),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", r"HEIC|cannot be"),
        (b"\xff\x0a" + bytes(9), "image, but JPEG XL; convert"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "image, but JPEG XL; convert"),
        (b"8BPS\0\1" + bytes(20), "image, but Photoshop; convert"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "image, but SVG; convert"),
        (b"%PDF-1.4", "image, but PDF; convert"),
    ],
)
def test_unreadable_bytes(tmp_path, data, message):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.jpg")


def test_eps_is_refused_though_pillow_knows_it(tmp_path):
    eps = _encoded(Image.new("RGB", (4, 4)), "EPS")
    (tmp_path / "a.jpg").write_bytes(eps)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "EPS"
    with pytest.raises(ImageError, match="not a JPEG"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_half_a_file_is_refused(tmp_path, format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _encoded(Image.fromarray(noise), format)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"half\.img: cannot be (opened|decoded)|half\.img: not a"):
        open_image(path)
    with pytest.raises((ImageError, OSError)):
        open_image(Image.open(path))


@pytest.mark.skipif("JPEG2000" not in FORMATS, reason="this Pillow does not read JPEG 2000")
def test_jpeg_2000(tmp_path):
    levels = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    image = open_image(_saved(tmp_path / "a.jp2", Image.fromarray(levels)))
    np.testing.assert_allclose(np.asarray(image)[..., 0], np.rint(levels / 257), atol=1)
    data = (tmp_path / "a.jp2").read_bytes()
    (tmp_path / "a.jp2").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"a\.jp2: cannot be decoded"):
        open_image(tmp_path / "a.jp2")


@pytest.mark.skipif("JPEG2000" not in FORMATS, reason="this Pillow does not read JPEG 2000")
@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_the_bits_of_a_colour_jpeg_2000(tmp_path, suffix):
    """Of which Pillow keeps the upper 8: with more, it may be nearly black as others are."""
    path = _saved(tmp_path / f"a.{suffix}", Image.new("RGB", (32, 32), (9, 9, 9)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(path)
    data = bytearray(path.read_bytes())
    start = data.find(b"\xff\x4f\xff\x51") + 42
    assert data[start : start + 9 : 3] == bytes([7] * 3)
    for bits, counted in ((8, 8), (12, 16), (16, 16)):
        data[start : start + 9 : 3] = bytes([bits - 1] * 3)
        with Image.open(io.BytesIO(data)) as image:
            assert image_module._sample_bits(image) == counted


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow does not read AVIF")
def test_half_an_avif_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _encoded(Image.fromarray(noise), "AVIF")
    (tmp_path / "a.avif").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"a\.avif: (cannot be|not a)"):
        open_image(tmp_path / "a.avif")


def test_a_format_that_this_pillow_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "FORMATS", ("JPEG", "PNG"))
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif")
    with pytest.raises(ImageError, match=r"a\.avif: not a JPEG, PNG image, but AVIF; convert it to PNG or JPEG first"):
        open_image(tmp_path / "a.avif")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="not a file"):
        open_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    caught = []

    def read():
        try:
            open_image(tmp_path / "a.jpg")
        except ImageError as error:
            caught.append(str(error))

    worker = threading.Thread(target=read, daemon=True)
    worker.start()
    worker.join(timeout=5)
    assert len(caught) == 1 and "not a file" in caught[0]


@pytest.mark.parametrize("size", [(20000, 20000), (60000, 3000)])
def test_bombs_are_refused_before_decoding(tmp_path, size):
    (tmp_path / "a.png").write_bytes(_png_header(*size))
    with pytest.raises(ImageError, match=rf"a\.png: .*{size[0] * size[1]} pixels"):
        open_image(tmp_path / "a.png")


def test_pixel_limit_holds_when_pillows_is_off(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "a.png").write_bytes(_png_header(20000, 20000))
    with pytest.raises(ImageError, match=f"20000 x 20000 pixels, more than {image_module.MAX_PIXELS}"):
        open_image(tmp_path / "a.png")


def test_picture_without_pixels():
    with pytest.raises(ImageError, match="0 x 5 has no pixels"):
        open_image(Image.new("RGB", (0, 5)))


def test_out_of_memory_is_not_blamed_on_the_image(tmp_path, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    path = _saved(tmp_path / "a.png", Image.fromarray(CORNERS))
    monkeypatch.setattr(image_module, "_to_rgb", no_memory)
    with pytest.raises(MemoryError):
        open_image(path)


VALID = [
    _encoded(Image.fromarray(np.resize(CORNERS, (9, 7, 3))), name) for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP")
]


@st.composite
def _damaged(draw):
    """A valid file with a few bytes overwritten, perhaps cut."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for position in draw(st.lists(st.integers(0, len(data) - 1), max_size=6)):
        data[position] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=_damaged() | st.binary(max_size=200))
def test_any_bytes_are_an_image_or_an_image_error(tmp_path, data):
    path = tmp_path / "any.jpg"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(path)
        except ImageError as error:
            assert str(path) in str(error)
        else:
            assert image.mode == "RGB"
            assert np.asarray(image).shape == (image.height, image.width, 3)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 64), st.integers(1, 5000))
def test_patch_grid_is_the_ceiling_or_the_largest_that_fits(height, width, patch, max_patches):
    h, w = patch_grid((height, width), patch, max_patches)
    full_h, full_w = math.ceil(height / patch), math.ceil(width / patch)
    assert min(h, w) >= 1 and h * w <= max_patches
    if full_h * full_w <= max_patches:
        assert (h, w) == (full_h, full_w)
    else:
        scale = math.sqrt(max_patches / (full_h * full_w))
        assert h <= max(1, full_h * scale + 1e-6) or w == 1
        assert (h + 1) * (w + 1) > max_patches


@pytest.mark.parametrize(
    ("size", "limit", "grid"),
    [
        ((1, 1), 100, (1, 1)),
        ((16, 17), 100, (1, 2)),
        ((320, 320), 100, (10, 10)),
        ((640, 160), 100, (20, 5)),
        ((1, 4000), 100, (1, 100)),
        ((4000, 1), 100, (100, 1)),
        ((500, 375), 1, (1, 1)),
    ],
)
def test_patch_grid_by_hand(size, limit, grid):
    assert patch_grid(size, 16, limit) == grid


@pytest.mark.parametrize(("size", "patch", "limit"), [((0, 5), 16, 9), ((5, 5), 0, 9), ((5, 5), 16, 0)])
def test_patch_grid_refuses_nothing(size, patch, limit):
    with pytest.raises(ValueError, match="must all be 1 or more"):
        patch_grid(size, patch, limit)


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"zzzz"])
def test_a_chunk_larger_than_its_file_takes_no_memory(tmp_path, kind):
    """Pillow asks for as many bytes as a chunk says that it has: 2 GB here."""
    whole = _encoded(Image.new("RGB", (24, 16)), "PNG")
    place = whole.index(b"IDAT") - 4
    damaged = whole[:place] + struct.pack(">I", 2**31 - 1) + kind + whole[place + 8 :]
    path = tmp_path / "a.png"
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match=r"a damaged PNG: a chunk of 2147483647 bytes in a file of \d+"):
        open_image(path)
    path.write_bytes(whole)
    assert open_image(path).size == (24, 16)
