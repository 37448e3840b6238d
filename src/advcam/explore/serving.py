"""Listening at a port until the user stops it."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import webbrowser
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from advcam.errors import SettingsError


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to a port; port 0 takes any that is free.

    Raises:
        SettingsError: the port is in use, the message names a free one; or the machine has no such address.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise SettingsError(f"--host {host}: there is no such address; 127.0.0.1 is this machine alone") from None
    bound = socket.socket(kind, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES) and port:
            what = "is in use" if error.errno == errno.EADDRINUSE else "may not be used"
            raise SettingsError(f"port {port} {what}; --port {_free(host)} is free") from None
        raise SettingsError(f"--host {host}: cannot listen there ({error.strerror}); 127.0.0.1 is this machine alone") from None
    return bound


def _free(host: str) -> int:
    with listen(host, 0) as found:
        return int(found.getsockname()[1])


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def serve(app: Starlette, bound: socket.socket, url: str, browse: bool, ready: Callable[[], None]) -> None:
    """Serves until the process is told to stop; calls ``ready`` once it answers.

    Nothing is logged: the addresses hold the token.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()
            if browse:
                webbrowser.open(url)

    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1)
    Server(config).run(sockets=[bound])
