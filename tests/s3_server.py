"""A real S3 server (moto's) behind a proxy that refuses, stalls, loses and fails requests."""

import contextlib
import http.client
import http.server
import json
import threading
import time

import pytest

EMPTY = '"d41d8cd98f00b204e9800998ecf8427e"'  # the MD5 of nothing
DENIED = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to a server; the next ``left`` of a ``verb`` whose path ends in ``odd`` go as ``mood`` says."""

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = port
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.calm()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def calm(self):
        self.treat("", "", 0)

    def treat(self, odd, mood, left=10**9, verb="PUT"):
        self.odd, self.mood, self.left, self.verb, self.asked = odd, mood, left, verb, []

    def handle_error(self, request, client_address):
        """The other side gave up."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        proxy, path = self.server, self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy.asked.append((self.command, path))
        if self.command == proxy.verb and proxy.left and path.endswith(proxy.odd):
            proxy.left -= 1
            if proxy.mood == "stalls":
                time.sleep(3600)
            status, answer = {"refuses": (403, DENIED), "loses": (200, b""), "fails": (500, b"")}[proxy.mood]
            self.answer(status, [("ETag", EMPTY)], answer)
            return
        connection = http.client.HTTPConnection("127.0.0.1", proxy.behind)
        connection.request(self.command, self.path, body, dict(self.headers))
        said = connection.getresponse()
        self.answer(said.status, said.getheaders(), said.read())

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

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


@contextlib.contextmanager
def bucket(name, **settings):
    """Gives the proxy, with the ``store`` as s3fs sees it, in front of a server with a bucket; all processes ask it inside."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port()[1])
    with pytest.MonkeyPatch.context() as patch:
        settings |= {"endpoint_url": proxy.url, "key": "a", "secret": "b"}
        patch.setenv("FSSPEC_S3", json.dumps(settings))
        import fsspec.config
        import s3fs

        patch.setitem(fsspec.config.conf, "s3", settings)
        proxy.store = s3fs.S3FileSystem(**(settings | {"use_listings_cache": False}))
        proxy.store.mkdir(name)
        proxy.calm()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            server.stop()
