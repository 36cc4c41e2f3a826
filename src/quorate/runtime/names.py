"""Names: host names to addresses, and from an address or a name to a connection.

How it works. The system's resolver blocks, at worst for minutes, and cannot be interrupted. Each look-up therefore has
a daemon thread of its own: neither the loop nor the threads that others share wait for it, nor does the end of the
process. There is one look-up per name and port at a time. Whoever asks meanwhile waits for the same one, and nobody
waits longer than a limit. An answer that comes too late for its asker is there for the next.

The addresses of a name are tried in turn, each for an equal share of the time that is left. The one that worked last
comes first, and is tried even if the resolver does not answer at all. One that took a connection without becoming a
link (another program may own it now) comes last the next time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from quorate.runtime.address import literal

P = TypeVar("P", bound=asyncio.Protocol)
LookUp = Callable[[str, int], Iterable[str]]
"""Blocks until it has the addresses of a name. Raises OSError, or ValueError for what cannot be a name."""


class NameLimits(msgspec.Struct, frozen=True):
    """Bounds and times of look-ups."""

    wait_s_max: float = 2.0
    prompt_s: float = 0.5
    """How long to wait for the resolver when addresses are known from before."""
    lookups_max: int = 128
    """Threads that look up at once."""
    addresses_max: int = 16
    """What is used of the addresses of one name."""
    names_max: int = 1024
    """Names of which something is remembered."""


class _Name:
    """What is known of one name. ``Names`` holds its lock over every change."""

    __slots__ = ("answers", "failed", "pending", "why", "worked")

    def __init__(self) -> None:
        self.pending: Future[None] | None = None
        self.answers: tuple[str, ...] = ()
        """Of the last look-up that had any."""
        self.why = ""
        """The last look-up had none."""
        self.worked: str | None = None
        self.failed: str | None = None

    def known(self) -> list[str]:
        """The addresses in the order in which to try them."""
        found = list(dict.fromkeys((*((self.worked,) if self.worked is not None else ()), *self.answers)))
        found.sort(key=lambda address: address == self.failed)
        return found


def system_look_up(host: str, port: int) -> list[str]:
    """The addresses of a name as the system's resolver orders them (RFC 6724)."""
    found = []
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        zone = address[3] if len(address) == 4 else 0  # of a link-local IPv6 address
        host = str(address[0])
        found.append(f"{host}%{zone}" if zone else host)
    return found


