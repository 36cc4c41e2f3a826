"""Membership: what clients believe of who votes, and when a change has taken effect. Pure.

How it works. Each node says who votes, as far as it knows. The newest epoch of which f + 1 nodes say the same is that
of an honest node (f is 0 where nodes only crash). A change has taken effect when a quorum of the new members says so:
they go on without those that were removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from quorate.parts.log.configuration import Voters
from quorate.parts.quorum import Byzantine, Majority
from quorate.service.client.errors import QuorateError
from quorate.service.requests import Status

POLL_S: Final = 0.1

Statuses: TypeAlias = Sequence[tuple[str, Status | QuorateError]]
"""What each address said. An address has one voice, whatever node it says it is."""


def believed(statuses: Statuses, faults: int) -> Voters | None:
    """Who votes, by ``faults + 1`` nodes; None where so many do not say the same."""
    said: dict[Voters, list[int]] = {}
    for _, status in statuses:
        if isinstance(status, Status) and status.voters is not None:
            said.setdefault(status.voters, []).append(status.commit_index)
    # How far the log was, by the last of the f + 1 that were furthest: one of them is honest.
    known = {voters: sorted(at)[-1 - faults] for voters, at in said.items() if len(at) > faults}
    return max(known, key=lambda voters: (voters.epoch, known[voters]), default=None)


def here(statuses: Statuses, voters: Voters, faults: int) -> set[int]:
    """Which nodes there are, by ``faults + 1`` of those that say who votes now."""
    said: dict[int, int] = {}
    for _, status in statuses:
        if isinstance(status, Status) and status.voters == voters:
            for node in status.nodes:
                said[node] = said.get(node, 0) + 1
    return {node for node, count in said.items() if count > faults}


def furthest(statuses: Statuses, voters: Voters, faults: int) -> int:
    """How far those are that say who votes now, without the ``faults`` that say they are furthest: they may lie."""
    said = [status.applied_index for _, status in statuses if isinstance(status, Status) and status.voters == voters]
    return max(sorted(said)[: len(said) - faults], default=0)


def why_not_caught_up(status: Status | QuorateError, node: int, voters: Voters, index: int) -> str | None:
    """Why this node has not caught up with these voters and that index; None if it has."""
    if not isinstance(status, Status):
        return str(status)
    if status.node != node:
        return f"node {status.node} answers there, not node {node}"
    if status.voters != voters:
        return f"node {node} does not know yet who votes"
    if status.applied_index < index:
        return f"node {node} has applied {status.applied_index} of {index} entries"
    return None


def is_over(statuses: Statuses, members: tuple[int, ...], is_byzantine: bool, since: int = 0) -> bool:
    """Whether a quorum of these members says that they are the members; or every node that the client knows does.

    ``since``: the epoch from which on that counts, where the members are the same as before.
    """
    saying = _saying(statuses, members, since)
    return len(saying & set(members)) >= _needed(members, is_byzantine) or len(saying) == len(statuses)


def missing(statuses: Statuses, members: tuple[int, ...], is_byzantine: bool, since: int = 0) -> str:
    """What is waited for, in words."""
    saying = sorted(_saying(statuses, members, since) & set(members))
    others = [
        f"{address}: {status}" if isinstance(status, QuorateError) else f"node {status.node} is not that far"
        for address, status in statuses
        if isinstance(status, QuorateError) or (status.node in members and status.node not in saying)
    ]
    needed = _needed(members, is_byzantine)
    return f"{needed} of the new members must say so, and {len(saying)} do ({'; '.join(others)})"


def text_of(members: Sequence[int]) -> str:
    """As the command line has it."""
    return ",".join(map(str, members))


def _saying(statuses: Statuses, members: tuple[int, ...], since: int) -> set[int]:
    return {
        status.node
        for _, status in statuses
        if isinstance(status, Status) and status.voters is not None and _is(status.voters, members, since)
    }


def _is(voters: Voters, members: tuple[int, ...], since: int) -> bool:
    return voters.members == members and (not since or (voters.epoch >= since and not voters.next_members))


def _needed(members: tuple[int, ...], is_byzantine: bool) -> int:
    return Byzantine(members).size if is_byzantine else Majority(members).size
