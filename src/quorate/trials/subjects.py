"""The real Replica, state machines and client sessions, as the simulator wants them.

``subject(name)`` gives what a simulated run puts to the test: ``register`` (a map of registers in memory) or ``kv``
(the store on LMDB), with the clients that the traits of the protocol ask for. Nothing here stands in for the real
thing but the clients' network.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from quorate.kernel import App, Rng
from quorate.machines.kv import commands as kv
from quorate.machines.state_machine import StateMachine
from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Scheme, Signer
from quorate.protocols.traits import CRASH, Belief, Traits, Value
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.core import ClientCore
from quorate.service.replica import Replica
from quorate.service.requests import DECODE_ERRORS, Apply, AskStatus, Status, decode_signed_command
from quorate.service.signed import SignedReplica
from quorate.sim.checkers.base import Checker
from quorate.sim.ground import Ground
from quorate.sim.logs import LogSubject
from quorate.sim.node import SimNode
from quorate.sim.options import CLIENTS_MAX, OptionsError
from quorate.sim.workload import Answer, Driver, Op, Workload
from quorate.trials.drivers import Dialect, ServiceDriver
from quorate.trials.false_clients import FALSE_KEYS, ClientsAmongFalse
from quorate.trials.lost_pages import LossyKvMachine, lose
from quorate.trials.session_checker import SessionsLast

SESSIONS_MAX = 64

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_key = msgspec.msgpack.Decoder(str).decode
_TRUE, _FALSE = _encode(True), _encode(False)


class RegisterMachine(StateMachine):
    """A map from name to value. Operations are msgpack of ``[f, key, value]`` as in ``sim.workload.Op``."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.applied = 0
        self.repeated: str | None = None
        """What was applied twice in this life, if anything: the simulator's clients use no value twice."""
        self._seen: set[bytes] = set()

    def apply(self, command: bytes) -> bytes:
        """A write gives True, a cas whether it took place."""
        f, key, value = _decode(command)
        self.applied += 1
        if command in self._seen:
            self.repeated = f"{f} {key} {value}"
        self._seen.add(command)
        if f == "cas":
            expected, value = value
            if self.values.get(key) != expected:
                return _FALSE
        self.values[key] = value
        return _TRUE

    def query(self, query: bytes) -> bytes:
        """The value of a key, or None."""
        return _encode(self.values.get(_decode_key(query)))

    def digest(self) -> bytes:
        """All that is here, and how many operations made it."""
        return _encode((self.applied, sorted(self.values.items())))

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


class RegisterDialect(Dialect):
    """Against a RegisterMachine."""

    def operation(self, op: Op) -> bytes:
        """As the base says."""
        return _encode((op.f, op.key, op.value))

    def question(self, op: Op) -> bytes:
        """As the base says."""
        return _encode(op.key)

    def answer(self, op: Op, data: bytes) -> Answer:
        """As the base says."""
        return Answer("ok", _decode(data))


class ServiceSubject(LogSubject):
    """The Replica over one kind of state machine. By the protocol's traits its clients sign and count answers."""

    client: type[ClientCore] = ClientCore
    """What all clients are."""

    def __init__(self, traits: Traits = CRASH, scheme: Scheme | None = None) -> None:
        self._scheme = scheme if traits.value is Value.SIGNED_REQUESTS else None
        """Where values are signed requests: without a scheme nobody could make any."""
        self.faults = 0 if scheme is None else traits.liars(len(scheme.keyring().nodes))
        """How many lying nodes its clients outvote."""

    def app(self, node: int, rng: Rng) -> App:
        """A Replica with an empty machine."""
        kind = Replica if self._scheme is None else SignedReplica
        return kind(self.machine(node), sessions_max=SESSIONS_MAX)

    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        """A client that speaks to this kind of machine."""
        return ServiceDriver(self.dialect(), rng, nodes, patience_s, lambda: self.signer(client), self.client)

    def signer(self, client: int) -> Signer:
        """What a client signs with."""
        assert self._scheme is not None
        return self._scheme.client(client)

    def workload(self, world: Ground[Any]) -> Workload:
        """Its clients, and false ones among them if the mix says so."""
        false = world.mix.false_clients
        if self._scheme is None or not false:
            return super().workload(world)
        return ClientsAmongFalse(world, self, self._scheme, self.dialect(), false)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """As the base says; and that those keep their sessions who use them, where anybody may open some."""
        checkers = super().checkers(protocol, scheme)
        if self._scheme is None:
            return checkers
        owners = [self._scheme.client(number).public for number in range(CLIENTS_MAX - FALSE_KEYS)]
        return [*checkers, SessionsLast(frozenset(owners))]

    def greeting(self, node: SimNode) -> Greeted:
        """Its cluster, and what that bears if nodes may lie there: see ``Server``."""
        if self._scheme is None:
            return Greeted("", None)
        bears = Bears(self.faults, max(len(node.host.roster.peers), 3 * self.faults + 1))
        return Greeted(self._scheme.cluster, bears)

    def at_door(self, node: SimNode, request: Any) -> Status | None:
        """How the node is, as far as clients care."""
        if type(request) is not AskStatus:
            return None
        app = node.app
        assert isinstance(app, Replica)
        leader = node.host.root.standing().leader
        return Status(request.id, node.id, "", "", leader, 0, app.applied_index, app.applied_index, 0)

    @abstractmethod
    def machine(self, node: int) -> StateMachine:
        """A fresh state machine."""

    @abstractmethod
    def dialect(self) -> Dialect:
        """How clients speak to it."""

    def identities(self, data: bytes) -> tuple[Hashable, ...]:
        """The session and serial of each command that an entry holds."""
        request = None if self._scheme is None else signed.decode_signed_request(data)
        entries = (data,) if request is None else request.commands
        return tuple(identity for entry in entries if (identity := _identity(entry)) is not None)


