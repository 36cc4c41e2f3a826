"""StateSync: how a node whose app has no state takes over that of others, instead of running all blocks.

How it works. The others are asked which snapshots they have, and where the chain stood there; ``Candidates`` judges. Of
one that is proven a record is made (Aimed), so that a crash at any later moment finds what the app may have become.
Then the app is offered it with the hash that the chain says, and given its chunks, one after the other, of one node at
a time. At the end the app's Info must tell of the height and of that hash: otherwise it is not used, whatever the app
made of it, and another one is tried. The engine goes on from there by the blocks that follow.

What a chunk must be, only the app can say. It names senders that it rejects: they are blamed, and asked no more. A
source that sends nothing has a turn of ``TURN_BEATS`` beats, then another is asked, from the beginning of the chunk. A
whole snapshot with the wrong hash is its sender's lie, if all chunks came from one; if not, it is fetched once more
from one alone.

An app that aborts, or answers what it must not, ends the node: there is no way back from an attempt to the genesis.

Durable: Aimed. What was fetched is the app's.

Source: CometBFT 0.38, ``statesync/syncer.go``, ``spec/abci/abci++_methods.md``. Departures: chunks are not kept on
disk, so RETRY_SNAPSHOT fetches them again; a wrong hash at the end does not end the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from quorate.kernel import AppEnded, Env, Key
from quorate.ledger.comet.abci.contents import AppSnapshot
from quorate.ledger.comet.abci.request_messages import RequestApplySnapshotChunk, RequestOfferSnapshot
from quorate.ledger.comet.abci.response_messages import (
    ApplyResult,
    OfferResult,
    ResponseApplySnapshotChunk,
    ResponseInfo,
    ResponseOfferSnapshot,
)
from quorate.protocols.tendermint.app_messages import AskApp
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.candidates import Candidate, Candidates
from quorate.protocols.tendermint.chunk_order import ChunkOrder
from quorate.protocols.tendermint.driven_app import ENGINE
from quorate.protocols.tendermint.questions import Questions
from quorate.protocols.tendermint.stands import KeptStand, check_stand
from quorate.protocols.tendermint.sync_messages import (
    Aimed,
    AskSnapshots,
    AskStand,
    FetchChunk,
    SnapshotChunk,
    SnapshotOffer,
    StandIs,
)

TURN_BEATS: Final = 5
TURNS_MAX: Final = 8
"""Without a new part, before a snapshot is given up."""
SEARCH_BEATS: Final = 25
"""How long one looks for a snapshot that is not needed: then all blocks are run."""
TRIES_MAX: Final = 16
"""Of one chunk that the app wants to try again as it is."""


class Attempt:
    """One snapshot, from OfferSnapshot to Info."""

    def __init__(self, candidate: Candidate, order: ChunkOrder) -> None:
        self.candidate = candidate
        self.order = order
        self.is_fetching = False
        """Whether the app waits for a chunk, and not this node for the app."""
        self.givers: set[int] = set()
        """Whose chunks the app has."""
        self.tries = self.beats = self.turns = 0


class StateSync:
    """``is_on``: while the app is to be given a state. ``refused``: see Candidates."""

    order_class: ClassVar[type[ChunkOrder]] = ChunkOrder
    candidates_class: ClassVar[type[Candidates]] = Candidates

    def __init__(self, env: Env, chain: Chain, part_bytes: int) -> None:
        self._env = env
        self._chain = chain
        self._part_bytes = part_bytes
        self._questions = Questions(env, "sync")
        self.is_on = False
        self._is_urgent = False
        self._low = 1
        self.candidates = self.candidates_class()
        self.attempt: Attempt | None = None
        self._arrived: KeptStand | None = None
        self._offering: dict[int, int] = {}
        """By node, how many more offers it may make before the next beat."""
        self._beats = 0

    def begin(self, *, is_urgent: bool, low: int) -> None:
        """By a snapshot of this height at least. It is urgent if there is no other way."""
        self.is_on, self._is_urgent, self._low, self._beats = True, is_urgent, low, 0
        self._look()

    @property
    def is_vain(self) -> bool:
        """Whether nothing was found in time, and blocks are as good."""
        return self.is_on and not self._is_urgent and self.attempt is None and self._beats > SEARCH_BEATS

    def end(self) -> None:
        """It is over, for this life of the node."""
        self.is_on, self.attempt, self.candidates = False, None, self.candidates_class()

    def take(self) -> KeptStand | None:
        """Where the app is now, once it has the whole state."""
        arrived, self._arrived = self._arrived, None
        return arrived

    def note(self) -> str:
        """For status pages; empty, if there is nothing to say."""
        if not self.is_on:
            return ""
        if self.attempt is None:
            return "is behind, and looks for a snapshot of the app's state"
        snapshot, order = self.attempt.candidate.snapshot, self.attempt.order
        at = snapshot.chunks if order.next is None else order.next
        return f"is behind, and gives its app the state of height {snapshot.height}: {at} of {snapshot.chunks} chunks"

    # --- which ---

    def beat(self) -> None:
        """Ask again; try what is proven by now; have another source send what one does not."""
        self._questions.beat()
        if not self.is_on:
            return
        self._beats += 1
        if self.attempt is None:
            candidate = self.candidates.best(self._chain.committee.quorum, self._is_urgent)
            if candidate is not None:
                self._try(candidate)
            else:
                self._look()
        elif self.attempt.is_fetching:
            self._wait(self.attempt)

    def _look(self) -> None:
        others = [node for node in self._env.others if node not in self.candidates.refused]
        self._offering = dict.fromkeys(others, 4)
        self._env.send(tuple(others), AskSnapshots())
        for height in self.candidates.heights:
            self._env.send(tuple(others), AskStand(height))

    def on_offer(self, sender: int, m: SnapshotOffer) -> None:
        """Of a node that was asked."""
        if not self.is_on or sender in self.candidates.refused or self._offering.get(sender, 0) < 1:
            return
        self._offering[sender] -= 1
        if m.snapshot.height < self._low:
            return
        if self.candidates.find(m) is None:
            try:
                if m.snapshot.height != m.stand.point.height:
                    raise ValueError("it is of another height than what is said of the chain")
                self.check(m)
            except ValueError as error:
                self._refuse(sender, f"offers a snapshot that is not proven: {error}")
                return
            self._env.send(self._env.others, AskStand(m.snapshot.height))
        self.candidates.add(sender, m)

    def check(self, m: SnapshotOffer) -> None:
        """Raises ValueError unless the chain says what is said of it."""
        check_stand(self._chain, m.stand, m.proof)

    def on_stand_is(self, sender: int, m: StandIs) -> None:
        """Of a height that was asked for."""
        if self.is_on:
            self.candidates.said(sender, m.height, m.digest)

    def _refuse(self, node: int, why: str) -> None:
        self.candidates.refuse(node)
        self._env.blame(node, why)

    # --- one attempt ---

    def _try(self, candidate: Candidate) -> None:
        """Offer it. What the app may become is durable before it hears of it."""
        kept, snapshot = candidate.kept, candidate.snapshot
        self._is_urgent = True  # the app's chain cannot begin with its first block any more
        self.attempt = Attempt(candidate, self.order_class(snapshot.chunks, self._part_bytes))
        self._env.persist(Aimed(kept.stand, kept.commit))
        offered = AppSnapshot(snapshot.height, snapshot.format, snapshot.chunks, snapshot.hash, snapshot.metadata)
        self._questions.ask(AskApp(RequestOfferSnapshot(offered, kept.stand.point.app_hash)), self.attempt)

    def _give_up(self) -> None:
        """Look for another one."""
        self.attempt, self._beats = None, 0
        self._look()

    def _offered(self, attempt: Attempt, result: OfferResult) -> None:
        candidate = attempt.candidate
        match result:
            case OfferResult.ACCEPT:
                self._fetch(attempt)
                return
            case OfferResult.REJECT:
                self.candidates.reject(candidate)
            case OfferResult.REJECT_FORMAT:
                self.candidates.reject_format(candidate.snapshot.format)
            case OfferResult.REJECT_SENDER:
                self.candidates.reject(candidate)
                for node in tuple(candidate.sources):
                    self._refuse(node, "offers a snapshot whose senders the app rejects")
            case _:
                raise self._ended("OfferSnapshot", result.name)
        self._give_up()

    def _ended(self, call: str, result: str) -> AppEnded:
        return AppEnded(
            f"the app answers {call} with {result}, so it cannot take over the state of others. What to do: see the "
            f"app's log; empty the app, and start it and the node again to try another snapshot"
        )

    # --- chunks ---

    def _fetch(self, attempt: Attempt) -> None:
        """The next part of the next chunk."""
        number = attempt.order.next
        assert number is not None, "the app lacks a chunk"
        if not attempt.candidate.sources:
            self._give_up()
            return
        attempt.is_fetching, attempt.beats = True, 0
        self._ask_for(attempt, number)

    def _ask_for(self, attempt: Attempt, number: int) -> None:
        snapshot, order = attempt.candidate.snapshot, attempt.order
        fetch = FetchChunk(snapshot.height, snapshot.format, snapshot.hash, number, order.offset)
        self._env.send(attempt.candidate.sources[0], fetch)

    def _wait(self, attempt: Attempt) -> None:
        """Ask again for what was lost; the next source, when a turn is over."""
        attempt.beats += 1
        if attempt.beats >= TURN_BEATS:
            attempt.beats = 0
            attempt.turns += 1
            if attempt.turns >= TURNS_MAX or not attempt.candidate.sources:
                self.candidates.forget(attempt.candidate)
                self._give_up()
                return
            self._next_source(attempt)
        if self.attempt is attempt and attempt.order.next is not None and attempt.candidate.sources:
            self._ask_for(attempt, attempt.order.next)

    def _next_source(self, attempt: Attempt) -> None:
        """It begins with the chunk again, as who sent a wrong one must be known; or with all, if one is to send all."""
        sources = attempt.candidate.sources
        sources.append(sources.pop(0))
        attempt.order.forget_parts()
        if attempt.candidate.is_from_one and attempt.givers:
            self._try(attempt.candidate)

    def on_chunk(self, sender: int, m: SnapshotChunk) -> None:
        """Of the source that was asked."""
        attempt = self.attempt
        if attempt is None or not attempt.is_fetching or [sender] != attempt.candidate.sources[:1]:
            return
        snapshot, order = attempt.candidate.snapshot, attempt.order
        wanted = (snapshot.height, snapshot.format, order.next, order.offset)
        if (m.height, m.format, m.index, m.offset) != wanted:
            return  # an answer that is late
        if not m.total_bytes:
            self._lose(attempt, sender)
        elif not order.add(m.total_bytes, m.data):
            self._refuse(sender, "sends a part of a chunk that is too short, or of another chunk")
            self._lose(attempt, sender)
        elif order.whole is None:
            attempt.turns = 0
            self._fetch(attempt)
        else:
            attempt.turns = 0
            attempt.is_fetching = False
            attempt.givers.add(sender)
            self._apply(attempt, sender)

    def _lose(self, attempt: Attempt, node: int) -> None:
        """A source is none any more."""
        self.candidates.lose(attempt.candidate, node)
        attempt.order.forget_parts()
        if attempt.candidate.is_from_one and attempt.givers and attempt.candidate.sources:
            self._try(attempt.candidate)
        else:
            self._fetch(attempt)

    def _apply(self, attempt: Attempt, sender: int) -> None:
        number, chunk = attempt.order.next, attempt.order.whole
        assert number is not None, "the chunk is the next one"
        assert chunk is not None, "all of the chunk is here"
        request = RequestApplySnapshotChunk(number, chunk, str(sender))
        self._questions.ask(AskApp(request), (attempt, sender))

    def applied(self, attempt: Attempt, sender: int, answer: ResponseApplySnapshotChunk) -> None:
        """What the app wants again is wanted before what comes next, be the chunk accepted or not."""
        candidate, order = attempt.candidate, attempt.order
        self.reject_senders(answer.reject_senders)
        match answer.result:
            case ApplyResult.ACCEPT:
                attempt.tries = 0
                order.applied()
                order.fetch_again(answer.refetch_chunks)
            case ApplyResult.RETRY:
                self._retry(attempt, sender, answer.refetch_chunks)
                return
            case ApplyResult.RETRY_SNAPSHOT if candidate.sources:
                self._try(candidate)
                return
            case ApplyResult.RETRY_SNAPSHOT:
                self._give_up()
                return
            case ApplyResult.REJECT_SNAPSHOT:
                self.candidates.reject(candidate)
                self._give_up()
                return
            case _:
                raise self._ended("ApplySnapshotChunk", answer.result.name)
        if order.next is None:
            self._questions.ask(AskApp(ENGINE), attempt)
        else:
            self._fetch(attempt)

    def _retry(self, attempt: Attempt, sender: int, wanted: tuple[int, ...]) -> None:
        """The same bytes again, unless they are to be fetched anew."""
        attempt.tries += 1
        if attempt.tries > TRIES_MAX:
            self.candidates.reject(attempt.candidate)
            self._give_up()
            return
        candidate, order = attempt.candidate, attempt.order
        order.fetch_again(wanted)
        if order.whole is not None and sender not in self.candidates.refused:
            self._apply(attempt, sender)
            return
        order.forget_parts()
        if not candidate.is_from_one and [sender] == candidate.sources[:1]:
            candidate.sources.append(candidate.sources.pop(0))  # it is not blamed; another may do better
        self._fetch(attempt)

    def reject_senders(self, names: Iterable[str]) -> None:
        """As the app names them."""
        for node in self._env.others:
            if str(node) in names and node not in self.candidates.refused:
                self._refuse(node, "sent a chunk that the app rejects")

    # --- the end ---

    def _informed(self, attempt: Attempt, info: ResponseInfo) -> None:
        """The state is used if it is the chain's, and never otherwise."""
        if self.is_right(attempt.candidate, info):
            self._arrived = attempt.candidate.kept
            return
        candidate = attempt.candidate
        if len(attempt.givers) == 1:
            self._refuse(min(attempt.givers), "sent a snapshot whose state is not the chain's")
        candidate.is_from_one = True
        if candidate.sources:
            self._try(candidate)
        else:
            self._give_up()

    def is_right(self, candidate: Candidate, info: ResponseInfo) -> bool:
        """Whether the app is where the chain was."""
        where = (info.last_block_height, info.last_block_app_hash)
        return where == (candidate.height, candidate.kept.stand.point.app_hash)

    # --- answers ---

    def done(self, key: Key, result: Any) -> bool:
        """Whether this was a question of this part."""
        if not self._questions.is_of(key):
            return False
        asked = self._questions.done(key, result)
        if asked is None:
            return True
        if self.attempt is None:
            return True
        match result:
            case ResponseOfferSnapshot():
                self._offered(asked[1], result.result)
            case ResponseApplySnapshotChunk():
                attempt, sender = asked[1]
                self.applied(attempt, sender, result)
            case ResponseInfo():
                self._informed(asked[1], result)
        return True
