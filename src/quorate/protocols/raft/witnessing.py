"""Witnessing, the leader's side: what witnesses are sent, and when. Why is in ``witnesses.py``.

A witness is one of the leader's followers, and is counted like every other one; only what it is sent is made here.
Nothing here is durable.
"""

from __future__ import annotations

from quorate.kernel import Env, nodes_of
from quorate.parts.leaderlog.followers import Followers, Progress
from quorate.parts.log.entries import Entry, size_of
from quorate.protocols.raft.messages import AppendWithheld, InstallCut, RaftConfig
from quorate.protocols.raft.state import ServerState
from quorate.protocols.raft.witnesses import withheld


class Witnesses:
    """What one server knows of them while it leads."""

    def __init__(self, env: Env, config: RaftConfig, state: ServerState) -> None:
        self._env = env
        self._config = config
        self._state = state
        self._in_step_index = self._marked_index = 1
        """Where the log ended at the heartbeat before the last, and at the last; 1: who has answered is in step."""

    def lead(self, followers: Followers) -> None:
        """Elected."""
        self._in_step_index = self._marked_index = 1
        followers.stateless = self._state.configurations.newest.witnesses

    def beat(self) -> None:
        """A heartbeat: who still lacks what the log had at the last but one is not waited for."""
        self._in_step_index, self._marked_index = self._marked_index, self._state.log.last_index

    def _last_index(self, followers: Followers) -> int:
        """Up to where they may be sent the log: what the voters with state hold who are in step, or else any of them.

        A leader that does not vote any more is none of these: what it alone holds is gone when it is switched off.
        """
        newest, counted = self._state.configurations.newest, followers.counted
        held = [counted.get(node, 0) for node in nodes_of(newest.mask & ~newest.witnesses)]
        return min((index for index in held if index >= self._in_step_index), default=max(held))

    def send(self, followers: Followers) -> None:
        """Send each witness what it lacks and may get."""
        config, last = self._config, self._last_index(followers)
        for node, progress in followers.items():
            if followers.stateless >> node & 1:
                while progress.next_index <= last and progress.may_send(
                    config.inflight_messages_max, config.inflight_bytes_max
                ):
                    self._send_one(node, progress, last)

    def _send_one(self, node: int, progress: Progress, last: int) -> None:
        config, state, log = self._config, self._state, self._state.log
        first = progress.next_index
        if first <= log.base_index:
            self._send_cut(node, progress)
            return
        count_max = min(config.message_entries_max, last - first + 1)
        entries = self._withheld(log.batch(first, count_max, config.message_bytes_max))
        prev_term = log.term_at(first - 1)
        assert prev_term is not None
        progress.sent(first + len(entries) - 1, size_of(entries))
        progress.commit_sent = state.commit_index
        # As for other followers: the term is durable since the election.
        self._env.send_now(node, AppendWithheld(state.term, first - 1, prev_term, entries, state.commit_index))

    def _withheld(self, entries: list[Entry]) -> list[Entry]:
        return withheld(entries)

    def _send_cut(self, node: int, progress: Progress) -> None:
        """§5.3: what it needs next is only in a snapshot; of which it needs no more than this."""
        state = self._state
        index, known = state.snapshot_index, state.configurations.at(state.snapshot_index)
        assert known is not None, "it is known from the newest snapshot on"
        progress.sent(index, 0)
        # A snapshot is durable and of committed entries only.
        cut = InstallCut(state.term, index, state.snapshot_term, state.returns.until(index), known.recorded())
        self._env.send_now(node, cut)
