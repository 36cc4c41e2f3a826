"""Somebody: a node of an open network that keeps what happens to it, for the tests of Strangers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from quorate.runtime.keys import Ed25519Signer
from quorate.runtime.open_handshake import DiallerSide, Myself
from quorate.runtime.sealing import Ephemeral
from quorate.runtime.stranger_limits import StrangerLimits
from quorate.runtime.strangers import Strangers

from tests.wire.harness import RawCaller, call, framed, until

NETWORK = "net/1"


class Somebody:
    """The shell above a Strangers, reduced to a list of events."""

    def __init__(self, number: int, **changes: Any) -> None:
        self.signer = Ed25519Signer(None, number.to_bytes(32, "big"))
        self.events: list[tuple[Any, ...]] = []
        self.received: list[tuple[int, bytes]] = []
        self.is_inside_a_verb = False
        given: dict[str, Any] = {
            "listen_at": ("127.0.0.1", 0),
            "on_met": self._keep("met"),
            "on_parted": self._keep("parted"),
            "on_unmet": self._keep("unmet"),
            "on_misbehaved": self._keep("misbehaved"),
            "on_frames": self.on_frames,
        }
        self.strangers = Strangers(self.signer, **{"network": NETWORK, **given, **changes})

    def _keep(self, name: str) -> Any:
        def keep(*arguments: Any) -> None:
            assert not self.is_inside_a_verb
            self.events.append((name, *arguments))

        return keep

    def on_frames(self, link: int, frames: list[bytes]) -> None:
        """Keeps frames; to be overridden by who judges them."""
        assert link in self.links.values()
        self.received += [(link, frame) for frame in frames]

    def do(self, verb: str, *arguments: Any) -> Any:
        """A verb of Strangers, from within which no callback may come."""
        self.is_inside_a_verb = True
        try:
            return getattr(self.strangers, verb)(*arguments)
        finally:
            self.is_inside_a_verb = False

    @property
    def key(self) -> bytes:
        return self.signer.public

    @property
    def port(self) -> int:
        return self.strangers.told_port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def links(self) -> dict[bytes, int]:
        """Whom it has met and not parted from."""
        links: dict[bytes, int] = {}
        for name, *arguments in self.events:
            if name == "met":
                assert arguments[1] not in links, "two links with one key"
                assert arguments[0] not in links.values()
                links[arguments[1]] = arguments[0]
            elif name == "parted":
                [key] = [key for key, link in links.items() if link == arguments[0]]
                del links[key]
        return links

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """What came of one kind of event."""
        return [tuple(arguments) for kind, *arguments in self.events if kind == name]

    async def meets(self, other: Somebody) -> int:
        """Dial somebody, and wait until both have a link; its number here."""
        self.do("meet", other.address)
        await until(lambda: other.key in self.links and self.key in other.links)
        return self.links[other.key]

    async def unmet(self, address: str, key: bytes | None = None) -> str:
        """Dial in vain; why."""
        before = len(self.of("unmet"))
        self.do("meet", address, key)
        await until(lambda: len(self.of("unmet")) > before)
        found, why = self.of("unmet")[-1]
        assert found == address
        return str(why)


@asynccontextmanager
async def people(*numbers: int, **changes: Any) -> AsyncIterator[list[Somebody]]:
    """So many nodes that run. Options are those of Strangers, or fields of its limits."""
    fields = {name: changes.pop(name) for name in list(changes) if name in StrangerLimits.__struct_fields__}
    limits = msgspec.structs.replace(StrangerLimits(), **fields)
    made = [Somebody(number, **{"limits": limits, **changes}) for number in numbers]
    try:
        for somebody in made:
            await somebody.strangers.start()
        yield made
    finally:
        for somebody in made:
            await somebody.strangers.stop()
            count = len(somebody.events)
            assert not somebody.strangers._connections
            assert len(somebody.events) == count


class RawStranger:
    """A caller that keeps to the open handshake for as long as the test wants, with bare sockets."""

    def __init__(self, caller: RawCaller, number: int, network: str = NETWORK) -> None:
        self.caller = caller
        self.me = Myself(network, Ed25519Signer(None, number.to_bytes(32, "big")))
        self.side = DiallerSide(self.me, Ephemeral(number.to_bytes(32, "little")), 0)

    async def prove(self) -> bytes:
        """Up to the Proof; what comes back."""
        await self.caller.write(framed(self.side.opening))
        await self.caller.write(framed(self.side.challenged(await self.caller.frame())))
        return await self.caller.frame()

    async def enter(self) -> None:
        """The whole handshake."""
        self.channel = self.side.admitted(await self.prove())

    def sealed(self, *payloads: bytes) -> bytes:
        """What goes over the wire of payloads, once it has entered."""
        return framed(*map(self.channel.seal, payloads))

    async def receive(self) -> bytes:
        """The next payload."""
        return self.channel.unseal(await self.caller.frame())


async def raw(somebody: Somebody, number: int, network: str = NETWORK) -> RawStranger:
    """A raw caller of somebody's port."""
    return RawStranger(await call(somebody.port), number, network)
