"""Inputs: everything that can happen to a Host, as plain values.

A shell (the real Node, the simulated World, a test) turns what happens outside into these and calls ``Host.step``.
Most go to the core at ``path``; a Stalled goes to every core.
"""

from typing import Any, TypeAlias

import msgspec

from quorate.kernel.ids import ROOT, Key, NodeId, Path


class Received(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A message from a node, perhaps from ourselves."""

    sender: NodeId
    message: Any
    path: Path = ROOT


class Submitted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Values that the application wants decided, in this order."""

    values: tuple[bytes, ...]
    path: Path = ROOT


class Asked(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Reads that want to know when the local state is fresh enough; the tokens come back in an output."""

    tokens: tuple[int, ...]
    path: Path = ROOT


class Fired(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A timer ran out."""

    key: Key
    path: Path = ROOT


class Done(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A job ended; ``result`` is a value of the job's own result type, or a Failed."""

    key: Key
    result: Any
    path: Path = ROOT


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The result of a job that could not be done."""

    why: str


class Stalled(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Storage stopped taking records, with the reason, or takes them again (None)."""

    why: str | None


Input: TypeAlias = Received | Submitted | Asked | Fired | Done | Stalled
