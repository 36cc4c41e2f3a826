"""Liars that know PBFT: what a Byzantine node can say that is rightly signed and wrong.

``resign_pbft`` makes a node's own signature anew for what it changed, so that nothing but the content gives it away.
Liars see no other node's secrets and need none: the honest core beneath them does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from quorate.kernel import ROOT, Received, Send, Turn
from quorate.parts.crypto.keys import Keys
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    COMMIT,
    DECIDED,
    NEW_VIEW,
    OFFER,
    PREPARE,
    VIEW_CHANGE,
    Checkpoint,
    Commit,
    Decided,
    Forward,
    NewView,
    Offer,
    OfferAmong,
    Prepare,
    PrePrepare,
    Proposal,
    ViewChange,
    checkpoint_statement,
    digest_of,
    new_view_statement,
    offer_among_statement,
    offer_statement,
    order_of,
    order_statement,
    view_change_statement,
)
from quorate.sim.adversary.liar import Liar, Means

REMEMBERED_MAX: Final = 64
"""Lies that a liar sticks to."""
AGREED_MAX: Final = 1024
RESUBMITTED_MAX: Final = 4
"""Requests that are passed on together."""
FAR_VIEWS: Final = (1, 1, 2, 3, 10, 1 << 20, 1 << 61)
"""How far off a view is."""


def resign_pbft(keys: Keys | None, m: Any) -> Any:
    """The message with this node's signature of what it says now. What carries none of its own is as it was."""
    assert keys is not None
    match m:
        case PrePrepare():
            digest = digest_of(m.batch)
            statement = order_statement(m.view, m.sequence, digest)
            return replace(m, digest=digest, signature=keys.sign(PREPARE, statement))
        case Prepare():
            return replace(m, signature=keys.sign(PREPARE, order_statement(m.view, m.sequence, m.digest)))
        case Commit():
            statement = order_statement(m.view, m.sequence, m.digest)
            if len(m.proofs) == 1:
                return replace(m, proofs=(keys.sign(COMMIT, statement),))
            return replace(m, proofs=keys.macs(COMMIT, statement, keys.keyring.nodes))
        case Decided():
            statement = order_statement(0, m.sequence, m.digest)
            return replace(m, proofs=keys.macs(DECIDED, statement, keys.keyring.nodes))
        case Offer():
            return replace(m, proofs=keys.macs(OFFER, offer_statement(m.images), keys.keyring.nodes))
        case OfferAmong():
            statement = offer_among_statement(m.images, m.nodes)
            return replace(m, proofs=keys.macs(OFFER, statement, keys.keyring.nodes))
        case Checkpoint():
            statement = checkpoint_statement(m.sequence, m.index, m.history)
            return replace(m, signature=keys.sign(CHECKPOINT, statement))
        case ViewChange():
            statement = view_change_statement(m.view, m.stable, m.prepared)
            return replace(m, signature=keys.sign(VIEW_CHANGE, statement))
        case NewView():
            statement = new_view_statement(m.view, m.changes, m.proposals)
            return replace(m, signature=keys.sign(NEW_VIEW, statement))
    return m


