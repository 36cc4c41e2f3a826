"""Wedges: groups in which nothing moves any more though all that is needed is there, and which one it is.

Each is told by the state in which a run ended, and by what sets it going again: a cure that would do nothing if the
reason were another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate.kernel import mask_of
from quorate.parts import requests
from quorate.sim import run as runs
from quorate.sim.run import RunOutcome
from quorate.sim.world import World
from quorate.trials import campaign
from quorate.trials.campaign import Task

GOES_ON_S = 30.0

SILENT = "members are silent about what they compacted"
OLD_MEMBERS = "old members are asked who are gone"
UNWATCHED = "nobody watches a change of members"
VIEWS_APART = "nodes wait in two views"


class Kept(World):
    """The last world that a campaign made."""

    last: World

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Kept.last = self


def wedged(task: Task, monkeypatch: pytest.MonkeyPatch) -> tuple[RunOutcome, World]:
    """A run with joins and the common faults, and its world as it was in the end."""
    monkeypatch.setattr(runs, "World", Kept)
    return campaign.run_task(msgspec.structs.replace(task, joins=True, faults="common")), Kept.last


def cores(world: World) -> list[Any]:
    """Of the honest nodes that are there."""
    return [node.host.root for node in world.honest]


# --- what it is ---


def nobody_answers(world: World) -> bool:
    """Multi-Paxos: the leader asks the members of later slots for promises, from a slot on which they compacted.

    They say nothing, and it proposes nothing there. No other node stands, as all hear a leader.
    """
    for core in cores(world):
        if core.leadership is None:
            continue
        open_spans = core.leadership._open_spans()
        lacking = [span for span in open_spans if not core._preparation.covers(span)]
        silent = mask_of(
            [
                other.env.id
                for other in cores(world)
                if core._preparation._wanted.get(other.env.id, 0) <= other.acceptor.log.base_index
            ]
        )
        promised = core._preparation.promised
        return bool(lacking) and not lacking[0].quorums.phase1.is_quorum(promised | lacking[0].mask & ~silent)
    return False


def asks_the_old(world: World) -> bool:
    """Multi-Paxos: the members restarted, and recorded as chosen less than what comes before their first slot.

    So each asks the members before them, most of whom are gone for good. The data is all there: each has it in its log.
    """
    here = mask_of(list(world.peers))
    voting = [core for core in cores(world) if core.members.spans[-1].mask >> core.env.id & 1]
    newest = max(voting, key=lambda core: core.members.epoch).members.spans[-1]
    voting = [core for core in voting if core.members.epoch == newest.first_slot]
    asked = [core.members.at(core.acceptor.chosen_index + 1) for core in voting]
    return (
        newest.quorums.phase1.is_quorum(mask_of([core.env.id for core in voting]))
        and all(core.leadership is None for core in voting)
        and all(core.acceptor.log.last_index >= newest.first_slot - 1 for core in voting)
        and not any(span.quorums.phase1.is_quorum(here) for span in asked)
    )


def nobody_watches(world: World) -> bool:
    """PBFT with ``watches-requests``: a change of members is executed everywhere, and the numbers up to its checkpoint
    are not filled, as the primary is dead, or a quorum is missing in its view. No request waits, so nobody suspects
    anything; or too few do that others would join them."""
    known = cores(world)
    alarmed = mask_of([core.env.id for core in known if core.view.is_changing or core.waiting.pending])
    weak = known[0].view.group.quorum.weak
    return all(core.history.executed < core.history.switch_at for core in known) and not weak.is_quorum(alarmed)


def views_apart(world: World) -> bool:
    """PBFT with ``counts-equals``: with one node dead all others are needed, and they wait for each other's
    view-changes in two views.

    Who went on alone had seen a quorum of the earlier one; the others have not, and it is not sent again.
    """
    members = [core for core in cores(world) if core.view.is_member]
    views = {core.view.number for core in members}
    return (
        all(core.view.is_changing and core.waiting.pending for core in members)
        and len(views) > 1
        and not any(core.view.alarm.is_set for core in members if core.view.number == min(views))
    )


# --- what sets it going again ---


def kill_the_leader(world: World) -> None:
    """For SILENT: one of those that know the newest members will lead."""
    for node in world.honest:
        if node.up and getattr(node.host.root, "leadership", None) is not None:
            node.switch_off()


def bring_the_old_back(world: World) -> None:
    """For OLD_MEMBERS and VIEWS_APART: machines that were switched off for good."""
    for node in world.nodes:
        if node not in world.present:
            node.is_off = False
            node.restart()


def ask_for_something(world: World) -> None:
    """For UNWATCHED: one request, and the primary is suspected."""
    assert world.scheme is not None
    value = requests.sign(world.scheme.client(0), [b"wake up"])
    for node in world.honest:
        node.operate(value)


def moves(world: World) -> bool:
    """Whether something is decided before long."""
    before = max(core.standing().commit_index or 0 for core in cores(world))
    end = world.now + GOES_ON_S
    while world.now < end:
        world.run_until(world.now + 0.5)
        if max(core.standing().commit_index or 0 for core in cores(world)) > before:
            return True
    return False


Wedge = tuple[Callable[[World], bool], Callable[[World], None]]
MULTIPAXOS: dict[str, Wedge] = {
    SILENT: (nobody_answers, kill_the_leader),
    OLD_MEMBERS: (asks_the_old, bring_the_old_back),
}
PBFT: dict[str, Wedge] = {
    UNWATCHED: (nobody_watches, ask_for_something),
    VIEWS_APART: (views_apart, bring_the_old_back),
}


def which(world: World) -> str:
    """The name of the wedge; empty for another reason."""
    wedges = MULTIPAXOS if world.scheme is None else PBFT
    return next((name for name, (is_it, _) in wedges.items() if is_it(world)), "")


def cure(world: World, name: str) -> None:
    """What sets this wedge going again."""
    {**MULTIPAXOS, **PBFT}[name][1](world)
