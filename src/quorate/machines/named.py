"""NamedMachines: several state machines in one node, each under its name, that share one log.

A command or query names its machine. Every node has the same names. A snapshot holds each machine's own, in chunks, as
nobody knows beforehand how large one is; a machine that it does not hold begins anew.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO, ClassVar, Final, cast

import msgspec

from quorate.kernel.app import Steps
from quorate.machines.state_machine import StateMachine
from quorate.machines.streams import read_exactly

NAME_BYTES_MAX: Final = 255
CHUNK_BYTES_MAX: Final = 1 << 20
_COUNT = struct.Struct("<I")


class NamedOperation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A command or query of the machine of that name."""

    name: str
    operation: bytes


encode_operation = msgspec.msgpack.Encoder().encode
_decode_operation = msgspec.msgpack.Decoder(NamedOperation).decode
_decode_announcements = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class NamedMachines(StateMachine):
    """``make`` has what makes each machine anew. ``refuse`` is the result of what no machine can answer."""

    kind: ClassVar[str] = "objects"
    is_audited: ClassVar[bool] = True
    stamps: ClassVar[bool] = True

    def __init__(self, make: Mapping[str, Callable[[], StateMachine]], refuse: Callable[[str], bytes]) -> None:
        self._make = dict(sorted(make.items()))
        self._refuse = refuse
        self._use({name: made() for name, made in self._make.items()})

    def _use(self, machines: dict[str, StateMachine]) -> None:
        self.machines = machines
        self.version = sum(machine.version for machine in machines.values())

    def open(self) -> None:
        for machine in self.machines.values():
            machine.open()

    def begin(self) -> None:
        for machine in self.machines.values():
            machine.begin()

    def commit(self) -> None:
        for machine in self.machines.values():
            machine.commit()

    def apply(self, command: bytes) -> bytes:
        """As the named machine does."""
        found = self._find(command)
        return self._refuse(found) if isinstance(found, str) else self.machines[found.name].apply(found.operation)

    def query(self, query: bytes) -> bytes:
        """As the named machine does."""
        found = self._find(query)
        return self._refuse(found) if isinstance(found, str) else self.machines[found.name].query(found.operation)

    def query_steps(self, query: bytes) -> Steps:
        """As the named machine does."""
        found = self._find(query)
        if isinstance(found, str):
            return self._refuse(found)
        return (yield from self.machines[found.name].query_steps(found.operation))

    def stamp(self, command: bytes, wall_ns: int) -> bytes:
        """As the named machine does."""
        found = self._find(command)
        if isinstance(found, str):
            return command
        return encode_operation(NamedOperation(found.name, self.machines[found.name].stamp(found.operation, wall_ns)))

    def _find(self, data: bytes) -> NamedOperation | str:
        """Or why there is none."""
        try:
            found = _decode_operation(data)
        except _ERRORS:
            return "not an operation of a named object"
        if found.name not in self.machines:
            return f"there is no object {found.name!r} here; there are {', '.join(self.machines)}"
        return found

    def digests(self) -> Mapping[str, bytes]:
        """Those of all, ``name.part`` each."""
        return {
            f"{name}.{part}": digest
            for name, machine in self.machines.items()
            for part, digest in machine.digests().items()
        }

    def announcement(self, node: int, members: Collection[int]) -> bytes:
        machines = self.machines.items()
        said = {name: data for name, machine in machines if (data := machine.announcement(node, members))}
        return encode_operation(said) if said else b""

    def announced(self, node: int, data: bytes) -> None:
        """To each machine its own."""
        try:
            said = _decode_announcements(data)
        except _ERRORS:
            return
        for name, machine in self.machines.items():
            if name in said:
                machine.announced(node, said[name])

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """Each machine's own."""
        writers = {name: machine.snapshot() for name, machine in self.machines.items()}

        def write(file: BinaryIO) -> None:
            file.write(_COUNT.pack(len(writers)))
            for name, write_one in writers.items():
                encoded = name.encode()
                file.write(_COUNT.pack(len(encoded)) + encoded)
                with io.BufferedWriter(_ChunkWriter(file), CHUNK_BYTES_MAX) as chunks:
                    write_one(cast(BinaryIO, chunks))
                file.write(_COUNT.pack(0))

        return write

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Into machines made anew. Raises ValueError."""
        fresh = {name: made() for name, made in self._make.items()}
        adopts = []
        for _ in range(_count(file)):
            name = read_exactly(file, _count(file, NAME_BYTES_MAX)).decode()
            if name not in fresh:
                raise ValueError(f"the snapshot has an object {name!r}, which this node lacks: add it again")
            chunks = io.BufferedReader(_ChunkReader(file))
            adopts.append(fresh[name].restore(cast(BinaryIO, chunks)))
            while chunks.read(CHUNK_BYTES_MAX):
                pass

        def adopt() -> None:
            for adopt_one in adopts:
                adopt_one()
            before = self.machines
            self._use(fresh)
            for machine in before.values():
                machine.close()

        return adopt

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()


class _ChunkWriter(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        chunk = bytes(data[:CHUNK_BYTES_MAX])
        if chunk:  # an empty one would be the end
            self._file.write(_COUNT.pack(len(chunk)) + chunk)
        return len(chunk)


class _ChunkReader(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = 0
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._left and not self._is_over:
            self._left = _count(self._file, CHUNK_BYTES_MAX)
            self._is_over = not self._left
        data = read_exactly(self._file, min(self._left, len(buffer)))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def _count(file: BinaryIO, most: int = 1 << 16) -> int:
    count = int(_COUNT.unpack(read_exactly(file, _COUNT.size))[0])
    if count > most:
        raise ValueError(f"the snapshot is corrupt: {count} where at most {most} can be")
    return count
