"""Following: the other side of replication, what a server does with what a leader sends (§3.5, figure 3.1).

How it works. Entries are taken only if the one before them agrees in index and term, and only a conflict cuts the log.
All that one step took is acknowledged once, at its end, when it is durable. A rejection carries a hint from which both
sides skip whole terms; the paper's (§3.5, last paragraph) lets only the leader skip.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.raft.messages import (
    Appended,
    AppendedAs,
    AppendEntries,
    Conflict,
    Forgot,
    Heartbeat,
    HeartbeatReply,
)
from quorate.protocols.raft.state import ServerState


class LogFollower:
    """One server, while another leads. That the sender leads our term has been checked."""

    def __init__(self, env: Env, state: ServerState) -> None:
        self._env = env
        self._state = state
        self._acknowledge_index = 0

    def begin(self) -> None:
        """It begins to follow, perhaps another leader: to this one nothing is owed yet."""
        self._acknowledge_index = 0

    def on_append_entries(self, sender: int, m: AppendEntries) -> None:
        """§3.5: take the entries if the one before them agrees."""
        state, log = self._state, self._state.log
        if m.prev_index >= log.base_index and log.term_at(m.prev_index) != m.prev_term:
            hint = log.last_at_or_below_term(m.prev_index, m.prev_term)
            self._env.send(sender, Conflict(state.term, m.prev_index, hint, log.term_at(hint) or 0))
            return
        if not self._take_entries(sender, m):
            return
        last_new = m.prev_index + len(m.entries)
        state.commit(min(m.commit_index, last_new))
        self.holds(last_new)

    def _take_entries(self, sender: int, m: AppendEntries) -> bool:
        """Append what is new. Cut only where an entry *conflicts*: an older message must not cut newer entries."""
        state, log = self._state, self._state.log
        if m.entries and m.entries[-1].term > m.term:
            self._env.blame(sender, f"leads term {m.term} but sent an entry of term {m.entries[-1].term}")
            return False
        index = m.prev_index + 1
        skip = max(0, log.base_index - m.prev_index)  # what a snapshot stands for is committed, and so the same
        for position in range(skip, len(m.entries)):
            if log.term_at(index + position) != m.entries[position].term:
                first = index + position
                if first <= state.commit_index:
                    self._env.blame(sender, f"sent an entry for index {first}, which is committed with another term")
                    return False
                state.write(first, m.entries[position:] if position else m.entries)
                break
        return True

    def on_heartbeat(self, sender: int, m: Heartbeat) -> None:
        """The leader lives, and has committed this far."""
        state = self._state
        if state.has_forgotten:
            # What is committed here may be what an earlier life held. And this claims nothing that must be durable.
            self._env.send_now(sender, Forgot(state.term, self._env.incarnation, state.log.last_index))
            return
        if m.commit_index > state.log.last_index:
            why = f"says that index {m.commit_index} is here, but the log ends at {state.log.last_index}"
            self._env.blame(sender, why)
            return
        state.commit(m.commit_index)
        if m.round:
            # We say that no later term had our vote when the round reached us; that needs no durable state.
            self._env.send_now(sender, HeartbeatReply(state.term, m.round))

    def holds(self, index: int) -> None:
        """The log agrees with the leader's up to there, by what was installed in this step."""
        self._acknowledge_index = max(self._acknowledge_index, index)

    def settle(self, leader: int | None) -> None:
        """Once a step: acknowledge what it took."""
        if self._acknowledge_index and leader is not None:
            self._acknowledge(leader, self._acknowledge_index)
            self._acknowledge_index = 0

    def _acknowledge(self, leader: int, index: int) -> None:
        """§3.8: it leaves when the log is durable up to there."""
        state, incarnation = self._state, self._env.incarnation
        if incarnation:
            self._env.send(leader, AppendedAs(state.term, index, incarnation, not state.has_forgotten))
        else:
            self._env.send(leader, Appended(state.term, index))
