"""Execution (§4.2): batches that are decided are handed up in the order of their numbers, each after all before it.

After a crash the journal's batches are executed again, from the newest snapshot to the stable checkpoint.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.parts.log.configuration import Nodes
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided, Restored
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.fetching import FETCHED_MAX, Fetching
from quorate.protocols.pbft.history import TERM, History
from quorate.protocols.pbft.images import Images
from quorate.protocols.pbft.members import EpochMembers
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import Image, PbftConfig
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.waiting import WaitingRequests

EXECUTE = "execute"


class Execution:
    """What hands batches up."""

    def __init__(
        self,
        env: Env,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        waiting: WaitingRequests,
        members: EpochMembers,
        images: Images,
        fetching: Fetching,
        checkpoints: Checkpoints,
    ) -> None:
        self._env = env
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._waiting = waiting
        self._members = members
        self._images = images
        self._fetching = fetching
        self._checkpoints = checkpoints
        self._entries: list[Entry] = []  # executed in this step, and not handed up yet
        self._is_paused = False  # until the next step, so that a snapshot is of the state at its checkpoint

    def execute_ready(self) -> None:
        """All that is decided and here."""
        log, history = self._log, self._history
        while not self._is_paused and (digest := log.decided(history.executed + 1)) is not None:
            batch = log.batches.get(digest)
            if batch is None:
                self._fetching.fetch(self._missing(digest))
                break
            self._execute(digest, batch)
            self._view.note_executed()
            if self._images.is_due(sum(map(len, batch))) or self._images.is_wanted:
                self._images.take()
                self._is_paused = True  # outputs of this Turn end here
                self._env.set_timer(EXECUTE, 0.0)
            if history.executed % self._config.checkpoint_batches == 0:
                self._checkpoints.make()
        if self._entries:
            self._flush()

    def _missing(self, digest: bytes) -> list[bytes]:
        """What to fetch: the batch that is next. A node that has left the view in which others go on takes no proposals
        there, and so needs all that they decide."""
        if not self._view.is_changing:
            return [digest]
        first = self._history.executed + 1
        decided = [self._log.decided(sequence) for sequence in range(first, first + FETCHED_MAX)]
        return [digest for digest in decided if digest is not None]

    def go_on(self) -> None:
        """The step after a snapshot."""
        self._is_paused = False

    def _execute(self, digest: bytes, batch: tuple[bytes, ...]) -> None:
        """One batch; ``_flush`` hands it up."""
        self._history.advance(digest, len(batch))
        self._log.executed(digest)
        self._entries += [Entry(TERM, value, self._members.kind_of(value)) for value in batch]
        for value in batch:
            self._waiting.forget(value)

    def _flush(self) -> None:
        if self._entries:
            entries, self._entries = self._entries, []
            self._env.deliver(Decided(self._history.index - len(entries) + 1, entries))

    # --- after a crash, and from snapshots ---

    def recover(self) -> None:
        """Execute again from the newest snapshot to the stable checkpoint; what is beyond commits again.

        Raises ValueError if the journal does not hold what its checkpoint says.
        """
        log, history = self._log, self._history
        if history.images:
            image = history.images[-1]
            self._env.deliver(Restored(image.index, TERM))
            history.stand_on(image)
            self._images.stand_at(image.sequence)
            self._members.take_over(image, history.nodes_at[image.sequence])
            self._members.switch_if_stable()
            history.take_up_image()
        for sequence in range(history.executed + 1, history.low + 1):
            digest = history.digests.get(sequence)
            if digest is None or digest not in log.batches:
                raise ValueError(f"the journal lacks batch {sequence}, below its checkpoint at {history.low}")
            batch = log.batches[digest]
            self._execute(digest, batch)
            self._images.is_due(sum(map(len, batch)))
            self._members.switch_if_stable()
        self._members.check_footing()
        history.recovered()
        log.recovered(history.high, history.digests.values())
        self._flush()
        if history.executed > history.low and history.executed % self._config.checkpoint_batches == 0:
            self._checkpoints.make()  # of the snapshot: it may be the others' last one, too

    def install(self, image: Image, nodes: Nodes) -> None:
        """The state is that of a snapshot that was fetched."""
        self._flush()
        self._history.stand_on(image)
        self._images.stand_at(image.sequence)
        self._members.take_over(image, nodes)
        self._log.proven.clear()
        self._waiting.forget_all()
        self._history.record_image(image, nodes, fetched=True)
        self._env.deliver(Restored(image.index, TERM))
        if image.sequence % self._config.checkpoint_batches == 0:
            self._checkpoints.make()  # others may have waited for this node's word
