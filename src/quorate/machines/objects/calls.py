"""Calls as they stand in the log, and what comes back: a result, or what the method raised.

Arguments and results are packed as `values` says; a call or an outcome whose values are all scalars is msgspec's own
encoding, untouched. An exception travels as its class's name, its text, its arguments if they travel, and the
traceback of the node that answered. The caller raises it again as itself if the class is builtin or registered with
`register_type`, otherwise as CommandFailed.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from quorate.kernel import AppEnded
from quorate.machines.objects.kinds import Kinds, exception_named, name_of_exception
from quorate.machines.objects.ordered_set import OrderedSet
from quorate.machines.objects.values import DEPTH_MAX, SCALARS, TOO_DEEP, Packer, Unpacker, encode
from quorate.parts.wire import Natural

TEXT_CHARS_MAX = 4096
"""Of an exception's text, and of a traceback each."""
ARGUMENTS_BYTES_MAX = 16_384
"""Of an exception's arguments."""
SEED_BYTES_MAX = 32
VERSION_MAX = 1 << 30
"""Of a class."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_KINDS = Kinds()


class CommandFailed(Exception):
    """The method raised something that is neither builtin nor registered with ``register_type``.

    ``kind`` is the exception's class name, ``text`` its own text, ``traceback`` the node's, empty where nodes may lie.
    """

    def __init__(self, kind: str, text: str, traceback: str = "") -> None:
        super().__init__(f"{kind}: {text}" + (f"\n\nOn the node:\n{traceback}" if traceback else ""))
        self.kind = kind
        self.text = text
        self.traceback = traceback


class Unapplied(AppEnded):
    """A command could not be applied by this node, though others may be able to. The state is as before it."""


class MethodCall(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A method call as it stands in the log. Arguments are packed until `decode_call` has been at it.

    ``version`` is the caller's, of its class. Chance comes from ``seed``; ``stamp`` is the time in ns, or 0.
    """

    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    version: Annotated[int, Meta(ge=1, le=VERSION_MAX)] = 1
    seed: Annotated[bytes, Meta(max_length=SEED_BYTES_MAX)] = b""
    stamp: Natural = 0


class _Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The same, with arguments that nobody looks at."""

    method: str
    args: msgspec.Raw = msgspec.Raw(b"\x90")
    kwargs: msgspec.Raw = msgspec.Raw(b"\x80")
    version: Natural = 1
    seed: bytes = b""
    stamp: Natural = 0


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="ok"):
    """What the method returned."""

    value: Any


class Raised(msgspec.Struct, frozen=True, array_like=True, tag="raised"):
    """What the method raised. ``args`` is None if they do not travel."""

    kind: str
    text: str
    args: list[Any] | None = None
    traceback: str = ""


_decode_call = msgspec.msgpack.Decoder(MethodCall).decode
_decode_sealed = msgspec.msgpack.Decoder(_Sealed).decode
_decode_outcome = msgspec.msgpack.Decoder(Returned | Raised).decode


def encode_call(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    kinds: Kinds = _NO_KINDS,
    *,
    version: int = 1,
    seed: bytes = b"",
    stamp: int = 0,
) -> bytes:
    """A call of a method as bytes. Raises TypeError for an argument that does not travel."""
    packer = Packer(kinds)
    try:
        packed = [packer.pack(value, DEPTH_MAX) for value in args]
        named = {key: packer.pack(value, DEPTH_MAX) for key, value in (kwargs or {}).items()}
    except TypeError as error:
        raise TypeError(f"an argument of {name}: {error}") from None
    return encode(MethodCall(name, packed, named, version, seed, stamp))


def stamp_call(data: bytes, time_ns: int, version_max: int | None = None) -> bytes:
    """The call with the time of the member that takes it; ``version_max`` lowers its version. What is no call stays."""
    try:
        call = _decode_sealed(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return data
    version = call.version if version_max is None else min(call.version, version_max)
    return encode(_Sealed(call.method, call.args, call.kwargs, version, call.seed, time_ns))


def decode_call(data: bytes, unpacker: Unpacker) -> MethodCall:
    """The call with its arguments. Raises ValueError, in the same way on every node."""
    try:
        call = _decode_call(data)
    except RecursionError:
        # Reached by hundreds of levels only, on every node: more than are allowed.
        raise ValueError(TOO_DEEP) from None
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"not a call: {error}") from None
    if SCALARS.issuperset(map(type, call.args)) and not call.kwargs:
        return call
    args = [unpacker.unpack(value) for value in call.args]
    kwargs = {key: unpacker.unpack(value) for key, value in call.kwargs.items()}
    return MethodCall(call.method, args, kwargs, call.version, call.seed, call.stamp)


def unpacker_of_calls(kinds: Kinds) -> Unpacker:
    """What a node unpacks arguments with: a set is iterated in the same order everywhere."""
    return Unpacker(kinds, sets=OrderedSet)


def encode_result(value: Any, packer: Packer) -> bytes:
    """What a method returned, as an outcome. Raises TypeError for a value that does not travel."""
    if type(value) not in SCALARS:
        value = packer.pack(value)
    try:
        return encode(Returned(value))
    except (OverflowError, UnicodeEncodeError):  # an int of more than 64 bits, or a text that is none
        return encode(Returned(packer.pack(value)))


def encode_raised(error: BaseException, packer: Packer, *, has_traceback: bool = False) -> bytes:
    """What a method raised, as an outcome."""
    try:
        args: Any = [packer.pack(value) for value in error.args]
        if len(encode(args)) > ARGUMENTS_BYTES_MAX:
            args = None
    except Exception:  # an argument that does not travel: the text has to do
        args = None
    trace = _text_of("".join(traceback.format_tb(error.__traceback__)[1:])) if has_traceback else ""
    return encode(Raised(name_of_exception(type(error)), _text_of(error), args, trace))


def _text_of(error: object) -> str:
    """The text, without what differs between processes and cannot be sent."""
    try:
        text = str(error)
    except Exception:  # somebody's own __str__
        text = ""
    text = _ADDRESS.sub(" at 0x...", text)
    if len(text) > TEXT_CHARS_MAX:
        text = text[: TEXT_CHARS_MAX // 2] + " ... " + text[-TEXT_CHARS_MAX // 2 :]
    return text.encode("utf-8", "backslashreplace").decode()


def decode_outcome(data: bytes, kinds: Kinds = _NO_KINDS) -> Returned | Raised:
    """What a call gave. Raises ValueError for bytes that are no outcome."""
    try:
        outcome: Returned | Raised = _decode_outcome(data)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"not an outcome: {error}") from None
    unpacker = Unpacker(kinds)
    if isinstance(outcome, Returned):
        return outcome if type(outcome.value) in SCALARS else Returned(unpacker.unpack(outcome.value))
    if outcome.args is None:
        return outcome
    return Raised(outcome.kind, outcome.text, [unpacker.unpack(arg) for arg in outcome.args], outcome.traceback)


def error_of(raised: Raised) -> Exception:
    """The exception to raise at the caller."""
    cls = exception_named(raised.kind)
    if cls is not None and raised.args is not None:
        try:
            error = cls(*raised.args) if cls.__module__ == "builtins" else _made(cls, raised.args)
        except Exception:  # what a node sent as arguments fits no such exception
            return CommandFailed(raised.kind, raised.text, raised.traceback)
        if raised.traceback:
            error.add_note(f"On the node:\n{raised.traceback}")
        return error
    return CommandFailed(raised.kind, raised.text, raised.traceback)


def _made(cls: type[Exception], args: list[Any]) -> Exception:
    error = cls.__new__(cls, *args)
    error.args = tuple(args)
    return error
