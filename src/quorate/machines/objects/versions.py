"""Versions of a class: which body a command runs, and since when, on all nodes alike.

The *active* version is part of the replicated state. The first entry of the log that names a version sets it. From then
on each node announces the version of its class through the log, with the members that it knows and a fingerprint of
each command; when all members have announced a later version, the active one rises to it at that entry, and `migrate`
runs. So all nodes run the same bodies for the same entry, whichever of two versions of the class they have:

- a command runs its body of the active version (``before`` names the old ones), on a state of that version;
- a command whose ``since`` is above the active version does not exist yet, for old nodes and new ones alike;
- a node whose class is older than the active version ends, saying so: it lacks what the others run.

Where nodes may lie they announce nothing: there the active version rises with the first call of a later one, so nodes
are upgraded first, and callers after them.

A node also ends if a command has another body than the nodes announced for the same version: somebody changed the
code, and not the version. The active version's bodies are kept with the state, so a restarted node finds it too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from quorate.kernel import AppEnded, NodeId
from quorate.machines.objects.calls import VERSION_MAX
from quorate.machines.objects.fingerprints import FINGERPRINT_BYTES, fingerprint
from quorate.machines.objects.kinds import register_type
from quorate.machines.objects.values import encode
from quorate.parts.wire import Natural

ANNOUNCED_BYTES_MAX: Final = 60_000
"""Of an announcement. One that would be larger has no fingerprints."""
NAMES_MAX: Final = 5
_Version = Annotated[int, Meta(ge=1, le=VERSION_MAX)]
_Fingerprint = Annotated[bytes, Meta(max_length=FINGERPRINT_BYTES)]
"""Empty: there is no source to see."""


class VersionDiffers(AppEnded):
    """This node's code is not what the others run. It cannot go on."""


class NotActive(Exception):
    """A command of a version of its class that is not active yet: some member lacks it. Nothing was done."""


register_type(NotActive)


class VersionMark(NamedTuple):
    """What ``@command(since=..., before=...)`` says of a method."""

    since: int = 1
    before: Mapping[int, str] = {}

    def body(self, name: str, version: int) -> str:
        """The method that runs for entries of a version."""
        return next((self.before[limit] for limit in sorted(self.before) if version < limit), name)


class Announcement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One node's class: its version, the members that the node knows, and a fingerprint for each command."""

    version: _Version
    members: tuple[NodeId, ...]
    bodies: dict[str, _Fingerprint]


