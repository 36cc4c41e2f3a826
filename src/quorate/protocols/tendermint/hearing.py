"""Hearing: proposals and votes that come, for the open height or for the next one; who lies in them is blamed.

Others may have decided a moment earlier. So what comes for the next height is kept, one of each kind for each node, and
looked at when its time has come.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.ledger.comet.votes import Vote as CometVote
from quorate.protocols.tendermint.applying import Applying
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import Equivocation
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.messages import VOTES_A_NODE_MAX, Prevote, Proposal, Votes


class Hearing:
    """``early``: by node and type, what is kept. It may be read."""

    def __init__(self, env: Env, current: CurrentHeight, applying: Applying, evidence: EvidencePool) -> None:
        self._env = env
        self._current = current
        self._applying = applying
        self._evidence = evidence
        self.early: dict[int, dict[type, Proposal | Prevote]] = {}

    def on_proposal(self, sender: int, m: Proposal) -> None:
        """Of the open height, or early."""
        if self._is_open(sender, m):
            self._judge_sender(sender, self._current.open.on_proposal(sender, m))

    def on_vote(self, sender: int, m: Prevote) -> None:
        """From its node. Others pass it on as one of Votes."""
        if m.node != sender:
            self._env.blame(sender, "sent a vote as that of another node")
        elif self._is_open(sender, m):
            self._judge_sender(sender, self._current.open.on_vote(m))

    def on_votes(self, sender: int, m: Votes) -> None:
        """Of any node; the sender answers for having checked them."""
        if len(m.votes) > VOTES_A_NODE_MAX * len(self._env.peers):
            self._env.blame(sender, "passed on more votes than two rounds have")
            return
        for vote in m.votes:
            if vote.height == self._current.open.number and not self._applying.is_busy:
                why = self._current.open.on_vote(vote)
                if why is not None:
                    self._judge_sender(sender, why)
                    return

    def take_early(self) -> None:
        """A height was opened: this may be of it."""
        early, self.early = self.early, {}
        for sender, messages in early.items():
            for m in messages.values():
                if isinstance(m, Proposal):
                    self.on_proposal(sender, m)
                else:
                    self.on_vote(sender, m)

    def _is_open(self, sender: int, m: Proposal | Prevote) -> bool:
        """Whether it is of the open height. If it is of the next one, it is kept."""
        is_busy = self._applying.is_busy
        if m.height == self._current.next + (not is_busy):
            self.early.setdefault(sender, {})[type(m)] = m
        return m.height == self._current.open.number and not is_busy

    def _judge_sender(self, sender: int, why: str | None) -> None:
        if why is not None:
            self._env.blame(sender, why)

    def on_equivocation(self, effect: Equivocation) -> None:
        """Two that were signed by one node. Votes become evidence in a block."""
        found = self._current.open.contradiction(effect)
        what = "proposals"
        if isinstance(found.first, CometVote) and isinstance(found.second, CometVote):
            self._evidence.saw(found.first, found.second)
            what = "votes"
        self._env.blame(found.node, f"signed two {what} for one round", found)
