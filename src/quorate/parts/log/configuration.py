"""Configuration: a value that names the members of a group. It is submitted and decided like any other value.

How it takes effect is the protocol's. A log keeps it as an entry of the kind CONFIGURATION, and the core says as
``voters`` who votes.

A change may name the epoch that it is meant for: the number that ``Voters`` has, which every change raises. It counts
in that epoch alone. So what was decided once cannot be brought again later, by a retry that comes late or by a node
that lies, and nobody changes members whom he has not seen.

Nodes come and go by it, too. A change may introduce *newcomers*, which all nodes know from then on and which follow
until a change makes them members, and it may name *leavers*, which are gone for good when it counts. Which nodes there
are follows from the founders, which every node is told, and from the changes that were decided: ``Nodes`` is that part
of the state, and whoever starts from a snapshot is given it. A node's number is used once.

A node that joins by itself has been *invited*: a change says under which number, and locks the invitation with the
hash of a secret, or with a public key. Whoever knows the secret, or signs with the key, may have that one node
introduced, and change nothing else (``is_join``). Since a number is used once, so is an invitation. *Places* are where
nodes are: a change may say it anew of a node that moved.

Some nodes are *witnesses*, which keep no state (``protocols/raft/witnesses.py``): a number is that of one, or not, from
the change on that invites or introduces it, and for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.crypto.keys import Keyring
from quorate.parts.wire import Natural

PREFIX = b"\x00quorate/members\x00"
"""No command begins with it: commands are msgpack arrays, whose first byte is another."""
MEMBERS_MAX = 64
NEWCOMERS_MAX: Final = 8
"""Of one change; of its invitations and places likewise."""
INVITED_MAX: Final = 64
"""Who may join at one time."""
ADDRESS_CHARACTERS_MAX: Final = 264
"""A name of 253 characters, in brackets, and a port."""
KEY_BYTES_MAX: Final = 64
SECRET_BYTES_MAX: Final = 64
INCARNATION_BYTES_MAX: Final = 64

Address: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ADDRESS_CHARACTERS_MAX)]


class Voters(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who votes, as a node knows it; ``next_members`` will, where a change is decided and does not count yet."""

    members: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)]
    next_members: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)] = ()
    epoch: Natural = 0


class Newcomer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node that joins: its number, where the others dial it, and its public key (empty where nodes do not sign).

    ``witness``: it keeps no state.
    """

    node: NodeId
    address: Address
    key: Annotated[bytes, Meta(max_length=KEY_BYTES_MAX)] = b""
    witness: bool = False


class Invitation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node may join under this number. ``lock``: the hash of a secret, or a public key where nodes may lie.

    ``witness``: it is to keep no state.
    """

    node: NodeId
    lock: Annotated[bytes, Meta(min_length=16, max_length=KEY_BYTES_MAX)]
    witness: bool = False


