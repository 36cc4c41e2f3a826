"""Drivers: the client sessions of simulated runs. One for nodes that crash, one for nodes that may also lie.

Each carries one operation at a time through retries, as the real clients do many. What operations and answers mean to
a state machine is for its Dialect to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

from quorate.kernel import Rng
from quorate.parts.crypto.keys import Signer
from quorate.parts.requests import sign
from quorate.service.client.session import ClientSession
from quorate.service.client.votes import Outcome, Votes, for_command, for_read, outcome_of
from quorate.service.requests import Code, Command, Failure, Inspect, Query, Result, Results, encode
from quorate.sim.workload import Answer, Driver, Op, Request


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
    """One client: opens a session, then carries one operation at a time through retries."""

    def __init__(self, dialect: Dialect, client: int, rng: Rng) -> None:
        self._dialect = dialect
        self._rng = rng
        self._session = ClientSession(rng.getrandbits(60))
        self._request_id = client << 40
        self._op: Op | None = None
        self._serial: int | None = None
        self._entry = b""

    def begin(self, op: Op) -> Request:
        """The operation, or first the opening of a session."""
        self._op, self._serial, self._entry = op, None, b""
        return self._send()

    def retry(self) -> Request:
        """The same again."""
        return self._send()

    def give_up(self) -> None:
        """The serial stays open in the session: nobody may reuse it, and nobody waits for it."""
        if self._serial is not None:
            self._session.answered(self._serial)
        self._op = None

    def identity(self) -> Hashable | None:
        """What finds the command in the log."""
        return None if self._serial is None else (self._session.id, self._serial)

    def receive(self, reply: Any, node: int) -> Answer | Request | None:
        """A Result or a Failure of this attempt or an earlier one."""
        op = self._op
        if op is None or reply.id != self._request_id:
            return None
        if isinstance(reply, Failure):
            return self._failed(op, reply)
        assert isinstance(reply, Result)
        if self._session.id is None and op.f != "read":
            self._session.opened(reply.data)
            return self._send()
        if self._serial is not None:
            self._session.answered(self._serial)
        self._op = None
        return self._dialect.answer(op, reply.data)

    def _failed(self, op: Op, failure: Failure) -> Answer | Request | None:
        if failure.code is Code.NO_SESSION and self._serial is not None:
            self._op = None
            self._session = ClientSession(self._rng.getrandbits(60))
            return Answer("info")
        if failure.code is Code.LEADER_CHANGED:
            return self._send(failure.leader)
        return None  # unavailable here and now: wait for the time-out, as a client that backs off

    def _send(self, node: int | None = None) -> Request:
        op = self._op
        assert op is not None
        self._request_id += 1
        if op.f == "read":
            return Request(Query(self._request_id, self._dialect.question(op)), node)
        if self._session.id is None:
            return Request(Command(self._request_id, self._session.opening()), node)
        if self._serial is None:
            self._serial, self._entry = self._session.command(self._dialect.operation(op))
        return Request(Command(self._request_id, self._entry), node)


class SignedDriver(Driver):
    """One client of nodes that may lie: signs, asks them all, and believes what enough of them say.

    A read first goes past the log. If that was of no use, it goes through the log.
    """

    def __init__(self, dialect: Dialect, client: int, rng: Rng, signer: Signer, nodes: int, faults: int) -> None:
        self._dialect = dialect
        self._rng = rng
        self._signer = signer
        self._nodes = nodes
        self._faults = faults
        self._session = ClientSession(rng.getrandbits(60))
        self._request_id = client << 40
        self._op: Op | None = None
        self._serial: int | None = None
        self._votes = Votes(1, nodes)
        self._payload: Command | Query | None = None

    def begin(self, op: Op) -> Request:
        """The operation, or first the opening of a session."""
        self._op, self._serial = op, None
        return self._read(op) if op.f == "read" else self._write(op)

    def retry(self) -> Request:
        """The same again; a read goes through the log now, each time as another request."""
        op = self._op
        assert op is not None
        if op.f == "read":
            return self._read_in_log(op)
        return Request(self._payload, everywhere=True)

    def give_up(self) -> None:
        """As that of ServiceDriver."""
        if self._serial is not None:
            self._session.answered(self._serial)
        self._op = None

    def identity(self) -> Hashable | None:
        """What finds the command in the log."""
        return None if self._serial is None else (self._session.id, self._serial)

    def receive(self, reply: Any, node: int) -> Answer | Request | None:
        """A node's vote; the end where it decides."""
        op = self._op
        if op is None or reply.id != self._request_id:
            return None
        for answer in reply.answers if isinstance(reply, Results) else (reply,):
            outcome = outcome_of(answer)
            if self._votes.add(node, outcome):
                assert outcome is not None
                return self._decided(op, outcome)
        if isinstance(self._payload, Query) and self._votes.is_split:
            return self._read_in_log(op)
        return None

    def _decided(self, op: Op, outcome: Outcome) -> Answer | Request:
        if isinstance(outcome, Code):
            # No honest node could do it: that the session is gone is all there is to find out here.
            assert outcome is Code.NO_SESSION, outcome
            self._op = None
            self._session = ClientSession(self._rng.getrandbits(60))
            return Answer("info")
        if self._session.id is None and op.f != "read":
            self._session.opened(outcome)
            return self._write(op)
        if self._serial is not None:
            self._session.answered(self._serial)
        self._op = None
        return self._dialect.answer(op, outcome)

    def _write(self, op: Op) -> Request:
        if self._session.id is None:
            return self._in_log(self._session.opening())
        self._serial, entry = self._session.command(self._dialect.operation(op))
        return self._in_log(entry)

    def _read(self, op: Op) -> Request:
        self._request_id += 1
        self._votes = Votes(for_read(self._nodes, self._faults, self._faults), self._nodes)
        return self._everywhere(Query(self._request_id, self._dialect.question(op)))

    def _read_in_log(self, op: Op) -> Request:
        return self._in_log(encode(Inspect(self._rng.getrandbits(60), self._dialect.question(op))))

    def _in_log(self, entry: bytes) -> Request:
        self._request_id += 1
        self._votes = Votes(for_command(self._faults), self._nodes)
        return self._everywhere(Command(self._request_id, sign(self._signer, (entry,))))

    def _everywhere(self, payload: Command | Query) -> Request:
        self._payload = payload
        return Request(payload, everywhere=True)
