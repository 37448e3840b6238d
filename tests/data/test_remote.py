"""Images and labels at fsspec's addresses: in memory, and of a web server that behaves well or badly."""

import http.server
import json
import random
import re
import socket
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import unquote

import fsspec
import pytest
from test_archives import packed, png, read_in_a_process, shown

from advcam.cli import main
from advcam.data import images_of, list_images, load, place, read_labels, remote
from advcam.data.places import Address
from advcam.errors import DataError, ImageError, SettingsError
from advcam.pipeline import DataConfig


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0, 0))


PHOTOS = {
    "/photos/a.png": png(1),
    "/photos/b/a.PNG": png(2),
    "/photos/b/.x/c.png": png(3),
    "/photos/l.csv": b"image,labels\na,cat\nb/a,dog\n",
}


@pytest.fixture
def photos():
    files = fsspec.filesystem("memory")
    files.store.clear()
    for name, data in PHOTOS.items():
        files.pipe(name, data)
    yield files
    files.store.clear()


@pytest.mark.parametrize("url", ["memory://photos", "memory://photos/", "memory:///photos", "simplecache::memory://photos"])
def test_a_folder(url, photos):
    where = place(url)
    found = list_images(where)
    assert {key: at.read_bytes() for key, at in found.items()} == {"a": png(1), "b/a": png(2)}
    assert all(place(str(at)) == at for at in found.values())
    data = load(images_of(where, place("memory://photos/l.csv")), place("memory://photos/l.csv"))
    assert shown(data) == {"a": ["cat"], "b/a": ["dog"]}
    assert list(list_images(place(f"{url.rstrip('/')}/b"))) == ["a"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:S3CRET@host/imgs", "http://...@host/imgs"),
        ("HTTPS://S3CRET@host/imgs", "HTTPS://...@host/imgs"),
        ("filecache::https://me:S3@CRET@host/a.zip/b", "filecache::https://...@host/a.zip/b"),
        ("sftp://me:S3CRET@host/train-{000..009}.tar", "sftp://...@host/train-{000..009}.tar"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url, shown, tmp_path, capsys):
    with pytest.raises(DataError, match="leave name and password out of the address.*fsspec takes them") as raised:
        place(url)
    assert str(raised.value).startswith(f"{shown}: ")
    for words in (
        ["run", "--labels", "x.csv", "--out", str(tmp_path / "run")],
        ["predict", "x.pt", "--out", str(tmp_path / "p")],
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--images", url])
        said = capsys.readouterr()
        assert "leave name and password out" in said.err
        assert "CRET" not in said.err + said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["sftp://me@host/imgs", "abfs://box@account.dfs.core.windows.net/a", "s3://bucket/a:b@c", "https://host:80/a:b@c"]
)
def test_other_signs_in_addresses(url):
    assert str(place(url)) == url


@pytest.mark.parametrize("name", ["p.zip", "p.tar"])
def test_an_archive(name, photos, tmp_path):
    path = packed(
        tmp_path / name, {"in/a.png": png(4), "in/b/c.jpg": png(5, kind="JPEG"), "in/l.csv": b"image,labels\na,cat\n"}
    )
    photos.pipe(f"/far/{name}", path.read_bytes())
    where = place(f"memory://far/{name}")
    data = load(images_of(where, where), place(f"memory://far/{name}/in/l.csv"))
    assert shown(data) == {"a": ["cat"]}
    assert data.items[0].path == Address(f"memory://far/{name}", "in/a.png") == place(str(data.items[0].path))
    assert data.items[0].path.read_bytes() == png(4)
    assert data.unlabelled == ("b/c",)


def test_shards_and_folders_for_each_class(photos, tmp_path):
    for at in range(2):
        path = packed(tmp_path / f"s-{at}.tar", {f"{at}.png": png(at), f"{at}.cls": b"%d" % at})
        photos.pipe(f"/shards/s-{at}.tar", path.read_bytes())
    for url in ("memory://shards", "memory://shards/s-{0..1}.tar"):
        data = load(images_of(None, place(url)), place(url))
        assert shown(data) == {"s-0.tar/0": ["0"], "s-1.tar/1": ["1"]}
    with pytest.raises(DataError, match=r"1 of its 3 archives are not there, the first memory://shards/s-2\.tar"):
        list_images(place("memory://shards/s-{0..2}.tar"))
    photos.pipe("/sorted/cat/1.png", png())
    photos.pipe("/sorted/dog/1.png", png())
    assert {row.name: row.labels for row in read_labels(place("memory://sorted")).rows} == {
        "cat/1": ("cat",),
        "dog/1": ("dog",),
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://none", "there is no such folder of images"),
        ("s3://bucket/photos", "s3 needs another package (Install s3fs"),
        ("gs://bucket/photos", "gs needs another package (Please install gcsfs"),
        ("nonsense://x", "Protocol not known: nonsense"),
        ("zip://a::memory://x.zip", "write archives as folders, such as s3://bucket/photos.zip/cats, without ::"),
        ("memory://far/x.tar.gz", "is compressed as a whole"),
        ("memory://far/none.zip", "cannot be read"),
        ("memory://photos/set.parquet", "read from local files only; download it first"),
    ],
)
def test_addresses_that_cannot_be_read(url, said, photos):
    with pytest.raises(DataError, match=re.escape(said)) as error:
        list_images(place(url))
    assert str(error.value).startswith(f"{url}: ")


