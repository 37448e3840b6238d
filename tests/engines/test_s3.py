"""Images in a bucket of a real S3 server (moto's), behind a proxy that refuses an image; read here and by Ray's actors."""

import http.client
import http.server
import importlib.util
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

from advcam.cli import main
from conftest import NETWORK

pytestmark = [
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask")),
        reason="no S3 server: pip install s3fs 'moto[server]'",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.slow,
]
ENGINES = {
    "local": [],
    "ray": ["--engine", "ray", "--actors", "1"],
}
DENIED = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to a server, but for those of one image, which it refuses."""

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.odd = port, ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """The reader gave up."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        proxy = self.server
        if proxy.odd and self.command == "GET" and self.path.split("?")[0].endswith(proxy.odd):
            self.answer(403, [("Content-Type", "application/xml")], DENIED)
            return
        connection = http.client.HTTPConnection("127.0.0.1", proxy.behind)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection.request(self.command, self.path, body, dict(self.headers))
        said = connection.getresponse()
        self.answer(said.status, said.getheaders(), said.read())

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", len(body)) if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture(scope="module")
def bucket(scenes):
    """The scenes in a bucket; every process of the tests asks the proxy, and waits two seconds for its answers."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port()[1])
    with pytest.MonkeyPatch.context() as patch:
        settings = {"endpoint_url": proxy.url, "key": "a", "secret": "b", "use_listings_cache": False}
        settings["config_kwargs"] = {"read_timeout": 2, "connect_timeout": 2, "retries": {"max_attempts": 1}}
        patch.setenv("FSSPEC_S3", json.dumps(settings))
        import fsspec.config

        patch.setitem(fsspec.config.conf, "s3", settings)
        import s3fs

        store = s3fs.S3FileSystem(**settings)
        store.mkdir("photos")
        for path in sorted((scenes / "images").iterdir()):
            store.pipe(f"photos/{path.name}", path.read_bytes())
        yield proxy
    proxy.shutdown()
    server.stop()


@pytest.fixture(scope="module")
def climbed(bucket, scenes, tmp_path_factory):
    """A run on the bucket, climbed by this process; and the bytes of its maps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("s3") / "run"
    data = ["--images", "s3://photos", "--labels", str(scenes / "labels.csv"), "--classes", str(scenes / "classes.csv")]
    assert main(["classify", "--run", str(run), *data, *NETWORK]) == 0
    assert main(["climb", "--run", str(run), "--quiet", "--preset", "default", "--steps", "2", "--max-pixels", "16384"]) == 0
    yield run, maps(run)
    torch.set_num_threads(before)


def maps(run):
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted((run / "2-climb").rglob("*.npz"))}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_store_refuses_is_listed_and_made_later(bucket, climbed, tmp_path, capsys, engine):
    source, whole = climbed
    run = Path(shutil.copytree(source, tmp_path / "run"))
    for name in ("maps", "cam"):
        shutil.rmtree(run / "2-climb" / name)
    words = ["climb", "--run", str(run), "--quiet", "--max-pixels", "16384", *ENGINES[engine]]
    bucket.odd = "scene-00005.png"
    assert main(words) == 2
    bucket.odd = ""
    said = capsys.readouterr().err
    assert "climb: 1 images could not be made, the first because s3://photos/scene-00005.png: cannot be read" in said
    assert len(said.strip().splitlines()) == 1
    gone = {f"2-climb/{name}/scene-00005.npz" for name in ("maps", "cam")}
    assert maps(run) == {name: data for name, data in whole.items() if name not in gone}
    assert main(words) == 0
    assert maps(run) == whole