def _identity(entry: bytes) -> Hashable | None:
    try:
        command = decode_signed_command(entry)
    except DECODE_ERRORS:
        return None
    return (command.session, command.serial) if isinstance(command, Apply) else None


class RegisterSubject(ServiceSubject):
    """Registers in memory."""

    def machine(self, node: int) -> StateMachine:
        """An empty map."""
        return RegisterMachine()

    def dialect(self) -> Dialect:
        """That of registers."""
        return RegisterDialect()

    def digest(self, app: App) -> bytes | None:
        """The map's."""
        assert isinstance(app, Replica)
        assert isinstance(app.machine, RegisterMachine)
        return app.machine.digest()

    def repeated(self, app: App) -> str | None:
        """What the map was told twice."""
        assert isinstance(app, Replica)
        assert isinstance(app.machine, RegisterMachine)
        return app.machine.repeated


class KvDialect(Dialect):
    """Against the key-value store. A cas is a transaction with one compare."""

    def operation(self, op: Op) -> bytes:
        """As the base says."""
        key = op.key.encode()
        if op.f == "write":
            return kv.encode(kv.Put(key, _to_value(op.value)))
        expected, new = op.value
        if expected is None:
            compare = kv.Compare(key, kv.Target.VERSION, kv.Relation.EQUAL, 0)
        else:
            compare = kv.Compare(key, kv.Target.VALUE, kv.Relation.EQUAL, _to_value(expected))
        return kv.encode(kv.Txn([compare], [kv.Put(key, _to_value(new))]))

    def question(self, op: Op) -> bytes:
        """As the base says."""
        return kv.encode(kv.Range(op.key.encode()))

    def answer(self, op: Op, data: bytes) -> Answer:
        """As the base says."""
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

    def __init__(self, traits: Traits = CRASH, scheme: Scheme | None = None) -> None:
        super().__init__(traits, scheme)
        self._folder = tempfile.TemporaryDirectory(prefix="quorate-sim-")
        self._machines: dict[int, StateMachine] = {}
        self._synced: dict[int, dict[Path, bytes]] = {}

    def machine(self, node: int) -> StateMachine:
        """An empty store; the node's earlier life, if there was one, is over."""
        if node in self._machines:
            self._machines[node].close()
        machine = self._machines[node] = LossyKvMachine.opened(Path(self._folder.name) / str(node))
        machine.synced = self._synced.setdefault(node, {})
        return machine

    def crashed(self, node: int, rng: Rng) -> None:
        """Half of the time the power is gone, not just the process."""
        self._machines[node].close()
        if rng.random() < 0.5:
            lose(self._synced[node], rng)

    def close(self) -> None:
        """The stores, and then their folder: LMDB is to close a file before its place is another's."""
        for machine in self._machines.values():
            machine.close()
        self._folder.cleanup()

    def dialect(self) -> Dialect:
        """That of the store."""
        return KvDialect()

    def digest(self, app: App) -> bytes | None:
        """The store's own."""
        assert isinstance(app, Replica)
        result = kv.decode_result(app.read(kv.encode(kv.Digest())))
        assert isinstance(result, kv.DigestResult)
        return result.digest


SUBJECTS: dict[str, Callable[[Traits, Scheme | None], ServiceSubject]] = {"register": RegisterSubject, "kv": KvSubject}


def subject(
    name: str, traits: Traits = CRASH, scheme: Scheme | None = None, client: type[ClientCore] = ClientCore
) -> ServiceSubject:
    """A fresh subject: ``register`` or ``kv``. ``scheme`` has the keys where the protocol's nodes or clients sign.

    ``client`` is what its clients are.

    Raises OptionsError for traits that the service has no Replica and no client for.
    """
    check_traits(traits)
    made = SUBJECTS[name](traits, scheme)
    made.client = client
    return made


def check_traits(traits: Traits) -> None:
    """Whether the service has a Replica and a client for them. Raises OptionsError."""
    is_signed = traits.value is Value.SIGNED_REQUESTS and traits.belief is Belief.VOTES
    if not is_signed and not (traits.value is Value.OPAQUE and traits.belief is Belief.LEADER):
        there_are = "opaque values with the leader's word, or signed requests with votes"
        raise OptionsError(f"there are no clients for {traits.value.name} with {traits.belief.name}: take {there_are}")
