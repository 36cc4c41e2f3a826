"""The real Replica, state machines and client sessions, as the simulator wants them.

``subject(name)`` gives what a simulated run puts to the test: ``register`` (a map of registers in memory) or ``kv``
(the store on LMDB). Nothing here stands in for the real thing but the clients' network.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from quorate.kernel import App, Rng
from quorate.service.client.session import ClientSession
from quorate.service.kv import commands as kv
from quorate.service.kv.machine import KvMachine
from quorate.service.machine import StateMachine
from quorate.service.replica import Replica
from quorate.service.requests import DECODE_ERRORS, Apply, Code, Command, Failure, Query, Result, decode_log_command
from quorate.sim.workload import Answer, Driver, Op, Request, Subject

SESSIONS_MAX = 64


class RegisterMachine(StateMachine):
    """A map from name to value. Operations are msgpack of ``[f, key, value]`` as in ``sim.workload.Op``."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.applied = 0

    def apply(self, command: bytes) -> bytes:
        """A write gives True, a cas whether it took place."""
        f, key, value = msgspec.msgpack.decode(command)
        self.applied += 1
        if f == "cas":
            expected, value = value
            if self.values.get(key) != expected:
                return msgspec.msgpack.encode(False)
        self.values[key] = value
        return msgspec.msgpack.encode(True)

    def query(self, query: bytes) -> bytes:
        """The value of a key, or None."""
        return msgspec.msgpack.encode(self.values.get(msgspec.msgpack.decode(query, type=str)))

    def digest(self) -> bytes:
        """All that is here, and how many operations made it."""
        return msgspec.msgpack.encode((self.applied, sorted(self.values.items())))

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """The map as it is now."""
        data = self.digest()
        return lambda file: _write(file, data)

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """A map that ``snapshot`` wrote."""
        applied, items = msgspec.msgpack.decode(file.read(), type=tuple[int, list[tuple[str, Any]]])

        def adopt() -> None:
            self.applied, self.values = applied, dict(items)

        return adopt


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


class ServiceDriver(Driver):
    """One client: opens a session, then carries one operation at a time through retries."""

    def __init__(self, client: int, rng: Rng) -> None:
        self._rng = rng
        self._session = ClientSession(rng.getrandbits(60))
        self._request_id = client << 40
        self._op: Op | None = None
        self._serial: int | None = None
        self._entry = b""

    # --- what a kind of state machine says ---

    @abstractmethod
    def _operation(self, op: Op) -> bytes:
        """The command for the state machine."""

    @abstractmethod
    def _question(self, op: Op) -> bytes:
        """The query for a read."""

    @abstractmethod
    def _answer(self, op: Op, data: bytes) -> Answer:
        """What the state machine's answer means."""

    # --- Driver ---

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

    def receive(self, reply: Any) -> Answer | Request | None:
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
        return self._answer(op, reply.data)

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
            return Request(Query(self._request_id, self._question(op)), node)
        if self._session.id is None:
            return Request(Command(self._request_id, self._session.opening()), node)
        if self._serial is None:
            self._serial, self._entry = self._session.command(self._operation(op))
        return Request(Command(self._request_id, self._entry), node)


class RegisterDriver(ServiceDriver):
    """Against a RegisterMachine."""

    def _operation(self, op: Op) -> bytes:
        return msgspec.msgpack.encode((op.f, op.key, op.value))

    def _question(self, op: Op) -> bytes:
        return msgspec.msgpack.encode(op.key)

    def _answer(self, op: Op, data: bytes) -> Answer:
        return Answer("ok", msgspec.msgpack.decode(data))


class ServiceSubject(Subject):
    """The Replica over one kind of state machine."""

    def app(self, node: int, rng: Rng) -> App:
        """A Replica with an empty machine."""
        return Replica(self.machine(node), sessions_max=SESSIONS_MAX)

    @abstractmethod
    def machine(self, node: int) -> StateMachine:
        """A fresh state machine."""

    def identities(self, data: bytes) -> tuple[Hashable, ...]:
        """The session and serial of the one command that an entry holds."""
        try:
            command = decode_log_command(data)
        except DECODE_ERRORS:
            return ()
        return ((command.session, command.serial),) if isinstance(command, Apply) else ()


class RegisterSubject(ServiceSubject):
    """Registers in memory."""

    def machine(self, node: int) -> StateMachine:
        """An empty map."""
        return RegisterMachine()

    def driver(self, client: int, rng: Rng) -> Driver:
        """A client of registers."""
        return RegisterDriver(client, rng)

    def digest(self, app: App) -> bytes | None:
        """The map's."""
        assert isinstance(app, Replica)
        assert isinstance(app.machine, RegisterMachine)
        return app.machine.digest()


class KvDriver(ServiceDriver):
    """Against the key-value store. A cas is a transaction with one compare."""

    def _operation(self, op: Op) -> bytes:
        key = op.key.encode()
        if op.f == "write":
            return kv.encode(kv.Put(key, _to_value(op.value)))
        expected, new = op.value
        if expected is None:
            compare = kv.Compare(key, kv.Target.VERSION, kv.Relation.EQUAL, 0)
        else:
            compare = kv.Compare(key, kv.Target.VALUE, kv.Relation.EQUAL, _to_value(expected))
        return kv.encode(kv.Txn([compare], [kv.Put(key, _to_value(new))]))

    def _question(self, op: Op) -> bytes:
        return kv.encode(kv.Range(op.key.encode()))

    def _answer(self, op: Op, data: bytes) -> Answer:
        result = kv.decode_result(data)
        if isinstance(result, kv.RangeResult):
            return Answer("ok", int(result.kvs[0].value) if result.kvs else None)
        if isinstance(result, kv.TxnResult):
            return Answer("ok", result.succeeded)
        assert isinstance(result, kv.PutResult), result
        return Answer("ok", True)


def _to_value(number: int) -> bytes:
    return b"%d" % number


class KvSubject(ServiceSubject):
    """The key-value store, each node's in a temporary folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quorate-sim-")
        self._machines: dict[int, StateMachine] = {}

    def machine(self, node: int) -> StateMachine:
        """An empty store; the node's earlier life, if there was one, is over."""
        if node in self._machines:
            self._machines[node].close()
        machine = self._machines[node] = KvMachine(Path(self._folder.name) / str(node))
        return machine

    def driver(self, client: int, rng: Rng) -> Driver:
        """A client of the store."""
        return KvDriver(client, rng)

    def digest(self, app: App) -> bytes | None:
        """The store's own."""
        assert isinstance(app, Replica)
        result = kv.decode_result(app.read(kv.encode(kv.Digest())))
        assert isinstance(result, kv.DigestResult)
        return result.digest


SUBJECTS: dict[str, Callable[[], Subject]] = {"register": RegisterSubject, "kv": KvSubject}


def subject(name: str) -> Subject:
    """A fresh subject by name: ``register`` or ``kv``."""
    return SUBJECTS[name]()
