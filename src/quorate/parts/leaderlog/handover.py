"""Handover: a leader that is about to stop has another node lead, so that clients wait for no election timeout.

How it works (Ongaro's dissertation, §3.10). The leader takes no new values: it keeps them. As soon as all that it has
is committed, it asks a member that holds all of it to stand at once. That node wins, as nothing is newer than its log,
and as those who hear the old leader vote for it all the same: its request says that the leader has made way. If nothing
came of it within the shortest election timeout, the leader proposes what it kept, and leads on.

What was kept is dropped when another node leads: the clients that wait for it ask there. Nothing here is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.kernel import Env
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
        self.values: list[bytes] = []
        """What is kept meanwhile."""
        self._bytes = 0
        self.is_under_way = False
        """Whether this node leads, and wants another to."""

    def begin(self) -> None:
        """This node leads, and is about to stop."""
        if not self.is_under_way:
            self.is_under_way = True
            self._was_asked = False
            self._until = self._env.now + self._config.election_timeout_s_min

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
        ready = [node for node in followers if members >> node & 1 and self._is_ready(followers, node, last_index)]
        if ready:
            self._was_asked = True
            self._ask(max(ready, key=lambda node: (followers[node].active_at, -node)))

    def _is_ready(self, followers: Followers, node: int, last_index: int) -> bool:
        """§3.10: it must hold all, or it could not be elected."""
        return followers.match[node] >= last_index

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
