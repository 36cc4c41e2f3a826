"""Preference: which nodes are to lead if they can, as ``preferred`` in the config orders them.

How it works. A leader asks itself at each heartbeat whether a node that is preferred to it answers and has caught up;
if so it hands over to it at once (``handover.py``): that takes a few round trips, and what clients ask meanwhile waits.
If nothing came of it, the leader leaves it at that for ``AGAIN`` of the shortest election timeouts, as each attempt
holds up writes for one. And when no leader is heard a node waits longer the more others are preferred to it, the one
that is missed not counted, so that the right one stands first and no handover is needed.

Nothing rests on this but who leads: nodes that are configured differently agree all the same.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.handover import Handover

AGAIN = 16


class Preference:
    """One node's, while it leads."""

    def __init__(self, env: Env, config: LeaderConfig, handover: Handover) -> None:
        self._env = env
        self._config = config
        self._handover = handover
        self._not_before = float("-inf")

    def better(self, followers: Followers, voters: int, last_index: int) -> int | None:
        """At a heartbeat: to whom to hand over now; None: to nobody. ``voters``: the mask of those that vote."""
        if not self._config.preferred or self._env.now < self._not_before:
            return None
        mine = self._config.rank(self._env.id)
        ready = [node for node in followers if voters >> node & 1 and self._is_ready(followers, node, last_index, mine)]
        if not ready:
            return None
        self._not_before = self._env.now + AGAIN * self._config.election_timeout_s_min
        return min(ready, key=self._config.rank)

    def _is_ready(self, followers: Followers, node: int, last_index: int, mine: int) -> bool:
        """Whether it is preferred to this node, which has rank ``mine``, and could lead."""
        if self._config.rank(node) >= mine:
            return False
        return self._handover.why_not(followers, 1 << node, last_index, node) is None
