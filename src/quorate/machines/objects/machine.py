"""The state machine of a replicated object: marked methods in, their results out.

What does not survive exactly is refused by the command that sets it; `ObjectState` sees to it. A command must be
deterministic: no files, no clock and no chance but those of `context`. `versions` says which body it runs. Whatever it
raises is its result, the same on every node, and its changes are undone; so are those of a command whose result cannot
be sent. Running out of memory or stack differs by node: the command is undone, and `Unapplied` ends the node.
"""

from __future__ import annotations

import copy
import hashlib
import struct
from collections.abc import Callable, Collection
from typing import Any, BinaryIO, ClassVar, Final

import msgspec

from quorate.machines.objects.calls import (
    CommandFailed,
    MethodCall,
    Raised,
    Returned,
    Unapplied,
    decode_call,
    decode_outcome,
    encode_call,
    encode_raised,
    encode_result,
    error_of,
    stamp_call,
    unpacker_of_calls,
)
from quorate.machines.objects.context import MOMENT
from quorate.machines.objects.definition import Definition, Replicated, command, invariant, kinds_of, marked, read
from quorate.machines.objects.state import ObjectState
from quorate.machines.objects.values import Packer, encode
from quorate.machines.objects.versions import (
    NotActive,
    VersionDiffers,
    VersionState,
    decode_standing,
    encode_standing,
)
from quorate.machines.state_machine import StateMachine

__all__ = [
    "CommandFailed",
    "MethodCall",
    "NotActive",
    "ObjectMachine",
    "Raised",
    "Replicated",
    "Returned",
    "Unapplied",
    "VersionDiffers",
    "command",
    "decode_outcome",
    "encode",
    "encode_call",
    "error_of",
    "invariant",
    "kinds_of",
    "marked",
    "read",
]
STANDING_BYTES_MAX: Final = 1 << 24
"""Of the versions' record, with which a snapshot begins, after its length and digest."""
_HEAD = struct.Struct("<I8s")


