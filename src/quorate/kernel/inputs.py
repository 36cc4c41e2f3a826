"""Inputs: everything that can happen to a Host, as plain values.

A shell (the real Node, the simulated World, a test) turns what happens outside into these and calls ``Host.step``.
Those with a ``path`` go to the core there; a Stalled, and what an open roster reports, goes to every core.
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


class HandOver(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """If the core leads, another node is to lead in its place, and soon: ``to``, or whichever is ready (None)."""

    path: Path = ROOT
    to: NodeId | None = None


class HungUp(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Closed roster: a peer's connection to this node has ended. Its process may have, too; or it calls again soon."""

    node: NodeId
    path: Path = ROOT


class Handed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A value that the parent of the core at ``path`` hands down. The Host makes these itself."""

    value: Any
    path: Path


class Stalled(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Storage stopped taking records, with the reason, or takes them again (None)."""

    why: str | None


class Met(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Open roster: a link to a stranger is there. ``node`` is its number while it lasts.

    ``key`` is proven; ``address`` is where it says that it can be dialled; ``outbound`` says that we dialled it.
    """

    node: NodeId
    key: bytes
    address: str
    outbound: bool


class Parted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Open roster: a link is gone. Its number is used again for another, but not before the next step."""

    node: NodeId
    why: str


class Unmet(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Open roster: nobody could be met at an address."""

    address: str
    why: str


class Misbehaved(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Open roster: a stranger sent what does not decode, or what no core takes."""

    node: NodeId
    why: str


RosterInput: TypeAlias = Met | Parted | Unmet | Misbehaved
Input: TypeAlias = Received | Submitted | Asked | Fired | Done | HandOver | HungUp | Stalled | RosterInput