def test_without_fsspec(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(DataError, match=re.escape("pip install 'advcam[remote]'")):
        list_images(place("s3://bucket/photos"))
    (tmp_path / "a.png").write_bytes(png())
    assert list(list_images(tmp_path)) == ["a"]
    assert list(list_images(packed(tmp_path / "p.zip", {"a.png": png()}))) == ["a"]


def test_names_that_lead_elsewhere(photos):
    photos.store["/photos/x/../../y.png"] = photos.store["/photos/a.png"]
    with pytest.raises(DataError, match="which is no name below a folder"):
        list_images(place("memory://photos"))


def test_an_image_that_goes_away(photos):
    a, b = load(place("memory://photos"), place("memory://photos/l.csv")).items
    photos.rm("/photos/a.png")
    with pytest.raises(ImageError, match=r"memory://photos/a\.png: no such file"):
        a.read()
    assert (a.path.is_file(), b.path.is_file()) == (False, True)
    photos.pipe("/photos/b/a.PNG", png(9))
    with pytest.raises(ImageError, match="has changed since"):
        b.read()


def test_an_image_larger_than_any(photos, monkeypatch):
    monkeypatch.setattr(remote, "MAX_IMAGE_BYTES", 50)
    with pytest.raises(DataError, match="has more than 50 bytes"):
        load(place("memory://photos"), place("memory://photos/l.csv"))


# A web server.


class Server(http.server.ThreadingHTTPServer):
    """Serves files by name; ``odd`` gives the status of a path's next answers, ``ranges`` whether parts can be asked for."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.odd, self.ranges, self.asked = files, {}, True, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = unquote(self.path).strip("/")
        self.server.asked.append(name)
        if self.server.odd.get(name):
            return self.answer(self.server.odd[name].pop(0), b"odd")
        if name in self.server.files:
            return self.part(self.server.files[name])
        below = {
            n[len(name) + 1 :].split("/")[0] + "/" * ("/" in n[len(name) + 1 :])
            for n in self.server.files
            if n.startswith(f"{name}/")
        }
        if not below:
            return self.answer(404, b"none")
        links = "".join(f'<a href="{n.replace(" ", "%20")}">{n}</a>' for n in sorted(below))
        return self.answer(200, links.encode(), "text/html")

    do_HEAD = do_GET  # noqa: N815

    def part(self, data):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (asked and self.server.ranges):
            return self.answer(200, data)
        part = data[int(asked[1]) : int(asked[2]) + 1]
        return self.answer(206, part, range=f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}")

    def answer(self, status, data, kind="application/octet-stream", range=""):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if range:
            self.send_header("Content-Range", range)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    pytest.importorskip("aiohttp", reason="fsspec reads the web with aiohttp")
    made = Server(
        {"photos/a.png": png(1), "photos/in ner/b c.png": png(2), "photos/l.csv": b"image,labels\na,cat\nin ner/b c.png,dog\n"}
    )
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_folder_of_the_web(server):
    data = load(place(f"{server.url}/photos"), place(f"{server.url}/photos/l.csv"))
    assert shown(data) == {"a": ["cat"], "in ner/b c": ["dog"]}
    assert str(data.items[1].path) == f"{server.url}/photos/in%20ner/b%20c.png"
    assert data.items[1].read().getpixel((0, 0)) == (2, 253, 2)


@pytest.mark.parametrize("name", ["p.zip", "p.tar"])
def test_an_archive_of_the_web_is_read_in_parts(name, server, tmp_path):
    files = {f"{at}.png": png(at) + random.Random(at).randbytes(100_000) for at in range(9)}
    server.files[name] = packed(tmp_path / name, files).read_bytes()
    found = list_images(place(f"{server.url}/{name}"))
    assert {f"{key}.png": at.read_bytes() for key, at in found.items()} == files
    server.ranges = False
    with pytest.raises(OSError, match="gives whole files only"):
        found["3"].read_bytes()


def test_failures_that_pass_are_tried_again(server):
    found = list_images(place(f"{server.url}/photos"))
    server.odd["photos/a.png"] = [503, 500]
    assert found["a"].read_bytes() == png(1)
    server.odd["photos/a.png"] = [503] * 99
    data = load(place(f"{server.url}/photos"), place(f"{server.url}/photos/l.csv"))
    assert list(shown(data)) == ["in ner/b c"]
    assert re.search(r"photos/a\.png: cannot be read \(.*503", data.skipped[0].reason)


@pytest.mark.parametrize("status", [401, 403])
def test_without_permission(status, server):
    server.odd["photos"] = [status] * 5
    with pytest.raises(DataError, match="no permission to list it"):
        list_images(place(f"{server.url}/photos"))
    assert server.asked.count("photos") <= 2


def test_a_server_that_is_gone(server):
    (item, other) = load(place(f"{server.url}/photos"), place(f"{server.url}/photos/l.csv")).items
    assert item.read().size == (24, 20)
    server.shutdown()
    server.server_close()
    with pytest.raises(ImageError, match="b%20c.png: (no such file|cannot be read)"):
        other.read()


@pytest.mark.parametrize("call", [remote.size, lambda url: remote.read(url, 0, 9), remote.is_file])
def test_a_server_that_does_not_answer_is_left_in_bounded_time(call, monkeypatch):
    """It takes the connection and says nothing, as one that hangs; fsspec alone would wait for five minutes at each try."""
    pytest.importorskip("aiohttp", reason="fsspec reads the web with aiohttp")
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start, url = time.monotonic(), f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        if call is remote.is_file:
            assert not call(url)
        else:
            with pytest.raises(OSError, match="no answer within 0 seconds"):
                call(url)
        assert time.monotonic() - start < 60


def test_more_bytes_are_given_more_time(server, monkeypatch):
    """A server that is slow is not one that hangs."""
    at_once = Handler.part
    monkeypatch.setattr(Handler, "part", lambda self, data: time.sleep(0.6) or at_once(self, data))
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    url, size = f"{server.url}/photos/a.png", len(png(1))
    with pytest.raises(OSError, match="no answer within 0 seconds"):
        remote.read(url, 0, size)
    monkeypatch.setattr(remote, "SLOWEST", size / 60)
    assert remote.read(url, 0, size) == png(1)


# A run.


@pytest.mark.slow
def test_a_run_on_an_address(scenes, photos, tmp_path, capsys):
    from conftest import arguments

    for file in (*sorted((scenes / "images").iterdir()), scenes / "labels.csv"):
        photos.pipe(f"/far/{file.name}", file.read_bytes())
    words = arguments(scenes, tmp_path / "run")
    words[words.index("--images") + 1], words[words.index("--labels") + 1] = "memory://far", "memory://far/labels.csv"
    assert main(words) == 0
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["train"][0]["path"] == "memory://far/scene-00000.png"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["about"]["images"] == "memory://far"
    assert kept["labels_file"] == "memory://far/labels.csv"
    assert main(words) == 0
    photos.rm("/far/scene-00003.png")
    capsys.readouterr()
    assert main(["refine", "--run", str(tmp_path / "run"), "--redo", "--quiet"]) == 2
    assert "memory://far/scene-00003.png: is gone" in capsys.readouterr().err
    predict = [
        "predict",
        "--model",
        str(tmp_path / "run/4-segment"),
        "--images",
        "memory://far",
        "--out",
        str(tmp_path / "new"),
    ]
    assert main(predict) == 0
    assert len(list((tmp_path / "new").glob("*.png"))) == 23


def test_an_image_that_goes_away_meanwhile_is_listed(scenes, photos, trained, tmp_path, monkeypatch):
    from advcam.commands import predict as command

    for file in sorted((scenes / "images").iterdir())[:4]:
        photos.pipe(f"/far/{file.name}", file.read_bytes())
    found = list_images(place("memory://far"))
    monkeypatch.setattr(command, "list_images", lambda _images: found)
    photos.rm("/far/scene-00002.png")
    assert main(["predict", "--model", str(trained), "--images", "memory://far", "--out", str(tmp_path / "new")]) == 1
    assert "memory://far/scene-00002.png: no such file" in (tmp_path / "new" / "skipped.csv").read_text()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["photos/a.png", "p.zip/a.png", "p.tar/a.png"])
def test_a_forked_process_reads_too(name, server, tmp_path):
    for kind in ("p.zip", "p.tar"):
        server.files[kind] = packed(tmp_path / kind, {"a.png": png(1)}).read_bytes()
    address = place(f"{server.url}/{name}")
    assert address.read_bytes() == png(1)  # so that this process has a connection
    context = get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=read_in_a_process, args=(address, results)) for _ in range(2)]
    [process.start() for process in processes]
    try:
        assert [results.get(timeout=120) for _ in processes] == [png(1)] * 2
    finally:
        [process.kill() for process in processes]
        [process.join() for process in processes]


def test_options_take_addresses_as_they_are_written():
    config = DataConfig(images="s3://bucket//photos/", labels="labels.csv")
    assert (config.images, config.labels) == (Address("s3://bucket//photos"), Path("labels.csv"))
    assert DataConfig.from_record(config.record()) == config
    assert DataConfig(images=Path("photos"), labels=Path("l.csv")).images == Path("photos")
    for odd in ("", 7):
        with pytest.raises(SettingsError, match="images"):
            DataConfig(images=odd, labels="labels.csv")
