"""The state machine of a replicated object: marked methods in, their results out.

State is the object's attributes. They must survive msgpack: None, bool, int, float, str, bytes, lists, and dicts of
these; anything else that msgspec can encode (sets, tuples, dataclasses, Structs) needs an annotation on the class, so
that a snapshot gives back the same type. A command must be deterministic: no clock, no chance, no files; pass those in
as arguments. Nor may it depend on the order of a set, which differs between processes: sort it. An exception that it
raises is its result, the same on every node, and what it changed before stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar, get_type_hints

import msgspec

from quorate.machines.state_machine import StateMachine

F = TypeVar("F", bound=Callable[..., Any])
ATTRIBUTE_MARK = "__quorate__"
ARGUMENT_DEPTH_MAX = 64
"""Well below what any stack has left: deeper than that, one node's decoder gives up where another's does not."""


class Replicated:
    """Base of a replicated class. ``__init__`` takes no arguments: every node begins in the same state."""


class CommandFailed(Exception):
    """The method raised. ``kind`` is the exception's class name; the text is its own."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class MethodCall(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A method call as it stands in the log."""

    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="ok"):
    """What the method returned."""

    value: Any


class Raised(msgspec.Struct, frozen=True, array_like=True, tag="raised"):
    """What the method raised."""

    kind: str
    text: str


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(MethodCall).decode
decode_outcome = msgspec.msgpack.Decoder(Returned | Raised).decode


def command(method: F) -> F:
    """Mark a method that changes state: it goes through the log, and runs once on every node."""
    setattr(method, ATTRIBUTE_MARK, "command")
    return method


def read(method: F) -> F:
    """Mark a method that only reads: it runs on one node, on a state at least as new as when it was called."""
    setattr(method, ATTRIBUTE_MARK, "read")
    return method


def marked(kind: type[Replicated], mark: str) -> frozenset[str]:
    """The names of the methods with a mark."""
    return frozenset(name for name in dir(kind) if getattr(getattr(kind, name), ATTRIBUTE_MARK, None) == mark)


def _decode(data: bytes) -> MethodCall:
    """The call. Raises ValueError, in the same way on every node."""
    try:
        call = decode_call(data)
        is_deep = _is_deeper(call.args, ARGUMENT_DEPTH_MAX) or _is_deeper(call.kwargs, ARGUMENT_DEPTH_MAX)
    except RecursionError:
        is_deep = True
    if is_deep:
        raise ValueError(f"arguments are nested more than {ARGUMENT_DEPTH_MAX} deep")
    return call


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        # A key may be a tuple: msgpack allows arrays there.
        return levels == 0 or any(_is_deeper(k, levels - 1) or _is_deeper(v, levels - 1) for k, v in value.items())
    if isinstance(value, list | tuple):
        return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)
    return False


class ObjectMachine(StateMachine):
    """Applies calls to an instance. Raises TypeError for a class that has nothing to replicate."""

    def __init__(self, kind: type[Replicated]) -> None:
        self.instance = kind()
        self._commands = marked(kind, "command")
        self._reads = marked(kind, "read")
        if not self._commands:
            raise TypeError(f"{kind.__name__} has no method marked with @command: nothing would be replicated")
        self._types = {name: hint for name, hint in get_type_hints(kind).items() if not name.startswith("__")}
        self._encode_state()  # tell at the start, not at the first snapshot

    def apply(self, command: bytes) -> bytes:
        """Call a command method."""
        return self._call(command, self._commands, "command")

    def query(self, query: bytes) -> bytes:
        """Call a read method."""
        return self._call(query, self._reads, "read")

    def _call(self, data: bytes, allowed: frozenset[str], mark: str) -> bytes:
        try:
            call = _decode(data)
            if call.method not in allowed:
                raise AttributeError(f"{type(self.instance).__name__} has no @{mark} method {call.method!r}")
            return encode(Returned(getattr(self.instance, call.method)(*call.args, **call.kwargs)))
        except Exception as error:
            return encode(Raised(type(error).__name__, str(error)))

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """The attributes as they are now. Raises TypeError for one that would not come back as it is."""
        data = self._encode_state()

        def write(file: BinaryIO) -> None:
            file.write(data)

        return write

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Attributes that ``snapshot`` wrote. Raises ValueError."""
        state = self._decode_state(file.read())

        def adopt() -> None:
            vars(self.instance).clear()
            vars(self.instance).update(state)

        return adopt

    def _encode_state(self) -> bytes:
        state = vars(self.instance)
        try:
            data = encode(state)
            same = self._decode_state(data)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TypeError(f"the state of {type(self.instance).__name__} cannot be replicated: {error}") from error
        for name, value in state.items():
            if type(same[name]) is not type(value) or same[name] != value:
                raise TypeError(
                    f"{type(self.instance).__name__}.{name} would come back from a snapshot as "
                    f"{type(same[name]).__name__}: annotate it on the class, for example `{name}: set[str]`"
                )
        return data

    def _decode_state(self, data: bytes) -> dict[str, Any]:
        raw = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])
        return {name: msgspec.msgpack.decode(value, type=self._types.get(name, Any)) for name, value in raw.items()}