class VersionState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What the log has said of versions so far; part of the state. ``active`` is 0 before the first."""

    active: Natural = 0
    time_ns: Natural = 0
    members: tuple[NodeId, ...] = ()
    announced: dict[NodeId, _Version] = {}
    bodies: dict[_Version, dict[str, _Fingerprint]] = {}
    """As announced first, by version; none below the active one."""

    def lacking(self, version: int) -> list[int]:
        """The members that have not announced the version or a later one."""
        return [node for node in self.members if self.announced.get(node, 0) < version]


_decode = msgspec.msgpack.Decoder(Announcement).decode
decode_standing = msgspec.msgpack.Decoder(VersionState).decode


def encode_standing(standing: VersionState) -> bytes:
    """As part of a snapshot."""
    return encode(standing)


class Versions:
    """The versions of one class. Raises TypeError, in words, for marks or a version that cannot be."""

    def __init__(self, kind: type[Any], marks: Mapping[str, VersionMark]) -> None:
        self.kind = kind
        self.version: int = kind.version
        self.marks = marks
        self._known: dict[str, bytes] = {}
        _check_version(kind)
        for name, mark in marks.items():
            _check_mark(kind, name, mark)

    def bodies(self, version: int) -> dict[str, str]:
        """The commands that there are in a version, and the method that each runs."""
        return {name: mark.body(name, version) for name, mark in self.marks.items() if mark.since <= version}

    def fingerprints(self, version: int) -> dict[str, bytes]:
        """Of each command's body in a version; empty where there is no source."""
        return {name: self._fingerprint(body) for name, body in self.bodies(version).items()}

    def _fingerprint(self, method: str) -> bytes:
        if method not in self._known:
            self._known[method] = fingerprint(self.kind, method) or b""
        return self._known[method]

    # --- announcements ---

    def announcement(self, standing: VersionState, node: int, members: Collection[int]) -> bytes:
        """What this node is to say; empty if the log has it."""
        sorted_members = tuple(sorted(members))
        if standing.announced.get(node) == self.version and standing.members == sorted_members:
            return b""
        data = encode(Announcement(self.version, sorted_members, self.fingerprints(self.version)))
        return data if len(data) <= ANNOUNCED_BYTES_MAX else encode(Announcement(self.version, sorted_members, {}))

    def hear(self, standing: VersionState, node: int, data: bytes) -> int:
        """The log has an announcement. Returns the version that is to be active. Raises VersionDiffers."""
        try:
            said = _decode(data)
        except (msgspec.MsgspecError, ValueError):
            return standing.active  # of another release, or nothing: the same on every node
        standing.announced[node] = said.version
        standing.members = said.members
        if said.version >= standing.active:
            if said.bodies:
                standing.bodies.setdefault(said.version, said.bodies)
            self.check_bodies(standing)
        if not standing.active:
            return said.version
        known = [standing.announced.get(member, 0) for member in said.members]
        return max(standing.active, min(known, default=0))

    # --- what ends a node ---

    def check(self, active: int) -> None:
        """Raises VersionDiffers if this class is too old for the active version."""
        if active > self.version:
            raise VersionDiffers(
                f"version {active} of {self.kind.__name__} is active, and this node's class is of version "
                f"{self.version}: start the newer code. There is no way back to an older version once all nodes had "
                "the newer one; write the old behaviour as a version after it"
            )

    def check_bodies(self, standing: VersionState) -> None:
        """Raises VersionDiffers if a command has another body here than its version's announced one."""
        for version, announced in sorted(standing.bodies.items()):
            if version > self.version:
                continue
            present = self.bodies(version)
            for name, found in sorted(announced.items()):
                own = self._fingerprint(present[name]) if name in present else None
                if own is None or (own and found and own != found):
                    raise VersionDiffers(self._changed(version, name))
            for name in sorted(present.keys() - announced.keys()):
                raise VersionDiffers(
                    f"{self.kind.__name__} has a command {name} here that version {version} of it has not on the other "
                    f"nodes: mark it @command(since={version + 1})"
                    + (f" and set `version = {version + 1}`" if version == self.version else "")
                )

    def _changed(self, version: int, name: str) -> str:
        kind = self.kind.__name__
        if name not in self.bodies(self.version):
            return (
                f"{kind} has no command {name} here, but version {version} of it has, which is not over yet: keep it, "
                "until a later version is active and every node has made a snapshot since"
            )
        if version == self.version:
            return (
                f"{name} has another body, or a method that it calls has, and {kind}'s version is still {version}: "
                f"start the code that the others run, or set `version = {version + 1}` and keep the old body for old "
                f'entries: @command(before={{{version + 1}: "_{name}_{version}"}})'
            )
        return (
            f"{name} has another body, or a method that it calls has, than it had in version {version} of {kind}, "
            f"which entries of the log still need. Keep the old body beside the new one, unchanged, and name it: "
            f'@command(before={{{self.version}: "_{name}_{version}"}})'
        )

    # --- refusals ---

    def refusal(self, standing: VersionState, method: str, version: int) -> Exception:
        """Why there is no such command now. The same on every node, whatever version its class is of."""
        kind = self.kind.__name__
        if not version > standing.active:
            return AttributeError(f"{kind} has no @command method {method!r}")
        lacking = standing.lacking(version)
        if not lacking:
            who = "the nodes have not announced it yet"
        else:
            names = ", ".join(map(str, lacking[:NAMES_MAX])) + (" and others" if len(lacking) > NAMES_MAX else "")
            who = f"node {names} does not have it" if len(lacking) == 1 else f"nodes {names} do not have it"
        return NotActive(
            f"{kind}.{method} is called by version {version} of {kind}, but version {standing.active} is active, since "
            f"{who}. Start the newer code there; the command can run once every node has it. Nothing was done"
        )


def _check_version(kind: type[Any]) -> None:
    if type(kind.version) is not int or not 1 <= kind.version <= VERSION_MAX:
        raise TypeError(f"{kind.__name__}.version is {kind.version!r}: give a whole number, 1 at first")


def _check_mark(kind: type[Any], name: str, mark: VersionMark) -> None:
    where = f"{kind.__name__}.{name}"
    if mark.since > kind.version:
        raise TypeError(
            f"{where} is there since version {mark.since}, but {kind.__name__}.version is {kind.version}: raise it"
        )
    for limit, body in mark.before.items():
        if not mark.since < limit <= kind.version:
            raise TypeError(
                f"{where}: before={{{limit}: ...}} is for entries of versions below {limit}; the method is there since "
                f"{mark.since}, and the class is of version {kind.version}"
            )
        if not callable(vars_of(kind).get(body)):
            raise TypeError(f"{where}: before={{{limit}: {body!r}}} names no method of {kind.__name__}")


def vars_of(kind: type[Any]) -> dict[str, Any]:
    """The attributes of a class and its bases, by name, as they stand there."""
    return {name: value for owner in reversed(kind.__mro__) for name, value in vars(owner).items()}
