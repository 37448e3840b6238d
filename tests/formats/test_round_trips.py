"""Every format there and back: the same masks, to the pixel, with holes, parts, thin lines and pixels that nobody knows."""

import json

import numpy as np
import pytest
from PIL import Image

from advcam.data import ClassTable
from advcam.errors import ImageError, RunError
from advcam.formats import FORMATS, Losses, Masked, Names, Wishes
from advcam.formats.files import RECORD
from advcam.store import load_mask

CLASSES = ClassTable((7, 2, 9), ("dog", "Katze mit Hut", "über"))
WRITTEN = [name for name, made in FORMATS.items() if made.write]
KEEP = [name for name in WRITTEN if FORMATS[name].unknown]
LOSE = [name for name in WRITTEN if not FORMATS[name].unknown]


def mask(seed=0, unknown=True):
    """A ring with an island in its hole, parts that touch at a corner, single pixels, a line, a frame along the border."""
    ids = np.zeros((40, 53), np.uint8)
    ids[3:20, 4:22] = 7
    ids[7:16, 8:18] = 0
    ids[10:13, 11:14] = 7
    ids[22:26, 30:34] = 2
    ids[26:30, 34:38] = 2
    ids[1, 40] = ids[39, 52] = ids[0, 0] = 9
    ids[33, 5:40] = 9
    ids[:, 52] = 2
    if unknown:
        ids[35:38, 20:30] = 255
    rng = np.random.default_rng(seed)
    return np.where(rng.random(ids.shape) < 0.05, rng.choice([0, 7, 2, 9], ids.shape), ids).astype(np.uint8)


def entries(folder, unknown=True):
    names = ("plain.png", "sub/with blank.jpg", "sub/deeper/ä.b.png")
    for at, name in enumerate(names):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (53, 40), (at, 90, 9)).save(path)
        yield Masked(name.rpartition(".")[0], path, mask(at, unknown), scored=at == 2)


def out_of(kind, folder):
    return folder / f"out-{kind}{FORMATS[kind].suffix}"


def write(kind, folder, wishes=None, made=None, out=None):
    losses, out = Losses(), out or out_of(kind, folder)
    with FORMATS[kind].write(out, wishes or Wishes(Names(CLASSES)), losses) as add:
        for masked in made if made is not None else entries(folder):
            add(masked)
    return out, losses


def annotated(out):
    """Label Studio's predictions as somebody's annotations."""
    tasks = json.loads(out.read_text())
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    out.write_text(json.dumps(tasks))


def read(kind, out, names=None):
    if kind == "label-studio":
        annotated(out)
    found = {}
    for one in FORMATS[kind].read(out, names or Names(CLASSES)):
        drawn = one.draw((40, 53))
        assert not drawn.faults
        found[one.names] = drawn.ids
    return found


def matched(found, name):
    (ids,) = [ids for names, ids in found.items() if {name, f"{name}.png", f"{name}.jpg"} & {*names}]
    return ids


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_same_masks_come_back(kind, tmp_path):
    out, losses = write(kind, tmp_path, made=list(entries(tmp_path, unknown=False)))
    assert losses.unknown == 0
    assert not losses.changed
    found = read(kind, out)
    assert len(found) == 3
    for masked in entries(tmp_path, unknown=False):
        assert np.array_equal(matched(found, masked.id), masked.ids)


@pytest.mark.parametrize("kind", KEEP)
def test_formats_of_pixels_keep_what_is_not_known(kind, tmp_path):
    out, _ = write(kind, tmp_path)
    found = read(kind, out)
    for masked in entries(tmp_path):
        assert np.array_equal(matched(found, masked.id), masked.ids)


