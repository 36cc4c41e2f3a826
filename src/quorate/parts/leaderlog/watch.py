"""Watch: whom a node follows, and how long it waits for word of it before it stands itself.

The wait is drawn anew for each election, so that two nodes seldom stand together (Ongaro's dissertation, §3.4; "only a
single proposer makes progress": Lamport 2001, §2.4).
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Env, Key
from quorate.parts.alarm import Alarm
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.reads import Reads
from quorate.parts.log.replicated import Leads

TRIES_MAX = 6
"""How many waits are short after the leader's connection ended; then something else is wrong."""


class Watch:
    """One node's. ``leader`` is whom it follows, itself if it leads, or None."""

    def __init__(self, env: Env, key: Key, config: LeaderConfig, reads: Reads) -> None:
        self._env = env
        self._config = config
        self._reads = reads
        self.alarm = Alarm(env, key)
        self.leader: int | None = None
        self.delay_s = 0.0
        """The wait that was drawn last."""
        self.heard_at = float("-inf")
        """When a leader was heard last."""
        self._is_gone = False
        """Whether the leader's connection ended, and no leader was heard since."""
        self._tries = 0
        """How often a short wait was drawn since then."""
        self._announced: tuple[Any, int | None] | None = None

    def follow(self, number: Any, term: int, leader: int | None) -> bool:
        """Note who leads under this number, a term or ballot. If that is new those above are told; returns whether."""
        self.leader = leader
        if leader is not None:
            self._is_gone = False
        if self._announced == (number, leader):
            return False
        self._announced = (number, leader)
        self._reads.leader_changed()
        self._env.deliver(Leads(term, leader))
        return True

    def rest(self) -> None:
        """Draw a wait, and begin it. It is longer by half of the range for each node that is to lead rather than us."""
        config = self._config
        shortest = config.election_timeout_s_min
        longest = 2 * shortest if config.election_timeout_s_max is None else config.election_timeout_s_max
        self.delay_s = self._env.rng.uniform(shortest, longest)
        if config.preferred:
            self.delay_s += config.rank(self._env.id, missed=self.leader) * (longest - shortest) / 2
        if self._is_gone and self._tries < TRIES_MAX:
            self.delay_s = min(self.delay_s, self._soon_s())
        self.alarm.put_off(self.delay_s)

    def put_off(self) -> None:
        """Begin the same wait again."""
        self.alarm.put_off(self.delay_s)

    def heard(self) -> None:
        """The leader was heard: begin the wait again."""
        self.heard_at = self._env.now
        if self._is_gone:
            self._is_gone = False
            self.rest()
        self.alarm.put_off(self.delay_s)

    def hung_up(self) -> None:
        """The leader's connection to this node ended, so its process has ended, perhaps: one that lives calls again.

        So this node stops to count it as heard, and asks the others soon whether it could lead. Those who hear the
        leader say no; where its process has ended, all see it. With leases what was promised holds all the same.
        """
        if self._config.lease_s is not None:
            return
        self.heard_at = float("-inf")
        self._is_gone, self._tries = True, 0
        self.delay_s, deadline = self._soon_s(), self.alarm.deadline
        if deadline is None or self._env.now + self.delay_s < deadline:
            self.alarm.put_off(self.delay_s)

    def _soon_s(self) -> float:
        """Once or twice ``hang_up_s``; from a wider range each time, as votes may split."""
        self._tries += 1
        return self._config.hang_up_s * self._env.rng.uniform(1.0, 1.0 + self._tries)

    def heard_lately(self) -> bool:
        """Whether a leader was heard within the shortest wait."""
        return self._env.now - self.heard_at < self._config.election_timeout_s_min