class ObjectMachine(StateMachine):
    """Applies calls to an instance. Raises TypeError for a class that cannot be replicated.

    ``has_tracebacks``: what is raised carries this node's traceback. Line numbers may differ by node, so it must be
    False where clients compare answers.

    ``trusts_members``: they announce their versions, and one that takes a command adds the time. False where nodes may
    lie: there the caller's time counts, and nothing that is granted for a time can be trusted.
    """

    kind: ClassVar[str] = "object"
    is_audited: ClassVar[bool] = True
    stamps: ClassVar[bool] = True

    def __init__(self, kind: type[Replicated], *, has_tracebacks: bool = False, trusts_members: bool = True) -> None:
        self._definition = Definition(kind)
        self._versions = self._definition.versions
        self.version = self._versions.version
        self.trusts_time = trusts_members
        self._standing = VersionState()
        self._has_tracebacks = has_tracebacks
        self._packer = Packer(self._definition.kinds)
        self._unpacker = unpacker_of_calls(self._definition.kinds)
        self.call: MethodCall | None = None
        """The call that is running."""
        self._adopt(ObjectState(self._definition))

    def _adopt(self, state: ObjectState) -> None:
        self.state = state
        self._choose_bodies()
        self._reads = {name: getattr(state.instance, name) for name in self._definition.reads}
        self._invariants = {name: getattr(state.instance, name) for name in sorted(self._definition.invariants)}

    def _choose_bodies(self) -> None:
        bodies = self._versions.bodies(self._standing.active)
        self._commands = {name: getattr(self.state.instance, body) for name, body in bodies.items()}

    @property
    def time_ns(self) -> int:
        """The time of the latest command that carried one; 0: none did."""
        return self._standing.time_ns

    @property
    def active_version(self) -> int:
        """The version of the class whose commands run now; 0 before the log has named one."""
        return self._standing.active

    def refusal(self, method: str) -> Exception | None:
        """Why this command would be refused now, as far as this node knows; None: it would not."""
        if method in self._commands or not self._standing.active:
            return None
        return self._versions.refusal(self._standing, method, self.version)

    @property
    def instance(self) -> Any:
        """The object. Only commands change it; after `restore` it is another one."""
        return self.state.instance

    def apply(self, command: bytes) -> bytes:
        """Call a command method. Raises Unapplied if this node ran out of memory or stack; VersionDiffers."""
        state, standing = self.state, self._standing
        try:
            self.call = call = decode_call(command, self._unpacker)
        except ValueError as error:
            return encode_raised(error, self._packer)
        if call.version != standing.active:
            self._meet(call.version)
        if call.stamp > standing.time_ns:
            standing.time_ns = call.stamp
        method = self._commands.get(call.method)
        if method is None:
            return encode_raised(self._versions.refusal(standing, call.method, call.version), self._packer)
        MOMENT.carrier = self
        state.begin()
        try:
            result = encode_result(method(*call.args, **call.kwargs), self._packer)
            state.commit()
            return result
        except (MemoryError, RecursionError) as error:
            state.undo()
            raise Unapplied(
                f"{self._definition.kind.__name__}.{call.method} ran out of {_what(error)} on this node "
                f"({type(error).__name__}: {error}). Others may have applied it, so this node stops with the command "
                "unapplied. Give it what the others have, or change the method, and start it again"
            ) from error
        except BaseException as error:
            state.undo()
            return encode_raised(error, self._packer, has_traceback=self._has_tracebacks)
        finally:
            self.call = None
            MOMENT.carrier = None

    # --- versions ---

    def _meet(self, version: int) -> None:
        """A call of another version than the active one."""
        active = self._standing.active
        if self.trusts_time:
            if not active:
                self._rise(version)
        elif active < version <= self.version:  # of a later one nobody has said that it is
            self._rise(version)

    def _rise(self, version: int) -> None:
        """A later version is active from here on. Raises VersionDiffers, with nothing changed."""
        self._versions.check(version)
        state, standing = self.state, self._standing
        steps = range(standing.active, version) if standing.active else ()
        state.begin()
        try:
            for step in steps:
                self._migrate(step)
            state.commit()
        except Exception as error:
            state.undo()
            raise VersionDiffers(
                f"{self._definition.kind.__name__}.migrate cannot bring the state from version {standing.active} to "
                f"{version} ({type(error).__name__}: {error}). The same happens on every node, and nothing is "
                "changed yet: mend migrate, and start the nodes again"
            ) from error
        standing.active = version
        standing.bodies = {named: found for named, found in standing.bodies.items() if named >= version}
        self._choose_bodies()
        self._versions.check_bodies(standing)

    def _migrate(self, step: int) -> None:
        instance = self.instance
        before = dict(vars(instance))
        after = self._definition.kind.migrate(copy.deepcopy(before), step)
        if type(after) is not dict:
            raise TypeError(f"it returns a {type(after).__name__}, not the dict of attributes")
        for name in before:
            if name not in after:
                delattr(instance, name)
        for name, value in after.items():
            setattr(instance, name, value)

    def stamp(self, command: bytes, wall_ns: int) -> bytes:
        """The call with this node's time. The first of all calls names no version that this node does not have."""
        return stamp_call(command, max(wall_ns, 0), None if self._standing.active else self.version)

    def announcement(self, node: int, members: Collection[int]) -> bytes:
        """The class's version and what its commands do."""
        return self._versions.announcement(self._standing, node, members)

    def announced(self, node: int, data: bytes) -> None:
        """The active version may rise. Raises VersionDiffers where this node's code is not fit for it."""
        version = self._versions.hear(self._standing, node, data)
        if version != self._standing.active:
            self._rise(version)

    def query(self, query: bytes) -> bytes:
        """Call a read method."""
        tracker = self.state.tracker
        try:
            self.call = call = decode_call(query, self._unpacker)
            method = self._reads.get(call.method)
            if method is None:
                raise AttributeError(f"{self._definition.kind.__name__} has no @read method {call.method!r}")
        except (ValueError, AttributeError) as error:
            return encode_raised(error, self._packer)
        tracker.begin_read()
        try:
            try:
                result = encode_result(method(*call.args, **call.kwargs), self._packer)
            finally:
                tracker.end_read()
            return result
        except BaseException as error:
            return encode_raised(error, self._packer, has_traceback=self._has_tracebacks)
        finally:
            self.call = None

    def broken(self) -> str | None:
        """The first @invariant that does not hold now, and what it said; None: all hold."""
        tracker = self.state.tracker
        for name, holds in self._invariants.items():
            tracker.begin_read()
            try:
                try:
                    verdict = holds()
                finally:
                    tracker.end_read()
            except Exception as error:
                return f"{name}: {type(error).__name__}: {error}"
            if verdict is False:
                return f"{name} returned False"
        return None

    def contents(self) -> dict[str, bytes]:
        """What each attribute holds, encoded: read anew, whatever the digests say. Raises TypeError."""
        return {name: encode(self._packer.pack(value)) for name, value in sorted(vars(self.instance).items())}

    def digests(self) -> dict[str, bytes]:
        """The digest of each attribute, by name: equal on all nodes that have applied the same commands."""
        return self.state.digests()

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """The versions, and the attributes as they are now, with their digests."""
        head = encode_standing(self._standing)
        write_state = self.state.snapshot()

        def write(file: BinaryIO) -> None:
            file.write(_HEAD.pack(len(head), _digest(head)) + head)
            write_state(file)

        return write

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Attributes that ``snapshot`` wrote, over a fresh instance. Raises ValueError; adopting, VersionDiffers."""
        standing = _read_standing(file)
        try:
            self._versions.check(standing.active)
            self._versions.check_bodies(standing)
        except VersionDiffers as error:
            why = str(error)

            def refuse() -> None:
                raise VersionDiffers(why)

            return refuse
        state = ObjectState(self._definition)
        state.load(file)

        def adopt() -> None:
            self._standing = standing
            self._adopt(state)

        return adopt


def _digest(head: bytes) -> bytes:
    return hashlib.blake2b(head, digest_size=8).digest()


def _read_standing(file: BinaryIO) -> VersionState:
    head = file.read(_HEAD.size)
    if len(head) != _HEAD.size:
        raise ValueError("the snapshot ends before its versions")
    size, digest = _HEAD.unpack(head)
    data = file.read(size) if size <= STANDING_BYTES_MAX else b""
    if len(data) != size or _digest(data) != digest:
        raise ValueError("the snapshot's versions are cut short, too large or corrupt")
    try:
        return decode_standing(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"the snapshot's versions are corrupt: {error}") from None


def _what(error: BaseException) -> str:
    return "memory" if isinstance(error, MemoryError) else "stack"
