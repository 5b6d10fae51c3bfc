"""Pictures load as a viewer shows them, and what is no picture ends in one sentence."""

import inspect
import os
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from visavis.errors import InputError
from visavis.pictures import MAX_PIXELS, MIN_SIDE, find_pictures, load_picture


@pytest.fixture
def ramp():
    """A small picture, (12, 16, 3), no two of whose pixels are equal and none of whose symmetries hold."""
    return np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def pixels(source):
    picture = load_picture(source)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def refusal(source):
    """The one sentence with which a source is refused."""
    with pytest.raises(InputError) as caught:
        load_picture(source)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", ")"))
    return sentence


def test_rgb_file_keeps_its_values(tmp_path, ramp):
    path = saved(PIL.Image.fromarray(ramp), tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(path), ramp)
    np.testing.assert_array_equal(pixels(str(path)), ramp)


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".ppm", ".webp", ".jp2"])
def test_lossless_formats_keep_their_values(tmp_path, ramp, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    np.testing.assert_array_equal(pixels(saved(PIL.Image.fromarray(ramp), tmp_path / f"a{suffix}", **options)), ramp)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_rotated_equals_upright(tmp_path, ramp, orientation, suffix):
    # How a camera that is turned so stores the upright picture (EXIF 2.3, tag 0x0112), without PIL's transposes.
    stored = {
        1: ramp,
        2: ramp[:, ::-1],
        3: ramp[::-1, ::-1],
        4: ramp[::-1],
        5: ramp.transpose(1, 0, 2),
        6: np.rot90(ramp, 1),
        7: np.rot90(ramp, 2).transpose(1, 0, 2),
        8: np.rot90(ramp, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(PIL.Image.fromarray(np.ascontiguousarray(stored)), tmp_path / f"a{suffix}", exif=exif)
    np.testing.assert_array_equal(pixels(path), ramp)


def test_a_loaded_picture_is_not_turned_again(tmp_path, ramp):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = saved(PIL.Image.fromarray(ramp), tmp_path / "a.jpg", exif=exif)
    once = load_picture(path)
    assert once.size == (12, 16)
    np.testing.assert_array_equal(pixels(once), np.asarray(once))


def test_damaged_exif_is_left_aside(tmp_path, ramp):
    path = saved(PIL.Image.fromarray(ramp), tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0")
    np.testing.assert_array_equal(pixels(path), ramp)


def test_cmyk_colours(tmp_path):
    # Ink percentages of cyan, magenta, yellow, black to light: red = (1 - c)(1 - k), and so on.
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]], np.uint8)
    light = np.array([[255] * 3, [0, 255, 255], [255, 0, 255], [255, 255, 0], [0] * 3], np.uint8)
    bands = PIL.Image.fromarray(np.repeat(inks[:, None], 16, 1).repeat(16, 0)).split()
    image = PIL.Image.merge("CMYK", bands)
    expected = np.repeat(light[:, None], 16, 1).repeat(16, 0)
    np.testing.assert_array_equal(pixels(saved(image, tmp_path / "a.tif")), expected)
    # PIL writes CMYK as Adobe does, inverted, with the marker that says so.
    jpeg = saved(image, tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in jpeg.read_bytes()
    np.testing.assert_allclose(pixels(jpeg), expected, atol=3)


def test_palette(tmp_path, ramp):
    image = PIL.Image.fromarray(ramp).quantize(8)
    expected = np.asarray(image.getpalette()).reshape(-1, 3)[np.asarray(image)]
    np.testing.assert_array_equal(pixels(saved(image, tmp_path / "a.png")), expected)


def test_palette_transparency_is_laid_over_white(tmp_path):
    image = PIL.Image.new("P", (16, 16), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (8, 0, 16, 16))
    shown = pixels(saved(image, tmp_path / "a.png", transparency=0))
    np.testing.assert_array_equal(shown[:, :8], np.full((16, 8, 3), 255))
    np.testing.assert_array_equal(shown[:, 8:], np.broadcast_to([200, 100, 50], (16, 8, 3)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, ramp, mode):
    alpha = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (12, 1))
    colour = PIL.Image.fromarray(ramp).convert(mode[:-1])
    image = colour.copy()
    image.putalpha(PIL.Image.fromarray(alpha))
    assert image.mode == mode
    share = alpha[..., None] / 255
    expected = np.asarray(colour.convert("RGB")) * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels(saved(image, tmp_path / "a.png")), expected, atol=1)
    np.testing.assert_allclose(pixels(image), expected, atol=1)


def test_a_colour_marked_transparent_is_white(tmp_path, ramp):
    ramp[:, :4] = (1, 2, 3)
    shown = pixels(saved(PIL.Image.fromarray(ramp), tmp_path / "a.png", transparency=(1, 2, 3)))
    np.testing.assert_array_equal(shown[:, :4], np.full((12, 4, 3), 255))
    np.testing.assert_array_equal(shown[:, 4:], ramp[:, 4:])


@pytest.mark.parametrize(("mode", "bright"), [("L", 200), ("1", 255)])
def test_grey_and_one_bit(tmp_path, mode, bright):
    image = PIL.Image.new(mode, (16, 16))
    image.paste(bright, (0, 0, 8, 16))
    shown = pixels(saved(image, tmp_path / "a.png"))
    np.testing.assert_array_equal(shown[:, :8], np.full((16, 8, 3), bright))
    np.testing.assert_array_equal(shown[:, 8:], np.zeros((16, 8, 3)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    path = saved(PIL.Image.fromarray(values), tmp_path / f"a{suffix}")
    expected = np.round(values.astype(float) * 255 / 65535)
    np.testing.assert_array_equal(pixels(path), np.repeat(expected[..., None], 3, -1))


def test_sixteen_bit_grey_that_is_dark_stays_dark(tmp_path):
    dark = np.full((16, 16), 200, np.uint16)
    assert pixels(saved(PIL.Image.fromarray(dark), tmp_path / "a.png")).max() == 1
    assert pixels(saved(PIL.Image.fromarray(dark), tmp_path / "a.pgm")).max() == 1


def test_thirty_two_bit_whole_numbers():
    eight = PIL.Image.fromarray(np.full((16, 16), 200, np.int32))
    sixteen = PIL.Image.fromarray(np.full((16, 16), 51400, np.int32))
    assert eight.mode == sixteen.mode == "I"
    assert pixels(eight).max() == pixels(eight).min() == 200
    assert pixels(sixteen).max() == pixels(sixteen).min() == 200
    assert "from 0 to 70000" in refusal(PIL.Image.fromarray(np.diag([70000] * 16).astype(np.int32)))


def test_thirty_two_bit_floats(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    shown = pixels(saved(PIL.Image.fromarray(values), tmp_path / "a.tif"))
    np.testing.assert_array_equal(shown[..., 0], np.arange(256).reshape(16, 16))
    path = saved(PIL.Image.fromarray(values * 300), tmp_path / "b.tif")
    assert "b.tif" in refusal(path)
    assert "0 to 300" in refusal(path)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [PIL.Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(path), np.broadcast_to([255, 0, 0], (16, 16, 3)))


def test_arrays(ramp):
    np.testing.assert_array_equal(pixels(ramp), ramp)
    np.testing.assert_array_equal(pixels(ramp / 255), ramp)
    np.testing.assert_array_equal(pixels((ramp / 255).astype(np.float32)), ramp)
    np.testing.assert_array_equal(pixels(ramp.astype(np.uint16) * 257), ramp)
    np.testing.assert_array_equal(pixels(ramp[..., 0]), np.repeat(ramp[..., :1], 3, -1))
    np.testing.assert_array_equal(pixels(ramp[..., :1]), np.repeat(ramp[..., :1], 3, -1))
    np.testing.assert_array_equal(pixels(ramp[:, ::-1]), ramp[:, ::-1])
    clear = np.dstack([ramp, np.zeros((12, 16), np.uint8)])
    np.testing.assert_array_equal(pixels(clear), np.full((12, 16, 3), 255))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 16, 16), np.uint8), "put the channels last"),
        (np.zeros((2, 16, 16, 3), np.uint8), "pass a list"),
        (np.zeros((16, 16, 2), np.uint8), "(16, 16, 2)"),
        (np.zeros((16, 16), np.int64), "int64"),
        (np.zeros((16, 16), bool), "bool"),
        (np.full((16, 16), 1.5), "from 1.5 to 1.5"),
        (np.full((16, 16), -0.5), "from -0.5"),
        (np.where(np.eye(16) > 0, np.nan, 0.0), "16 values that are NaN"),
        (np.zeros((1, 1, 3), np.uint8), "nothing to explain"),
        (np.zeros((0, 16, 3), np.uint8), "nothing to explain"),
    ],
)
def test_arrays_that_are_no_pictures(array, said):
    assert said in refusal(array)


