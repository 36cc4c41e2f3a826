"""A register map above a replicated log, small and naive: what the simulator is developed and tested with."""

from collections.abc import Callable, Hashable
from typing import Any, BinaryIO

import msgspec

from quorate.kernel import App, Client, Rng
from quorate.parts.log import COMMAND
from quorate.parts.replicated import Committed, Dropped, ReadFailed, ReadReady
from quorate.sim.workload import Answer, Driver, Op, Request, Subject


class Command(msgspec.Struct, array_like=True, frozen=True):
    """An operation of a session; ``serial`` makes repeats known."""

    client: int
    serial: int
    f: str
    key: str
    value: Any


class State(msgspec.Struct, array_like=True):
    """The values, and by client the last serial with its result."""

    values: dict[str, Any]
    sessions: dict[str, tuple[int, Any]]


class RegisterApp(App):
    """Replies (serial, result), or (serial, None, "again") where the request should be repeated."""

    def __init__(self) -> None:
        self.state = State({}, {})
        self.waiting: dict[tuple[int, int], Client] = {}
        self.reads: dict[int, tuple[Client, Command]] = {}
        self.token = 0

    def request(self, client: Client, request: Any) -> None:
        if request.f == "read":
            self.token += 1
            self.reads[self.token] = (client, request)
            self.port.ask([self.token])
        else:
            self.waiting[(request.client, request.serial)] = client
            self.port.submit([msgspec.msgpack.encode(request)])

    def output(self, value: Any) -> None:
        match value:
            case Committed(_, entries):
                for entry in entries:
                    if entry.kind == COMMAND:
                        self._apply(msgspec.msgpack.decode(entry.data, type=Command))
            case ReadReady(tokens):
                for token in tokens:
                    client, read = self.reads.pop(token)
                    self.port.reply(client, (read.serial, self.state.values.get(read.key)))
            case ReadFailed(tokens, _):
                for token in tokens:
                    client, read = self.reads.pop(token)
                    self.port.reply(client, (read.serial, None, "again"))
            case Dropped(values, _):
                for data in values:
                    command = msgspec.msgpack.decode(data, type=Command)
                    client = self.waiting.pop((command.client, command.serial), None)
                    if client is not None:
                        self.port.reply(client, (command.serial, None, "again"))

    def _apply(self, command: Command) -> None:
        serial, result = self.state.sessions.get(str(command.client), (0, None))
        if command.serial > serial:
            result = self._execute(command)
            self.state.sessions[str(command.client)] = (command.serial, result)
        client = self.waiting.pop((command.client, command.serial), None)
        if client is not None:
            self.port.reply(client, (command.serial, result))

    def _execute(self, command: Command) -> Any:
        values = self.state.values
        if command.f == "write":
            values[command.key] = command.value
            return True
        expected, new = command.value
        if values.get(command.key) != expected:
            return False
        values[command.key] = new
        return True

    def snapshot(self) -> Callable[[BinaryIO], None]:
        data = msgspec.msgpack.encode(self.state)
        return lambda file: (file.write(data), None)[1]

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        state = msgspec.msgpack.decode(file.read(), type=State)
        return lambda: setattr(self, "state", state)


class RegisterDriver(Driver):
    """One session."""

    def __init__(self, client: int) -> None:
        self.client = client
        self.serial = 0
        self.command: Command | None = None

    def begin(self, op: Op) -> Request:
        self.serial += 1
        self.command = Command(self.client, self.serial, op.f, op.key, op.value)
        return Request(self.command)

    def receive(self, reply: Any) -> Answer | Request | None:
        if self.command is None or reply[0] != self.serial:
            return None
        if len(reply) == 3:
            return Request(self.command)
        self.command = None
        return Answer("ok", reply[1])

    def retry(self) -> Request:
        return Request(self.command)

    def give_up(self) -> None:
        self.command = None

    def identity(self) -> Hashable | None:
        return (self.client, self.serial)


class RegisterSubject(Subject):
    """The register map as a Subject."""

    def app(self, node: int, rng: Rng) -> App:
        return RegisterApp()

    def driver(self, client: int, rng: Rng) -> Driver:
        return RegisterDriver(client)

    def identities(self, data: bytes) -> tuple[Hashable, ...]:
        if not data:
            return ()
        command = msgspec.msgpack.decode(data, type=Command)
        return ((command.client, command.serial),)

    def digest(self, app: App) -> bytes | None:
        return msgspec.msgpack.encode(app.state, order="sorted")  # type: ignore[attr-defined]
