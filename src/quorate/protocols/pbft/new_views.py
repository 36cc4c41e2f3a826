"""NewViews (§4.4): what a new view begins with, made by its primary, checked by every backup, and then entered.

The primary computes it from a quorum of view-changes (``group.select``), and every backup computes the same before it
takes part; the signatures in it are checked off the loop (``proofs.py``). Whatever any correct node committed had
prepared at a quorum, and every quorum of view-changes has a correct one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.kernel import Env
from quorate.parts.crypto.keys import Signed
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.checkpoints import Checkpoints
from quorate.protocols.pbft.fetching import Fetching
from quorate.protocols.pbft.group import select
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import (
    NEW_VIEW,
    PREPARE,
    NewView,
    PbftConfig,
    Proposal,
    ViewChange,
    new_view_statement,
    order_statement,
)
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.proofs import ProofChecks
from quorate.protocols.pbft.reads import WaitingReads
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.waiting import WaitingRequests


class NewViews:
    """The way into a view."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        waiting: WaitingRequests,
        normal: NormalCase,
        checkpoints: Checkpoints,
        fetching: Fetching,
        reads: WaitingReads,
        proofs: ProofChecks,
    ) -> None:
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._waiting = waiting
        self._normal = normal
        self._checkpoints = checkpoints
        self._fetching = fetching
        self._reads = reads
        self._proofs = proofs

    def make(self, changes: tuple[tuple[int, ViewChange], ...]) -> None:
        """As the primary of the view that these ask for, a quorum of them."""
        view = self._view
        stable, orders = select([change for _, change in changes])
        proposals = tuple(
            Proposal(sequence, digest, view.keys.sign(PREPARE, order_statement(view.number, sequence, digest)))
            for sequence, digest in orders
        )
        signature = view.keys.sign(NEW_VIEW, new_view_statement(view.number, changes, proposals))
        message = NewView(view.number, changes, proposals, signature)
        self._enter(message, stable)
        self._others.send(message)

    def on_new_view(self, sender: int, m: NewView) -> None:
        """§4.4: every backup checks the view-changes and computes the proposals itself. Anybody may pass it on."""
        view, group = self._view, self._view.group
        if not self._is_wanted(m):
            return
        primary = group.primary(m.view)
        if primary == self._env.id and sender != self._env.id and m.view > view.number:
            return  # nobody makes a view for us that we did not ask for
        statement = new_view_statement(m.view, m.changes, m.proposals)
        if not view.keys.verify(primary, NEW_VIEW, statement, m.signature):
            self._others.blame(sender, "sends a new view that its primary did not sign")
        elif (why := self._why_not(m)) is not None:
            self._others.blame(primary, f"makes a new view that {why}")
        elif claims := self._claims(primary, m):
            self._proofs.ask(sender, m, view.keys.keyring.by_key(claims))
        else:
            self._take(m)

    def checked(self, m: NewView, wrong: int | None) -> None:
        """Its signatures were checked; the first that is ``wrong`` says what is not proven."""
        group = self._view.group
        if not group.is_view(m.view):
            return  # others vote by now, and these cannot tell who its primary was
        primary = group.primary(m.view)
        if wrong is None:
            self._take(m)
        elif wrong < len(m.proposals):
            self._others.blame(primary, "makes a new view that proposes with a signature that is wrong")
        else:
            self._others.blame(primary, "makes a new view that rests on a view-change that is not proven")

    def _is_wanted(self, m: NewView) -> bool:
        """Whether this node is not there yet, and knows its members."""
        view = self._view
        is_old = m.view < view.number or (m.view == view.number and not view.is_changing)
        return not is_old and view.stalled is None and view.group.is_view(m.view)

    def _take(self, m: NewView) -> None:
        if self._is_wanted(m):
            self._enter(m, select([change for _, change in m.changes])[0])

    def _why_not(self, m: NewView) -> str | None:
        """What is wrong with it whoever signed what is in it; None where nothing is."""
        group = self._view.group
        nodes = [node for node, _ in m.changes]
        if len(set(nodes)) != len(nodes) or not all(map(group.has, nodes)):
            return "names nodes twice, or some that do not vote"
        if not group.quorum.is_quorum(sum(1 << node for node in nodes)):
            return "has no quorum of view-changes"
        if any(change.view != m.view for _, change in m.changes):
            return "rests on view-changes to another view"
        if any(group.why_odd(change, self._config.window) for _, change in m.changes):
            return "rests on a view-change that is not proven"
        if self._selected(m.changes) != [(p.sequence, p.digest) for p in m.proposals]:
            return "proposes what does not follow from its view-changes"
        return None

    def _claims(self, primary: int, m: NewView) -> list[Signed]:
        """What is to be checked of it: its proposals first, then the view-changes that this node has not got itself."""
        view = self._view
        claims = [
            Signed(primary, PREPARE, order_statement(m.view, p.sequence, p.digest), p.signature) for p in m.proposals
        ]
        for node, change in m.changes:
            if change != view.changes.get(node):
                claims += view.group.claims_of(node, change)
        return claims

    def _selected(self, changes: Sequence[tuple[int, ViewChange]]) -> list[tuple[int, bytes]]:
        return select([change for _, change in changes])[1]

    # --- into a view ---

    def _enter(self, message: NewView, stable: Certificate | None) -> None:
        """§4.4: pre-prepares of the new view, as if they came now. What was executed is not executed again."""
        view, log = self._view, self._log
        view.enter(message)
        log.end_view()
        if stable is not None:
            self._checkpoints.learn(stable)
            self._normal.find_footing(stable)
        self._reads.lower(view.reach)
        view.announce()
        self._normal.take_proposals()
        if view.number != message.view or view.is_changing:
            return  # its checkpoint began an epoch, or the primary was seen to lie already
        log.next_sequence = view.reach + 1
        self._fetching.fetch([p.digest for p in message.proposals if p.digest not in log.batches])
        self._waiting.requeue()
        self._normal.hear_early()

    def begin_epoch(self) -> None:
        """Once new members vote: their first view begins."""
        view = self._view
        if view.has_new_members:
            view.has_new_members = False
            self._reads.fail()
            view.announce()
            self._waiting.requeue()
            self._normal.hear_early()
