"""What the page holds of one image, unpacked again, and what is counted on the way."""

import base64
import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.data import ClassTable, Item
from advcam.report.layers import Draw
from advcam.stages.table import ORDER
from advcam.stages.truth import Truth
from advcam.store import RunFolder, StoredMaps, save_maps, save_mask

CLASSES = ClassTable((3, 7), ("cat", "dog"))


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", ORDER)


def item_of(path, size=(32, 48), labels=(0, 1)):
    Image.new("RGB", size[::-1], (200, 30, 60)).save(path)
    return Item("a", path, labels, size)


def draw(folder, side=256, truth=None):
    return Draw(folder, CLASSES.positions(others=0), CLASSES.ids, truth, side, "key")


def unpacked(entry):
    data, at, found = zlib.decompress(base64.b64decode(entry["data"])), 0, {}
    (width, height), (across, down) = entry["size"], entry["grid"]
    for kind in entry["planes"]:
        found[kind] = np.frombuffer(data, np.uint8, width * height, at).reshape(height, width)
        at += width * height
    for kind in entry["maps"]:
        for number in entry["classes"]:
            found[kind, number] = np.frombuffer(data, np.uint8, across * down, at).reshape(down, across)
            at += across * down
    assert at == len(data)
    return found


def test_a_corrected_mask_is_shown_and_not_compared_with_the_truth(folder, tmp_path):
    item, ids = item_of(tmp_path / "a.png"), np.full((32, 48), 3, np.uint8)
    save_mask(folder.root / "corrected" / "masks" / "a.png", ids)
    save_mask(tmp_path / "truth" / "a.png", ids)
    shown = draw(folder, truth=Truth(tmp_path / "truth"))(item, True)
    assert (unpacked(shown.entry)["corrected"] == ids).all()
    assert (shown.confused, shown.objects) == ({}, [])


def test_a_corrected_mask_of_another_size_is_said(folder, tmp_path):
    save_mask(folder.root / "corrected" / "masks" / "a.png", np.full((9, 48), 3, np.uint8))
    shown = draw(folder)(item_of(tmp_path / "a.png"), True)
    assert shown.entry["planes"] == []
    assert "corrected/masks/a.png" in str(shown.damaged[0])


def test_a_small_image_is_kept_as_it_is(folder, tmp_path):
    item = item_of(tmp_path / "a.png")
    ids = np.zeros((32, 48), np.uint8)
    ids[:16], ids[20:24] = 3, 255
    save_mask(folder.mask("a"), ids)
    maps = torch.zeros(2, 8, 12)
    maps[0, 2, 3], maps[1, 5] = 1, 0.5
    save_maps(folder.maps("a"), StoredMaps((7, 3), maps, (32, 48)))
    shown = draw(folder)(item, True)
    found = unpacked(shown.entry)
    assert (found["mask"] == ids).all()
    assert (found["advcam", 7] == np.rint(255 * maps[0].numpy())).all()
    assert (found["advcam", 3] == np.rint(255 * maps[1].numpy())).all()
    with Image.open(io.BytesIO(base64.b64decode(shown.entry["jpeg"]))) as image:
        assert image.size == (48, 32)
        assert np.abs(np.asarray(image).astype(int) - (200, 30, 60)).max() < 6
    assert not shown.wrong
    assert not shown.damaged


def test_a_large_image_is_scaled_down_and_its_labels_stay_labels(folder, tmp_path):
    item = item_of(tmp_path / "a.png", (400, 640), (0,))
    ids = np.zeros((400, 640), np.uint8)
    ids[:, 320:] = 7
    save_mask(folder.mask("a"), ids)
    save_maps(folder.maps("a"), StoredMaps((3,), torch.full((1, 100, 160), 0.5), (400, 640)))
    found = unpacked(draw(folder, side=64)(item, True).entry)
    assert found["mask"].shape == (40, 64)
    assert (found["mask"][:, :32] == 0).all()
    assert (found["mask"][:, 32:] == 7).all()
    assert found["advcam", 3].shape == (40, 64)
    assert (found["advcam", 3] == 128).all()


def test_disagreement_is_one_minus_the_mean_iou_where_the_mask_is_decided(folder, tmp_path):
    item = item_of(tmp_path / "a.png")
    mask, predicted = np.zeros((32, 48), np.uint8), np.zeros((32, 48), np.uint8)
    mask[:16], predicted[:8] = 3, 3
    mask[31], predicted[31] = 255, 7
    save_mask(folder.mask("a"), mask)
    save_mask(folder.prediction("a"), predicted)
    cat, background = 8 / 16, 15 / 23
    assert draw(folder)(item, True).disagreement == pytest.approx(1 - (cat + background) / 2)
    save_mask(folder.mask("a"), np.full_like(mask, 255))
    assert draw(folder)(item, True).disagreement is None


def test_pixels_are_counted_against_the_truth_of_scored_images_alone(folder, tmp_path):
    item = item_of(tmp_path / "a.png")
    mask, truth = np.zeros((32, 48), np.uint8), np.zeros((32, 48), np.uint8)
    truth[:8], truth[8:10], mask[:4], mask[4:8] = 7, 255, 7, 255
    save_mask(folder.mask("a"), mask)
    save_mask(tmp_path / "truth" / "a.png", truth)
    by = draw(folder, truth=Truth(tmp_path / "truth"))
    shown = by(item, True)
    assert shown.confused["mask"].tolist() == [[22 * 48, 0, 0], [0, 0, 0], [4 * 48, 0, 4 * 48]]
    ((position, share, iou),) = shown.objects
    assert (position, share, iou) == (2, 0.25, 0.5)
    assert by(item, False).confused == {}
    assert unpacked(shown.entry)["truth"].tolist() == truth.tolist()


def test_what_is_missing_or_damaged_leaves_the_rest(folder, tmp_path):
    item = item_of(tmp_path / "a.png")
    save_mask(folder.mask("a"), np.full((32, 48), 3, np.uint8))
    for path in (folder.maps("a"), folder.prediction("a"), tmp_path / "truth" / "a.png"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"PK")
    item.path.unlink()
    shown = draw(folder, truth=Truth(tmp_path / "truth"))(item, True)
    assert [*unpacked(shown.entry)] == ["mask"]
    assert shown.entry["jpeg"] == ""
    assert [str(error).split(":")[0] for error in shown.damaged] == [str(folder.prediction("a")), str(folder.maps("a"))]
    assert [str(error).split(":")[0] for error in shown.wrong] == [str(item.path), str(tmp_path / "truth" / "a.png")]


def test_maps_of_another_image_are_not_shown(folder, tmp_path):
    item = item_of(tmp_path / "a.png", labels=(0,))
    save_maps(folder.maps("a"), StoredMaps((3, 7), torch.zeros(2, 8, 12), (32, 48)))
    shown = draw(folder)(item, True)
    assert shown.entry["maps"] == []
    assert "are not the maps of this image; delete it" in str(shown.damaged[0])
