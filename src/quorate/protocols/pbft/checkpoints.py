"""Checkpoints (§4.3): how far a quorum has executed, and what may be forgotten then.

Every ``checkpoint_batches`` a node signs how far it is: sequence number, index, and the *history*, a hash over the
digests of all batches so far. Execution is deterministic, so equal histories are equal states, and a checkpoint costs
no look at the state. A quorum's checkpoints make it stable: orders up to it are forgotten, and the water marks move.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.parts.votes.certificate import Certificate, Collector
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.members import EpochMembers
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import CHECKPOINT, Checkpoint, PbftConfig, Stable, checkpoint_statement
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.view import CurrentView


class Diverged(RuntimeError):
    """A quorum proved another state than this node has. It must not go on; its data or the group cannot be trusted."""


class Checkpoints:
    """Those of this node, and those that it hears of."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        members: EpochMembers,
        normal: NormalCase,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._members = members
        self._normal = normal
        self.collectors: dict[int, dict[bytes, Collector]] = {}
        """By number and statement, who made it."""
        self.points: dict[int, tuple[int, bytes]] = {}
        """Index and history at our own, above the stable one."""
        self._epoch = view.group.epoch  # of the collectors

    # --- ours ---

    def make(self) -> None:
        """Tell the others how far this node is."""
        history = self._history
        sequence = history.executed
        self.points[sequence] = (history.index, history.digest)
        self._forget_earlier_members()
        if sequence > history.low and self._makes(sequence):
            message = self._own(sequence)
            self._collector(sequence, message).add_verified(self._env.id, message.signature)
            self._others.send(message)
        self._look_at(sequence)

    def resend(self, to: int, after: int) -> None:
        """Ours, to a node that may have missed them."""
        for sequence in sorted(self.points):
            if sequence > after and self._makes(sequence):
                self._env.send(to, self._own(sequence))

    def _makes(self, sequence: int) -> bool:
        """Whether it is for this node to say so: one that votes since then had no vote there."""
        return self._view.is_member and self._view.group.makes(self._env.id, sequence)

    def _own(self, sequence: int) -> Checkpoint:
        index, history = self.points[sequence]
        signature = self._view.keys.sign(CHECKPOINT, checkpoint_statement(sequence, index, history))
        return Checkpoint(sequence, index, history, signature)

    # --- of all ---

    def on_checkpoint(self, sender: int, m: Checkpoint) -> None:
        """§4.3: count it. One beyond the water marks comes again as a Stable, when this node says where it is."""
        view, others = self._view, self._others
        if not self._history.low < m.sequence <= self._history.high or m.sequence % self._config.checkpoint_batches:
            return
        self._forget_earlier_members()
        if not view.group.has(sender):
            others.blame(sender, "makes a checkpoint, and is no member")
            return
        here = self.collectors.get(m.sequence, {})
        statement = checkpoint_statement(m.sequence, m.index, m.history)
        if statement in here and sender in here[statement].nodes():
            return
        if not view.keys.verify(sender, CHECKPOINT, statement, m.signature):
            others.blame(sender, "makes a checkpoint with a signature that is wrong")  # and leaves nothing here
        elif any(sender in collector.nodes() for collector in here.values()):
            others.blame(sender, "makes two checkpoints at one number")
        elif self._collector(m.sequence, m).add_verified(sender, m.signature):
            self._look_at(m.sequence)

    def _forget_earlier_members(self) -> None:
        """Others vote since a snapshot was fetched: what was collected is of members who had no vote there."""
        if self._epoch != self._view.group.epoch:
            self._epoch = self._view.group.epoch
            self.collectors.clear()

    def _collector(self, sequence: int, m: Checkpoint) -> Collector:
        here = self.collectors.setdefault(sequence, {})
        statement = checkpoint_statement(m.sequence, m.index, m.history)
        collector = here.get(statement)
        if collector is None:
            collector = self._view.group.collector(CHECKPOINT, statement, self._others.blame)
            here[statement] = collector
        return collector

    def _look_at(self, sequence: int) -> None:
        for collector in list(self.collectors.get(sequence, {}).values()):
            if collector.certificate is not None:
                self.learn(collector.certificate)
                return

    def on_stable(self, sender: int, m: Stable) -> None:
        """A checkpoint that others have, if those made it whom this node knows to vote there."""
        history, sequence = self._history, point_of(m.certificate)[0]
        if sequence <= history.low or sequence < history.began_at or history.is_beyond_switch(sequence):
            return
        if not self._view.group.is_stable(m.certificate):
            self._others.blame(sender, "sends a checkpoint that is not proven")
            return
        self.learn(m.certificate)

    def learn(self, certificate: Certificate) -> None:
        """A checkpoint is proven. Raises Diverged if this node has another state there."""
        history = self._history
        sequence, index, digest = point_of(certificate)
        if sequence <= history.low or self._view.stalled is not None:
            return
        if sequence > history.executed:
            history.look_ahead(certificate)
            return
        mine = self.points.get(sequence)
        if mine is not None and mine != (index, digest):
            raise Diverged(
                f"node {self._env.id} executed {mine[0]} requests up to batch {sequence}, and a quorum proved {index} "
                "with another history: compare its data with theirs"
            )
        self._make_stable(certificate)

    def _make_stable(self, certificate: Certificate) -> None:
        """§4.3: the quorum's checkpoint takes the place of what led to it."""
        history = self._history
        history.stabilize(certificate)
        self._log.drop_ordered(history.low)
        for table in (self.collectors, self.points):
            for sequence in [s for s in table if s <= history.low]:
                del table[sequence]
        self._log.drop_batches(history.low, history.digests.values())
        history.drop_switches()
        self._members.switch_if_stable()
        self._normal.take_proposals()