class TwoFaced(Liar):
    """A primary that proposes one batch to some and another to the rest, and commits both as if nothing were."""

    name = "two-faced-primary"
    summary = "a primary that gives one sequence number to two batches"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 1.0)
        self._other: dict[tuple[int, int], tuple[bytes, tuple[int, ...]]] = {}
        """By view and sequence number: the other digest, and who was told it."""

    def tell(self, send: Send) -> Iterable[Send]:
        """A proposal becomes two; the commit of it goes with the proposal that each had."""
        m = send.message
        if type(m) is PrePrepare:
            return self._propose(send, m)
        if type(m) is Commit and (known := self._other.get((m.view, m.sequence))):
            return self._commit(send, m, *known)
        return (send,)

    def _propose(self, send: Send, m: PrePrepare) -> Iterable[Send]:
        means = self.means
        known = self._other.get((m.view, m.sequence))
        if known is None and (len(send.to) < 2 or not means.chance(self.rate)):
            yield send
            return
        if known is not None:  # it sends again what was lost
            yield from _split(send, known[1], None)
            return
        other = means.resign(replace(m, batch=self._another(m.batch)))
        if other.digest == m.digest:
            yield send
            return
        deceived = means.some(send.to)
        if len(self._other) >= REMEMBERED_MAX:
            self._other.clear()
        self._other[m.view, m.sequence] = (other.digest, deceived)
        means.count(self.name)
        yield from _split(send, deceived, other)
        commit = Commit(m.view, m.sequence, other.digest, (b"",) * len(means.keys.keyring.nodes) if means.keys else ())
        yield Send(deceived, send.path, means.resign(commit))

    def _commit(self, send: Send, m: Commit, digest: bytes, deceived: tuple[int, ...]) -> Iterable[Send]:
        return _split(send, deceived, self.means.resign(replace(m, digest=digest)))

    def _another(self, batch: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Some of the requests, another order of them, an older batch, or none."""
        means = self.means
        draw = means.rng.random()
        if draw < 0.4 and len(batch) > 1:
            return means.some(batch)
        if draw < 0.6 and len(batch) > 1:
            return batch[::-1]
        old = [said.message.batch for said in means.said if type(said.message) is PrePrepare]
        return means.pick(old) if old and draw < 0.8 else ()


class FalseDigest(Liar):
    """A primary that gives some nodes other requests than the digest says, which it signs like an honest one."""

    name = "false-digest"
    summary = "a primary that sends other requests than its digest says"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 1.0)

    def tell(self, send: Send) -> Iterable[Send]:
        """The batch turned round, or without its first request."""
        m = send.message
        if type(m) is not PrePrepare or len(m.batch) == 0 or not self.means.chance(self.rate):
            return (send,)
        other = m.batch[::-1] if len(m.batch) > 1 and self.means.chance(0.5) else m.batch[1:]
        self.means.count(self.name)
        return _split(send, self.means.some(send.to), replace(m, batch=other))


class Agreeable(Liar):
    """Votes for whatever anybody holds for right, to his face: with an equivocating primary, for both."""

    name = "agreeable"
    summary = "votes for every proposal that anybody votes for"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._due: list[tuple[int, Prepare]] = []
        self._agreed: dict[tuple[int, int, int, bytes], None] = {}
        """With whom on what, so that two of its kind do not agree with each other for ever."""

    def hear(self, item: Received) -> None:
        """Remember what was voted for, and by whom."""
        m = item.message
        if type(m) is Prepare:
            self._agree(item.sender, Prepare(m.view, m.sequence, m.digest, b"", m.proposal))
        elif type(m) is PrePrepare:
            self._agree(item.sender, Prepare(m.view, m.sequence, m.digest, b"", m.signature))

    def _agree(self, node: int, vote: Prepare) -> None:
        key = (node, vote.view, vote.sequence, vote.digest)
        if key in self._agreed:
            return
        if len(self._agreed) >= AGREED_MAX:
            self._agreed.clear()
        self._agreed[key] = None
        self._due.append((node, vote))

    def tell(self, send: Send) -> Iterable[Send]:
        """Its own vote might displease somebody."""
        return () if type(send.message) in (Prepare, Commit) else (send,)

    def lie(self, turn: Turn) -> Turn:
        """The Turn, and votes for what others voted for, to each of them his own."""
        due, self._due = self._due, []
        sends = self._told(turn.sends)
        means = self.means
        assert means.keys is not None
        nodes = means.keys.keyring.nodes
        by_mac = not means.chance(0.02)
        for to, vote in due[:REMEMBERED_MAX]:
            means.count(self.name)
            core = means.core
            if core is None or core.view.group.primary(vote.view) != means.node:  # a primary does not prepare
                sends.append(Send((to,), ROOT, means.resign(vote)))
            commit = Commit(vote.view, vote.sequence, vote.digest, (b"",) * (len(nodes) if by_mac else 1))
            sends.append(Send((to,), ROOT, means.resign(commit)))
        return replace(turn, sends=sends)


class ConflictingVotes(Liar):
    """Votes differently to different nodes: prepares, commits and checkpoints with other digests."""

    name = "conflicting-votes"
    summary = "prepares, commits and checkpoints of another digest, to some"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 1.0)

    def tell(self, send: Send) -> Iterable[Send]:
        """The vote to some, and another vote to the rest, or both to all."""
        means, m = self.means, send.message
        if type(m) not in (Prepare, Commit, Checkpoint) or not means.chance(self.rate):
            yield send
            return
        digest = self._another()
        other = replace(m, history=digest) if type(m) is Checkpoint else replace(m, digest=digest)
        means.count(self.name)
        if means.chance(0.3):
            yield send
            yield Send(send.to, send.path, means.resign(other))
        else:
            yield from _split(send, means.some(send.to), means.resign(other))

    def _another(self) -> bytes:
        """A digest that was heard of, or one of nothing."""
        heard = [item.message.digest for item in self.means.heard if type(item.message) in (PrePrepare, Prepare)]
        if heard and self.means.chance(0.7):
            return bytes(self.means.pick(heard))
        return digest_of((b"%d" % self.means.rng.getrandbits(16),))


class OtherViews(Liar):
    """Speaks of views that are over or far away: proposals, votes, and calls for a change of view."""

    name = "other-views"
    summary = "proposes, votes and asks for changes in stale and future views"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.02, 0.5)

    def tell(self, send: Send) -> Iterable[Send]:
        """The message, and now and then the same of another view, or a view-change out of nowhere."""
        yield send
        means, m = self.means, send.message
        view = getattr(m, "view", None)
        if view is None or not means.chance(self.rate):
            return
        far = means.pick(FAR_VIEWS)
        other = max(0, view - far) if means.chance(0.4) else min(view + far, (1 << 62) - 1)
        means.count(self.name)
        if means.chance(0.3):
            yield Send(means.others, send.path, means.resign(ViewChange(other, None, (), b"")))
        elif other != view:
            yield Send(send.to, send.path, means.resign(replace(m, view=other)))


class LyingViewChange(Liar):
    """Lies in view-changes and new-views: leaves out what prepared, proves it badly, or proposes something else."""

    name = "lying-view-change"
    summary = "view-changes and new-views that omit, invent or contradict"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.3, 1.0)

    def tell(self, send: Send) -> Iterable[Send]:
        """A view-change or new-view that lies, to some or to all."""
        means, m = self.means, send.message
        if type(m) not in (ViewChange, NewView) or not means.chance(self.rate):
            yield send
            return
        other = self._change(m) if type(m) is ViewChange else self._new_view(m)
        other = means.resign(other)
        if other == m:
            yield send
            return
        means.count(self.name)
        deceived = send.to if means.chance(0.5) else means.some(send.to)
        yield from _split(send, deceived, other)

    def _change(self, m: ViewChange) -> ViewChange:
        means = self.means
        draw = means.rng.random()
        if draw < 0.3 or not m.prepared:
            return replace(m, prepared=()) if draw < 0.6 else replace(m, stable=None)
        position = int(means.rng.random() * len(m.prepared))
        before, certificate, after = m.prepared[:position], m.prepared[position], m.prepared[position + 1 :]
        if draw < 0.5:
            return replace(m, prepared=(*before, *after))
        return replace(m, prepared=(*before, self._forged(certificate), *after))

    def _forged(self, certificate: Certificate) -> Certificate:
        """One that proves nothing: too few signatures, a signature that is wrong, or of another digest or view."""
        means = self.means
        draw = means.rng.random()
        if draw < 0.3:
            return replace(certificate, signatures=certificate.signatures[:-1])
        if draw < 0.6:
            wrong = tuple((node, bytes(len(signature))) for node, signature in certificate.signatures)
            return replace(certificate, signatures=wrong)
        order = order_of(certificate.statement)
        if order is None:
            return certificate
        view, sequence, digest = order
        if means.chance(0.5):
            digest = digest_of(())
        else:
            view += 1
        return replace(certificate, statement=order_statement(view, sequence, digest))

    def _new_view(self, m: NewView) -> NewView:
        means = self.means
        draw = means.rng.random()
        if draw < 0.3 or not m.proposals:
            return replace(m, changes=m.changes[1:])
        if draw < 0.5:
            return replace(m, proposals=m.proposals[:-1])
        if draw < 0.7:
            return replace(m, changes=tuple((node, replace(change, prepared=())) for node, change in m.changes))
        position = int(means.rng.random() * len(m.proposals))
        old = m.proposals[position]
        digest = digest_of(())
        assert means.keys is not None
        signature = means.keys.sign(PREPARE, order_statement(m.view, old.sequence, digest))
        new = Proposal(old.sequence, digest, signature)
        return replace(m, proposals=(*m.proposals[:position], new, *m.proposals[position + 1 :]))


class Resubmitting(Liar):
    """Passes on requests that clients signed once and that may be executed long since, again and again."""

    name = "resubmitting"
    summary = "passes on old requests of clients, again and again"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 1.0)
        self._old: tuple[bytes, ...] = ()

    def lie(self, turn: Turn) -> Turn:
        """The Turn, and now and then the same few old requests, to some."""
        turn = super().lie(turn)
        means = self.means
        if not means.chance(self.rate):
            return turn
        if not self._old:
            heard = [value for item in means.heard for value in _requests_in(item.message)]
            self._old = tuple(heard[:RESUBMITTED_MAX])
        if not self._old:
            return turn
        means.count(self.name)
        return replace(turn, sends=[*turn.sends, Send(means.some(means.others), ROOT, Forward(self._old))])


def _requests_in(m: Any) -> tuple[bytes, ...]:
    if type(m) is PrePrepare:
        return m.batch
    return m.values if type(m) is Forward else ()


class Censoring(Liar):
    """A primary that never proposes the requests of some clients."""

    name = "censoring"
    summary = "a primary that leaves out the requests of some clients"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._bit = means.rng.getrandbits(3)

    def tell(self, send: Send) -> Iterable[Send]:
        """Proposals without what it does not like; the request's first bytes hold the client's key."""
        m = send.message
        if type(m) is not PrePrepare:
            return (send,)
        kept = tuple(value for value in m.batch if not self._dislikes(value))
        if len(kept) == len(m.batch):
            return (send,)
        self.means.count(self.name)
        return (Send(send.to, send.path, self.means.resign(replace(m, batch=kept))),)

    def _dislikes(self, value: bytes) -> bool:
        return len(value) > 8 and bool(value[8] >> self._bit & 1)


def _split(send: Send, deceived: tuple[int, ...], other: Any) -> Iterable[Send]:
    """The message to those not deceived, the other one (None: nothing) to those who are."""
    truth = tuple(node for node in send.to if node not in deceived)
    lied = tuple(node for node in send.to if node in deceived)
    if truth:
        yield Send(truth, send.path, send.message)
    if lied and other is not None:
        yield Send(lied, send.path, other)


LIARS: Final[tuple[type[Liar], ...]] = (
    TwoFaced,
    FalseDigest,
    Agreeable,
    ConflictingVotes,
    OtherViews,
    LyingViewChange,
    Resubmitting,
    Censoring,
)
