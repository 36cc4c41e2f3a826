"""The marked methods of a class: which there are, calls of them as bytes, and what came of a call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from quorate.machines.named import NamedOperation, encode_operation
from quorate.machines.objects.definition import Definition
from quorate.machines.objects.kinds import Kinds
from quorate.machines.objects.machine import Raised, Replicated, decode_outcome, encode_call, error_of
from quorate.service.client.errors import Refused


def unpack_outcome(data: bytes, kinds: Kinds) -> Any:
    """What the method returned. Raises what it raised; Refused for bytes that are no outcome."""
    try:
        outcome = decode_outcome(data, kinds)
    except ValueError as error:
        raise Refused(f"the nodes answered what is no method's result ({error}): do they replicate objects?") from None
    if isinstance(outcome, Raised):
        raise error_of(outcome)
    return outcome.value


class Methods:
    """Those of one class. Raises TypeError for one that cannot be replicated.

    ``name``: of the object, where a node has several; empty: it has this one alone.
    """

    def __init__(self, kind: type[Replicated], name: str = "") -> None:
        if not isinstance(kind, type):
            raise TypeError(f"{kind!r} is not a class: give the class itself, which each node makes an instance of")
        definition = Definition(kind)
        self.kind = kind
        self.name = name
        self.commands = definition.commands
        self.reads = definition.reads
        self.names = sorted(self.commands | self.reads)
        self._kinds = definition.kinds
        self._signatures = {name: inspect.signature(getattr(kind, name)) for name in self.names}

    @property
    def title(self) -> str:
        """What errors and handles call the object."""
        return f"{self.kind.__name__} {self.name!r}" if self.name else self.kind.__name__

    def pack(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """A call, checked before anything is sent. Raises TypeError for arguments that the method does not take."""
        try:
            self._signatures[name].bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.kind.__name__}.{name}: {error}") from None
        call = encode_call(name, args, kwargs, self._kinds)
        return encode_operation(NamedOperation(self.name, call)) if self.name else call

    def unpack(self, data: bytes) -> Any:
        """As ``unpack_outcome``."""
        return unpack_outcome(data, self._kinds)

    def signature(self, name: str) -> inspect.Signature:
        """Of a marked method, as its callers see it."""
        signature = self._signatures[name]
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def missing(self, name: str) -> AttributeError:
        """What to say to somebody who wants an attribute that is no marked method."""
        kind = self.kind.__name__
        if callable(self.kind.__dict__.get(name)):
            return AttributeError(f"{kind}.{name} is not marked with @command or @read: a handle calls only those")
        return AttributeError(
            f"{kind}.{name} is not marked with @command or @read, and a handle has nothing else: the state is on "
            f"the nodes, so write a @read method that returns it"
        )

    def unchangeable(self, name: str, what: str) -> AttributeError:
        """What to say to somebody who sets or deletes an attribute."""
        return AttributeError(
            f"{self.kind.__name__}.{name} cannot be {what} through a handle, as the state is on the nodes: write a "
            f"@command method that does it"
        )
