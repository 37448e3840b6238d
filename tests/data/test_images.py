"""Images of every kind people have, and what is said of those that cannot be used."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from advcam.data import fit_within, read_image
from advcam.data.images import at_least
from advcam.errors import ImageError

RAMP = np.linspace(0, 255, 32 * 24 * 3).reshape(24, 32, 3).astype(np.uint8)


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_rgb_is_untouched(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP), "bär 犬.png")
    assert np.array_equal(np.asarray(read_image(path)), RAMP)


def test_cmyk(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP).convert("CMYK"), "print.jpg", quality=95)
    read = read_image(path)
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read).astype(int) - RAMP).mean() < 12


def test_sixteen_bit_grey(tmp_path):
    grey = (RAMP[:, :, 0].astype(np.uint16)) * 257
    path = saved(tmp_path, Image.fromarray(grey), "scan.png")
    assert np.array_equal(np.asarray(read_image(path))[:, :, 1], RAMP[:, :, 0])


def test_palette_and_transparency(tmp_path):
    palette = saved(tmp_path, Image.fromarray(RAMP).convert("P"), "palette.png")
    assert read_image(palette).mode == "RGB"
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert read_image(saved(tmp_path, clear, "clear.png")).getpixel((3, 3)) == (255, 255, 255)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert read_image(path).getpixel((3, 3))[0] > 200


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    path = saved(tmp_path, Image.fromarray(RAMP), "phone.jpg", exif=exif)
    assert read_image(path).size == (24, 32)


def test_large_images_are_scaled_down():
    assert fit_within(Image.new("RGB", (400, 100)), 200).size == (200, 50)
    assert fit_within(Image.new("RGB", (40, 10)), 200).size == (40, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(b""), "the file is empty"),
        (lambda p: p.write_bytes(b"not an image at all"), "not an image that Pillow can read"),
        (lambda p: Image.new("RGB", (1, 1)).save(p), "1x1 pixels; an image needs at least 16 a side"),
        (lambda p: Image.new("1", (12000, 9000)).save(p), "12000x9000 is more than 100 megapixels"),
        (lambda p: Image.new("1", (20000, 20000)).save(p), "more than 100 megapixels"),
    ],
)
def test_unusable(tmp_path, make, message):
    path = tmp_path / "image.png"
    make(path)
    with pytest.raises(ImageError, match=message):
        read_image(path)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_truncated(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), name)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_image(path)


def test_a_damaged_exif_block(tmp_path):
    """Pixels are whole, yet Pillow raises ``TypeError`` or ``struct.error``: which way up is not known, so it is refused."""
    exif = Image.Exif()
    exif[274] = 6
    good = exif.tobytes()
    refused = []
    for at in range(6, len(good)):
        path = saved(tmp_path, Image.new("RGB", (32, 20)), "exif.jpg", exif=good[:at] + b"\x02" + good[at + 1 :])
        with contextlib.suppress(ImageError):
            read_image(path)
            continue
        refused.append(at)
    assert refused


def test_float_pixels(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.random.rand(20, 20).astype(np.float32)), "float.tiff")
    with pytest.raises(ImageError, match="float pixels have no fixed range"):
        read_image(path)


def test_sizes():
    image = Image.new("RGB", (40, 20))
    assert fit_within(image, 30).size == (30, 15)
    assert fit_within(image, 50) is image
    assert at_least(image, 64).size == (128, 64)
    assert at_least(image, 20) is image
