"""Masks written to an address: each whole, none twice, and what a store that cannot be used says."""

import importlib.util
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from advcam.cli import main
from advcam.commands import Session
from advcam.commands.predict import PredictConfig, folder_to_fill, run
from advcam.data import Address, remote, scene
from advcam.errors import DataError, RunError, SettingsError, StoreError
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.segmenter import Segmenter
from advcam.store import load_mask, made_of, mask_bytes, save_mask

SESSION = Session(Runtime("cpu"), Reporter(quiet=True))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0, 0))


@pytest.fixture
def store():
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("one", "sub/two")):
        Image.fromarray(scene(seed).image).resize((90, 50)).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def predict(model, images, out, **how):
    return run(PredictConfig(model=model, images=images, out=out, **how), SESSION)


def below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept(store, folder):
    return {name.removeprefix(f"{folder}/"): store.cat_file(name) for name in store.find(folder)}


def counting(monkeypatch):
    """How often a network is called."""
    calls, whole = [], Segmenter.__call__
    monkeypatch.setattr(Segmenter, "__call__", lambda self, *given: calls.append(1) or whole(self, *given))
    return calls


def test_an_address_gets_the_files_of_a_local_folder(trained, pictures, tmp_path, store):
    local = predict(trained, pictures, tmp_path / "masks", probabilities=True)
    away = predict(trained, pictures, "memory://masks/of/these", probabilities=True)
    assert (local.skipped, away.skipped) == (1, 1)
    assert str(away.listed) == "memory://masks/of/these/skipped.csv"
    assert kept(store, "/masks/of/these") == below(tmp_path / "masks")
    assert sorted(below(tmp_path / "masks")) == [
        "one.png", "predict.json", "probabilities/one.npz", "probabilities/sub/two.npz", "skipped.csv", "sub/two.png",
    ]  # fmt: skip


@pytest.mark.parametrize("out", ["masks", "file://{}/masks", "local://{}/masks", "memory://masks"])
def test_what_is_done_is_not_made_again(out, trained, pictures, tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, calls = out.format(tmp_path), counting(monkeypatch)
    assert predict(trained, pictures, out).skipped == 1
    assert len(calls) == 2
    assert predict(trained, pictures, out).skipped == 1
    assert len(calls) == 2
    shutil.copy(pictures / "one.png", pictures / "sub" / "two.png")
    (pictures / "broken.jpg").unlink()
    assert predict(trained, pictures, out).skipped == 0
    assert len(calls) == 3, "another image of the same name"
    found = kept(store, "/masks") if "memory" in out else below(tmp_path / "masks")
    assert sorted(found) == ["one.png", "predict.json", "sub/two.png"], "the list of what was left out is gone"
    assert predict(trained, pictures, out, probabilities=True).skipped == 0
    with pytest.raises(RunError, match=r"masks made with other options \(merge: mean -> max\); give another --out"):
        predict(trained, pictures, out, merge="max")


def test_images_and_masks_in_one_store(trained, pictures, tmp_path, store, capsys):
    for path in pictures.rglob("*.png"):
        store.pipe_file(f"/photos/{path.relative_to(pictures).as_posix()}", path.read_bytes())
    words = ["predict", "--model", str(trained), "--device", "cpu", "--images", "memory://photos", "--quiet", "--out"]
    assert main([*words, "memory://masks"]) == 0
    said = capsys.readouterr()
    assert said.out == "masks: memory://masks\n"
    assert "memory://masks: is in the memory of this process, and gone when that ends" in said.err
    for inside in ("memory://photos/masks", "memory:///photos/masks", "memory://photos"):
        assert main([*words, inside]) == 2
        assert "--out is in the folder of images" in capsys.readouterr().err
    store.rm_file("/masks/predict.json")
    assert main([*words, "memory://masks"]) == 2
    assert "holds images that `advcam predict` did not make" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("https://host/masks", "can be read only; give the address of a store"),
        ("simplecache::memory://masks", "can be read only"),
        ("s3://bucket/masks.zip", "masks are not written into archives"),
        ("s3://bucket/photos.tar/masks", "masks are not written into archives"),
        ("s3://me:secret@bucket/masks", "leave name and password out of the address"),
        ("", "out is a path"),
        ("file://", "out is a path"),
        ("file:/data/masks", "write a path, such as /data/masks, or file:///data/masks"),
        ("nonsense://masks", "cannot be opened (Protocol not known: nonsense); check the address"),
    ],
)
def test_places_that_masks_cannot_be_written_to(out, said, trained, pictures, capsys):
    status = 0
    try:
        status = main(["predict", "--model", str(trained), "--images", str(pictures), "--quiet", "--out", out])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    shown = capsys.readouterr().err
    assert said in shown.splitlines()[-1]
    assert "secret" not in shown


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_package_that_is_missing(trained, pictures, monkeypatch):
    with pytest.raises(DataError, match=r"s3 needs another package \(Install s3fs"):
        predict(trained, pictures, "s3://bucket/masks")
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(DataError, match=r"addresses need fsspec: pip install 'advcam\[remote\]'"):
        predict(trained, pictures, "s3://bucket/masks")


