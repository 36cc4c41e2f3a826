"""CatchUp: the order up to a checkpoint, for a node that a stable checkpoint has left behind (thesis §5.3).

It asks for the digests of the batches up to the checkpoint. The checkpoint's history proves them, they prove the
batches, and these are executed without a vote. Where others do not have them any more, they offer snapshots
(``transfer.py``). Those that they have may differ, and then none is believed. If the order stands still meanwhile, as
the node that is behind is needed for a quorum, each of them takes one of the state where they all stand.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.fetching import FETCHED_MAX, Fetching
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.images import Images
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import FetchLog, LogOf, extend
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.transfer import PATIENCE_BEATS, ImageTransfer
from quorate.protocols.pbft.view import CurrentView


class CatchUp:
    """What a node does that is behind, and for others that are."""

    def __init__(
        self,
        env: Env,
        others: Others,
        view: CurrentView,
        log: MessageLog,
        history: History,
        checkpoints: Checkpoints,
        fetching: Fetching,
        transfer: ImageTransfer,
        images: Images,
        holding: Holding,
    ) -> None:
        self._env = env
        self._others = others
        self._view = view
        self._log = log
        self._history = history
        self._checkpoints = checkpoints
        self._fetching = fetching
        self._transfer = transfer
        self._images = images
        self._holding = holding
        self._beats = 0  # for which nothing was executed, though others are ahead
        self._still_beats = 0  # for which nothing was executed
        self._executed_at_beat = 0
        self._is_image_wanted = False  # by a node that asked in this step, and cannot go on without one

    def beat(self) -> None:
        """Once a beat: if nothing was executed for a beat, and others are proven to be ahead, ask for what is next."""
        history = self._history
        self._still_beats = self._still_beats + 1 if history.executed == self._executed_at_beat else 0
        if self._transfer.fetched is not None:
            self._transfer.beat()
        elif history.ahead is not None and history.executed == self._executed_at_beat:
            self._seek()
        else:
            self._beats = 0
        self._executed_at_beat = history.executed

    def _seek(self) -> None:
        self._beats += 1
        if self._beats % PATIENCE_BEATS == 0:
            self._log.proven.clear()  # nobody has these batches any more, perhaps
        if (missing := self._next_proven()) is not None:
            self._fetching.fetch(missing)
        else:
            self._env.send(self._others.any_one(), FetchLog(self._history.executed))

    def _next_proven(self) -> list[bytes] | None:
        """The batches to come that are proven; None where none is."""
        first, proven = self._history.executed + 1, self._log.proven
        if first not in proven:
            return None
        return [proven[s] for s in range(first, first + FETCHED_MAX) if s in proven]

    def on_fetch_log(self, sender: int, m: FetchLog) -> None:
        """The digests, or what snapshots there are."""
        history = self._history
        if history.stable is None or m.after >= history.low:
            return
        proof = history.proof_for(m.after, m.after)
        self._holding.follows(sender)
        if m.after >= history.kept_after and history.recorded >= history.low and proof is not None:
            last = point_of(proof)[0]
            digests = tuple(history.digests[sequence] for sequence in range(m.after + 1, last + 1))
            if self._fetching.allowance.grants(sender, sum(map(len, digests))):
                self._env.send(sender, LogOf(m.after, digests, proof))
        else:
            self._is_image_wanted = True
            if history.images:
                self._transfer.send_offer(sender)

    @property
    def _stands_still(self) -> bool:
        """Whether nothing was executed for long, though something is proposed, or nobody may have what is here."""
        is_owed = self._log.accepted_to > self._history.executed or self._images.is_alone
        return is_owed and self._still_beats >= PATIENCE_BEATS

    def on_log_of(self, sender: int, m: LogOf) -> None:
        """Believed if the digests lead from this node's history to the checkpoint's."""
        if m.after != self._history.executed or self._log.proven or self._view.stalled is not None:
            return
        if self._history.is_beyond_switch(point_of(m.certificate)[0]):
            return
        if not self._is_log(m):
            self._others.blame(sender, "sends a log that its checkpoint does not prove")
            return
        self._history.look_ahead(m.certificate)
        self._log.proven = dict(enumerate(m.digests, m.after + 1))
        self._fetching.fetch(m.digests[:FETCHED_MAX])

    def _is_log(self, m: LogOf) -> bool:
        """Cheap checks first: a log is long."""
        sequence, _, proven = point_of(m.certificate)
        if sequence != m.after + len(m.digests) or not self._view.group.is_stable(m.certificate):
            return False
        history = self._history.digest
        for digest in m.digests:
            history = extend(history, digest)
        return history == proven

    def look(self) -> None:
        """What was reached needs no proof; and the checkpoint that proved it is ours now.

        Who proved it may be ahead of it again by now. It is asked at once: a beat for each checkpoint would be too slow
        under load.
        """
        is_over = False
        if self._log.proven:
            self._log.drop_proven(self._history.executed)
            is_over = not self._log.proven
            if missing := self._next_proven():
                self._fetching.fetch(missing)
        if (reached := self._history.reached()) is not None:
            self._checkpoints.learn(reached)
        if self._is_image_wanted:
            self._is_image_wanted = False
            if self._stands_still and self._images.is_newest_old:
                self._images.take()  # now that all is handed up which is executed in this step
        if is_over:
            self._env.send(self._fetching.whom(), FetchLog(self._history.executed))
