"""AppChain: Tendermint with an ABCI app behind its blocks. The rules are the same; what is said to the app, and kept of
it, ``DrivenApp`` knows.

A node whose app has no state, and that is far behind, takes over that of others (``state_sync.py``): if it is new, or
if the blocks that the app would need are not in its log. Its log begins after that height then. A new node waits a
moment before it begins the chain, until it has heard how far others are.

Durable besides what Tendermint has: the app's answers (Begun, Outcome); Aimed, before the app is offered a snapshot;
Based, where the log begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from quorate.kernel import AppEnded, Env, Key, Standing, mask_of
from quorate.ledger.comet.abci.response_messages import RESPONSE, ResponseInfo, ResponseInitChain
from quorate.ledger.comet.headers import HEADER
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.app_messages import (
    Begun,
    BlockApplied,
    LogBegins,
    LogDropped,
    Outcome,
    Transactions,
)
from quorate.protocols.tendermint.app_snapshots import AppSnapshots
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Extended, Finalized, Verified
from quorate.protocols.tendermint.core import BEAT, Tendermint
from quorate.protocols.tendermint.driven_app import MEND, DrivenApp, Greeted, Informed
from quorate.protocols.tendermint.effects import SendVote
from quorate.protocols.tendermint.extending import Extending
from quorate.protocols.tendermint.extensions import LastExtensions
from quorate.protocols.tendermint.messages import (
    OF_HEIGHTS,
    RECORDS,
    Decision,
    ExtendedDecision,
    ExtendedPrecommit,
    Here,
    TendermintConfig,
)
from quorate.protocols.tendermint.reach import EMPTY_APP, Reach
from quorate.protocols.tendermint.stands import MARK_HEIGHTS, KeptStand, Stands, stand_of, stand_on
from quorate.protocols.tendermint.state_sync import StateSync
from quorate.protocols.tendermint.sync_messages import (
    SYNC_MESSAGES,
    SYNC_RECORDS,
    Aimed,
    AskSnapshots,
    AskStand,
    Based,
    FetchChunk,
    Forgotten,
    NewestSnapshot,
    SnapshotChunk,
    SnapshotOffer,
    StandIs,
    Stranded,
)
from quorate.protocols.tendermint.trimming import Trimming

HESITATE_BEATS: Final = 5
"""How long a new node waits to hear how far others are, and whether they have the first block."""


class AppChain(Tendermint):
    """One node."""

    messages = (  # a peer that sends a snapshot of a state machine is disconnected
        *OF_HEIGHTS,
        *(Transactions, ExtendedPrecommit, ExtendedDecision),
        *SYNC_MESSAGES,
    )
    records = (*RECORDS, Begun, Outcome, ExtendedPrecommit, ExtendedDecision, *SYNC_RECORDS)
    app_class: ClassVar[type[ChainApp]] = DrivenApp
    extending_class: ClassVar[type[Extending]] = Extending
    sync_class: ClassVar[type[StateSync]] = StateSync
    trimming_class: ClassVar[type[Trimming]] = Trimming
    LEAP_HEIGHTS: ClassVar[int] = 512
    """If others are so far ahead of a new node, it asks for snapshots. To run fewer blocks takes no longer."""
    MARK_HEIGHTS: ClassVar[int] = MARK_HEIGHTS
    """The log begins after a height that this divides."""
    gathers = False  # they only wait for a block
    app: DrivenApp

    def __init__(self, env: Env, config: TendermintConfig = TendermintConfig(), *, keys: Keys) -> None:  # noqa: B008 (frozen)
        super().__init__(env, config, keys=keys)
        self.app.know_genesis(self.chain)
        self.begun: Begun | None = None
        """What the app said of the genesis. Durable."""
        self.app.last_extensions = LastExtensions(self.chain, self.log)
        self.extending = self.extending_class(env, self.current, self.chain, self.signed, self.app)
        self._effects[SendVote] = self._send_vote
        self._answers[Extended] = self.extending.extended
        self._answers[Verified] = self.extending.verified
        self.aimed: Aimed | None = None
        """Where the app may have come by a snapshot. Durable."""
        self.based: Based | None = None
        """Where the log begins, unless that is with the first block. Durable."""
        self.stands = Stands(self.MARK_HEIGHTS)
        self.snapshots = AppSnapshots(env, self.log, self.stands, config.chunk_bytes)
        self.trimming = self.trimming_class(env, self.chain, self.evidence, self.snapshots)
        self.sync = self.sync_class(env, self.chain, config.chunk_bytes)
        self._new: ResponseInfo | None = None  # the app's, while a new node waits
        self._patience = HESITATE_BEATS
        self.reach = Reach(env, self.committee)
        self._answers[Informed] = self._informed
        self._answers[Greeted] = self._greeted
        self._answers[Finalized] = self._finalized

    # --- a life ---

    def restore(self, record: Any) -> None:
        """One durable record."""
        if isinstance(record, Begun):
            self._begin(record)
        elif isinstance(record, Outcome):
            self.app.restore(record)
        elif isinstance(record, Based):
            self._base_on(record)
            if record.stand.point.height >= self.current.next:
                self.current.leave(record.stand.point.height)
        elif isinstance(record, Aimed):
            self.aimed = record
        elif isinstance(record, Stranded):
            self.reach.restore(record)
        else:
            super().restore(record)

    def checkpoint(self) -> Iterator[Any]:
        """What the app said, and where the log begins, before the log."""
        if self.begun is not None:
            yield self.begun
        if self.based is not None:
            yield self.based
        if self.aimed is not None:
            yield self.aimed
        if self.reach.stranded is not None:
            yield self.reach.stranded
        yield from super().checkpoint()
        for height, answer in self.app.outcomes.items():
            yield Outcome(height, answer)

    def start(self) -> None:
        """The app is greeted; until it has answered, no height begins."""
        if self.based is not None:
            self._stand_on(self.based)
        super().start()
        self.app.greet()

    def _base_on(self, based: Based) -> None:
        """The log begins there. What it has after that stays."""
        height = based.stand.point.height
        self.based, self.aimed = based, None
        self.reach.is_at(height)
        if height > self.log.last:
            self.log.reset(height)
        else:
            self.log.drop(height)
        self.app.forget(height)

    def _stand_on(self, based: Based) -> None:
        """The chain is where the log begins."""
        stand = based.stand
        kept = KeptStand(stand, based.commit)
        stand_on(self.chain, kept)
        self.evidence.params = self.chain.params.evidence
        self.stands.add(kept, ())
        is_changed = stand.point.app_hash != HEADER.decode(stand.header).app_hash
        self.app.begin_after(stand.index, stand.point.app_hash, is_proof_due=is_changed)
        self.env.deliver(LogBegins(stand.point.height))

    def standing(self) -> Standing:
        """As ``Core.standing``."""
        standing, note = super().standing(), self.sync.note()
        return replace(standing, note=note) if note else standing

    # --- vote extensions ---

    def on_extended_precommit(self, sender: int, m: ExtendedPrecommit) -> None:
        """From its node."""
        self.hearing.on_vote(sender, m)

    def on_extended_decision(self, sender: int, m: ExtendedDecision) -> None:
        """Of any node, with its proof."""
        self.on_decision(sender, m)

    def _send_vote(self, effect: SendVote) -> None:
        if self.extending.takes(effect):
            self.extending.on_send_vote(effect)
        else:
            self.casting.on_send_vote(effect)

    def settle(self) -> None:
        """And ask the app about votes that came."""
        super().settle()
        self.extending.ask()
        self.app.settle()

    # --- snapshots of apps ---

    def on_here(self, sender: int, m: Here) -> None:
        """Help it, if it is behind; and see how far it is."""
        super().on_here(sender, m)
        if m.height <= self.log.base:
            self.env.send(sender, Forgotten(self.log.base))
        self._look_around()

    def on_forgotten(self, sender: int, m: Forgotten) -> None:
        """A node cannot help."""
        self.reach.on_forgotten(sender, m)

    def on_newest_snapshot(self, sender: int, m: NewestSnapshot) -> None:
        """Of a node's app."""
        self.trimming.on_newest_snapshot(sender, m)

    def on_ask_snapshots(self, sender: int, m: AskSnapshots) -> None:
        """Of this node's app."""
        if self.app.is_ready:
            self.snapshots.ask(sender)

    def on_ask_stand(self, sender: int, m: AskStand) -> None:
        """Of a height of the log."""
        self.snapshots.on_ask_stand(sender, m)

    def on_fetch_chunk(self, sender: int, m: FetchChunk) -> None:
        """Of a snapshot that this node's app has."""
        if self.app.is_ready:
            self.snapshots.on_fetch_chunk(sender, m)

    def on_snapshot_offer(self, sender: int, m: SnapshotOffer) -> None:
        """For a node whose app has no state."""
        if not self.current.is_stalled:
            self.sync.on_offer(sender, m)

    def on_stand_is(self, sender: int, m: StandIs) -> None:
        """Where the chain stood, by the word of a node."""
        self.sync.on_stand_is(sender, m)

    def on_snapshot_chunk(self, sender: int, m: SnapshotChunk) -> None:
        """Of the snapshot that this node's app is given."""
        self.sync.on_chunk(sender, m)

    def on_timer(self, key: Key) -> None:
        """As Tendermint's; and what waits is told and asked for again."""
        super().on_timer(key)
        if key == BEAT and not self.current.is_stalled:
            self._beat()

    def _beat(self) -> None:
        self._patience -= 1
        self._look_around()
        if self.app.is_ready:
            self.snapshots.beat()
            self.trimming.beat()
            self.reach.beat(self.current.next)
        self.sync.beat()
        if self.sync.is_vain and self._new is not None:
            self.sync.end()
            self._begin_chain(self._new)

    def on_done(self, key: Key, result: Any) -> None:
        """What the app says of snapshots; or else as Tendermint's."""
        if self.sync.done(key, result):
            kept = self.sync.take()
            if kept is not None:
                self._arrive(kept)
        elif not self.snapshots.done(key, result):
            super().on_done(key, result)

    # --- how the app comes level with the chain ---

    def _informed(self, answer: Informed) -> None:
        """Where it stands decides that."""
        info, aimed = answer.info, self.aimed
        if aimed is not None and info.last_block_height == aimed.stand.point.height:
            self._find_restored(aimed, info)
        elif info.last_block_height == 0 and (low := max(self.log.base, self.reach.low)):
            self.sync.begin(is_urgent=True, low=low)
        elif info.last_block_height == 0 and not self.log.last:
            self._new = info
            self._look_around()
        else:
            self.app.welcome(info)

    def _find_restored(self, aimed: Aimed, info: ResponseInfo) -> None:
        """A crash came after the app had taken the last chunk."""
        expected, found = aimed.stand.point.app_hash, info.last_block_app_hash
        if found != expected:
            raise AppEnded(
                f"the app took over a snapshot of height {info.last_block_height} whose state has the hash "
                f"{found.hex() or 'empty'}, and the chain has {expected.hex() or 'empty'}. What to do: {EMPTY_APP}"
            )
        self._arrive(KeptStand(aimed.stand, aimed.commit))

    def _look_around(self) -> None:
        """A new node: does the chain begin here, or is it far ahead?"""
        if self._new is None or self.sync.is_on:
            return
        quorum, others = self.committee.quorum, self.log.others_next
        ahead, far = (
            quorum.is_blocking(mask_of([node for node, height in others.items() if height > least]))
            for least in (1, self.LEAP_HEIGHTS)
        )
        if self.reach.are_gone(1):
            self.sync.begin(is_urgent=True, low=1)
        elif far:
            self.sync.begin(is_urgent=False, low=1)
        elif self._patience <= 0 or (not ahead and quorum.is_quorum(mask_of([*others, self.env.id]))):
            self._begin_chain(self._new)

    def _begin_chain(self, info: ResponseInfo) -> None:
        self._new = None
        self.app.welcome(info)

    def _arrive(self, kept: KeptStand) -> None:
        """The app has the state after this height. The node goes on from there."""
        based, height = Based(kept.stand, kept.commit), kept.stand.point.height
        self.env.persist(based)
        self._base_on(based)
        if height >= self.current.next:
            self.deciding.end(height)
        self._stand_on(based)
        self.applying.begin_after(self.log.after(height))
        self.sync.end()
        self._new = None
        self.app.took_over()

    def _greeted(self, answer: Greeted) -> None:
        begun = answer.begun
        if begun is not None and self.begun is None:
            self.env.persist(begun)
            self._begin(begun)
        elif begun is not None and begun != self.begun:
            raise AppEnded(
                f"the app began this chain once more, and says of its genesis what it did not say at first. {MEND}"
            )
        self.applying.resume()
        self._go_on()

    def _begin(self, begun: Begun) -> None:
        """The chain has no block yet."""
        said = RESPONSE.decode(begun.answer)
        assert isinstance(said, ResponseInitChain), "what was recorded is an answer to InitChain"
        powers = {update.pub_key.address: update.power for update in said.validators}
        try:
            self.chain.begin(begun.app_version, said.app_hash, powers, said.consensus_params)
        except ValueError as error:
            raise AppEnded(f"what the app answers to InitChain cannot be: {error}. {MEND}") from None
        self.begun = begun
        self.evidence.params = self.chain.params.evidence

    # --- blocks ---

    def _finalized(self, answer: Finalized) -> None:
        """What is wrong with it is found before anything of it is kept."""
        try:
            self.chain.check(answer)
        except ValueError as error:
            height = self.chain.state.next_height
            raise AppEnded(
                f"what the app answers to FinalizeBlock of height {height} cannot be: {error}. {MEND}"
            ) from None
        self.applying.finalized(answer)

    def _committed(self, answer: Committed) -> None:
        (decision,) = self.log.after(answer.height - 1)[:1]
        self._tell(decision, answer.retain_height)
        header, index = self.applying.block.block.header, self.app.index
        self.applying.committed(answer)
        self.evidence.params = self.chain.params.evidence
        self.accusing.look()
        stand = stand_of(self.chain, index, header)
        self.stands.add(KeptStand(stand, decision.commit), self.snapshots.heights)
        self.trimming.retain_height = answer.retain_height
        self._trim()
        self._go_on()

    def _trim(self) -> None:
        """Drop what nobody needs, up to a mark."""
        kept = self.stands.mark_below(max(0, self.trimming.base_max()))
        if kept is None or kept.stand.point.height <= self.log.base:
            return
        based = Based(kept.stand, kept.commit)
        self.env.persist(based)
        self._base_on(based)
        self.stands.drop(self.log.base)
        self.env.deliver(LogDropped(self.log.base))

    def _tell(self, decision: Decision, retain_height: int) -> None:
        """The service above."""
        self.env.deliver(
            BlockApplied(
                height=decision.height,
                block=decision.block,
                commit=decision.commit,
                answer=self.app.outcomes[decision.height],
                validators=self.committee.validators,
                params=self.chain.params,
                retain_height=retain_height,
            )
        )
