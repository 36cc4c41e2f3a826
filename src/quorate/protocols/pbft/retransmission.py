"""Retransmission: what was lost is sent again (thesis §5.2).

Once a beat every node says how far it is. Who is ahead answers with what the other lacks: the view, a stable
checkpoint, its own votes. Nothing of it is believed without proof.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.pbft.catch_up import CatchUp
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import PbftConfig, Stable, Status
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.transfer import ImageTransfer
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.waiting import WaitingRequests

BEAT = "beat"
RESENT_MAX = 16
"""Slots of which a node's own votes are sent again in answer to one Status."""


class Retransmission:
    """The beat, and the answers to others' beats."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        waiting: WaitingRequests,
        normal: NormalCase,
        checkpoints: Checkpoints,
        transfer: ImageTransfer,
        catch_up: CatchUp,
        holding: Holding,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._waiting = waiting
        self._normal = normal
        self._checkpoints = checkpoints
        self._transfer = transfer
        self._catch_up = catch_up
        self._holding = holding
        self.helped: dict[int, float] = {}
        """Whose Status was answered, and when."""

    def beat(self) -> None:
        """Say how far this node is, and go after what it lacks."""
        self._env.set_timer(BEAT, self._config.beat_s)
        view, history = self._view, self._history
        if view.stalled is not None:
            return
        self._others.send(Status(view.number, view.is_changing, history.executed, history.low))
        self._waiting.pass_on()
        self._catch_up.beat()

    def on_status(self, sender: int, m: Status) -> None:
        """Help whoever is behind; once a beat, however often it asks."""
        if self._env.now - self.helped.get(sender, float("-inf")) < self._config.beat_s / 2:
            return
        self.helped[sender] = self._env.now
        view, history = self._view, self._history
        if m.executed >= history.low:
            self._holding.release(sender)
        if m.view < view.number or (m.view == view.number and m.is_changing):
            self._show_view(sender)
        proof = history.proof_for(m.stable, m.executed)
        is_lost = m.executed < history.kept_after or (m.executed < history.began_at and proof is None)
        if is_lost and view.group.epoch:
            self._transfer.send_offer(sender)  # it may not know who votes now
        elif m.stable < history.low and proof is not None:
            self._env.send(sender, Stable(proof))
        self._checkpoints.resend(sender, m.stable)
        self._resend_votes(sender, m)

    def _show_view(self, to: int) -> None:
        """To a node that is in an earlier view, or waits for this one."""
        view = self._view
        if not view.is_changing:
            if view.new_view is not None:
                self._env.send(to, view.new_view)
        elif (mine := view.changes.get(self._env.id)) is not None:
            self._env.send(to, mine)

    def _resend_votes(self, to: int, m: Status) -> None:
        view, log, history = self._view, self._log, self._history
        first = max(m.executed, history.low, history.began_at) + 1  # what came before was not for this epoch to order
        numbers = range(first, first + RESENT_MAX)
        if all(known.keys().isdisjoint(numbers) for known in (log.slots, log.prepared, history.digests)):
            return  # it has all that there is, as most have
        in_view = m.view == view.number and not view.is_changing and not m.is_changing
        for sequence in numbers:
            slot = log.slots.get(sequence)
            if slot is not None and self._env.now - slot.sent_at < self._config.beat_s:
                break  # it may still be on its way
            if slot is not None and in_view:
                self._normal.resend_order(to, slot)
            if sequence in log.prepared and view.is_member:
                self._env.send(to, self._normal.commit_of(sequence, to))
            if sequence in history.digests and view.is_member:
                self._env.send(to, self._normal.decided_of(sequence, to))