class Names:
    """The look-ups of one process, from any number of loops and threads."""

    def __init__(self, look_up: LookUp = system_look_up, limits: NameLimits | None = None) -> None:
        self.limits = limits or NameLimits()
        self._look_up = look_up
        self._lock = threading.Lock()
        self._names: OrderedDict[tuple[str, int], _Name] = OrderedDict()
        self._running = 0

    async def connect(self, make: Callable[[], P], host: str, port: int, timeout_s: float) -> tuple[P, str]:
        """Connect to the first address of the host that takes the connection; the protocol and that address.

        Tell ``learn`` what became of it. Raises TimeoutError if the only address did not answer in time, otherwise
        OSError, ValueError, or OverflowError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        made: list[P] = []

        def make_one() -> P:
            made.append(make())
            return made[-1]

        addresses = await self.addresses(host, port, timeout_s / 2)
        failures: list[tuple[str, Exception]] = []
        for position, address in enumerate(addresses):
            share_s = (deadline - loop.time()) / (len(addresses) - position)
            try:
                async with asyncio.timeout(share_s):
                    try:
                        _, connection = await loop.create_connection(make_one, address, port)
                    except BaseException as error:
                        # It may have been told of a connection already, and uvloop does not tell it of the end.
                        for each in made:
                            each.connection_lost(error if isinstance(error, Exception) else None)
                        raise
            except (OSError, ValueError, OverflowError) as error:  # a port that is not one, too
                failures.append((address, error))
            else:
                return connection, address
        if len(failures) == 1:
            raise failures[0][1]
        raise OSError("; ".join(f"{address}: {str(error) or 'no answer in time'}" for address, error in failures))

    def learn(self, host: str, port: int, address: str, worked: bool) -> None:
        """What became of a connection: whether the one at the other end was the right one."""
        if literal(host) is not None:
            return
        with self._lock:
            name = self._find(host, port)
            if worked:
                name.worked = address
            name.failed = None if worked else address

    async def addresses(self, host: str, port: int, patience_s: float) -> list[str]:
        """The addresses of a host in the order in which to try them, at least one. Raises OSError."""
        if literal(host) is not None:
            return [host]
        wait_s = min(patience_s, self.limits.wait_s_max)
        with self._lock:
            name = self._find(host, port)
            if name.known():
                wait_s = min(wait_s, self.limits.prompt_s)
            pending = self._begin(name, host, port)
        if pending is not None:
            answer = asyncio.wrap_future(pending)
            try:
                await asyncio.wait((answer,), timeout=wait_s)
            finally:
                answer.cancel()  # the loop may be gone when the thread is done; the look-up itself goes on
        return self._found(name, host, wait_s)

    def addresses_now(self, host: str, port: int, patience_s: float) -> list[str]:
        """The same for a thread without a loop."""
        if literal(host) is not None:
            return [host]
        with self._lock:
            name = self._find(host, port)
            pending = self._begin(name, host, port)
        if pending is not None:
            with suppress(TimeoutError):  # then what is known decides
                pending.result(patience_s)
        return self._found(name, host, patience_s)

    def forget_pending(self) -> None:
        """In a forked child: the threads that look up are not there, nor whoever held the lock."""
        self._lock = threading.Lock()
        self._running = 0
        for name in self._names.values():
            name.pending = None

    def _found(self, name: _Name, host: str, waited_s: float) -> list[str]:
        with self._lock:
            if known := name.known():
                return known
            why = name.why if name.pending is None else f"the resolver did not answer within {waited_s:g} s"
        raise OSError(f"the name {host[:80]!r} could not be looked up: {why}; check the name, or write an address")

    def _find(self, host: str, port: int) -> _Name:
        name = self._names.get((host, port))
        if name is None:
            name = self._names[host, port] = _Name()
            if len(self._names) > self.limits.names_max:
                self._names.popitem(last=False)
        self._names.move_to_end((host, port))
        return name

    def _begin(self, name: _Name, host: str, port: int) -> Future[None] | None:
        """The look-up that runs, or a new one; None if there can be none now."""
        if name.pending is not None:
            return name.pending
        if self._running >= self.limits.lookups_max:
            name.why = f"{self._running} look-ups are under way already"
            return None
        pending: Future[None] = Future()
        pending.set_running_or_notify_cancel()  # from now on nobody who waits can cancel it for the others
        thread = threading.Thread(target=self._run, args=(name, host, port, pending), name="quorate-name", daemon=True)
        name.pending = pending
        self._running += 1
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            self._end(name, (), str(error))
            return None
        return pending

    def _run(self, name: _Name, host: str, port: int, pending: Future[None]) -> None:
        """In a thread of its own."""
        found: tuple[str, ...] = ()
        why = "it has no address"
        try:
            found = tuple(dict.fromkeys(self._look_up(host, port)))[: self.limits.addresses_max]
        except (OSError, ValueError, OverflowError) as error:  # UnicodeError is a ValueError
            why = str(error)
        with self._lock:
            self._end(name, found, why)
        pending.set_result(None)

    def _end(self, name: _Name, found: tuple[str, ...], why: str) -> None:
        self._running -= 1
        name.pending = None
        name.why = "" if found else why
        if found:
            name.answers = found
            if name.worked not in found:
                name.worked = None  # the name has moved


NAMES: Final = Names()
"""Of this process: threads that hang in the resolver outlive those who asked, so the limit is for all together."""
os.register_at_fork(after_in_child=NAMES.forget_pending)
