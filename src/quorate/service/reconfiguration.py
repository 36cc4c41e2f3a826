"""Membership: which changes of members a node passes on to the log. The others it refuses, and says why.

How it works. A Reconfigure carries a configuration (``parts/log/configuration.py``), in an administrator's signed
request where nodes may lie. What can be told from the node's configuration, and from what is decided so far, is told
here. The core has the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Keyring
from quorate.parts.log import configuration
from quorate.parts.log.configuration import Change, Invitation, Newcomer, Nodes, Voters
from quorate.runtime.address import is_wildcard, parse_address
from quorate.service.config import NODES_MAX, NodeConfig


class Membership:
    """The rules of one cluster."""

    def __init__(self, config: NodeConfig) -> None:
        self._entry = config.entry
        self._traits = config.entry.traits
        self._options = self._entry.config() if config.options is None else config.options
        self._admins = config.admins
        # Clients go on believing f + 1 equal answers, with the f of the nodes that the cluster began with.
        self._founders = config.founders
        self.faults = self._traits.liars(len(self._founders))
        self.all = Voters(tuple(sorted(config.nodes)))
        """Who votes where that never changes."""

    def here(self, nodes: Nodes) -> tuple[int, ...]:
        """All nodes that there are, after those came and went."""
        return tuple(sorted(nodes.numbers(self._founders)))

    def why_not(
        self, entry: bytes, nodes: Nodes, keyring: Keyring | None = None, voters: Voters | None = None
    ) -> str | None:
        """Why this is not to be submitted, given who came and went, and the keys where nodes sign; None where it is.

        ``voters``: who votes; None: that is not looked at.
        """
        name = self._entry.name
        if not self._traits.members.can_change:
            return f"{name} has no membership change yet: its members are all the nodes of the configuration"
        value: bytes | None = entry
        lock: bytes | None = None
        if self._traits.members.by_admin:
            request = signed.decode_signed_request(entry)
            value = request.commands[0] if request is not None and len(request.commands) == 1 else None
            lock = None if request is None else request.client
        change = None if value is None else configuration.decode_change(value)
        if change is None:
            return "this is no change of members"
        is_admin = not self._traits.members.by_admin or lock in self._admins
        if not is_admin and not change.newcomers:
            where = f"admins in [{name}] of the nodes' configuration"
            return f"this key is no administrator's: {where} names {len(self._admins) or 'none'}"
        here = self.here(nodes)
        if not self._traits.members.by_admin:
            lock = configuration.invitation_lock(change.secret)
        return (
            self._why_not_newcomers(change.newcomers, here, nodes, keyring)
            or _why_not_invited(change, nodes, b"" if lock is None else lock, voters)
            or _why_not_invitations(change, here, nodes)
            or _why_not_places(change, here)
            or self._why_not_leavers(change, here, nodes)
            or self._why_not_these(change, here)
            or self._why_not_witnesses(change, nodes)
        )

    def _why_not_newcomers(
        self, newcomers: Iterable[Newcomer], here: Collection[int], nodes: Nodes, keyring: Keyring | None
    ) -> str | None:
        for count, newcomer in enumerate(newcomers, 1):
            if (why := _why_not_number(newcomer.node, here, nodes)) is not None:
                return why
            if len(here) + count > NODES_MAX:
                return f"a cluster has at most {NODES_MAX} nodes, and there are {len(here)}"
            if (why := why_not_dialled(newcomer.address, newcomer.node)) is not None:
                return why
            if (why := self._why_not_key(newcomer, keyring)) is not None:
                return why
        return None

    def _why_not_key(self, newcomer: Newcomer, keyring: Keyring | None) -> str | None:
        node = newcomer.node
        if keyring is None:
            no_keys = f"the nodes of {self._entry.name} have no keys: leave out that of node {node}"
            return no_keys if newcomer.key else None
        if not newcomer.key:
            return f"node {node} has no public key: give the one that `quorate keys show` prints for it"
        if not keyring.is_key(newcomer.key):
            return f"node {node}: {newcomer.key.hex()} is not a public key"
        for other in keyring.nodes:
            if other != node and keyring.public(other) == newcomer.key:
                return f"node {node} has the public key of node {other}: give each its own"
        return None

    def _why_not_leavers(self, change: Change, here: Collection[int], nodes: Nodes) -> str | None:
        if unknown := sorted(set(change.leavers) - set(here) - {invited.node for invited in nodes.invited}):
            return _there_is_no(unknown, here)
        if both := sorted(set(change.leavers) & set(change.members)):
            return f"node {_list(both)} cannot vote and leave"
        return None

    def _why_not_these(self, change: Change, here: Collection[int]) -> str | None:
        members = change.members
        if unknown := sorted(set(members) - set(here) - {newcomer.node for newcomer in change.newcomers}):
            return _there_is_no(unknown, here)
        if len(members) < (fewest := 3 * self.faults + 1):
            takes = f"clients expect {self.faults} that lie, which takes {fewest} or more"
            return f"{len(members)} members are too few: {takes}"
        try:
            msgspec.structs.replace(self._options, members=members)
        except ValueError as error:
            return str(error)
        return None

    def _why_not_witnesses(self, change: Change, nodes: Nodes) -> str | None:
        comers: tuple[Newcomer | Invitation, ...] = (*change.newcomers, *change.invitations)
        for comer in comers:
            invited = nodes.invitation(comer.node)
            if invited is not None and invited.witness != comer.witness:
                what = "a witness" if invited.witness else "a node with state"
                return (
                    f"node {comer.node} is invited as {what}, and stays one: give the other a number of its own, and "
                    f"withdraw this invitation (quorate members remove n{comer.node})"
                )
            if comer.witness and not self._traits.members.may_be_witnesses:
                return f"{self._entry.name} has no witnesses: leave out --witness"
        after = {*nodes.witnesses, *(newcomer.node for newcomer in change.newcomers if newcomer.witness)}
        witnesses = sorted(after.intersection(change.members))
        if 2 * len(witnesses) > len(change.members):
            return (
                f"of members {_list(change.members)} nodes {_list(witnesses)} are witnesses, which have no state: at "
                "most half may be, or what is decided could be on no node that has it"
            )
        return None


def why_not_dialled(address: str, node: int) -> str | None:
    """Why nobody can dial that; None where it may be the address of the node."""
    try:
        host, _ = parse_address(address)
    except ValueError as error:
        return str(error)
    if is_wildcard(host):
        return f"nobody can dial {address}: give the address at which the others reach node {node}"
    return None


def _why_not_number(node: int, here: Collection[int], nodes: Nodes) -> str | None:
    if node in here:
        return f"there is a node {node} already: give the new one a number of its own"
    if node in nodes.left:
        return f"node {node} has left the cluster, and a number is used once: give the new node another"
    return None


def _why_not_invited(change: Change, nodes: Nodes, lock: bytes, voters: Voters | None) -> str | None:
    """Whoever joins has the token of an invitation, and changes nothing besides."""
    for newcomer in change.newcomers:
        node = newcomer.node
        invited = nodes.lock(node)
        if invited is None:
            return f"node {node} is not invited: `quorate members add n{node}` prints a token for it"
        if invited != lock:
            return (
                f"this is not the token of node {node}'s newest invitation: use the newest, or have a new one printed "
                f"by `quorate members add n{node}`"
            )
        members = change.members if voters is None else voters.next_members or voters.members
        if not configuration.is_join(change, nodes, members, lock):
            if tuple(members) != change.members:
                return f"a node that joins does not vote yet, and {_list(members)} do: ask who votes, and join again"
            return "a token lets one node join, and changes nothing else"
    return None


def _why_not_invitations(change: Change, here: Collection[int], nodes: Nodes) -> str | None:
    invited = {invitation.node for invitation in (*nodes.invited, *change.invitations)}
    for invitation in change.invitations:
        if (why := _why_not_number(invitation.node, here, nodes)) is not None:
            return why
    if change.invitations and len(here) + len(invited) > NODES_MAX:
        there_are = f"there are {len(here)}, and {len(invited) - 1} may join"
        return f"a cluster has at most {NODES_MAX} nodes, and {there_are}"
    return None


def _why_not_places(change: Change, here: Collection[int]) -> str | None:
    for place in change.places:
        if place.node not in here and all(newcomer.node != place.node for newcomer in change.newcomers):
            return _there_is_no([place.node], here)
        for address in (place.peer, place.client):
            if (why := why_not_dialled(address, place.node)) is not None:
                return why
    return None


def _there_is_no(unknown: Iterable[int], here: Collection[int]) -> str:
    return f"there is no node {_list(unknown)}: the nodes of this cluster are {_list(sorted(here))}"


def _list(nodes: Iterable[int]) -> str:
    return ", ".join(map(str, nodes))
