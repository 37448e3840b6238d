"""Files whole or not at all; a run folder that knows what it was made from."""

import json
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from advcam.errors import RunError, StoreError
from advcam.stages.table import ORDER
from advcam.store import (
    RunFolder,
    StoredMaps,
    atomic_write,
    load_maps,
    load_mask,
    mask_file,
    save_maps,
    save_mask,
    write_bytes,
    write_json,
)
from advcam.store.masks import voc_palette

ABOUT = dict.fromkeys(("labels", "classes", "train_list", "eval_list", "eval_name")) | {"images": "a", "seed": 0}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_full_disk(tmp_path):
    """The system refuses to write on: what was there stays, no half file, and the error says what to do."""
    path = tmp_path / "file.bin"
    write_bytes(path, b"first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"file.bin: cannot be written \(the disk is full\); free some space"):
            write_bytes(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": (1, 2), "p": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [1, 2], "p": str(tmp_path)}


def test_maps_have_the_promised_form(tmp_path):
    maps = torch.rand(2, 5, 7)
    save_maps(tmp_path / "m.npz", StoredMaps((8, 12), maps, (20, 28)))
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert {name: (file[name].dtype.name, file[name].shape) for name in file} == {
            "classes": ("int16", (2,)),
            "maps": ("float16", (2, 5, 7)),
            "size": ("int32", (2,)),
        }
    read = load_maps(tmp_path / "m.npz")
    assert (read.classes, read.size) == ((8, 12), (20, 28))
    assert torch.allclose(read.maps, maps, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 rubbish", b"text"])
def test_damaged_maps(tmp_path, content):
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"m.npz: not a map file"):
        load_maps(tmp_path / "m.npz")
    with pytest.raises(StoreError, match="there is no such map file"):
        load_maps(tmp_path / "none.npz")


def test_masks_are_palette_pngs_in_voc_colours(tmp_path):
    ids = np.array([[0, 1, 15], [255, 8, 20]], np.uint8)
    save_mask(tmp_path / "m.png", ids)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        colours = np.array(image.convert("RGB"))
    assert np.array_equal(load_mask(tmp_path / "m.png"), ids)
    assert colours[0, 1].tolist() == [128, 0, 0]  # aeroplane
    assert colours[0, 2].tolist() == [192, 128, 128]  # person
    assert colours[1, 0].tolist() == [224, 224, 192]  # the border


def test_masks_in_other_forms(tmp_path):
    """RGB in VOC's or own colours, 16 bits, TIFF, a palette that a program has sorted: the same ids."""
    ids = np.array([[0, 1, 2], [20, 255, 1]], np.uint8)
    voc = np.array(voc_palette(), np.uint8).reshape(256, 3)[ids]
    Image.fromarray(voc).save(tmp_path / "rgb.png")
    Image.fromarray(voc).convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(voc).quantize(8, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(tmp_path / "sorted.png")
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "sixteen.png")
    Image.fromarray(ids).save(tmp_path / "grey.tif")
    for name in ("rgb.png", "rgba.png", "sorted.png", "sixteen.png", "grey.tif"):
        assert load_mask(tmp_path / name).tolist() == ids.tolist(), name
    assert mask_file(tmp_path, "grey") == tmp_path / "grey.tif"
    assert mask_file(tmp_path, "none") == tmp_path / "none.png"

    own = np.array([[[255, 0, 0], [0, 0, 0]], [[0, 0, 255], [255, 0, 0]]], np.uint8)
    Image.fromarray(own).save(tmp_path / "own.png")
    assert load_mask(tmp_path / "own.png", colours={0xFF0000: 3, 0x0000FF: 7}).tolist() == [[3, 0], [7, 3]]
    with pytest.raises(StoreError, match=r"an RGB mask with 2 colours that are none of VOC \(#0000ff, #ff0000\)"):
        load_mask(tmp_path / "own.png")
    with pytest.raises(StoreError, match=r"1 colours that are none of --mask-colours \(#0000ff\)"):
        load_mask(tmp_path / "own.png", colours={0xFF0000: 3})
    Image.fromarray(ids.astype(np.uint16) * 257).save(tmp_path / "large.png")
    with pytest.raises(StoreError, match="holds values from 0 to 65535; class ids are 1 to 254"):
        load_mask(tmp_path / "large.png")


def test_a_photograph_is_no_mask(tmp_path):
    Image.effect_noise((20, 20), 50).convert("RGB").save(tmp_path / "m.png")
    with pytest.raises(StoreError, match="an RGB mask with .* colours that are none of VOC"):
        load_mask(tmp_path / "m.png")
    Image.effect_noise((20, 20), 50).convert("CMYK").save(tmp_path / "m.tif")
    with pytest.raises(StoreError, match="ids or their colours, this is CMYK"):
        load_mask(tmp_path / "m.tif")


def test_run_is_taken_up_again_only_for_the_same_data(tmp_path):
    RunFolder.create(tmp_path / "run", ORDER, ABOUT | {"images": "c"}, {})  # no step was taken: gives way
    RunFolder.create(tmp_path / "run", ORDER, ABOUT | {"images": "a"}, {}).begin("classify", {})
    RunFolder.create(tmp_path / "run", ORDER, ABOUT | {"images": "a"}, {"torch": "another"})
    with pytest.raises(RunError, match=r'made from other data \(images: "a" -> "b"\); give another --out'):
        RunFolder.create(tmp_path / "run", ORDER, ABOUT | {"images": "b"}, {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and is not a run folder"):
        RunFolder.create(tmp_path / "other", ORDER, ABOUT, {})
    with pytest.raises(RunError, match=r"not a run folder \(no run.json\)"):
        RunFolder.open(tmp_path / "other", ORDER)


def test_steps_in_order_and_with_the_same_settings(tmp_path):
    run = RunFolder.create(tmp_path / "run", ORDER, ABOUT, {})
    with pytest.raises(RunError, match="climb needs classify, which is not done"):
        run.begin("climb", {})
    assert run.begin("classify", {"epochs": 2})
    assert run.begin("classify", {"epochs": 2})  # stopped and started again
    run.end("classify", 2.0, done=True)
    run.folder("classify").mkdir()
    assert not run.begin("classify", {"epochs": 2})
    with pytest.raises(
        RunError, match=r"other settings \(epochs: 2 -> 3\); leave these options out .*, or `advcam classify --run .* --redo"
    ):
        run.begin("classify", {"epochs": 3})
    assert run.begin("climb", {})
    run.end("climb", 1.0, done=True)
    write_json(run.root / "metrics.json", {})
    assert run.drop("classify") == ["classify", "climb"]
    assert not run.folder("classify").exists()
    assert not (run.root / "metrics.json").exists()  # numbers of what is gone
    assert run.begin("classify", {"epochs": 3})
    assert run.begin("classify", {"epochs": 4})  # stopped by an error before it made anything: the remedy may be a setting


def test_a_kill_while_a_step_is_dropped_leaves_nothing_to_be_taken_for_new(tmp_path):
    run = RunFolder.create(tmp_path / "run", ORDER, ABOUT, {})
    run.begin("classify", {"epochs": 2})
    old = run.folder("classify") / "training.pt"
    write_json(old, {})
    state = run.state()
    del state["steps"]["classify"]  # dropped from the record, killed before the files went
    write_json(run.root / "run.json", state)
    assert run.begin("classify", {"epochs": 3})
    assert not old.exists()


def test_a_kill_while_the_run_is_made(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.abcd.json").write_text("{")
    assert RunFolder.create(tmp_path / "run", ORDER, ABOUT, {}).state()["steps"] == {}


def test_hidden_folders_do_not_stop_a_resumed_step(tmp_path):
    run = RunFolder.create(tmp_path / "run", ORDER, ABOUT, {})
    run.begin("classify", {})
    write_json(run.folder("classify") / ".odd.folder" / "file.json", {})
    assert run.begin("classify", {})
    assert (run.folder("classify") / ".odd.folder" / "file.json").is_file()
