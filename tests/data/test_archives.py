"""Images in zip and tar archives and in shards, read without unpacking."""

import io
import os
import pickle
import shutil
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.data import images_of, list_images, load, look_at, passed_over, place, read_labels, read_source
from advcam.data.archives import archive
from advcam.data.places import Address
from advcam.errors import DataError, ImageError


def png(value=0, size=(24, 20), kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 255 - value, value)).save(stream, kind)
    return stream.getvalue()


def packed(path, files):
    """An archive of files {name: bytes}, of the kind that its suffix says."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in files.items():
                file.writestr(name, data)
        return path
    with tarfile.open(path, "w") as file:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return path


def shown(data):
    return {item.id: [data.classes.names[at] for at in item.labels] for item in data.items}


KINDS = ["photos.zip", "photos.tar", "PHOTOS.ZIP", "Photos.Tar"]


@pytest.mark.parametrize("name", KINDS)
def test_folders_equal_names_and_suffixes_in_any_case(name, tmp_path):
    files = {"a.png": png(1), "b/a.PNG": png(2), "b/c/x.Jpg": png(3, kind="JPEG"), "notes.txt": b"hello", "b/clip.mov": b"-"}
    path = packed(tmp_path / name, files)
    found = list_images(path)
    assert {key: (at.name, at.suffix, str(at)) for key, at in found.items()} == {
        "a": ("a.png", ".png", f"{path}/a.png"),
        "b/a": ("a.PNG", ".PNG", f"{path}/b/a.PNG"),
        "b/c/x": ("x.Jpg", ".Jpg", f"{path}/b/c/x.Jpg"),
    }
    assert {key: at.read_bytes() for key, at in found.items()} == {
        "a": files["a.png"], "b/a": files["b/a.PNG"], "b/c/x": files["b/c/x.Jpg"],
    }  # fmt: skip
    assert passed_over(path) == {".mov": 1}
    assert list(list_images(place(f"{path}/b"))) == ["a", "c/x"]


@pytest.mark.parametrize("name", KINDS[:2])
def test_a_text_leads_back_to_the_bytes(name, tmp_path, monkeypatch):
    packed(tmp_path / name, {"b/a.png": png(7)})
    monkeypatch.chdir(tmp_path)
    found = list_images(place(name).resolve())["a"]  # the only folder of an archive is its root
    assert place(str(found)) == found == pickle.loads(pickle.dumps(found))
    monkeypatch.chdir("/")
    assert place(str(found)).read_bytes() == png(7)
    assert place(f"{tmp_path / name}/b/none.png").is_file() is False
    with pytest.raises(FileNotFoundError):
        place(f"{tmp_path / name}/b/none.png").read_bytes()


def test_a_local_path_stays_a_path(tmp_path):
    (tmp_path / "old.zip").mkdir()
    (tmp_path / "old.zip" / "a.png").write_bytes(png())
    assert place(tmp_path / "old.zip") == tmp_path / "old.zip"
    assert list_images(tmp_path) == {"old.zip/a": tmp_path / "old.zip" / "a.png"}
    assert place(str(tmp_path / "none" / "b.png")) == tmp_path / "none" / "b.png"
    assert place(f"file://{tmp_path}") == tmp_path
    with pytest.raises(ValueError, match="empty"):
        place("")


def test_labels_of_a_csv_name_images_below_the_only_folder(tmp_path):
    path = packed(
        tmp_path / "p.zip", {"photos/": b"", "photos/a.png": png(1), "photos/b/a.png": png(2), "__MACOSX/._a.png": b"?"}
    )
    (tmp_path / "l.csv").write_text("image,labels\na.png,cat\nb/a,dog\nphotos/a.png,cat\n")
    with pytest.raises(DataError, match="none of its 1 images"):
        load(images_of(path, path), packed_csv(tmp_path, "x.png,cat"))
    data = load(images_of(path, tmp_path / "l.csv"), tmp_path / "l.csv")
    assert shown(data) == {"a": ["cat"], "b/a": ["dog"]}
    assert [item.path for item in data.items] == [Address(str(path), "photos/a.png"), Address(str(path), "photos/b/a.png")]
    assert data.skipped[0].reason.endswith("did you mean 'a.png'? the names begin with 'photos/': remove that")
    assert data.items[0].read().getpixel((0, 0)) == (1, 254, 1)


def packed_csv(folder, row):
    (folder / "other.csv").write_text(f"image,labels\n{row}\n")
    return folder / "other.csv"


def test_labels_lie_in_an_archive_themselves(tmp_path):
    path = packed(tmp_path / "p.zip", {"a.png": png(1), "b.png": png(2), "labels.csv": b"image,labels\na,cat\nb,dog\n"})
    data = load(path, place(f"{path}/labels.csv"))
    assert shown(data) == {"a": ["cat"], "b": ["dog"]}


@pytest.mark.parametrize("name", ["p.zip", "p.tar"])
def test_a_folder_for_each_class(name, tmp_path):
    path = packed(tmp_path / name, {"pets/cat/1.png": png(1), "pets/dog/1.png": png(2), "pets/dog/2.JPG": png(3, kind="JPEG")})
    data = load(images_of(None, path), path)
    assert shown(data) == {"cat/1": ["cat"], "dog/1": ["dog"], "dog/2": ["dog"]}
    assert data.form.startswith("a folder for each class (2 classes)")


def test_an_image_that_goes_away_or_changes_is_told(tmp_path):
    path = packed(tmp_path / "p.zip", {"a.png": png(1), "b.png": png(2)})
    (tmp_path / "l.csv").write_text("image,labels\na,cat\nb,dog\n")
    a, b = load(path, tmp_path / "l.csv").items
    packed(path, {"a.png": png(9), "c.png": png(1)})
    with pytest.raises(ImageError, match="has changed since this run looked at it"):
        a.read()
    with pytest.raises(ImageError, match=r"p\.zip/b\.png: no such file"):
        b.read()
    path.unlink()
    with pytest.raises(ImageError, match=r"p\.zip/a\.png: no such file"):
        a.read()


def test_a_broken_image_is_left_out(tmp_path):
    path = packed(tmp_path / "p.tar", {"a.png": png(1), "b.png": png(2)[:60], "c.png": b"", "d.png": png(4)})
    (tmp_path / "l.csv").write_text("image,labels\na,cat\nb,dog\nc,dog\nd,dog\n")
    data = load(path, tmp_path / "l.csv")
    assert list(shown(data)) == ["a", "d"]
    assert [skip.image for skip in data.skipped] == ["b", "c"]
    assert "damaged or truncated" in data.skipped[0].reason
    assert "is empty (0 bytes)" in data.skipped[1].reason


def read_in_a_process(address, results):
    results.put(address.read_bytes())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("name", "method"), [("p.zip", "fork"), ("p.tar", "fork"), ("p.zip", "spawn")])
def test_other_processes_read_while_this_one_does(name, method, tmp_path):
    files = {f"{at:02}.png": np.random.default_rng(at).bytes(40_000 + at) for at in range(30)}
    path = packed(tmp_path / name, files)
    found, context = list_images(path), get_context(method)
    results, stop = context.Queue(), threading.Event()

    def busy():
        while not stop.is_set():
            assert found["07"].read_bytes() == files["07.png"]

    reader = threading.Thread(target=busy)
    processes = [context.Process(target=read_in_a_process, args=(found[f"{at:02}"], results)) for at in range(3)]
    reader.start()
    try:
        for process in processes:
            process.start()
        assert {results.get(timeout=120) for _ in processes} == {files[f"{at:02}.png"] for at in range(3)}
    finally:
        stop.set()
        reader.join()
        [process.join() for process in processes]


@pytest.mark.parametrize("name", ["p.zip", "p.tar"])
def test_threads_read_at_once(name, tmp_path):
    files = {f"{at:02}.png": np.random.default_rng(at).bytes(30_000) for at in range(40)}
    found = list_images(packed(tmp_path / name, files))
    with ThreadPoolExecutor(8) as pool:
        read = dict(zip(found, pool.map(lambda at: at.read_bytes(), found.values()), strict=True))
    assert {f"{key}.png": data for key, data in read.items()} == files


def test_no_file_is_kept_open_and_none_is_made(tmp_path):
    path = packed(tmp_path / "p.zip", {"a.png": png()})
    before = sorted(os.listdir(tmp_path))
    list_images(path)["a"].read_bytes()
    assert str(path) not in {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    assert sorted(os.listdir(tmp_path)) == before


# Shards.


def shards(folder, count=3):
    for at in range(count):
        files = {}
        for number in range(2):
            key = f"{2 * at + number:04}"
            files |= {f"{key}.png": png(2 * at + number), f"{key}.cls": b"%d" % (number + 1)}
        packed(folder / f"shard-{at:03}.tar", files)


@pytest.mark.parametrize("given", ["", "/shard-{000..002}.tar"])
def test_shards_of_webdataset(given, tmp_path):
    shards(tmp_path)
    where = place(f"{tmp_path}{given}")
    data = load(images_of(None, where), where)
    assert shown(data) == {f"shard-{at // 2:03}.tar/{at:04}": [str(at % 2 + 1)] for at in range(6)}
    assert data.form == "webdataset, .cls beside the images (2 classes)"
    assert data.items[3].read().getpixel((0, 0)) == (3, 252, 3)
    assert place(str(data.items[5].path)).read_bytes() == png(5)


def test_a_pattern_of_which_an_archive_is_missing(tmp_path):
    shards(tmp_path)
    with pytest.raises(DataError, match=r"1 of its 4 archives are not there, the first .*/shard-003\.tar"):
        list_images(tmp_path / "shard-{000..003}.tar")
    with pytest.raises(DataError, match="the smaller first"):
        list_images(tmp_path / "shard-{3..0}.tar")
    assert len(list_images(tmp_path / "shard-{000,002}.tar")) == 4


@pytest.mark.parametrize(
    ("beside", "labels", "form"),
    [
        ({"a.cls": b"cat", "b.cls": b"dog\n"}, {"a": ["cat"], "b": ["dog"]}, ".cls"),
        ({"a.json": b'{"label": "cat", "image": "x/y.jpg"}', "b.json": b'{"labels": ["dog", "cat"]}'},
         {"a": ["cat"], "b": ["cat", "dog"]}, ".json"),
        ({"a.json": b'{"cls": 7}', "b.json": b"[3, 7]"}, {"a": ["7"], "b": ["3", "7"]}, ".json"),
        ({"a.json": b'{"objects": {"categories": ["cat", "cat"]}}', "b.json": b'{"objects": {"categories": []}}'},
         {"a": ["cat"], "b": []}, ".json"),
        ({"a.txt": b"cat;dog", "b.txt": b"dog\n"}, {"a": ["cat", "dog"], "b": ["dog"]}, ".txt"),
        ({"a.json": b'{"width": 3}', "b.json": b'{"caption": "a dog"}', "a.txt": b"cat", "b.txt": b""},
         {"a": ["cat"], "b": []}, ".txt"),
    ],
)  # fmt: skip
def test_labels_beside_images(beside, labels, form, tmp_path):
    path = packed(tmp_path / "p.tar", {"a.png": png(1), "b.png": png(2), "c.png": png(3), **beside})
    data = load(path, path)
    assert shown(data) == labels
    assert data.form.startswith(f"webdataset, {form} beside the images")
    assert data.form.endswith("1 images without one are left out")
    assert data.unlabelled == ("c",)


def test_labels_beside_images_that_cannot_be_used(tmp_path):
    odd = {"b.cls": b"\xff\xfe\xff", "c.cls": b"0 0.5 0.5 0.1 0.1", "d.cls": b"x" * (2**20 + 1)}
    path = packed(tmp_path / "p.tar", {f"{key}.png": png() for key in "abcd"} | {"a.cls": b"cat"} | odd)
    found = read_labels(path)
    assert [row.name for row in found.rows] == ["a"]
    assert [reason.removeprefix(f"{path}/") for _, reason in found.unusable] == [
        "b.cls: is not UTF-8",
        "c.cls: looks like YOLO's boxes; unpack the archive and give its folder with data.yaml",
        "d.cls: has more than 1048576 bytes, which no label has",
    ]


def test_text_beside_images_of_a_folder_is_no_label(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png())
        (tmp_path / name).with_suffix(".txt").write_text("a caption")
    assert {row.name: row.labels for row in read_source(tmp_path)[0]} == {"cat/1": ("cat",), "dog/1": ("dog",)}


def test_a_folder_with_images_and_an_archive_is_one_of_images(tmp_path):
    packed(tmp_path / "backup.zip", {"b.png": png()})
    (tmp_path / "a.png").write_bytes(png())
    assert list(list_images(tmp_path)) == ["a"]


# What is refused.


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "a/..", ".."])
@pytest.mark.parametrize("kind", ["p.zip", "p.tar"])
def test_names_that_lead_out_of_the_archive(kind, name, tmp_path):
    path = packed(tmp_path / kind, {"a.png": png(), name: png()})
    with pytest.raises(DataError, match=r"names '.*', which leads out of the archive"):
        list_images(path)


@pytest.mark.parametrize("name", [" .png", "a/ .png"])
def test_a_name_of_blanks(name, tmp_path):
    with pytest.raises(DataError, match="has no name before its suffix"):
        list_images(packed(tmp_path / "p.zip", {"b.png": png(), name: png()}))
    (tmp_path / "a").mkdir()
    (tmp_path / name).write_bytes(png())
    with pytest.raises(DataError, match="has no name before its suffix"):
        list_images(tmp_path)


def test_harmless_spellings(tmp_path):
    path = packed(tmp_path / "p.tar", {"./a.png": png(), "./b//c.png": png(1)})
    assert list(list_images(path)) == ["a", "b/c"]
    path = packed(tmp_path / "p.zip", {"b\\c.png": png(), "d.png": png()})
    assert list(list_images(path)) == ["b/c", "d"]


@pytest.mark.parametrize("kind", ["p.zip", "p.tar"])
def test_two_images_of_one_id(kind, tmp_path):
    path = packed(tmp_path / kind, {"a.png": png(), "A.jpg": png()})
    with pytest.raises(DataError, match="has the same name without suffix"):
        list_images(path)


def test_links_lead_nowhere_except_within_a_tar(tmp_path):
    with tarfile.open(tmp_path / "p.tar", "w") as file:
        for name, kind, target in (("a.png", None, ""), ("hard.png", tarfile.LNKTYPE, "a.png"),
                                   ("out.png", tarfile.LNKTYPE, "/etc/passwd"), ("soft.png", tarfile.SYMTYPE, "/etc/passwd"),
                                   ("pipe.png", tarfile.FIFOTYPE, ""), ("disk.png", tarfile.BLKTYPE, "")):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind or tarfile.REGTYPE, target, len(png()) if kind is None else 0
            file.addfile(entry, io.BytesIO(png()))
    assert {key: at.read_bytes() == png() for key, at in list_images(tmp_path / "p.tar").items()} == {"a": True, "hard": True}
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        file.writestr("a.png", png())
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    assert list(list_images(tmp_path / "p.zip")) == ["a"]


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr("advcam.data.archives.MAX_IMAGE_BYTES", 2**20)
    path = packed(tmp_path / "p.zip", {"a.png": b"\0" * (2**20 + 1)})
    with pytest.raises(ImageError, match="unpacks to more than 1048576 bytes"):
        look_at(list_images(path)["a"])
    path = packed(tmp_path / "liar.zip", {"a.png": b"\0" * 2**24})
    path.write_bytes(path.read_bytes().replace((2**24).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(ImageError, match="cannot be unpacked"):
        look_at(list_images(path)["a"])
    monkeypatch.setattr("advcam.data.archives.MAX_ENTRIES", 3)
    for kind in ("many.zip", "many.tar"):
        path = packed(tmp_path / kind, {f"{at}.png": b"" for at in range(4)})
        with pytest.raises(DataError, match="more than 3 files"):
            list_images(path)


def test_a_zip_with_a_password(tmp_path):
    path = packed(tmp_path / "p.zip", {"a.png": png()})
    data = bytearray(path.read_bytes())
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"cannot be unpacked: .*password"):
        look_at(list_images(path)["a"])


@pytest.mark.parametrize("kind", ["p.zip", "p.tar"])
def test_archives_that_are_damaged_or_something_else(kind, tmp_path):
    path = packed(tmp_path / kind, {f"{at}.png": png(at) for at in range(5)})
    whole = path.read_bytes()
    for data in (b"", b"hello", whole[:300]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"{kind}: (cannot be read as an archive|no image in it)"):
            list_images(path)


def test_a_tar_that_ends_early(tmp_path):
    path = packed(tmp_path / "p.tar", {f"{at}.png": png(at) for at in range(5)})
    path.write_bytes(path.read_bytes()[:2600])
    with pytest.raises(DataError, match="unexpected end of data"):
        list_images(path)


def test_a_tar_that_is_damaged_in_the_middle_is_not_taken_for_a_shorter_one(tmp_path):
    path = packed(tmp_path / "p.tar", {f"{at}.png": png(at) for at in range(5)})
    data = bytearray(path.read_bytes())
    at = data.index(b"2.png")
    data[at : at + 512] = b"\x01" * 512
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged behind the first 2 files"):
        list_images(path)


@pytest.mark.parametrize(("name", "said"), [
    ("p.tar.gz", "unpack it to a plain .tar"), ("p.tgz", "unpack it to a plain .tar"), ("p.tar.xz", "to a plain .tar"),
    ("p.7z", "unpack it and give the folder"), ("p.rar", "unpack it and give the folder"), ("p.dat", "another kind than .zip"),
])  # fmt: skip
def test_files_that_are_no_archives_of_ours(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=said):
        list_images(tmp_path / name)


def test_a_tar_that_is_compressed_under_a_plain_name(tmp_path):
    with tarfile.open(tmp_path / "p.tar", "w:gz") as file:
        file.add(__file__, "a.png")
    with pytest.raises(DataError, match="is compressed as a whole"):
        list_images(tmp_path / "p.tar")


def test_an_archive_without_labels_says_so(tmp_path):
    path = packed(tmp_path / "p.zip", {"a.png": png(), "b.png": png(), "meta/labels.csv": b"image,labels\na,cat\n"})
    with pytest.raises(DataError, match=r"neither .cls, .json or .txt beside .* It holds meta/labels.csv; give one of these"):
        read_labels(path)


def test_names_are_read_once_as_long_as_the_archive_is_the_same(tmp_path):
    path = packed(tmp_path / "p.zip", {"a.png": png()})
    assert archive(str(path)) is archive(str(path))
    packed(path, {"b.png": png()})
    assert list(archive(str(path)).names) == ["b.png"]


# A run.


@pytest.mark.slow
def test_a_run_on_an_archive_is_that_on_its_folder(scenes, finished, tmp_path, capsys):
    from conftest import arguments

    shutil.make_archive(str(tmp_path / "photos"), "zip", scenes, "images")
    words = arguments(scenes, tmp_path / "run")
    words[words.index("--images") + 1] = str(tmp_path / "photos.zip")
    words[words.index("--workers") + 1] = "1"
    assert main(words) == 0
    masks = sorted((finished / "3-refine" / "masks").glob("*.png"))
    assert masks
    for mask in masks:
        other = Image.open(tmp_path / "run" / "3-refine" / "masks" / mask.name)
        np.testing.assert_array_equal(np.asarray(Image.open(mask)), np.asarray(other))
    predict = ["predict", "--model", str(tmp_path / "run/4-segment"), "--images", str(tmp_path / "photos.zip"), "--quiet"]
    assert main([*predict, "--out", str(tmp_path / "new")]) == 0
    assert len(list((tmp_path / "new").glob("*.png"))) == 24
    (tmp_path / "photos.zip").rename(tmp_path / "moved.zip")
    again = ["refine", "--run", str(tmp_path / "run"), "--redo", "--quiet"]
    capsys.readouterr()
    assert main(again) == 2
    assert "photos.zip/images/scene-00000.png: is gone" in capsys.readouterr().err
    assert main([*again, "--images", str(tmp_path / "moved.zip")]) == 0
