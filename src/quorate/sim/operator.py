"""Operator: somebody who has nodes join, leave and be replaced, as one would with `quorate members`.

How it works. One plan is carried out at a time. A change is proposed for the epoch that was seen, is proposed again
until it is decided, and is over when every node that stays says that it counts. Only then are the nodes that left
switched off, and never come back. A newcomer starts with an empty disk, is introduced, catches up, and becomes a
member by another change.

What breaks systems here is seldom the change itself but what comes just before or after. So some plans are carried out
while no client asks for anything; some end with a restart of all nodes, or kill the node that leads at the moment when
the change is decided; and one plan has the members grow while most of the old ones are away, and return together, cut
off from the rest for a while.

At most one node is dead besides those that were switched off, and only where the members bear it, so whatever is left
when all is healed must come right.

Some newcomers are witnesses, where the protocol has them. What a leader committed with these alone nobody else has, so
none dies while there are any, and they leave before others are gone for good.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias

from quorate.kernel import Core, mask_of
from quorate.parts.log.configuration import InForce, Reconfigurable, Voters
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode
from quorate.sim.options import MemberChange

POLL_S: Final = 0.05
AGAIN_S: Final = (0.2, 1.0)
"""After how long a change is proposed again that nobody says was decided: from, to."""
CATCH_UP_S_MAX: Final = 3.0
"""The operator loses patience then, and makes the newcomer a member as it is."""
IDLE_AFTER_S: Final = 2.0
"""How long clients stay quiet when a plan has ended, at most."""
AWAY_S: Final = (0.5, 3.0)
"""How long the rest goes on while others are away."""
UNHEARD_AWAY_S: Final = (1.0, 5.0)
"""The same where some have not heard what was decided."""
CONTENT: Final = 0.6
"""How often the operator plans nothing more after that."""
UNHEARD_S_MAX: Final = 2.0
"""How long a node hears nothing that perhaps has to, so that a change is decided."""
RETURN_S: Final = (0.5, 2.5)
"""How long those that return together are cut off from the rest."""
FEWEST: Final = 3
"""Members, so that one may be dead."""
PLANS: Final = (("members", 0.25), ("join", 0.15), ("leave", 0.15), ("replace", 0.25), ("away", 1.0))
"""How often each is chosen; the last takes the rest."""
WITNESSES: Final = 0.4
"""How many newcomers are witnesses."""
SPARE: Final = 2
"""How many more nodes there may be than at the beginning."""

PlanSteps: TypeAlias = Generator[float, None, None]
"""A plan: each value is how long to wait."""


class Operator:
    """``cut`` takes by sender whom it reaches no more, and what it returns mends that.

    ``crashes``: whether nodes may die.
    """

    def __init__(
        self,
        world: Ground[SimNode],
        change: MemberChange,
        rng: Random,
        cut: Callable[[list[int]], Callable[[], None]],
        count: Callable[[str], None],
        hush: Callable[[float], None],
        *,
        crashes: bool,
        partitions: bool,
    ) -> None:
        self._world = world
        self._change = change
        self._rng = rng
        self._cut = cut
        self._count = count
        self._hush = hush
        self._crashes = crashes
        self._partitions = partitions
        self._fewest = max(change.fewest, FEWEST)
        self._may_die = crashes and not world.liars and change.borne(self._fewest) > 0
        self._dead: SimNode | None = None
        self._epoch = 0
        """Of the last change that was over."""
        self._is_over = False
        self._is_idle = False
        self._gives_way = self._was_first = False
        """Whether somebody else may name members, and whether its last change came first."""
        self._is_content = False
        """Whether it plans nothing more, though nothing is healed yet."""
        self._doing = ""
        self._strike: Callable[[], None] | None = None
        """What happens as soon as a node says that a change is decided."""
        self._own = Random(f"{world.seed}/nemesis/operator/missed")
        """Apart, so that runs without it are what they were."""
        self._kinds = Random(f"{world.seed}/nemesis/operator/witnesses")
        """Likewise."""
        self._missing: dict[int, Callable[[], None]] = {}
        """By node, what happens as soon as it says itself that a change is decided."""

    def start(self) -> None:
        """The first plan begins some time from now."""
        self._world.on_step.append(self._look)
        self._next()

    def finish(self) -> None:
        """All is healed: what was begun is done, and nothing more."""
        self._is_over = True
        self._strike = None
        self._missing.clear()

    @property
    def has_settled(self) -> bool:
        """Whether no plan is under way, and all nodes say the same of who votes and of who is there."""
        if self._doing:
            return False
        said = {(_said(node), node.host.roster.peers) for node in self._world.honest}
        return len(said) == 1 and not any(voters.next_members for voters, _ in said)

    def missing(self) -> str:
        """What has not come right, for a person; empty if there is nothing."""
        if self.has_settled:
            return ""
        said = {node.id: _said(node) for node in self._world.honest}
        return f"{self._doing or 'the change'} is not over; who votes, by node: {_text(said)}"

    # --- one plan after the other ---

    def _next(self) -> None:
        every_s = self._world.mix.plan_every_s
        assert every_s is not None
        self._world.after(self._rng.expovariate(1.0 / every_s), self._begin)

    def _begin(self) -> None:
        if self._is_over:
            return
        self._is_idle = self._rng.random() < self._world.mix.idle
        name = self._drawn()
        if self._world.mix.missed and self._own.random() < self._world.mix.missed:
            name = "away"
        self._count(name)
        self._doing = name
        if self._is_idle and name != "away":  # there the log is to grow
            self._hush(float("inf"))
        self._go_on(self._carried_out(name))

    def _drawn(self) -> str:
        draw = self._rng.random()
        if self._dead is not None and draw < 0.7:
            return "replace"
        return next(name for name, share in PLANS if (draw := draw - share) < 0.0)

    def _carried_out(self, name: str) -> PlanSteps:
        yield from self._steady()
        if name == "members":
            yield from self._members()
        elif name == "join":
            yield from self._join()
        elif name == "leave":
            yield from self._without(self._some_members(), ())
        elif name == "replace":
            yield from self._replace(self._dying() or self._some_members())
        else:
            yield from self._away()

    def _go_on(self, plan: PlanSteps) -> None:
        delay_s = next(plan, None)
        if delay_s is not None:
            self._world.after(delay_s, lambda: self._go_on(plan))
            return
        self._say("done", self._doing)
        self._doing = ""
        if self._is_idle:
            self._hush(self._world.now + self._rng.random() * IDLE_AFTER_S)
        if not self._is_over and not self._is_content:
            self._next()

    def _say(self, event: str, what: Any) -> None:
        if self._world.tracing:
            self._world.trace(None, "operator", event, what)

    # --- the plans ---

    def _members(self) -> PlanSteps:
        """Others vote, of those that are there."""
        here = self._able()
        count = self._rng.randint(self._fewest, max(self._fewest, min(len(here), self._most())))
        if len(here) >= count:
            chosen = self._rng.sample(here, count)
            yield from self._agree(lambda _: chosen)
            yield from self._end()

    def _join(self) -> PlanSteps:
        """A node more, which votes if that does not make too many."""
        new = self._new_machines(1)
        yield from self._introduce(new)
        yield from self._agree(lambda members: [*members, *new][: self._most()])
        yield from self._end()

    def _replace(self, leavers: Sequence[int]) -> PlanSteps:
        """New machines take the places of others."""
        new = self._new_machines(len(leavers))
        yield from self._introduce(new)
        yield from self._without(leavers, new)

    def _without(self, leavers: Sequence[int], new: Sequence[int]) -> PlanSteps:
        def rest(members: Sequence[int]) -> list[int]:
            going = {*leavers, *self._dying()}
            chosen = [node for node in (*members, *new) if node not in going]
            spares = [node for node in here if node not in going and node not in chosen]
            return [*chosen, *spares[: max(0, self._fewest - len(chosen))]][: self._most()]

        here = self._able()
        if len(self._with_state(rest(self._voters().members))) >= self._fewest:
            yield from self._agree(rest, leavers=leavers)
            for node in leavers:
                self._switch_off(node)
            yield from self._end()

    def _away(self) -> PlanSteps:
        """The members grow while a quorum of the old ones is away: first what they bear, the rest when the change
        counts. The others go on, and forget the beginning of their logs. Then all return at once, on the other side."""
        here = self._able()
        few = self._fewest
        if not (self._crashes and self._partitions) or self._dead is not None or len(here) < few + 2:
            return
        old = self._rng.sample(here, few)
        yield from self._agree(lambda _: old)
        is_unheard = self._own.random() < self._world.mix.missed
        if is_unheard:  # who leads has to hear the others
            old.sort(key=lambda node: self._world.nodes[node].host.root.standing().was_elected)
        borne = self._change.borne(few)
        first, second = old[:borne], old[borne : borne + 1]
        self._take_away(first)
        grown = [*old, *(node for node in here if node not in old)][: self._most()]
        if is_unheard:
            yield from self._agree_unheard(grown, first, second)
            self._is_content = self._own.random() < CONTENT  # or the next change would mend what this one broke
            away_s = self._own.uniform(*UNHEARD_AWAY_S)
        else:
            yield from self._agree(lambda _: grown, absent=first)
            self._take_away(second)
            away_s = self._rng.uniform(*AWAY_S)
        yield away_s
        if self._is_over:
            return  # they are back
        away = [node for node in (*first, *second) if self._world.nodes[node] in self._world.present]
        mend = self._cut(self._around(away))
        for node in away:
            self._world.nodes[node].is_off = False
            self._world.nodes[node].restart()
        yield self._rng.uniform(*RETURN_S)
        mend()
        yield from self._end()

    def _agree_unheard(self, grown: Sequence[int], first: Sequence[int], second: Sequence[int]) -> PlanSteps:
        """The change is decided with the votes of the old members, and is in force before the second lot hear of it.

        From about the moment when they know that it is decided they hear nothing, but are heard. Then the old members
        that return are a quorum which does not know that others are in force.
        """
        mends: list[Callable[[], None]] = []

        def cut_off(node: int) -> None:
            if not self._is_over:
                mend = self._cut([0 if other == node else 1 << node for other in range(len(self._world.nodes))])
                mends.append(mend)
                self._count("unheard changes")
                self._world.after(UNHEARD_S_MAX, mend)  # it may have been needed still

        mix = self._world.mix
        for node in second:
            delay_s = self._own.uniform(0.2, 2.0) * (mix.delay_s_min + mix.delay_s_mean + mix.sync_s)
            self._missing[node] = partial(self._world.after, delay_s, partial(cut_off, node))
        yield from self._agree(lambda _: grown, absent=(*first, *second))
        self._missing.clear()
        self._take_away(second)
        for mend in mends:
            mend()

    def _around(self, nodes: Sequence[int]) -> list[int]:
        """What cuts these off from the rest."""
        side, everybody = mask_of(tuple(nodes)), (1 << len(self._world.nodes)) - 1
        return [everybody & ~side if side >> node & 1 else side for node in range(len(self._world.nodes))]

    def see_off(self) -> PlanSteps:
        """Whoever is not a member leaves for good, and some members as well, if there are more than it takes.

        Again, if the nemesis had named others whom nodes decide on meanwhile.
        """
        self._gives_way = True
        self._was_first = False
        leavers: list[int] = []
        while not self._was_first:
            yield from self._steady()
            leavers, self._was_first = self._leavers(), True
            stay = [node for node in self.members if node not in leavers]
            yield from self._agree(lambda members, stay=stay: stay, leavers=leavers)  # type: ignore[misc]
        for node in leavers:
            self._switch_off(node)

    def _leavers(self) -> list[int]:
        """Whom ``see_off`` has leave now."""
        world, members = self._world, self.members
        if witnesses := self._witnesses():  # all of them, and the dead, whose places they took
            gone = [node for node in members if node not in world.peers]
            outside = [node.id for node in world.honest if node.id not in members and node.id not in witnesses]
            return [*witnesses, *gone, *outside]
        dead = [node for node in members if node not in world.peers]
        honest = [node for node in members if node not in dead and not world.liars >> node & 1]
        if not honest:
            return []  # of those that stayed nobody would be believed
        room = max(0, len(members) - self._fewest)
        count = min(len(honest), self._rng.randint(0, max(0, room - len(dead))))
        outside = [node.id for node in world.honest if node.id not in members]
        return [*outside, *dead[:room], *self._rng.sample(honest, count)]

    @property
    def members(self) -> tuple[int, ...]:
        """Those that are in force, by the newest that any honest node says."""
        return self._voters().members

    def _end(self) -> PlanSteps:
        """Perhaps an outage, some time after."""
        if self._crashes and not self._is_over and self._rng.random() < self._world.mix.outages:
            yield self._rng.random() * IDLE_AFTER_S
            if not self._is_over:
                self._restart_all()

    def _restart_all(self) -> None:
        self._count("outage")
        self._say("outage", self._world.peers)
        for node in self._world.present:
            if node.up:
                node.crash()
        for node in self._world.present:
            self._world.after(self._rng.random() * self._world.mix.down_s, node.restart)

    # --- steps of plans ---

    def _new_machines(self, count: int) -> list[int]:
        room = self._world.options.nodes + SPARE - len(self._world.present)
        return [self._world.join(witness=self._draws_witness()).node for _ in range(min(count, room))]

    def _draws_witness(self) -> bool:
        draw = self._kinds.random()
        if not self._change.may_be_witnesses or self._dead is not None or draw >= WITNESSES:
            return False
        self._count("witnesses")
        return True

    def _witnesses(self) -> list[int]:
        """Those that are there, or are to join."""
        newcomers = self._world.newcomers
        return [node for node in self._world.peers if node in newcomers and newcomers[node].witness]

    def _with_state(self, chosen: Iterable[int]) -> tuple[int, ...]:
        """The same with no more witnesses than others, so that these are no quorum."""
        witnesses = self._witnesses()
        stateful = sorted(set(chosen).difference(witnesses))
        return tuple(sorted([*stateful, *sorted(set(chosen).intersection(witnesses))[: len(stateful)]]))

    def _introduce(self, new: Sequence[int]) -> PlanSteps:
        """Others get to know them, and they catch up."""
        if not new:
            return
        yield from self._agree(lambda members: members, newcomers=new)
        wanted = max(node.applied for node in self._world.honest)
        patience = self._world.now + self._rng.random() * CATCH_UP_S_MAX
        machines = [self._world.nodes[node] for node in new]
        while self._world.now < patience and any(node.applied < wanted for node in machines):
            yield POLL_S

    def _agree(
        self,
        choose: Callable[[Sequence[int]], Iterable[int]],
        *,
        newcomers: Sequence[int] = (),
        leavers: Sequence[int] = (),
        absent: Sequence[int] = (),
    ) -> PlanSteps:
        """Have others be the members, chosen from those that are; until all say so, but for those that are away."""
        yield from self._steady()
        before = self._voters()
        members = self._with_state(choose(before.members)) or before.members
        new = [self._world.newcomers[node] for node in newcomers]
        going = [node for node in leavers if node not in self._left()]  # an earlier change may have seen some off
        value = self._change.value(members, before.epoch, new, going)
        self._say("change", f"{members} for epoch {before.epoch}, new {list(newcomers)}, gone {going}")
        self._strike = self._drawn_strike()
        again_at = 0.0
        while True:
            seen = self._voters()
            is_decided = seen.epoch > before.epoch or (seen.epoch == before.epoch and seen.next_members)
            if not is_decided and self._world.now >= again_at:
                self._propose(value)
                again_at = self._world.now + self._rng.uniform(*AGAIN_S)
            if is_decided and self._gives_way and (seen.next_members or seen.members) != members:
                self._was_first = False
                return
            if is_decided and self._all_say(Voters(members, (), seen.epoch), besides=(*leavers, *absent)):
                self._strike, self._epoch = None, seen.epoch
                for node in self._witnesses():
                    if node in members and node not in before.members:
                        self._count("witnesses that vote")
                return
            yield POLL_S

    def _steady(self) -> PlanSteps:
        """Until what was in effect is so again: nodes that restart may have to learn it anew."""
        while (seen := self._voters()).epoch < self._epoch or seen.next_members:
            yield POLL_S

    def _propose(self, value: bytes) -> None:
        """At all nodes, as clients do where some may lie, or at one or two."""
        nodes = self._world.present
        some = nodes if self._change.by else self._rng.sample(nodes, min(len(nodes), self._rng.randint(1, 2)))
        for node in some:
            if node.up:
                node.operate(value)

    def _all_say(self, voters: Voters, besides: Sequence[int]) -> bool:
        """Learners too: who does not know yet who is there now could not be reached by them."""
        nodes = [node for node in self._world.honest if node.id not in besides]
        # A node tells people what is durable; what it only has in memory may be forgotten by all of them at once.
        return all(node.up and node.is_durable and _said(node) == voters for node in nodes)

    def _voters(self) -> Voters:
        """The newest that any honest node says."""
        return _said(self._newest())

    def _left(self) -> tuple[int, ...]:
        """Who has left, by the same node: nobody leaves twice, and a change that says so is refused."""
        return _in_force_of(self._newest().host.root).nodes.left

    def _newest(self) -> SimNode:
        return max(
            self._world.honest, key=lambda node: (_said(node).epoch, node.host.root.standing().commit_index or 0)
        )

    # --- whom to choose ---

    def _most(self) -> int:
        """Members at most: clients count on no more nodes than there were at the beginning."""
        return self._world.options.nodes

    def _dying(self) -> list[int]:
        return [] if self._dead is None else [self._dead.id]

    def _able(self) -> list[int]:
        """Nodes that can be members: all know them, and they are not dead."""
        rosters = [node.host.roster.members for node in self._world.honest]
        return [node for node in self._world.peers if all(node in roster for roster in rosters)]

    def _some_members(self) -> list[int]:
        """A dead one first; seldom so many that those that stay had no majority before."""
        members = [node for node in self._voters().members if node not in self._dying()]
        count = self._rng.choice((1, 1, 2, len(members) // 2 + 1))
        return [*self._dying(), *self._rng.sample(members, min(count, len(members) - 1))]

    # --- what happens to nodes ---

    def _switch_off(self, node: int) -> None:
        machine = self._world.nodes[node]
        if machine is self._dead:
            self._dead = None
        self._count("decommissions")
        self._world.leave(node)

    def _take_away(self, nodes: Sequence[int]) -> None:
        for node in () if self._is_over else nodes:
            self._say("away", node)
            self._world.nodes[node].switch_off()

    def _drawn_strike(self) -> Callable[[], None] | None:
        """The leader is to die when the change is decided, if the members bear that."""
        world = self._world
        can_die = self._may_die and not self._is_over and self._dead is None and self._doing != "away"
        can_die = can_die and not self._witnesses()
        if not can_die or self._rng.random() >= world.mix.deaths:
            return None
        delay_s = self._rng.choice((0.0, 1.0)) * self._rng.expovariate(1.0 / (world.mix.delay_s_mean * 10))
        return lambda: world.after(delay_s, self._kill_leader)

    def _look(self, node: int, core: Core) -> None:
        """After every step."""
        if self._strike is not None and _voters_of(core).next_members:
            strike, self._strike = self._strike, None
            strike()
        if node in self._missing and _voters_of(core).next_members:
            self._missing.pop(node)()

    def _kill_leader(self) -> None:
        leaders = [node.host.root.standing().leader for node in self._world.honest]
        known = [leader for leader in leaders if leader is not None and leader in self._world.peers]
        if known and not self._is_over and self._dead is None and not self._witnesses():
            self._dead = self._world.nodes[self._rng.choice(known)]
            self._count("death")
            self._world.die(self._dead.id)


def _said(node: SimNode) -> Voters:
    """Who votes, by a node's own word."""
    return _voters_of(node.host.root)


def _voters_of(core: Core) -> Voters:
    return _in_force_of(core).voters


def _in_force_of(core: Core) -> InForce:
    assert isinstance(core, Reconfigurable), f"{type(core).__name__} does not say who its members are"
    return core.in_force()


def _text(said: dict[int, Voters]) -> str:
    return ", ".join(
        f"{node}: {list(voters.members)}{f' then {list(voters.next_members)}' if voters.next_members else ''}"
        f" epoch {voters.epoch}"
        for node, voters in sorted(said.items())
    )
