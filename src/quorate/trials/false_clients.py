"""False clients: clients that lie, among the honest ones, where requests are signed.

A client with a key of its own may say anything to any node: sign what nobody can make sense of, tell nodes different
things, tell only one, use serials and sessions as it likes, repeat what others have said, or sign nothing. None of that
may cost the honest ones an answer or a promise. What false clients write goes to a key of theirs, as a key that any of
them may write says nothing about order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, Final

import msgspec

from quorate.parts import requests
from quorate.parts.crypto.keys import Scheme, Signer
from quorate.service.requests import Apply, CloseSession, Command, Inspect, OpenSession
from quorate.sim.clients import ClientLink, Clients, Service
from quorate.sim.ground import Ground
from quorate.sim.options import CLIENTS_MAX
from quorate.sim.workload import Op
from quorate.trials.drivers import Dialect

EVERY_S: Final = 0.2
"""How often each does something, on average."""
REMEMBERED: Final = 64
"""How many requests of others they remember."""
KEY: Final = "false"
FALSE_KEYS: Final = 32
"""How many keys false clients may have: those of the last client numbers, as far as no honest client has them."""
OPENINGS: Final = 40
"""Sessions that one who makes keys opens at a time."""
OPENINGS_EVERY_S: Final = 0.5
KEY_MAKERS: Final = 0.3
"""In how many of the seeds with false clients one of them makes keys."""
NUMBER_MAX: Final = 2**63 - 1


class Nobody:
    """Who asked does not listen."""

    principal = "a false client"

    def reply(self, response: Any) -> None:
        """Unheard."""


class FalseClient:
    """One of them. ``counts`` counts its lies by kind."""

    def __init__(
        self, world: Ground[Any], signer: Signer, dialect: Dialect, number: int, counts: dict[str, int]
    ) -> None:
        self._world = world
        self._signer = signer
        self._dialect = dialect
        self._rng = Random(f"{world.seed}/false client/{number}")
        self._counts = counts
        self._heard: list[bytes] = []
        self._written = 0
        self.is_over = False

    def wait(self) -> None:
        """Do something a while from now."""
        self._world.after(self._rng.expovariate(1.0 / EVERY_S), self._act)

    def heard(self, payload: Any) -> None:
        """What an honest client sends."""
        if isinstance(payload, Command) and self._rng.random() < 0.2:
            self._heard.append(payload.entry)
            del self._heard[:-REMEMBERED]

    def _act(self) -> None:
        if self.is_over:
            return
        lie = self._rng.choice((self._garbage, self._forged, self._torn, self._serials, self._repeated, self._well))
        lie()
        self._counts["requests of false clients"] = self._counts.get("requests of false clients", 0) + 1
        self.wait()

    # --- lies ---

    def _garbage(self) -> None:
        """Signed bytes that mean nothing."""
        self._tell(self._some(), requests.sign(self._signer, [self._rng.randbytes(self._rng.randint(1, 40))]))

    def _forged(self) -> None:
        """What somebody else would have to sign."""
        entry = bytearray(requests.sign(self._signer, [self._command()]))
        entry[-1 - int(self._rng.random() * 32)] ^= 1 << int(self._rng.random() * 8)
        self._tell(self._some(), bytes(entry))

    def _torn(self) -> None:
        """Nodes are told different things, under one serial."""
        session, serial = self._rng.randint(1, 40), self._rng.randint(1, 5)
        for node in self._world.peers:
            self._tell([node], requests.sign(self._signer, [self._apply(session, serial)]))

    def _serials(self) -> None:
        """Serials and sessions out of order, of others, and as large as they can be."""
        session = self._rng.choice((0, 1, self._rng.randint(1, 400), NUMBER_MAX))
        serial = self._rng.choice((0, 1, self._rng.randint(1, 40), NUMBER_MAX))
        commands = [self._apply(session, serial), msgspec.msgpack.encode(CloseSession(session))]
        self._tell(self._some(), requests.sign(self._signer, commands[: self._rng.randint(1, 2)]))

    def _repeated(self) -> None:
        """What an honest client asked for, again, of some nodes."""
        for entry in self._rng.sample(self._heard, min(len(self._heard), self._rng.randint(1, 8))):
            self._tell(self._some(), entry)

    def _well(self) -> None:
        """Something proper, of some nodes or all."""
        self._tell(self._some(), requests.sign(self._signer, [self._command()]))

    # --- how ---

    def _command(self) -> bytes:
        nonce = self._rng.getrandbits(60)
        return msgspec.msgpack.encode(
            self._rng.choice((OpenSession(nonce), Inspect(nonce, self._dialect.question(Op("read", KEY)))))
        )

    def _apply(self, session: int, serial: int) -> bytes:
        self._written += 1
        operation = self._dialect.operation(Op("write", KEY, self._written))
        return msgspec.msgpack.encode(Apply(session, serial, self._rng.choice((0, serial)), operation))

    def _some(self) -> list[int]:
        """One node, some, or all."""
        peers = self._world.peers
        return self._rng.sample(peers, self._rng.choice((1, self._rng.randint(1, len(peers)), len(peers))))

    def _tell(self, nodes: Sequence[int], entry: bytes) -> None:
        command = Command(self._rng.getrandbits(32), entry)
        for node in nodes:
            machine = self._world.nodes[node]
            self._world.after(
                self._rng.expovariate(1.0 / self._world.mix.delay_s_mean), partial(machine.request, Nobody(), command)
            )


class KeyMaker:
    """Makes key after key and opens sessions with each, so that those of others may expire. It never uses one."""

    def __init__(self, world: Ground[Any], signers: Sequence[Signer], rng: Random, counts: dict[str, int]) -> None:
        self._world = world
        self._signers = signers
        self._rng = rng
        self._counts = counts
        self.is_over = False

    def wait(self) -> None:
        """Open some a while from now."""
        self._world.after(self._rng.expovariate(1.0 / OPENINGS_EVERY_S), self._act)

    def _act(self) -> None:
        if self.is_over:
            return
        for _ in range(OPENINGS):
            opening = msgspec.msgpack.encode(OpenSession(self._rng.getrandbits(60)))
            command = Command(self._rng.getrandbits(32), requests.sign(self._rng.choice(self._signers), [opening]))
            for node in self._world.peers:
                delay_s = self._rng.expovariate(1.0 / self._world.mix.delay_s_mean)
                self._world.after(delay_s, partial(self._world.nodes[node].request, Nobody(), command))
        self._counts["sessions of made-up keys"] = self._counts.get("sessions of made-up keys", 0) + OPENINGS
        self.wait()


class ClientsAmongFalse(Clients):
    """The honest clients, and ``false`` others that lie until all is healed."""

    def __init__(self, world: Ground[Any], subject: Service, scheme: Scheme, dialect: Dialect, false: int) -> None:
        super().__init__(world, subject)
        self._false = [
            FalseClient(world, scheme.client(CLIENTS_MAX - 1 - number), dialect, number, self.counts)
            for number in range(min(false, CLIENTS_MAX - len(self.members)))
        ]
        rng = Random(f"{world.seed}/new keys")  # apart, so that runs without one are what they were
        first = max(len(self.members), CLIENTS_MAX - FALSE_KEYS)
        signers = [scheme.client(number) for number in range(first, CLIENTS_MAX - len(self._false))]
        self._makers = [KeyMaker(world, signers, rng, self.counts)] if signers and rng.random() < KEY_MAKERS else []

    def start(self) -> None:
        """Let all begin."""
        super().start()
        for client in self._false:
            client.wait()
        for maker in self._makers:
            maker.wait()

    def finish(self) -> None:
        """The false ones fall silent."""
        super().finish()
        for client in self._false:
            client.is_over = True
        for maker in self._makers:
            maker.is_over = True

    def send(self, link: ClientLink, payload: Any) -> None:
        """As the base says; the false ones hear it."""
        super().send(link, payload)
        for client in self._false:
            client.heard(payload)
