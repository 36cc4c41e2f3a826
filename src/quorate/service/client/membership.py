"""Membership: what clients believe of who votes, and when a change has taken effect. Pure.

How it works. Each node says who votes, as far as it knows. The newest epoch of which f + 1 nodes say the same is that
of an honest node (f is 0 where nodes only crash). A change has taken effect when a quorum of the new members says so:
they go on without those that were removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from quorate.parts.configuration import Voters
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


def is_over(statuses: Statuses, members: tuple[int, ...], is_byzantine: bool) -> bool:
    """Whether a quorum of these members says that they are the members; or every node that the client knows does."""
    saying = _saying(statuses, members)
    return len(saying & set(members)) >= _needed(members, is_byzantine) or len(saying) == len(statuses)


def missing(statuses: Statuses, members: tuple[int, ...], is_byzantine: bool) -> str:
    """What is waited for, in words."""
    saying = sorted(_saying(statuses, members) & set(members))
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


def _saying(statuses: Statuses, members: tuple[int, ...]) -> set[int]:
    return {
        status.node
        for _, status in statuses
        if isinstance(status, Status) and status.voters is not None and status.voters.members == members
    }


def _needed(members: tuple[int, ...], is_byzantine: bool) -> int:
    return Byzantine(members).size if is_byzantine else Majority(members).size
