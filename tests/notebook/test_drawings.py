"""Maps and sweeps draw themselves."""

import numpy as np
import pytest
import torch
from notebook_helpers import HOSTILE, Read
from PIL import Image

import advcam
from advcam.errors import InputError, StoreError
from advcam.metrics import SweepResult, sweep_counts


@pytest.fixture
def maps():
    """Three pairs of two images of 20x40: the first class at the left, the second at the right, the third nowhere."""
    left, right = torch.zeros(2, 4), torch.zeros(2, 4)
    left[:, 0], right[:, 3] = 1, 1
    grids = (torch.stack([left, right, 0 * left]),)
    first = (torch.stack([right, left, 0 * left]),)
    image, target = torch.tensor([0, 0, 1]), torch.tensor([3, 5, 3])
    return advcam.Maps.of(grids, (20, 40), image=image, target=target, first=first)


def pixel(image, x, y=0.5):
    """The colour at a place, as shares of the sides."""
    return image.convert("RGB").getpixel((int(x * image.width), int(y * image.height)))


def test_maps_draw_themselves_without_the_images(maps):
    read = Read(maps._repr_html_())
    assert read.words == ["plain map, class 3", "AdvCAM, class 3", "plain map, class 5", "AdvCAM, class 5",
                          "plain map, class 3", "AdvCAM, class 3"]  # fmt: skip
    assert len(maps._repr_html_()) < 20_000
    plain, climbed, *_, nothing = read.pictures
    assert climbed.size == (160, 80)
    assert min(pixel(climbed, 0.05)) > 180 > 60 > max(pixel(climbed, 0.95))
    assert min(pixel(plain, 0.95)) > 180 > 60 > max(pixel(plain, 0.05))
    assert max(np.asarray(nothing).ravel()) < 20


def images_of(kind):
    """Two images of 20x40, the first dark with a bright right half, in every form in which people have them."""
    pixels = torch.zeros(2, 3, 20, 40, dtype=torch.uint8)
    pixels[0, :, :, 20:] = 200
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    forms = {
        "bytes": pixels,
        "shares": pixels / 255,
        "normalised": (pixels / 255 - 0.45) / 0.22,
        "16 bits": (pixels / 255 - 0.45).bfloat16(),
        "with a graph": (pixels / 255).requires_grad_(),
        "whole numbers": pixels.long(),
        "arrays": arrays,
        "floating arrays": arrays / 255,
        "arrays, channels first": pixels.numpy(),
        "list of tensors": list(pixels / 255),
        "grey arrays": list(arrays[..., 0]),
        "with alpha": [np.dstack([a, a[..., :1]]) for a in arrays],
        "tensors of one channel": pixels[:, :1] / 255,
        "PIL": [Image.fromarray(a) for a in arrays],
        "grey PIL, twice as large": [Image.fromarray(a).convert("L").resize((80, 40)) for a in arrays],
        "tuple": tuple(Image.fromarray(a) for a in arrays),
    }
    return forms if kind is None else forms[kind]


@pytest.mark.parametrize("kind", images_of(None))
def test_images_of_any_form(maps, kind):
    drawn = maps.plot(images_of(kind), {3: "cat", 5: "dog"})
    read = Read(drawn._repr_html_())
    assert read.words == ["image 0", "plain map, cat", "AdvCAM, cat", "image 0", "plain map, dog", "AdvCAM, dog",
                          "image 1", "plain map, cat", "AdvCAM, cat"]  # fmt: skip
    image = read.pictures[0]
    assert image.size == (160, 80)
    assert max(pixel(image, 0.2)) < 12
    assert min(pixel(image, 0.8)) > (240 if kind in ("normalised", "16 bits") else 185)


def test_one_image_needs_no_list(maps):
    one = maps.of_image(0)
    for image in (images_of("bytes")[0], images_of("arrays")[0], images_of("PIL")[0], images_of("grey arrays")[0]):
        assert min(pixel(Read(one.plot(image)._repr_html_()).pictures[0], 0.8)) > 185


def test_hostile_names_are_text(maps):
    html = maps.plot(None, {3: HOSTILE, 5: "\N{SNOWMAN}"})._repr_html_()
    read = Read(html)
    assert set(read.tags) == {"div", "figure", "img", "figcaption"}
    assert read.words[1] == f"AdvCAM, {HOSTILE}"
    assert all(address.startswith("data:image/jpeg;base64,") for address in read.addresses)


def test_many_pairs_are_cut_and_counted():
    grids = (torch.rand(40, 3, 3),)
    many = advcam.Maps.of(grids, (12, 12), image=torch.arange(40), target=torch.zeros(40, dtype=torch.long), first=grids)
    read = Read(many._repr_html_())
    assert len(read.pictures) == 24
    assert read.words[-1] == "12 of 40 pairs of image and class; of_image(row) gives the maps of one image"