def test_local_paths_behind_a_protocol():
    assert folder_to_fill("file:///a/b") == folder_to_fill("local:///a/b") == folder_to_fill("/a/b") == Path("/a/b")
    assert folder_to_fill("FILE:///a/b") == folder_to_fill("file://localhost/a/b") == Path("/a/b")
    assert folder_to_fill("s3://bucket/a/") == Address("s3://bucket/a")


def test_a_name_that_no_address_can_have_is_left_out(trained, pictures, store):
    (pictures / "one.png").rename(pictures / "x::y.png")
    for _ in range(2):
        assert predict(trained, pictures, "memory://masks").skipped == 2
    assert "its name has ::, which no address can have; rename it" in store.cat_file("/masks/skipped.csv").decode()
    assert "sub/two.png" in kept(store, "/masks")


def test_memory_is_not_shared_with_a_cluster(trained, pictures):
    pytest.importorskip("ray", reason="pip install 'advcam[ray]'")
    session = Session(Runtime("cpu", engine="ray"), Reporter(quiet=True))
    with pytest.raises(SettingsError, match="memory://masks: is in the memory of this process"):
        run(PredictConfig(model=trained, images=pictures, out="memory://masks"), session)


@pytest.mark.parametrize("out", ["{}/masks", "memory://masks"])
def test_a_mask_that_is_damaged_is_made_again(out, trained, pictures, tmp_path, store):
    out = out.format(tmp_path)
    predict(trained, pictures, out)
    (where, at) = fsspec.url_to_fs(f"{out}/one.png")
    whole = where.cat_file(at)
    for damaged in (whole[:-20], whole[: len(whole) // 2], whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:], b""):
        where.pipe_file(at, damaged)
        predict(trained, pictures, out)
        assert where.cat_file(at) == whole


def test_an_image_is_read_once(trained, pictures, tmp_path, store, monkeypatch):
    """Whether it is predicted, or its mask is there."""
    for path in pictures.rglob("*.png"):
        store.pipe_file(f"/photos/{path.relative_to(pictures).as_posix()}", path.read_bytes())
    read, whole = [], MemoryFileSystem.cat_file
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda self, path, **part: read.append(path) or whole(self, path, **part))
    opened = MemoryFileSystem.open
    monkeypatch.setattr(MemoryFileSystem, "open", lambda self, path, *how: read.append(path) or opened(self, path, *how))
    for _ in range(2):
        read.clear()
        predict(trained, "memory://photos", tmp_path / "masks")
        assert sorted(read) == ["/photos/one.png", "/photos/sub/two.png"]


@pytest.mark.parametrize("side", [30, 400])
def test_a_file_of_any_size_is_read_whole(side, store):
    data = mask_bytes(np.random.default_rng(0).integers(0, 256, (side, side)).astype(np.uint8), "")
    assert (len(data) < remote.SMALL) == (side == 30)
    for given in (data, data[: remote.SMALL], b""):
        store.pipe_file("/masks/a.png", given)
        assert remote.read_small("memory://masks/a.png") == given
    assert remote.read_small("memory://masks/b.png") is None


def test_a_mask_names_its_image_if_it_is_whole(tmp_path):
    ids = np.random.default_rng(0).integers(0, 256, (300, 400)).astype(np.uint8)
    data = mask_bytes(ids, "0123456789abcdef" * 2)
    assert made_of(data) == "0123456789abcdef" * 2
    assert not any(made_of(data[:size]) for size in (0, 100, 4096, len(data) - 13, len(data) - 9))
    save_mask(tmp_path / "a.png", ids, "0123456789abcdef" * 2)
    assert (tmp_path / "a.png").read_bytes() == data
    assert np.array_equal(load_mask(tmp_path / "a.png"), ids)


# Stores that fail.


class Odd(MemoryFileSystem):
    """Files in memory, of a store that writes them as they come and fails as it is told to."""

    protocol, store, pseudo_dirs = "odd", {}, [""]
    cachable = False
    loses, fails, seen = 0, None, []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("odd:/"))

    def pipe_file(self, path, value, mode="overwrite", **more):
        """Writes the first half, then the second, unless it fails; what is there in between is noted."""
        super().pipe_file(path, value[: len(value) // 2])
        Odd.seen.append(sorted(self.store))
        if Odd.fails:
            raise Odd.fails
        if Odd.loses:
            Odd.loses -= 1
        else:
            super().pipe_file(path, value)


fsspec.register_implementation("odd", Odd, clobber=True)


@pytest.fixture
def odd():
    Odd.store.clear()
    Odd.loses, Odd.fails, Odd.seen = 0, None, []
    return Odd.store


def test_no_part_of_a_file_is_seen_under_its_name(odd):
    """Of a store that shows what is being written: it lies beside until it is complete."""
    remote.write("odd://masks/sub/a.png", b"0123456789")
    remote.write("odd://masks/sub/a.png", b"9876543210")
    assert {name: file.getvalue() for name, file in odd.items()} == {"/masks/sub/a.png": b"9876543210"}
    first, second = Odd.seen
    assert [Path(name).name.startswith(".advcam-") for name in first] == [True]
    assert len(second) == 2
    assert remote.read_small("odd://masks/sub/a.png") == b"9876543210"
    assert remote.read_small("odd://masks/sub/b.png") is None


@pytest.mark.parametrize(("loses", "tries"), [(0, 1), (1, 2), (2, 3)])
def test_a_write_that_is_lost_is_made_again(loses, tries, odd):
    Odd.loses = loses
    remote.write("odd://masks/a.png", b"0123456789")
    assert odd["/masks/a.png"].getvalue() == b"0123456789"
    assert len(Odd.seen) == tries


def test_a_write_that_is_always_lost(odd):
    Odd.loses = 99
    with pytest.raises(StoreError, match=r"a\.png: cannot be written \(tried three times: the store took 10 bytes and has 5"):
        remote.write("odd://masks/a.png", b"0123456789")
    assert (list(odd), len(Odd.seen)) == ([], 3), "nothing half-written is left"


@pytest.mark.parametrize(
    ("error", "said", "tries"),
    [
        (PermissionError(13, "Denied"), "no permission: Denied); check that the account or key that odd uses may list", 1),
        (FileNotFoundError(2, "No bucket"), "no such place: No bucket); make the bucket first, or check the address", 1),
        (NotImplementedError(), "a store of this kind cannot do that); check the address", 1),
        (RuntimeError("No credentials"), "tried three times: No credentials); check the address, the account or key", 3),
    ],
)  # fmt: skip
def test_a_store_that_refuses_stops_the_command_in_one_line(error, said, tries, odd, trained, pictures, capsys):
    words = ["predict", "--model", str(trained), "--images", str(pictures), "--quiet", "--out", "odd://masks"]
    Odd.fails = error
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("advcam: odd://masks/predict.json: cannot be written (")
    assert said in shown
    assert "give the same command again: what is done is kept" in shown
    assert len(shown.splitlines()) == 1
    assert (list(odd), len(Odd.seen)) == ([], tries)
    Odd.fails = None
    assert main(words) == 1
    assert "/masks/sub/two.png" in odd


def test_a_damaged_record(trained, pictures, store):
    store.pipe_file("/masks/predict.json", b"{")
    with pytest.raises(StoreError, match=r"memory://masks/predict.json: cannot be read \(.*truncated.*\); give another --out"):
        predict(trained, pictures, "memory://masks")
    store.pipe_file("/masks/predict.json", json.dumps({"precision": "half"}).encode())
    with pytest.raises(RunError, match=r"predict.json: has precision 'half', expected one of"):
        predict(trained, pictures, "memory://masks")