class NodePlace(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where nodes dial a node (``peer``), and clients (``client``), and which folder it has, where that is known."""

    node: NodeId
    peer: Address
    client: Address
    incarnation: Annotated[bytes, Meta(max_length=INCARNATION_BYTES_MAX)] = b""


class Change(NamedTuple):
    """What a configuration says. ``epoch`` None: it counts whenever it is decided.

    ``secret``: opens the invitations of its newcomers, where nodes do not sign.
    """

    members: tuple[int, ...]
    epoch: int | None
    newcomers: tuple[Newcomer, ...] = ()
    leavers: tuple[int, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    places: tuple[NodePlace, ...] = ()
    secret: bytes = b""


class Nodes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which nodes there are besides the founders: those that ever ``joined``, without those whose numbers ``left``.

    Who left is kept, as what it voted for may have to be checked, and so that its number and key are used once.
    ``invited``: who may join. ``places``: where nodes said later that they are, by number; of the others it is what
    their newcomer, or the configuration, says.
    """

    joined: Annotated[tuple[Newcomer, ...], Meta(max_length=NODE_ID_MAX + 1)] = ()
    left: Annotated[tuple[NodeId, ...], Meta(max_length=NODE_ID_MAX + 1)] = ()
    invited: Annotated[tuple[Invitation, ...], Meta(max_length=INVITED_MAX)] = ()
    places: Annotated[tuple[NodePlace, ...], Meta(max_length=NODE_ID_MAX + 1)] = ()

    def __bool__(self) -> bool:
        """Whether anybody came, went, moved or may come."""
        return bool(self.joined or self.left or self.invited or self.places)

    def numbers(self, founders: Iterable[int]) -> frozenset[int]:
        """Of all nodes that there are."""
        return frozenset([*founders, *(newcomer.node for newcomer in self.joined)]).difference(self.left)

    def place(self, node: int) -> NodePlace | None:
        """Where it said later that it is."""
        return next((place for place in self.places if place.node == node), None)

    def invitation(self, node: int) -> Invitation | None:
        """That of this number; None if there is none."""
        return next((invited for invited in self.invited if invited.node == node), None)

    def lock(self, node: int) -> bytes | None:
        """That of the invitation of this number; None if there is none."""
        invited = self.invitation(node)
        return None if invited is None else invited.lock

    def is_witness(self, node: int) -> bool:
        """Whether this is the number of one, joined or invited."""
        invited = self.invitation(node)
        return node in self.witnesses or (invited is not None and invited.witness)

    @property
    def witnesses(self) -> tuple[int, ...]:
        """The numbers of those that ever joined and keep no state, ascending."""
        return tuple(sorted(newcomer.node for newcomer in self.joined if newcomer.witness))

    def may_be(self, founders: Iterable[int]) -> bool:
        """Whether changes can have led here from these founders; for what a peer says."""
        joined = [newcomer.node for newcomer in self.joined]
        there, ever = self.numbers(founders), {*founders, *joined}
        invited, placed = [one.node for one in self.invited], [place.node for place in self.places]
        return (
            len(set(joined)) == len(joined)
            and set(joined).isdisjoint(founders)
            and len(set(invited)) == len(invited)
            and ever.isdisjoint(invited)
            and len(set(placed)) == len(placed)
            and there.issuperset(placed)
        )

    def takes(self, change: Change, founders: Iterable[int]) -> bool:
        """Whether the change fits: it names nodes that there are, or that it introduces under numbers never used."""
        here = self.numbers(founders)
        new = {newcomer.node for newcomer in change.newcomers}
        leavers = set(change.leavers)
        invited = {invitation.node for invitation in self.invited}
        return (
            len(new) == len(change.newcomers)
            and new.isdisjoint(here)
            and new.isdisjoint(self.left)
            and leavers <= here | invited
            and leavers.isdisjoint(change.members)
            and set(change.members) <= here | new
            and self._takes_invitations(change, here | new)
            and _places_fit(change, here | new)
            and self._are_as_invited(change)
            and (not change.secret or all(self.lock(node) == invitation_lock(change.secret) for node in new))
        )

    def _takes_invitations(self, change: Change, here: AbstractSet[int]) -> bool:
        asked = {invitation.node for invitation in change.invitations}
        return (
            len(asked) == len(change.invitations)
            and asked.isdisjoint(here)
            and asked.isdisjoint(self.left)
            and asked.isdisjoint(change.leavers)
            and len(asked | {invitation.node for invitation in self.invited}) <= INVITED_MAX
        )

    def _are_as_invited(self, change: Change) -> bool:
        """Whether no number is that of a witness, or not, otherwise than when it was invited first."""
        was = {invited.node: invited.witness for invited in self.invited}
        comers: tuple[Newcomer | Invitation, ...] = (*change.newcomers, *change.invitations)
        return all(was.get(comer.node, comer.witness) == comer.witness for comer in comers)

    def after(self, change: Change) -> Nodes:
        """The same after a change that fits. An invitation takes the place of an earlier one of the same number."""
        if not (change.newcomers or change.leavers or change.invitations or change.places):
            return self
        joined, left = (*self.joined, *change.newcomers), tuple(sorted({*self.left, *change.leavers}))
        used = {*left, *(newcomer.node for newcomer in change.newcomers)}
        invited = {one.node: one for one in (*self.invited, *change.invitations) if one.node not in used}
        places = {place.node: place for place in self.places}
        for place in change.places:
            known = places.get(place.node)
            if known is not None and not place.incarnation:
                place = msgspec.structs.replace(place, incarnation=known.incarnation)
            places[place.node] = place
        return Nodes(
            joined,
            left,
            tuple(invited[node] for node in sorted(invited)),
            tuple(places[node] for node in sorted(places) if node not in left),
        )


def _places_fit(change: Change, there: AbstractSet[int]) -> bool:
    """Whether they are those of nodes that are there after it, one of each."""
    placed = {place.node for place in change.places}
    return len(placed) == len(change.places) and placed <= there and placed.isdisjoint(change.leavers)


def invitation_lock(secret: bytes) -> bytes:
    """What locks an invitation that this secret opens."""
    return sha256(b"quorate/invitation\x00" + secret).digest()


def is_join(change: Change, nodes: Nodes, members: Sequence[int], lock: bytes) -> bool:
    """Whether it introduces one node, whose invitation has this lock, and does nothing else.

    ``members`` are those who vote, or will once what is decided counts: they stay, as nobody promotes himself.
    """
    if len(change.newcomers) != 1 or change.leavers or change.invitations:
        return False
    node = change.newcomers[0].node
    return (
        change.epoch is not None
        and tuple(members) == change.members
        and nodes.lock(node) == lock
        and all(place.node == node for place in change.places)
    )


FOUNDERS_ALONE: Final = Nodes()


class InForce(msgspec.Struct, frozen=True):
    """What of all configurations holds at a node now. ``keyring``: the nodes' keys, where they sign."""

    voters: Voters
    nodes: Nodes = FOUNDERS_ALONE
    keyring: Keyring | None = None


class Reconfigurable:
    """What a Core is besides, whose members change by configurations that it decides."""

    def in_force(self) -> InForce:
        """Who votes and which nodes there are, by what is decided so far. Asked for between steps."""
        raise NotImplementedError(f"{type(self).__name__} does not say who its members are")

    def acting(self) -> Voters:
        """Whose votes this node counts now: those in force, unless a change counts before it is decided."""
        return self.in_force().voters

    def places(self) -> tuple[NodePlace, ...]:
        """Where nodes are that joined or moved, by all that this one has of the log, decided or not.

        That is no more than where to look for them; and who has just started must find the others to know what is
        decided.
        """
        return self.in_force().nodes.places


def beginning(
    founders: Sequence[int], members: Sequence[int], peers: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The nodes that a cluster began with, and its first members, of what a config names and a node is told.

    ``peers`` are the founders where none are named, and all founders the members. Raises ValueError where members are
    no founders.
    """
    all_founders = tuple(sorted(set(founders or peers)))
    first = tuple(sorted(set(members))) or all_founders
    if unknown := sorted(set(first).difference(all_founders)):
        raise ValueError(f"members {unknown} are not in the group {list(all_founders)}")
    return all_founders, first


def check_own(node: int, founders: Sequence[int], change: Change) -> None:
    """Raises ValueError if a change that counts introduces this node, which was told that it is a founder.

    Its quorums would be others than everybody else's. What clients submit introduces no founder.
    """
    if node in founders and any(newcomer.node == node for newcomer in change.newcomers):
        raise ValueError(
            f"node {node} joined the cluster later, and its configuration counts it among the first: write in "
            "founders which nodes the cluster began with"
        )


_Members = Annotated[tuple[NodeId, ...], Meta(min_length=1, max_length=MEMBERS_MAX)]


class _Encoded(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    members: _Members
    epoch: Natural | None
    newcomers: Annotated[tuple[Newcomer, ...], Meta(max_length=NEWCOMERS_MAX)] = ()
    leavers: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)] = ()
    invitations: Annotated[tuple[Invitation, ...], Meta(max_length=NEWCOMERS_MAX)] = ()
    places: Annotated[tuple[NodePlace, ...], Meta(max_length=NEWCOMERS_MAX)] = ()
    secret: Annotated[bytes, Meta(max_length=SECRET_BYTES_MAX)] = b""


_decoder = msgspec.msgpack.Decoder(_Encoded)


def encode_change(
    members: Sequence[int],
    epoch: int | None = None,
    newcomers: Sequence[Newcomer] = (),
    leavers: Sequence[int] = (),
    invitations: Sequence[Invitation] = (),
    places: Sequence[NodePlace] = (),
    secret: bytes = b"",
) -> bytes:
    """The value that makes these the members. Raises ValueError for none, or too many; also of the others."""
    chosen, leaving = tuple(sorted(set(members))), tuple(sorted(set(leavers)))
    if not 1 <= len(chosen) <= MEMBERS_MAX:
        raise ValueError(f"{len(chosen)} members; a configuration names 1 to {MEMBERS_MAX}")
    if max(len(newcomers), len(invitations), len(places)) > NEWCOMERS_MAX or len(leaving) > MEMBERS_MAX:
        raise ValueError(f"a change introduces at most {NEWCOMERS_MAX} nodes, and takes leave of {MEMBERS_MAX}")
    said: tuple[object, ...] = (chosen, epoch)
    if newcomers or leaving or invitations or places or secret:
        said += (tuple(newcomers), leaving)
    if invitations or places or secret:
        said += (tuple(invitations), tuple(places), secret)
    return PREFIX + msgspec.msgpack.encode(said)


def decode_change(value: bytes) -> Change | None:
    """What it says, numbers sorted; None where the value is no configuration, or a broken one."""
    if not value.startswith(PREFIX):
        return None
    try:
        said = _decoder.decode(memoryview(value)[len(PREFIX) :])
    except msgspec.MsgspecError:
        return None
    members, leavers = tuple(sorted(set(said.members))), tuple(sorted(set(said.leavers)))
    return Change(members, said.epoch, said.newcomers, leavers, said.invitations, said.places, said.secret)