def test_an_image_without_a_class(maps, tmp_path):
    none = maps.of_image(7)
    assert Read(none._repr_html_()).words == ["no maps: no class was named for these images"]
    with pytest.raises(InputError, match="nothing to write to .*none.png: no maps"):
        none.plot().save(tmp_path / "none.png")


def test_maps_that_are_not_finite_say_so():
    grids = (torch.tensor([[[1.0, torch.nan]]]),)
    broken = advcam.Maps.of(grids, (4, 8), image=torch.tensor([0]), target=torch.tensor([2]), first=grids)
    assert "AdvCAM, class 2 (holds NaN or infinity)" in Read(broken._repr_html_()).words


def test_as_an_extractor_makes_them(net, images):
    out = advcam.AdvCAM(net.eval(), steps=2)(images, [[0], [1, 2], []])
    assert len(Read(out.plot(images)._repr_html_()).pictures) == 9


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 20, 40), "maps are of 2 images, got 1"),
        ([np.zeros((20, 40, 3))], "maps are of 2 images, got 1"),
        ("image.png", "images 'image.png': expected a batch"),
        (3, "images 3: expected a batch"),
        ([object(), object()], r"image 0 <object.*>: expected a tensor or array of numbers \[C, H, W\]"),
        (torch.zeros(2, 3, 40, 20), "image 0 is 20x40, the maps are of images of 40x20: give the images as the network"),
        (torch.full((2, 3, 20, 40), torch.nan), "image 0 holds NaN or infinity"),
        (torch.zeros(2, 3, 20, 40, device="meta"), "image 0 .*: expected a tensor or array of numbers"),
    ],
)
def test_images_that_do_not_fit(maps, images, message):
    with pytest.raises(InputError, match=message):
        maps.plot(images)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"names": ["a", "b"]}, "names has no class 3: expected the name of each class"),
        ({"names": "cat"}, "names 'cat': expected the name of each class, as a list or as a dict"),
        ({"side": 0}, "side 0: expected a whole number from 8 to 2,048"),
        ({"side": 10**6}, "side 1000000: expected a whole number from 8"),
    ],
)
def test_settings_that_do_not_fit(maps, given, message):
    with pytest.raises(InputError, match=message):
        maps.plot(**given)


def test_a_drawing_is_saved(maps, tmp_path):
    drawn = maps.plot(images_of("PIL"), {3: HOSTILE, 5: "dog"})
    drawn.save(tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as sheet:
        assert sheet.size == (3 * 166 - 6, 3 * (80 + 16 + 6))
    drawn.save(str(tmp_path / "maps.html"))
    assert drawn._repr_html_() in (tmp_path / "maps.html").read_text(encoding="utf-8")
    for wrong in ("maps.jpg", "maps", "maps.svg"):
        with pytest.raises(InputError, match=r"expected a name that ends in .png or .html"):
            drawn.save(tmp_path / wrong)
    with pytest.raises(StoreError, match="cannot be written"):
        drawn.save(tmp_path / "maps.png" / "below.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps.html", "maps.png"]


@pytest.fixture
def counts():
    maps, truth = torch.tensor([[[0.9, 0.4, 0.1]]]), torch.tensor([[1, 1, 0]])
    return sweep_counts(maps, [1], truth, num_classes=2, thresholds=(0.0, 0.2, 0.5))


def test_a_sweep_draws_itself(counts, tmp_path):
    for result in (counts, counts.result()):
        read = Read(result._repr_html_())
        assert read.words[-1] == "Best threshold 0.2, chosen with ground truth: mIoU 100.0 %, noise 0.0 %."
        assert {"mIoU: 33.3 % at 0", "noise: 33.3 % at 0", "mIoU: 50.0 % at 0.5", "best 0.2"} <= set(read.words)
        assert not read.addresses
        assert "script" not in read.tags
    counts.plot().save(tmp_path / "sweep.svg")
    drawn = (tmp_path / "sweep.svg").read_text(encoding="utf-8")
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert ">noise</text>" in drawn
    with pytest.raises(InputError, match=r"expected a name that ends in .svg or .html"):
        counts.plot().save(tmp_path / "sweep.png")


def test_a_sweep_without_a_class():
    nothing = torch.full((2,), torch.nan)
    read = Read(SweepResult((0.1, 0.2), nothing, nothing, torch.full((2, 2), torch.nan))._repr_html_())
    assert read.words[-1] == "No class occurs, in truth or maps, so there is no mIoU."


def test_a_long_sweep_is_small():
    thresholds = tuple(at / 100 for at in range(100))
    values = torch.linspace(0, 1, 100)
    assert len(SweepResult(thresholds, values, values, values[:, None])._repr_html_()) < 40_000
