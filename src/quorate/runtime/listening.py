"""Listening: the sockets of one port, on one address of this machine or on all of them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from quorate.runtime.address import format_address
from quorate.runtime.forks import let_go, not_for_forks
from quorate.runtime.names import NAMES, Names

BACKLOG: Final = 100
LOOKUP_TIMEOUT_S: Final = 5.0
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""What the system says of an address that is not one of this machine."""


class Listening:
    """Sockets that take connections until ``close``. ``port`` is the real one where 0 was asked for."""

    def __init__(self, servers: Sequence[asyncio.Server]) -> None:
        self._servers = servers
        self._descriptors = [sock.fileno() for server in servers for sock in server.sockets]
        for descriptor in self._descriptors:
            not_for_forks(descriptor)
        self.port: int = servers[0].sockets[0].getsockname()[1]

    def close(self) -> None:
        """Take no more connections; those that are there stay."""
        for descriptor in self._descriptors:
            let_go(descriptor)
        self._descriptors.clear()
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        """Return when the sockets are gone, and with newer versions of Python their connections too."""
        for server in self._servers:
            await server.wait_closed()


async def listen(
    make: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    given: socket.socket | None = None,
    backlog: int = BACKLOG,
    names: Names = NAMES,
) -> Listening:
    """Listen on all addresses of the host, or on the bound socket given.

    Raises OSError that says which address it is about.
    """
    loop = asyncio.get_running_loop()
    if given is not None:
        return Listening([await loop.create_server(make, sock=given, backlog=backlog)])
    sockets = bind_all(host, await names.addresses(host, port, LOOKUP_TIMEOUT_S), port)
    servers: list[asyncio.Server] = []
    try:
        while sockets:
            servers.append(await loop.create_server(make, sock=sockets[0], backlog=backlog))
            sockets.pop(0)
    except OSError as error:  # two sockets may be bound to one address; only one may listen
        for server in servers:
            server.close()
        raise _named(error, host, port) from None
    finally:
        for sock in sockets:
            sock.close()
    return Listening(servers)


def bind_all(host: str, addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets bound to those of a host's addresses that this machine has, at least one. Raises OSError."""
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for address in addresses:
            try:
                bound.append(_bind(address, port))
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise _named(error, host, port) from None
                missing = error
            else:
                port = bound[0].getsockname()[1]
        if missing is not None and not bound:
            cure = "this machine has no such address; if others reach it by that one, set another to listen on"
            raise _named(missing, host, port, cure)
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind(address: str, port: int) -> socket.socket:
    """A socket bound to one numeric address. "::" takes IPv4 connections too, as everybody expects of it."""
    family, kind, number, _, target = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, number)
    try:
        # A port whose last connections are in TIME_WAIT is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
        sock.bind(target)
    except OSError:
        sock.close()
        raise
    return sock


def _named(error: OSError, host: str, port: int, cure: str = "") -> OSError:
    text = os.strerror(error.errno).lower() if error.errno else str(error)
    if error.errno == errno.EADDRINUSE:
        cure = "another program has this port, or this one twice: end that, or choose another port"
    if cure:
        text = f"{text}: {cure}"
    return OSError(error.errno, f"cannot listen on {format_address(host, port)}: {text}")
