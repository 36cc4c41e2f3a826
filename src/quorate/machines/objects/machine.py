"""The state machine of a replicated object: marked methods in, their results out.

What does not survive exactly is refused by the command that sets it; `ObjectState` sees to it. A command must be
deterministic: no clock, no chance, no files; pass those in as arguments. Whatever it raises is its result, the same on
every node, and its changes are undone; so are those of a command whose result cannot be sent. Running out of memory or
stack differs by node: the command is undone, and `Unapplied` ends the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar

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
    unpacker_of_calls,
)
from quorate.machines.objects.definition import Definition, Replicated, command, invariant, kinds_of, marked, read
from quorate.machines.objects.state import ObjectState
from quorate.machines.objects.values import Packer, encode
from quorate.machines.state_machine import StateMachine

__all__ = [
    "CommandFailed",
    "MethodCall",
    "ObjectMachine",
    "Raised",
    "Replicated",
    "Returned",
    "Unapplied",
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


class ObjectMachine(StateMachine):
    """Applies calls to an instance. Raises TypeError for a class that cannot be replicated.

    ``has_tracebacks``: what is raised carries this node's traceback. Line numbers may differ by node, so it must be
    False where clients compare answers.
    """

    is_audited: ClassVar[bool] = True

    def __init__(self, kind: type[Replicated], *, has_tracebacks: bool = False) -> None:
        self._definition = Definition(kind)
        self.version = self._definition.kind.version
        self._has_tracebacks = has_tracebacks
        self._packer = Packer(self._definition.kinds)
        self._unpacker = unpacker_of_calls(self._definition.kinds)
        self.call: MethodCall | None = None
        """The call that is running."""
        self._adopt(ObjectState(self._definition))

    def _adopt(self, state: ObjectState) -> None:
        self.state = state
        self._commands = {name: getattr(state.instance, name) for name in self._definition.commands}
        self._reads = {name: getattr(state.instance, name) for name in self._definition.reads}
        self._invariants = {name: getattr(state.instance, name) for name in sorted(self._definition.invariants)}

    @property
    def instance(self) -> Any:
        """The object. Only commands change it; after `restore` it is another one."""
        return self.state.instance

    def apply(self, command: bytes) -> bytes:
        """Call a command method. Raises Unapplied if this node ran out of memory or stack."""
        state = self.state
        try:
            self.call = call = decode_call(command, self._unpacker)
            method = self._commands.get(call.method)
            if method is None:
                raise self._unknown("command", call.method)
        except (ValueError, AttributeError) as error:
            return encode_raised(error, self._packer)
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

    def query(self, query: bytes) -> bytes:
        """Call a read method."""
        tracker = self.state.tracker
        try:
            self.call = call = decode_call(query, self._unpacker)
            method = self._reads.get(call.method)
            if method is None:
                raise self._unknown("read", call.method)
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

    def _unknown(self, mark: str, method: str) -> AttributeError:
        return AttributeError(f"{self._definition.kind.__name__} has no @{mark} method {method!r}")

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
        """The attributes as they are now, with their digests."""
        return self.state.snapshot()

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Attributes that ``snapshot`` wrote, over a fresh instance. Raises ValueError."""
        state = ObjectState(self._definition)
        state.load(file)

        def adopt() -> None:
            self._adopt(state)

        return adopt


def _what(error: BaseException) -> str:
    return "memory" if isinstance(error, MemoryError) else "stack"