@pytest.mark.parametrize(("source", "said"), [(7, "type int"), (b"a.png", "type bytes"), (None, "NoneType")])
def test_what_is_no_source(source, said):
    unchecked = inspect.unwrap(load_picture)  # the tests' annotation checks would be first to object
    with pytest.raises(InputError, match=said):
        unchecked(source)


def test_a_given_image_stays_as_it_is(tmp_path, ramp):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = saved(PIL.Image.fromarray(ramp), tmp_path / "a.png", exif=exif)
    with PIL.Image.open(path) as image:
        assert pixels(image).shape == (16, 12, 3)
        assert image.getexif()[0x0112] == 6
        np.testing.assert_array_equal(np.asarray(image), ramp)
    upright = PIL.Image.fromarray(ramp)
    assert load_picture(upright) is not upright


def test_files_that_are_no_pictures(tmp_path):
    text, empty, folder = tmp_path / "notes.jpg", tmp_path / "empty.png", tmp_path / "folder.jpg"
    text.write_text("a text, and no picture")
    empty.write_bytes(b"")
    folder.mkdir()
    assert "notes.jpg' is not a picture" in refusal(text)
    assert "empty.png' is empty" in refusal(empty)
    assert "folder.jpg' is a folder" in refusal(folder)
    assert "there is no file" in refusal(tmp_path / "missing.jpg")
    assert "there is no file" in refusal(text / "below.jpg")
    assert "there is no file" in refusal("with\0nothing.jpg")
    assert "cannot be read" in refusal("x" * 5000 + ".jpg")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_a_file_that_was_cut_short(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(PIL.Image.fromarray(noise), tmp_path / f"cut{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut" + suffix in refusal(path)


def test_an_unreadable_file(tmp_path, ramp, monkeypatch):
    path = saved(PIL.Image.fromarray(ramp), tmp_path / "locked.png")

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    # For the superuser, under whom containers run, no file is locked.
    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert refusal(path) == f"'{path}' cannot be read: Permission denied."


def test_postscript_is_never_run(tmp_path):
    path = tmp_path / "program.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n")
    with PIL.Image.open(path) as image:
        assert image.format == "EPS"
    assert "not a picture that can be read" in refusal(path)


def png_header(width, height):
    """A PNG file that promises width x height RGB pixels and holds almost none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(20000, 20000), (10001, 10000), (100_001, 1000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, width, height, monkeypatch):
    def decode(*_args):
        raise AssertionError("the picture was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    sentence = refusal(path)
    assert "bomb.png" in sentence
    assert "at most 100 megapixels" in sentence


def test_the_limit_is_ours_and_not_the_decoders(tmp_path, monkeypatch):
    """Between PIL's limit, at which it warns, and ours, a picture is read in silence."""
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 200)
    path = saved(PIL.Image.new("RGB", (16, 16), "red"), tmp_path / "a.png")
    assert pixels(path).shape == (16, 16, 3)
    assert MAX_PIXELS == 100_000_000