@pytest.mark.parametrize("kind", LOSE)
def test_formats_of_regions_say_how_much_is_not_known_or_give_it_a_label(kind, tmp_path):
    out, losses = write(kind, tmp_path)
    found, count = read(kind, out), 0
    for masked in entries(tmp_path):
        assert np.array_equal(matched(found, masked.id), np.where(masked.ids == 255, 0, masked.ids))
        count += int((masked.ids == 255).sum())
    assert (losses.unknown, losses.pixels) == (count, 3 * 40 * 53)
    assert losses.lines()[0].startswith(f"{count} of 6360 pixels ({count / 6360:.2%}) are 255 (not known)")
    labelled = Wishes(Names(CLASSES, "unsure"))
    again, losses = write(kind, tmp_path, labelled, out=out_of(kind, tmp_path / "labelled"))
    assert losses.unknown == 0
    found = read(kind, again, labelled.names)
    for masked in entries(tmp_path):
        assert np.array_equal(matched(found, masked.id), masked.ids)


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_output_is_replaced_and_something_else_is_not(kind, tmp_path):
    out, _ = write(kind, tmp_path)
    first = out.read_bytes() if out.is_file() else {p: p.read_bytes() for p in out.rglob("*.txt")}
    write(kind, tmp_path)
    assert first == (out.read_bytes() if out.is_file() else {p: p.read_bytes() for p in out.rglob("*.txt")})
    other = tmp_path / f"mine{FORMATS[kind].suffix}"
    if FORMATS[kind].suffix:
        other.write_bytes(b"mine")
    else:
        other.mkdir()
        (other / "note.md").write_bytes(b"mine")
    with pytest.raises(RunError, match=f"was not made by `advcam convert masks --to {kind}`"):
        write(kind, tmp_path, out=other)
    assert (other if other.is_file() else other / "note.md").read_bytes() == b"mine"
    with pytest.raises(RunError):  # nor what was converted to another format
        write("yolo" if kind != "yolo" else "voc", tmp_path, out=out)


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_fails_leaves_nothing_new_behind(kind, tmp_path):
    def stops():
        yield next(entries(tmp_path))
        raise KeyboardInterrupt

    out = out_of(kind, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(kind, tmp_path, made=stops())
    left = [path for path in [out, *out.rglob("*")] if path.is_file() and path.name != RECORD]
    assert left == []
    assert not list(tmp_path.glob(".advcam-*"))
    write(kind, tmp_path)  # and it can be tried again


@pytest.mark.parametrize("kind", [kind for kind in WRITTEN if not FORMATS[kind].suffix])
def test_files_of_an_earlier_conversion_go_and_others_stay(kind, tmp_path):
    out, _ = write(kind, tmp_path)
    before = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    (out / "notes.txt").write_text("mine")
    write(kind, tmp_path, made=list(entries(tmp_path))[:1])
    after = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    assert (out / "notes.txt").read_text() == "mine"
    assert after < before | {(out / "notes.txt").relative_to(out)}
    assert not [path for path in after if "deeper" in path.parts]


@pytest.mark.parametrize("kind", ["yolo", "voc", "fiftyone", "hf"])
def test_data_sets_hold_copies_of_the_images_if_wanted(kind, tmp_path):
    out, _ = write(kind, tmp_path)
    copies = list(out.rglob("with blank.jpg"))
    assert [path.read_bytes() for path in copies] == [(tmp_path / "photos" / "sub" / "with blank.jpg").read_bytes()]
    out, _ = write(kind, tmp_path, Wishes(Names(CLASSES), copy_images=False))
    assert not list(out.rglob("with blank.jpg"))
    gone = Masked("gone", tmp_path / "photos" / "gone.png", mask())
    with pytest.raises(ImageError, match=r"gone.png: cannot be copied .*--no-copy-images leaves the images where they are"):
        write(kind, tmp_path, made=[gone])


@pytest.mark.parametrize("kind", WRITTEN)
def test_names_that_lead_elsewhere_are_never_written_to(kind, tmp_path):
    for name in ("../up", "/tmp/x", "a/../../b"):
        made = Masked(name, tmp_path / "photos" / "plain.png", mask())
        if FORMATS[kind].suffix:
            continue  # a name inside of one file
        list(entries(tmp_path))
        with pytest.raises(ImageError, match="cannot be a file of its own"):
            write(kind, tmp_path, Wishes(Names(CLASSES), copy_images=False), made=[made])
    assert not (tmp_path.parent / "up.png").exists()


def test_a_record_that_names_files_elsewhere_removes_none_of_them(tmp_path):
    out, _ = write("fiftyone", tmp_path)
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    (out / "link").symlink_to(tmp_path)
    (out / RECORD).write_text(
        json.dumps({"made_by": "advcam convert masks --to fiftyone", "files": ["../mine.png", str(mine), "link/mine.png"]})
    )
    write("fiftyone", tmp_path)
    assert mine.read_bytes() == b"mine"


def test_masks_of_voc_are_palettes_and_those_of_fiftyone_grey(tmp_path):
    """OpenCV, by which FiftyOne reads, makes colours of a palette."""
    voc, _ = write("voc", tmp_path)
    with Image.open(voc / "SegmentationClass" / "plain.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3 * 7 : 3 * 7 + 3] == [128, 128, 128]
    assert np.array_equal(load_mask(voc / "SegmentationClass" / "plain.png"), mask(0))
    fiftyone, _ = write("fiftyone", tmp_path)
    with Image.open(fiftyone / "labels" / "plain.png") as image:
        assert image.mode == "L"
    assert json.loads((fiftyone / "mask_targets.json").read_text()) == {
        "7": "dog", "2": "Katze mit Hut", "9": "über", "255": "ignored",
    }  # fmt: skip
