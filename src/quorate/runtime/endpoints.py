"""Endpoints as CometBFT writes them, ``tcp://host:port`` or ``unix:///path``, and how to reach or to offer one.

An address without a scheme is TCP, as there. What is wrong with an endpoint is found before it is dialled.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from quorate.runtime.address import SHOWN_CHARACTERS_MAX, format_address, parse_address
from quorate.runtime.forks import let_go, not_for_forks
from quorate.runtime.listening import BACKLOG, listen
from quorate.runtime.names import NAMES

P = TypeVar("P", bound=asyncio.Protocol)

UNIX_PATH_BYTES_MAX: Final = 103
"""What fits ``sun_path`` on every system, with its end."""


class Endpoint(NamedTuple):
    """Where a service is: ``path`` of a Unix socket, or host and port."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{format_address(self.host, self.port)}"


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that a text names. Raises ValueError that says what to write."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        scheme, rest = "tcp", text
    shown = text[:SHOWN_CHARACTERS_MAX]
    if scheme == "tcp":
        return Endpoint(*parse_address(rest))
    if scheme != "unix":
        raise ValueError(f"{shown!r} is not an endpoint: write tcp://host:port or unix:///path/of/a/socket")
    size = len(os.fsencode(rest))
    if not rest or "\0" in rest or size > UNIX_PATH_BYTES_MAX:
        raise ValueError(
            f"{shown!r} is not an endpoint: the path of a Unix socket has 1 to {UNIX_PATH_BYTES_MAX} bytes, not {size}"
        )
    return Endpoint("", 0, rest)


async def reach(endpoint: Endpoint, make: Callable[[], P], timeout_s: float) -> P:
    """A connection to it. Raises OSError (TimeoutError is one) that names the endpoint."""
    try:
        if not endpoint.path:
            connection, address = await NAMES.connect(make, endpoint.host, endpoint.port, timeout_s)
            NAMES.learn(endpoint.host, endpoint.port, address, True)
            return connection
        async with asyncio.timeout(timeout_s):
            _, made = await asyncio.get_running_loop().create_unix_connection(make, endpoint.path)
            return made
    except TimeoutError:
        raise TimeoutError(f"{endpoint} did not answer within {timeout_s:g} s") from None
    except (OSError, ValueError, OverflowError) as error:
        raise OSError(f"{endpoint} cannot be reached: {error}") from None


class Offered:
    """A socket that takes connections until ``close``. ``endpoint`` has the real port, if 0 was asked for."""

    def __init__(self, endpoint: Endpoint, shut: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self._shut = shut

    def close(self) -> None:
        """Take no more connections; those that are there stay. The file of a Unix socket goes."""
        self._shut()
        if self.endpoint.path:
            with suppress(OSError):
                Path(self.endpoint.path).unlink()


async def offer(endpoint: Endpoint, make: Callable[[], asyncio.Protocol]) -> Offered:
    """Take connections there. Raises OSError that names the endpoint and, where we know, what to do.

    A Unix socket is for this user alone. A file that is left of one that nobody listens on any more is replaced.
    """
    if not endpoint.path:
        listening = await listen(make, endpoint.host, endpoint.port)
        return Offered(endpoint._replace(port=listening.port), listening.close)
    sock = _bound(endpoint)
    try:
        server = await asyncio.get_running_loop().create_unix_server(make, sock=sock, backlog=BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {endpoint}: {error.strerror}") from None
    descriptor = sock.fileno()
    not_for_forks(descriptor)

    def shut() -> None:
        let_go(descriptor)
        server.close()

    return Offered(endpoint, shut)


def _bound(endpoint: Endpoint) -> socket.socket:
    """A Unix socket at its path. Raises OSError."""
    path = endpoint.path
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise OSError(f"cannot listen on {endpoint}: a file that is not a socket is there; choose another path")
        if _is_listened_on(path):
            raise OSError(f"cannot listen on {endpoint}: another program does; end that, or choose another path")
        Path(path).unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {endpoint}: {error.strerror}") from None
    finally:
        os.umask(mask)
    return sock


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(ConnectionRefusedError):
        probe.connect(path)
        return True
    return False
