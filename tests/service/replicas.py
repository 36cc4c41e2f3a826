"""What tests of the Replica share: a Port that keeps what it is asked, a machine that counts, commands by hand."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import msgspec

from quorate.kernel.app import Steps
from quorate.machines.state_machine import StateMachine
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided
from quorate.service.replica import Replica
from quorate.service.requests import Apply, CloseSession, Command, OpenSession, Query, encode


class Journaling(StateMachine):
    """Keeps every command in order and answers with its number; only batches that ended count as stored."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.stored = 0
        self.batches: list[int] = []
        self.open = False
        self.steps = self.under_way = 0

    def begin(self) -> None:
        assert not self.open
        self.open = True

    def commit(self) -> None:
        assert self.open
        self.batches.append(len(self.commands) - self.stored)
        self.stored, self.open = len(self.commands), False

    def apply(self, command: bytes) -> bytes:
        assert self.open
        self.commands.append(command)
        return b"%d:%b" % (len(self.commands), command)

    def query(self, query: bytes) -> bytes:
        assert not self.open
        return b"%d stored for %b" % (self.stored, query)

    def query_steps(self, query: bytes) -> Steps:
        """``b"3 steps"`` takes three, and so on; anything else is answered at once. Counts what goes on."""
        answer = self.query(query)
        if query.endswith(b" steps"):
            self.under_way += 1
            try:
                for _ in range(int(query.split()[0]) - 1):
                    self.steps += 1
                    yield
            finally:
                self.under_way -= 1
        self.steps += 1
        return answer

    def snapshot(self) -> Callable[[BinaryIO], None]:
        assert not self.open
        data = msgspec.msgpack.encode(self.commands)

        def write(file: BinaryIO) -> None:
            file.write(data)

        return write

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        commands = msgspec.msgpack.decode(file.read(), type=list[bytes])

        def adopt() -> None:
            self.commands, self.stored, self.open = commands, len(commands), False

        return adopt


class RecordingPort:
    """A Port that keeps what it is told."""

    def __init__(self) -> None:
        self.submitted: list[bytes] = []
        self.asked: list[int] = []
        self.replies: list[tuple[Any, Any]] = []
        self.timers: dict[Any, float] = {}
        """Those that run, with their delays."""

    def submit(self, values: Sequence[bytes]) -> None:
        self.submitted.extend(values)

    def ask(self, tokens: Sequence[int]) -> None:
        self.asked.extend(tokens)

    def set_timer(self, key: Any, delay_s: float) -> None:
        self.timers[key] = delay_s

    def reply(self, client: Any, response: Any) -> None:
        self.replies.append((client, response))

    def take(self) -> list[tuple[Any, Any]]:
        """The replies since the last call."""
        replies, self.replies = self.replies, []
        return replies


class Bench:
    """A Replica with its port and machine, and a log that the test writes."""

    def __init__(self, kind: type[Replica] = Replica, **limits: int) -> None:
        self.machine = Journaling()
        self.replica = kind(self.machine, **limits)
        self.port = self.replica.port = RecordingPort()

    def commit(self, *commands: Any, kind: int = COMMAND) -> None:
        """One Decided; commands are Structs, or bytes as they are."""
        entries = [Entry(1, c if isinstance(c, bytes) else encode(c), kind) for c in commands]
        self.replica.output(Decided(self.replica.applied_index + 1, entries))

    def request(self, client: str, request: Any) -> None:
        self.replica.request(client, request)

    def settle(self) -> list[tuple[Any, Any]]:
        """The answers that leave now."""
        self.replica.settle()
        return self.port.take()

    def fire(self, key: str) -> list[tuple[Any, Any]]:
        """A timer that runs is up; the answers that leave then."""
        del self.port.timers[key]
        self.replica.on_timer(key)
        return self.settle()

    def snapshot(self) -> bytes:
        file = io.BytesIO()
        self.replica.snapshot()(file)
        return file.getvalue()

    def restore(self, data: bytes) -> None:
        self.replica.restore(io.BytesIO(data))()

    def state(self) -> tuple[Any, ...]:
        """All that replicas with the same log must share."""
        return self.replica.applied_index, self.replica.sessions.encode(), list(self.machine.commands)


def put(session: int, serial: int, operation: bytes = b"x", answered_below: int = 0) -> Apply:
    return Apply(session, serial, answered_below, operation)


def command(number: int, entry: Apply | OpenSession | CloseSession) -> Command:
    return Command(number, encode(entry))


def query(number: int, text: bytes = b"q", serializable: bool = False) -> Query:
    return Query(number, text, serializable)
