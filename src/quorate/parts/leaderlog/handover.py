"""Handover: a leader has another node lead, as it is about to stop or an operator wants it, and clients wait for no
election timeout.

How it works (Ongaro's dissertation, §3.10). The leader takes no new values: it keeps them. As soon as all that it has
is committed, it asks a member that holds all of it to stand at once: the one that is named, or the one that was heard
last. That node wins, as nothing is newer than its log, and as those who hear the old leader vote for it all the same:
its request says that the leader has made way. If nothing came of it within the shortest election timeout, the leader
proposes what it kept, and leads on.

A leader whose disk takes nothing cannot wait: it asks the member that holds most, and leads no longer.

What was kept is dropped when another node leads: the clients that wait for it ask there. Nothing here is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.kernel import Env, nodes_of
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES
from quorate.parts.log.replicated import Busy, Dropped

HANDING_OVER = "another node is about to lead"


class Handover:
    """One node's. ``ask(node)`` has another stand."""

    def __init__(self, env: Env, config: LeaderConfig, ask: Callable[[int], None]) -> None:
        self._env = env
        self._config = config
        self._ask = ask
        self._until = 0.0
        self._was_asked = False
        self._to: int | None = None
        """The one that is to lead, if it matters which."""
        self.values: list[bytes] = []
        """What is kept meanwhile."""
        self._bytes = 0
        self.is_under_way = False
        """Whether this node leads, and wants another to."""

    def begin(self, to: int | None) -> None:
        """This node leads, and ``to`` is to; None: any other, whomever it asked before, as this one is to stop."""
        if self.is_under_way and to is not None:
            return
        self._to = to
        if not self.is_under_way:
            self.is_under_way = True
            self._was_asked = False
            self._until = self._env.now + self._config.election_timeout_s_min

    def why_not(self, followers: Followers, members: int, last_index: int, to: int | None) -> str | None:
        """Why ``begin`` would be in vain as things are; None: it would not. ``members``: those whose votes count."""
        if self.is_under_way:
            return HANDING_OVER
        if to is not None and not members >> to & 1:
            return f"node {to} does not vote: choose one of {', '.join(map(str, nodes_of(members)))}"
        voters = [node for node in followers if members >> node & 1 and to in (None, node)]
        heard_after = self._env.now - self._config.election_timeout_s_min
        alive = [node for node in voters if followers[node].active_at > heard_after]
        if not alive:
            who = "no other node that votes has" if to is None else f"node {to} has not"
            return f"{who} answered within {self._config.election_timeout_s_min:g} s"
        lacks = {node: last_index - followers.match[node] for node in alive}
        if all(self._is_behind(followers, node, lacks[node]) for node in alive):
            who = "each other node that votes" if to is None else f"node {to}"
            return f"{who} is behind, by {min(lacks.values())} entries: wait until it has caught up"
        return None

    def _is_behind(self, followers: Followers, node: int, lacks: int) -> bool:
        """Whether it lacks more than what one message holds, which is what is on its way under load."""
        return followers[node].transfer is not None or lacks > self._config.message_entries_max

    def takes(self, values: Sequence[bytes]) -> bool:
        """Keep values meanwhile; False where they are to be proposed as ever."""
        if not self.is_under_way:
            return False
        if self._bytes > self._config.uncommitted_bytes_max:
            self._env.deliver(Busy(tuple(values), HANDING_OVER))
        else:
            self.values += values
            self._bytes += sum(map(len, values)) + ENTRY_OVERHEAD_BYTES * len(values)
        return True

    # --- while it leads ---

    def settle(self, followers: Followers, members: int, last_index: int, *, is_quiet: bool) -> None:
        """Once a step: ask a member that holds all, once all is committed and nothing waits (``is_quiet``)."""
        if self.is_under_way and is_quiet and not self._was_asked:
            self._ask_one(followers, members, last_index)

    def beat(self) -> list[bytes]:
        """A heartbeat: ask again, as a message was lost, perhaps. What is to be proposed, where it was in vain."""
        self._was_asked = False
        if not self.is_under_way or self._env.now < self._until:
            return []
        self.is_under_way = False
        return self._take_out()

    def _ask_one(self, followers: Followers, members: int, last_index: int) -> None:
        """The one that was heard last: it is there."""
        wanted = [node for node in followers if members >> node & 1 and self._to in (None, node)]
        ready = [node for node in wanted if self._is_ready(followers, node, last_index)]
        if ready:
            self._was_asked = True
            self._ask(max(ready, key=lambda node: (followers[node].active_at, -node)))

    def _is_ready(self, followers: Followers, node: int, last_index: int) -> bool:
        """§3.10: it must hold all, or it could not be elected."""
        return followers.match[node] >= last_index

    def ask_at_once(self, followers: Followers, members: int) -> None:
        """This node can lead no longer, as its disk takes nothing: ask the member heard lately that holds most.

        Another may hold more; then that one is not elected, and an election timeout ends it, as if nobody was asked.
        """
        heard_after = self._env.now - self._config.election_timeout_s_min
        alive = [node for node in followers if members >> node & 1 and followers[node].active_at > heard_after]
        if alive:
            self._ask(max(alive, key=lambda node: (followers.match[node], followers[node].active_at, -node)))

    # --- when it leads no more ---

    def resigned(self) -> None:
        """Whoever leads now, or will."""
        self.is_under_way = False

    def following(self, leader: int | None) -> None:
        """Once a step: drop what was kept, which is not in the log; its clients know by now who leads."""
        if self.values and (leader is not None or self._env.now >= self._until):
            self._env.deliver(Dropped(tuple(self._take_out()), HANDING_OVER))

    def _take_out(self) -> list[bytes]:
        values, self.values, self._bytes = self.values, [], 0
        return values
