"""Membership: what clients believe of who votes, and when a change has taken effect. Pure.

How it works. Each node says who votes, as far as it knows. The newest epoch of which f + 1 nodes say the same is that
of an honest node (f is 0 where nodes only crash). A change has taken effect when a quorum of the new members says so:
they go on without those that were removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final, TypeAlias

from quorate.parts.log.configuration import Voters
from quorate.parts.quorum import Byzantine, Majority
from quorate.service.client.errors import QuorateError
from quorate.service.requests import Description, Status

POLL_S: Final = 0.1

Statuses: TypeAlias = Sequence[tuple[str, Status | QuorateError]]
"""What each address said. An address has one voice, whatever node it says it is."""
Descriptions: TypeAlias = Sequence[tuple[str, Description | QuorateError]]


def believed(statuses: Statuses, faults: int) -> Voters | None:
    """Who votes, by ``faults + 1`` nodes; None where so many do not say the same."""
    said: dict[Voters, list[int]] = {}
    for _, status in statuses:
        if isinstance(status, Status) and status.voters is not None:
            said.setdefault(status.voters, []).append(status.commit_index)
    # How far the log was, by the last of the f + 1 that were furthest: one of them is honest.
    known = {voters: sorted(at)[-1 - faults] for voters, at in said.items() if len(at) > faults}
    return max(known, key=lambda voters: (voters.epoch, known[voters]), default=None)


def believed_cluster(found: Descriptions, faults: int) -> Description | None:
    """The newest description of the cluster of which ``faults + 1`` addresses say the same, byte for byte."""
    said: dict[Description, int] = {}
    for _, description in found:
        if isinstance(description, Description) and description.voters is not None:
            said[description] = said.get(description, 0) + 1
    agreed = [description for description, count in said.items() if count > faults]
    return max(agreed, key=lambda one: (one.voters.epoch if one.voters else 0, said[one]), default=None)


def why_not_believed(found: Descriptions, faults: int) -> str:
    """Why there is none, in words."""
    described = [one for _, one in found if isinstance(one, Description)]
    wrong = "; ".join(f"{address}: {one}" for address, one in found if isinstance(one, QuorateError))
    if len(described) <= faults:
        return f"{len(described)} of {len(found)} endpoints say who is in the cluster, {faults + 1} must ({wrong})"
    fields = [name for name in Description.__struct_fields__ if len({getattr(one, name) for one in described}) > 1]
    unlike = f"they differ in {', '.join(fields)}" if fields else "they do not know yet who votes"
    return f"no {faults + 1} of the {len(described)} endpoints that answer say the same of the cluster: {unlike}"


def settled(voters: Voters) -> tuple[int, ...]:
    """Who votes once all that is decided counts."""
    return voters.next_members or voters.members


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


def why_loses_quorum(members: Sequence[int], live: Set[int], is_byzantine: bool) -> str | None:
    """Why a cluster of these members could not go on, by the nodes that answer; None if it could."""
    answering = sorted(set(members) & live)
    needed = _needed(tuple(members), is_byzantine)
    if len(answering) >= needed:
        return None
    silent = sorted(set(members) - live)
    return (
        f"{names_of(members)} would vote, {needed} of them must live, and {len(answering)} answer ({names_of(silent)} "
        "not): start more of them first, or say --force (force=True in Python)"
    )


def quorum_word(members: Sequence[int], live: Set[int], is_byzantine: bool, witnesses: Sequence[int] = ()) -> str:
    """What so many members bear, in one sentence; another one where some of them are witnesses."""
    count, needed = len(members), _needed(tuple(members), is_byzantine)
    may = f"{count - needed} may fail or lie" if is_byzantine else f"{count - needed} may fail"
    votes = "votes" if count == 1 else "vote"
    answering = len(set(members) & live)
    word = f"{names_of(members)} {votes}: {needed} of {count} make a quorum, so {may}; {answering} answer"
    if not (without := [node for node in members if node in witnesses]):
        return word
    are = "is a witness" if len(without) == 1 else "are witnesses"
    others = names_of(node for node in members if node not in without)
    return (
        f"{word}. {names_of(without)} {are}, without data: if one of {others} fails while another lacks what was "
        "decided last, the cluster waits for it to come back"
    )


def names_of(nodes: Iterable[int]) -> str:
    """As people write them."""
    return ", ".join(f"n{node}" for node in nodes) or "none"


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
