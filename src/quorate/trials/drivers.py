"""Drivers: the clients of simulated runs. They are the client that people use, one operation at a time.

A Driver is an adapter between operations and calls of the client's core (``service/client/core.py``), which retries,
votes and gives up. What operations and answers mean to a state machine is for the Driver's Dialect to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from quorate.kernel import Rng
from quorate.parts.crypto.keys import Signer
from quorate.service.client.call import COMMAND, QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import NoQuorum, Refused, Unreachable
from quorate.service.client.pace import Pace
from quorate.service.requests import decode_request
from quorate.sim.workload import Answer, Driver, Op, Wants

DEFINITE = (Unreachable, NoQuorum, Refused)
"""Errors that say that nothing happened and nothing will."""


class Dialect(ABC):
    """What one kind of state machine is told and asked, and what it answers."""

    @abstractmethod
    def operation(self, op: Op) -> bytes:
        """The command for a write or a cas."""

    @abstractmethod
    def question(self, op: Op) -> bytes:
        """The query for a read."""

    @abstractmethod
    def answer(self, op: Op, data: bytes) -> Answer:
        """What the state machine's answer means."""


class ServiceDriver(Driver):
    """One client. ``core_type`` makes its core, which is sick if a mutant says so."""

    def __init__(
        self,
        dialect: Dialect,
        rng: Rng,
        nodes: Sequence[int],
        patience_s: float,
        signer: Callable[[], Signer],
        core_type: type[ClientCore] = ClientCore,
    ) -> None:
        self._dialect = dialect
        first = int(rng.random() * len(nodes))
        self._nodes = (*nodes[first:], *nodes[:first])
        self._place = {node: place for place, node in enumerate(self._nodes)}
        endpoints = Endpoints(f"n{node}.sim:7400" for node in self._nodes)
        self._core = core_type(endpoints, rng, signer, pace(patience_s), timeout_s=patience_s)
        self._has_started = False
        self._op: Op | None = None
        self._call: ClientCall | None = None
        self._decoded: tuple[Any, Any] = (None, None)
        """What was sent last, and what that is to a node."""

    def begin(self, op: Op, now: float, deadline: float) -> None:
        """A call; the first one has the client look for nodes."""
        if not self._has_started:
            self._has_started = True
            self._core.start(now)
        self._op = op
        is_read = op.f == "read"
        body = self._dialect.question(op) if is_read else self._dialect.operation(op)
        self._call = ClientCall(QUERY if is_read else COMMAND, body, deadline)
        self._core.begin(self._call, now)

    def extend(self, deadline: float) -> None:
        """Of the call."""
        if self._call is not None:
            self._call.deadline = deadline

    def opened(self, node: int, greeting: Any, now: float) -> None:
        """What it greets with is a ``Greeted``."""
        self._core.opened(self._place[node], node, greeting, now)

    def unreached(self, node: int, why: str, now: float) -> None:
        """As the base says."""
        self._core.unreached(self._place[node], why, now)

    def lost(self, node: int, why: str, now: float) -> None:
        """As the base says."""
        self._core.lost(self._place[node], why, now)

    def receive(self, node: int, response: Any, now: float) -> None:
        """As the base says."""
        self._core.received(self._place[node], (response,), now)

    def tick(self, now: float) -> None:
        """As the base says."""
        self._core.tick(now)

    def take(self) -> Wants | None:
        """As the core's outputs say."""
        core, nodes = self._core, self._nodes
        out = core.out
        if core.voting is not None:
            core.settle(out.now)
        if out.hangups or out.dials:
            hangups, dials = [nodes[at] for at, _, _ in out.hangups], [nodes[at] for at in out.dials]
            out.hangups.clear()
            out.dials.clear()
        elif out.sends or out.finished:
            hangups = dials = []
        else:
            return None
        sends: list[tuple[int, Any]] = []
        for at, item in out.sends:
            if item.payload is not self._decoded[0]:  # to many nodes it is the same
                self._decoded = item.payload, decode_request(item.payload)
            sends.append((nodes[at], self._decoded[1]))
        out.sends.clear()
        return Wants(sends, hangups, dials, self._answer(out.finished) if out.finished else None)

    @property
    def wake_at(self) -> float:
        """As the core's outputs say."""
        return self._core.out.wake_at

    def identity(self) -> Hashable | None:
        """The session and the serial, which find the command in the log."""
        call = self._call
        return None if call is None or call.session is None else (call.session.id, call.serial)

    def _answer(self, finished: list[ClientCall]) -> Answer:
        (call,) = finished
        finished.clear()
        assert call is self._call, "a call ends once"
        assert self._op is not None
        if call.error is not None:
            return Answer("fail" if isinstance(call.error, DEFINITE) else "info")
        assert call.result is not None
        return self._dialect.answer(self._op, call.result)


def pace(patience_s: float) -> Pace:
    """That of a client that waits so long for an answer."""
    return Pace(
        sweep_s=patience_s,
        redial_s_max=min(1.0, patience_s),
        patience_s=patience_s,
        patience_s_max=8 * patience_s,
        read_patience_s=patience_s,
        resend_s=patience_s,
        resend_s_max=4 * patience_s,
    )