def test_too_many_pixels_in_memory():
    wide = np.broadcast_to(np.uint8(0), (10_001, 10_000))
    assert "at most 100 megapixels" in refusal(wide)


def test_too_few_pixels(tmp_path):
    assert "1 x 1 pixels, so there is nothing to explain" in refusal(PIL.Image.new("RGB", (1, 1)))
    assert "small.png" in refusal(saved(PIL.Image.new("L", (100, MIN_SIDE - 1)), tmp_path / "small.png"))
    assert load_picture(PIL.Image.new("L", (100, MIN_SIDE))).size == (100, MIN_SIDE)


def test_no_file_stays_open(tmp_path, ramp):
    good = saved(PIL.Image.fromarray(ramp), tmp_path / "a.png")
    bad = tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:80])
    bomb = tmp_path / "c.png"
    bomb.write_bytes(png_header(20000, 20000))
    descriptors = [os.dup(0)]
    os.close(descriptors[0])
    load_picture(good)
    for path in (bad, bomb):
        refusal(path)
    free = os.dup(0)  # the lowest free number: the same as before, if nothing stayed open
    os.close(free)
    assert free == descriptors[0]


def test_find_pictures_in_folders_and_files(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "c.webp"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below.png").mkdir()
    (tmp_path / "below.png" / "d.png").write_bytes(b"x")
    in_folder = [tmp_path / name for name in ("a.png", "b.JPG", "c.webp")]
    assert find_pictures([tmp_path]) == in_folder
    assert find_pictures(tmp_path) == find_pictures(str(tmp_path)) == in_folder
    named = tmp_path / "notes.txt"
    assert find_pictures([named, tmp_path, tmp_path / "a.png"]) == [named, *in_folder]


def test_find_pictures_refuses_what_has_none(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        find_pictures([tmp_path])
    with pytest.raises(InputError, match="there is no file"):
        find_pictures([tmp_path / "missing"])
